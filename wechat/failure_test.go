package wechat_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/wechat"
	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

const (
	canaryCode    = "CanaryCode0000000000000000000000"
	canaryAccess  = "CanaryAccess_00000000000000000000"
	canaryRefresh = "CanaryRefresh_0000000000000000000"
	canaryProxy   = "CanaryProxyPassword"
)

// mustNotLeak fails if an error's text, however printed, holds what no log
// may hold.
func mustNotLeak(t *testing.T, err error) {
	t.Helper()
	for err := err; err != nil; err = errors.Unwrap(err) {
		text := fmt.Sprintf("%v %+v %q", err, err, err)
		for _, word := range []string{"Canary", secret, secret[:8], "secret=", "code=", "token=", "openid="} {
			if strings.Contains(text, word) {
				t.Errorf("%q holds %q", text, word)
			}
		}
	}
}

// failsUnavailable makes all four calls, and wants ErrUnavailable from each.
func failsUnavailable(t *testing.T, c *wechat.Client) error {
	t.Helper()
	ctx := t.Context()
	_, exchange := c.Exchange(ctx, canaryCode)
	_, refresh := c.Refresh(ctx, canaryRefresh)
	_, info := c.UserInfo(ctx, canaryAccess, "oCanaryOpenID")
	for _, err := range []error{exchange, refresh, info, c.CheckToken(ctx, canaryAccess, "oCanaryOpenID")} {
		if !errors.Is(err, wechat.ErrUnavailable) || errors.Is(err, wechat.ErrAPI) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
		mustNotLeak(t, err)
	}
	return exchange
}

func TestUnusableAnswers(t *testing.T) {
	echo := fmt.Sprintf("secret=%s&code=%s&access_token=%s&refresh_token=%s", secret, canaryCode, canaryAccess, canaryRefresh)
	for name, fault := range map[string]wechattest.Fault{
		"slow headers":             {Before: time.Minute},
		"a slow body":              {Body: time.Minute},
		"an endless body":          {Endless: true},
		"a body of 64 KiB and one": {Raw: `{"errcode":0}` + strings.Repeat(" ", 64<<10-12)},
		"truncated JSON":           {Truncate: true},
		"HTML":                     {Raw: "<html>" + echo, ContentType: "text/html"},
		"nothing":                  {Raw: " "},
		"a list":                   {Raw: `[{"errcode":0}]`},
		"a word":                   {Raw: `"` + echo + `"`},
		"null":                     {Raw: `null`},
		"trailing JSON":            {Raw: `{"errcode":0}{}`},
		"trailing garbage":         {Raw: `{"errcode":0}` + echo},
		"status 502":               {Status: 502},
		"status 404":               {Status: 404, Raw: echo},
		"status 201":               {Status: 201},
		"a redirect":               {Redirect: "https://evil.test/?" + echo},
		"a redirect to itself":     {Redirect: "?" + echo},
		"a closed connection":      {Drop: true},
		"an errcode in quotes":     {Raw: `{"errcode":"` + echo + `"}`},
		"an errcode with a point":  {Raw: `{"errcode":40029.0}`},
		"an errcode out of range":  {Raw: `{"errcode":99999999999}`},
		"refusal and success":      {Raw: `{"errcode":40029,"access_token":"a","openid":"o"}`},
		"the errcode twice":        {Raw: `{"errcode":0,"errcode":0}`},
		"an unknown key twice":     {Raw: `{"errcode":0,"x":1,"x":1}`},
		"the errcode in capitals":  {Raw: `{"errcode":0,"ERRCODE":0}`},
		"the openid in capitals":   {Raw: `{"errcode":0,"access_token":"a","openid":"o","OPENID":"x"}`},
		"a folded Kelvin sign":     {Raw: `{"errcode":0,"access_to` + "\u212a" + `en":"x"}`},
		"an escaped second key":    {Raw: `{"errcode":0,"errcod\u0065":0}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, sim := simulated(t)
			slow := fault.Before+fault.Body > 0
			if c.Timeout = 20 * time.Second; slow {
				c.Timeout = 250 * time.Millisecond
			}
			sim.Update(func(k *wechattest.Knobs) {
				for _, path := range []string{wechattest.PathToken, wechattest.PathRefresh, wechattest.PathUserInfo, wechattest.PathAuth} {
					k.Faults[path] = fault
				}
			})
			err := failsUnavailable(t, c)
			if slow != errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("time-out: %v", err)
			}
			if n := sim.CountCalls(wechattest.PathToken); n != 1 {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

func TestNetworkFailures(t *testing.T) {
	client := func(address string) *wechat.Client {
		return &wechat.Client{AppID: appID, Secret: secret, APIURL: address, Timeout: time.Second}
	}
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	for name, c := range map[string]struct {
		address string
		want    string
	}{
		"nobody listens":              {"http://127.0.0.1:1", "connection refused"},
		"a certificate of nobody's":   {secure.URL, "certificate"},
		"no TLS":                      {strings.Replace(plain.URL, "http", "https", 1), "not TLS"},
		"no such host":                {"http://no-such-host.invalid", "lookup no-such-host.invalid"},
		"no URL":                      {"http://[::1", "not a URL"},
		"another scheme":              {"ftp://127.0.0.1", "failed"},
		"a password in the address":   {"http://u:" + canaryProxy + "@127.0.0.1:1", "refused"},
		"a control in the address":    {"http://127.0.0.1\n" + canaryProxy, "not a URL"},
		"a host in another script":    {"http://bücher.invalid", "lookup xn--bcher-kva.invalid"},
		"no host":                     {"http://", "failed"},
		"an error without its gzip":   {answering(t, "HTTP/1.1 502 Bad Gateway\r\nContent-Encoding: gzip\r\n\r\nsorry"), "HTTP status 502"},
		"a header that is too large":  {answering(t, "HTTP/1.1 200 OK\r\nX-Pad: "+strings.Repeat("a", 100<<10)+"\r\n\r\n{}"), "failed"},
		"an answer that echoes":       {echoing(t), "failed"},
		"a connection closed at once": {closing(t), "closed early"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := failsUnavailable(t, client(c.address)); !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %q, want %q", err, c.want)
			}
		})
	}
	t.Run("a TLS version that the server refuses", func(t *testing.T) {
		c := client(secure.URL)
		c.HTTPClient = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{MaxVersion: tls.VersionTLS10, MinVersion: tls.VersionTLS10}}}
		failsUnavailable(t, c)
	})
	t.Run("a proxy setting with a password", func(t *testing.T) {
		c := client("https://127.0.0.1:1")
		c.HTTPClient = &http.Client{Transport: &http.Transport{Proxy: func(*http.Request) (*url.URL, error) {
			return nil, errors.New("invalid proxy address http://u:" + canaryProxy + "@p")
		}}}
		failsUnavailable(t, c)
	})
	t.Run("a proxy that refuses in words", func(t *testing.T) {
		c := client("https://127.0.0.1:1")
		proxy, err := url.Parse(answering(t, "HTTP/1.1 407 "+canaryProxy+"\r\n\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		c.HTTPClient = &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(proxy)}}
		failsUnavailable(t, c)
	})
	t.Run("a caller who gives up", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := client(plain.URL).Exchange(ctx, canaryCode)
		if !errors.Is(err, context.Canceled) || !errors.Is(err, wechat.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		mustNotLeak(t, err)
	})
}

// An own client that follows redirects would send our URL on in Referer.
func TestRedirectsAreNotFollowed(t *testing.T) {
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/elsewhere" {
			t.Error("followed, Referer " + r.Referer())
		}
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	}))
	defer ts.Close()
	failsUnavailable(t, &wechat.Client{AppID: appID, Secret: secret, APIURL: ts.URL, HTTPClient: &http.Client{}})
}

// net/http repeats a GET when a kept-alive connection breaks under it: WeChat
// would see the code twice, and answer the second time that it is used.
func TestABrokenConnectionIsNotTriedAgain(t *testing.T) {
	var calls atomic.Int32
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) > 1 {
			panic(http.ErrAbortHandler)
		}
		io.WriteString(w, `{"errcode":0}`)
	}))
	defer ts.Close()
	c := &wechat.Client{AppID: appID, Secret: secret, APIURL: ts.URL, HTTPClient: ts.Client()}
	if err := c.CheckToken(t.Context(), "t", "o"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exchange(t.Context(), canaryCode); !errors.Is(err, wechat.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if n := calls.Load(); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}

// A relay may ask for a password. It stands in the address, and goes to the relay alone.
func TestUserInfoIsSent(t *testing.T) {
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "u" || password != "p" || r.URL.Path != "/to/sns/auth" {
			t.Errorf("%s from %q with %q", r.URL.Path, user, password)
		}
		io.WriteString(w, `{"errcode":0}`)
	}))
	defer ts.Close()
	c := &wechat.Client{AppID: appID, Secret: secret, APIURL: strings.Replace(ts.URL, "//", "//u:p@", 1) + "/to/"}
	if err := c.CheckToken(t.Context(), "t", "o"); err != nil {
		t.Error(err)
	}
}

// The environment is read once in a process, and never for the loopback: a
// process of its own calls WeChat's real name through a proxy that refuses.
func TestProxyFromEnvironment(t *testing.T) {
	if proxy := os.Getenv("WECHAT_TEST_PROXY"); proxy != "" {
		for _, address := range []string{"http://api.weixin.qq.com", "https://api.weixin.qq.com", "http://direct.invalid"} {
			_, err := (&wechat.Client{AppID: appID, Secret: secret, APIURL: address}).Exchange(t.Context(), canaryCode)
			mustNotLeak(t, err)
			fmt.Println("answer:", err)
		}
		return
	}
	var asked lockedBuffer
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(&asked, r.Method, r.URL.Host)
		if r.Method == http.MethodConnect {
			http.Error(w, canaryProxy, http.StatusProxyAuthRequired)
			return
		}
		io.WriteString(w, `{"errcode":40164}`)
	}))
	defer proxy.Close()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProxyFromEnvironment$", "-test.v")
	cmd.Env = append(os.Environ(), "WECHAT_TEST_PROXY=1", "HTTP_PROXY="+proxy.URL, "http_proxy="+proxy.URL,
		"HTTPS_PROXY="+proxy.URL, "https_proxy="+proxy.URL, "NO_PROXY=direct.invalid", "no_proxy=direct.invalid")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "errcode 40164") || !strings.Contains(string(out), "lookup direct.invalid") {
		t.Errorf("%v\n%s", err, out)
	}
	if want := "GET api.weixin.qq.com\nCONNECT api.weixin.qq.com:443\n"; asked.String() != want {
		t.Errorf("the proxy was asked %q, want %q", asked.String(), want)
	}
}

// echoing answers with the request line where the status belongs.
func echoing(t *testing.T) string {
	return raw(t, func(conn net.Conn, line string) { fmt.Fprintf(conn, "HTTP/1.1 %s\r\n\r\n", line) })
}

func closing(t *testing.T) string { return raw(t, func(net.Conn, string) {}) }

func answering(t *testing.T, text string) string {
	return raw(t, func(conn net.Conn, _ string) { io.WriteString(conn, text) })
}

func raw(t *testing.T, answer func(net.Conn, string)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 4096)
			n, _ := conn.Read(buf)
			line, _, _ := strings.Cut(string(buf[:n]), "\r\n")
			answer(conn, line)
			conn.Close()
		}
	}()
	return "http://" + l.Addr().String()
}
