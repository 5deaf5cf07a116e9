package integration

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// tokensClients speak each version of HTTP: their servers count a header's bytes each in its own way.
func tokensClients(t *testing.T, w *tokensSites) map[string]http.RoundTripper {
	t.Helper()
	cfg := func() *tls.Config { return &tls.Config{RootCAs: w.roots(), ServerName: tokensShop} }
	one := &http.Transport{DialContext: w.dial, TLSClientConfig: cfg(), TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}
	two := &http.Transport{DialContext: w.dial, TLSClientConfig: cfg(), ForceAttemptHTTP2: true}
	three := &http3.Transport{TLSClientConfig: cfg(), Dial: func(ctx context.Context, _ string, tls *tls.Config, q *quic.Config) (*quic.Conn, error) {
		return quic.DialAddr(ctx, fmt.Sprintf("127.0.0.1:%d", w.https), tls, q)
	}}
	t.Cleanup(func() {
		one.CloseIdleConnections()
		two.CloseIdleConnections()
		_ = three.Close()
	})
	return map[string]http.RoundTripper{"HTTP/1.1": one, "HTTP/2": two, "HTTP/3": three}
}

// tokensSend returns the answer, or false where the server refused the header by ending the stream.
func tokensSend(t *testing.T, w *tokensSites, proto string, rt http.RoundTripper, path, cookies string) (tokensAnswer, bool) {
	t.Helper()
	req, err := http.NewRequest("GET", "https://"+tokensShop+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = with(pageHeader(nil), "Cookie", cookies)
	resp, err := (&http.Client{Transport: rt, Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(req)
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		t.Fatalf("no answer: %v", err)
	}
	if err != nil {
		return tokensAnswer{}, false
	}
	defer resp.Body.Close()
	if resp.Proto != proto && resp.Proto != proto+".0" {
		t.Fatalf("answered in %s", resp.Proto)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return newTokensAnswer(resp, string(body)), true
}

// TestTokensInManyAndLargeCookies: whatever a server lets through of them is answered, by no 5xx and no other
// identity. What it does not let through is no more than refused, and the next request is served.
func TestTokensInManyAndLargeCookies(t *testing.T) {
	limits := map[string]string{"at Caddy's own limit": "", "where the operator allows 1 MB": "servers {\n max_header_size 1MB\n}\n"}
	for limit, servers := range limits {
		t.Run(limit, func(t *testing.T) {
			w := newTokensSites(t, tokensKeyKinds[0].option, servers)
			mine := w.login(t, "https://"+tokensShop+"/member/", "lina")
			cases := tokensHeaps(mine, w.sim.OpenID(appID, "lina"))
			for proto, rt := range tokensClients(t, w) {
				for _, c := range cases {
					t.Run(c.name+" over "+proto, func(t *testing.T) {
						needs, answered := tokensSend(t, w, proto, rt, "/member/", c.cookies)
						public, _ := tokensSend(t, w, proto, rt, "/open/x", c.cookies)
						if !answered || needs.status == http.StatusRequestHeaderFieldsTooLarge {
							if servers != "" || c.fits {
								t.Errorf("%d bytes are refused", len(c.cookies))
							}
							return
						}
						tokensJudge(t, needs, public, c.want)
						if set := strings.Join(needs.header["Set-Cookie"], ""); len(set) > 8<<10 {
							t.Errorf("%d bytes of cookies are set, such as %.100s", len(set), set)
						}
					})
				}
				if a, _ := tokensSend(t, w, proto, rt, "/member/", "__Host-wechat_session="+mine); a.upstream == nil {
					t.Errorf("%s: after all that a session got %d", proto, a.status)
				}
			}
		})
	}
}

// tokensHeap fits where Caddy's own limit, of 16 KB and what a server adds, takes it over every protocol.
type tokensHeap struct {
	name, cookies, want string
	fits                bool
}

// tokensHeaps are the piles: one large value or a thousand small ones, under each of the gateway's names,
// alone and around a true session.
func tokensHeaps(mine, lina string) (list []tokensHeap) {
	const name = "__Host-wechat_session"
	header, _, _ := strings.Cut(mine, ".")
	thousand := func(format string) string {
		var b strings.Builder
		for i := range 1000 {
			fmt.Fprintf(&b, format+"; ", i)
		}
		return strings.TrimSuffix(b.String(), "; ")
	}
	for _, size := range []int{14 << 10, 60 << 10} {
		of := fmt.Sprintf("%d KB ", size>>10)
		long, fits := strings.Repeat("A", size), size < 16<<10
		list = append(list,
			tokensHeap{of + "of letters", name + "=" + long, tokensNobody, fits},
			tokensHeap{of + "of dots", name + "=" + strings.Repeat(".", size), tokensNobody, fits},
			tokensHeap{of + "behind a true header", name + "=" + header + "." + long + ".AAAA", tokensNobody, fits},
			tokensHeap{of + "behind a true session", name + "=" + mine + long, tokensNobody, fits},
			tokensHeap{of + "of spaces before a true session", name + "=" + strings.Repeat(" ", size) + mine, lina, fits},
			tokensHeap{of + "of another's cookie, then a true session", "a=" + long + "; " + name + "=" + mine, lina, fits},
			tokensHeap{of + "under the session's name, then a true session", name + "=" + long + "; " + name + "=" + mine, lina, fits},
			tokensHeap{of + "of a login cookie", name + "_login_" + strings.Repeat("0", 32) + "=" + long, tokensNobody, fits},
			tokensHeap{of + "of a login cookie's name", name + "_login_" + long + "=1; " + name + "=" + mine, lina, fits},
			tokensHeap{of + "of a login cookie's name alone", name + "_login_" + long + "=1", tokensNobody, fits},
			tokensHeap{of + "of a guest's cookie", name + "_guest=" + long, tokensNobody, fits},
			tokensHeap{of + "of signs", strings.Repeat("=", size) + ";" + name + "=" + mine, lina, fits},
		)
	}
	return append(list,
		tokensHeap{"1,000 cookies of others around a true session", thousand("c%d=v") + "; " + name + "=" + mine, lina, false},
		tokensHeap{"1,000 different session cookies", thousand(name+"=x%d") + "; " + name + "=" + mine, tokensNobody, false},
		tokensHeap{"1,000 times one session", strings.Repeat(name+"="+mine+"; ", 1000) + "a=1", lina, false},
		tokensHeap{"1,000 login cookies", thousand(name + "_login_%032d=AAAA"), tokensNobody, false},
		tokensHeap{"1,000 login cookies before a true session", thousand(name+"_login_%032d=AAAA") + "; " + name + "=" + mine, lina, false},
		tokensHeap{"1,000 guest cookies before a true session", thousand(name+"_guest=%d") + "; " + name + "=" + mine, lina, false},
		tokensHeap{"10,000 separators before a true session", strings.Repeat(";", 10000) + name + "=" + mine, lina, false},
	)
}
