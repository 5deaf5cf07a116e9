package integration

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

func newWorld(t *testing.T, account wechattest.Account, caddyfile func(*world) string) *world {
	t.Helper()
	w := &world{gateway: newGateway(t), sim: newSimulator(t, account), up: newUpstream(t)}
	w.start(caddyfile(w))
	return w
}

func singleWorld(t *testing.T, options string) *world {
	t.Helper()
	return newWorld(t, wechattest.Account{Domains: []string{"auth.example.com"}}, func(w *world) string { return w.single(options) })
}

func crossWorld(t *testing.T, options string) *world {
	t.Helper()
	return newWorld(t, wechattest.Account{Domains: []string{"auth.example.com"}}, func(w *world) string { return w.cross(options) })
}

func open(t *testing.T, b *wechattest.Browser, url string) *wechattest.Page {
	t.Helper()
	p, err := b.Open(t.Context(), url)
	if err != nil {
		t.Fatalf("opening %s: %v", url, err)
	}
	return p
}

func wantStatus(t *testing.T, p *wechattest.Page, status int) {
	t.Helper()
	if p.Status != status {
		t.Fatalf("%s: status %d, want %d\n%.2000s", p.URL, p.Status, status, p.Body)
	}
}

// TestLogin: a page behind the gateway is opened in WeChat's browser and lands signed in.
func TestLogin(t *testing.T) {
	cases := []struct {
		name      string
		world     func(*testing.T, string) *world
		page      string
		redirects int
	}{
		{"on the bound domain itself, by three redirects", singleWorld, "https://auth.example.com/member/?a=1&b=%2F", 3},
		{"on another domain, by four", crossWorld, "https://shop.example.org/member/?a=1&b=%2F", 4},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := c.world(t, "")
			b := w.browser(w.sim, wechattest.BrowserOptions{User: "lina"})
			p := open(t, b, c.page)
			wantStatus(t, p, http.StatusOK)
			if len(p.Redirects) != c.redirects {
				t.Errorf("%d redirects, want %d: %v", len(p.Redirects), c.redirects, p.Redirects)
			}
			if got := p.URL.String(); strings.TrimSuffix(got, "#") != c.page || strings.Contains(got, "wechat_redirect") {
				t.Errorf("the address bar shows %s, want %s", got, c.page)
			}
			s := readSeen(t, p.Body)
			if got, want := s.Header.Get("X-Wechat-Openid"), w.sim.OpenID(appID, "lina"); got != want {
				t.Errorf("the upstream got openid %q, want %q", got, want)
			}
			if s.URI != "/member/?a=1&b=%2F" || len(s.Header["Cookie"]) != 0 {
				t.Errorf("the upstream got %s with cookies %q", s.URI, s.Header["Cookie"])
			}
			p = open(t, b, c.page)
			if len(p.Redirects) != 0 {
				t.Errorf("a signed-in page load was redirected: %v", p.Redirects)
			}
		})
	}
}
