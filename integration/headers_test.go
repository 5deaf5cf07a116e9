package integration

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// rawUpstream keeps the exact bytes of every request's head and trailers.
type rawUpstream struct {
	addr string
	mu   sync.Mutex
	last string
}

func newRawUpstream(t *testing.T) *rawUpstream {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	u := &rawUpstream{addr: l.Addr().String()}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go u.serve(c)
		}
	}()
	return u
}

func (u *rawUpstream) serve(c net.Conn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	r := bufio.NewReader(c)
	var got strings.Builder
	chunked := false
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		got.WriteString(line)
		chunked = chunked || strings.EqualFold(strings.TrimSpace(line), "transfer-encoding: chunked")
		if strings.TrimSpace(line) == "" {
			break
		}
	}
	for chunked { // to the end of the trailers
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		got.WriteString(line)
		if strings.HasPrefix(line, "0") {
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				got.WriteString(line)
				if strings.TrimSpace(line) == "" {
					chunked = false
					break
				}
			}
		}
	}
	u.mu.Lock()
	u.last = got.String()
	u.mu.Unlock()
	_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
}

// seen returns the header lines that a careless upstream might take for an identity.
func (u *rawUpstream) seen() (lines []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for line := range strings.Lines(u.last) {
		name, _, _ := strings.Cut(line, ":")
		folded := strings.Map(func(r rune) rune {
			if strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789", r) {
				return r
			}
			return -1
		}, strings.ToLower(name))
		if strings.HasPrefix(folded, "xwechat") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// TestForgedIdentityNeverArrives sends raw bytes, because clients normalise what is under test.
func TestForgedIdentityNeverArrives(t *testing.T) {
	raw := newRawUpstream(t)
	w := newWorld(t, boundDomain, func(w *world) string {
		return "{\n" + w.globals() + "servers {\n expected_underscore_headers X_Wechat_* x_wechat_openid\n expected_dot_headers X.Wechat.*\n}\n" + w.options("", "") + "}\n" +
			"auth.example.com {\n wechat_auth {\n public /open/*\n}\n reverse_proxy " + raw.addr + " {\n transport http {\n keepalive off\n}\n}\n}\n"
	})
	token := signIn(t, w, w.client(), authPage)
	heads := map[string]string{
		"canonical":                  "X-Wechat-Openid: oForged\r\n",
		"in other case":              "x-WECHAT-openid: oForged\r\n",
		"underscores":                "X_Wechat_Openid: oForged\r\nx_wechat_openid: oForged\r\n",
		"dots":                       "X.Wechat.Openid: oForged\r\n",
		"odd token characters":       "X!Wechat~Openid: oForged\r\nX+Wechat|Openid: oForged\r\n",
		"a sibling nobody uses":      "X-Wechat-Foo: oForged\r\n",
		"twice":                      "X-Wechat-Openid: oForged\r\nX-Wechat-Openid: oOther\r\n",
		"named in Connection":        "Connection: close, X-Wechat-Openid\r\nX-Wechat-Openid: oForged\r\n",
		"named in several lines":     "Connection: close\r\nConnection: x_wechat.openid, X-WECHAT-Appid\r\n",
		"named with Upgrade":         "Connection: Upgrade, X-Wechat-Openid\r\nUpgrade: websocket\r\n",
		"as an announced trailer":    "Transfer-Encoding: chunked\r\nTrailer: X-Wechat-Openid\r\n",
		"as an unannounced trailer":  "Transfer-Encoding: chunked\r\n",
		"as trailers beside another": "Transfer-Encoding: chunked\r\nTrailer: X-Other\r\n",
	}
	for name, head := range heads {
		t.Run(name, func(t *testing.T) {
			for range 20 {
				for _, method := range []string{"GET", "POST", "OPTIONS"} {
					if strings.Contains(head, "chunked") && method != "POST" {
						continue
					}
					w.sendRaw(t, method+" /open/x HTTP/1.1\r\nHost: auth.example.com\r\n"+head+end(head))
					if got := raw.seen(); len(got) > 0 {
						t.Fatalf("%s, anonymous: the upstream got %q", method, got)
					}
					w.sendRaw(t, method+" /member/x HTTP/1.1\r\nHost: auth.example.com\r\nCookie: __Host-wechat_session="+token+"\r\n"+head+end(head))
					want := []string{"X-Wechat-Appid: " + appID, "X-Wechat-Openid: " + openIDOf(t, token), "X-Wechat-Scope: snsapi_base"}
					if got := raw.seen(); strings.Join(got, "|") != strings.Join(want, "|") {
						t.Fatalf("%s, signed in: the upstream got %q, want %q", method, got, want)
					}
				}
			}
		})
	}
}

func end(head string) string {
	if strings.Contains(head, "chunked") {
		return "\r\n2\r\nhi\r\n0\r\nX-Wechat-Openid: oForged\r\nX.Wechat.Openid: oForged\r\nx_wechat_openid: oForged\r\n\r\n"
	}
	if strings.Contains(head, "Connection: ") {
		return "\r\n"
	}
	return "Connection: close\r\n\r\n"
}

// sendRaw writes bytes over TLS, as HTTP/1.1, and waits for the answer's first line.
func (g *gateway) sendRaw(t *testing.T, request string) string {
	t.Helper()
	c, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", g.https), &tls.Config{ServerName: "auth.example.com", RootCAs: g.roots(), NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	return line
}

// TestRenewal: a due token is renewed on a page load, never for a script, never on an answer that a
// shared cache may keep.
func TestRenewal(t *testing.T) {
	w := singleWorld(t, "session 1h 2h\nrenew 1s")
	c := w.client()
	token := signIn(t, w, c, authPage)
	time.Sleep(2200 * time.Millisecond) // tokens count whole seconds
	cases := []struct {
		name    string
		query   string
		header  http.Header
		renews  bool
		control string
	}{
		{"a page load", "", pageHeader(nil), true, "private"},
		{"a script", "", script, false, ""},
		{"a page for shared caches", "?cache-control=public,max-age=60", pageHeader(nil), false, "public,max-age=60"},
		{"a page that has expired", "?expires=0", pageHeader(nil), true, "private"},
		{"a page that expires later", "?expires=Fri,%2031%20Dec%202060%2023:59:59%20GMT", pageHeader(nil), false, ""},
		{"a page of no age", "?cache-control=max-age=0,must-revalidate", pageHeader(nil), true, "max-age=0,must-revalidate"},
		{"a private page", "?cache-control=private,max-age=60", pageHeader(nil), true, "private,max-age=60"},
		{"a page nobody keeps", "?cache-control=no-store", pageHeader(nil), true, "no-store"},
		{"a page for shared caches by age", "?cache-control=s-maxage=9", pageHeader(nil), false, "s-maxage=9"},
	}
	var renewed string
	for _, x := range cases {
		t.Run(x.name, func(t *testing.T) {
			h := x.header.Clone()
			h.Set("Cookie", "__Host-wechat_session="+token)
			resp, _ := get(t, c, authPage+x.query, h)
			next := sessionOf(resp)
			if resp.StatusCode != 200 || (next != "") != x.renews || resp.Header.Get("Cache-Control") != x.control {
				t.Fatalf("status %d, Cache-Control %q, renewed %v", resp.StatusCode, resp.Header.Get("Cache-Control"), next != "")
			}
			if next != "" {
				renewed = next
				old, now := claims(t, token), claims(t, next)
				if old["jti"] != now["jti"] || old["auth_time"] != now["auth_time"] || old["iat"] == now["iat"] {
					t.Errorf("renewed %v to %v", old, now)
				}
			}
		})
	}
	// A logout ends the renewed token too, and the old one, whichever is presented.
	logout(t, c, authPage, token)
	for _, s := range []string{token, renewed} {
		if resp, _ := get(t, c, authPage, pageHeader(holding(s))); resp.StatusCode != 302 {
			t.Errorf("a token of an ended session got %d", resp.StatusCode)
		}
	}
}
