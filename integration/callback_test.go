package integration

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

const (
	authPage = "https://auth.example.com/member/"
	shopPage = "https://shop.example.org/member/"
)

func openID(t *testing.T, p *wechattest.Page) string {
	t.Helper()
	wantStatus(t, p, http.StatusOK)
	return readSeen(t, p.Body).Header.Get("X-Wechat-Openid")
}

// both runs a test on the bound domain and across domains.
func both(t *testing.T, options string, test func(t *testing.T, w *world, page string)) {
	t.Helper()
	t.Run("on the bound domain", func(t *testing.T) { test(t, singleWorld(t, options), authPage) })
	t.Run("across domains", func(t *testing.T) { test(t, crossWorld(t, options), shopPage) })
}

// WeChat fires a callback twice, 19 ms apart, and drops the first; or authorizes twice for one state.
func TestCallbackThatArrivesTwiceSignsIn(t *testing.T) {
	both(t, "", func(t *testing.T, w *world, page string) {
		for name, mode := range map[string]wechattest.DoubleMode{"with one code": wechattest.SameCode, "with two codes for one state": wechattest.TwoCodes} {
			t.Run(name, func(t *testing.T) {
				w.sim.ResetCalls()
				b := w.browser(w.sim, wechattest.BrowserOptions{User: "lina", Double: mode})
				p := open(t, b, page)
				if got := openID(t, p); got != w.sim.OpenID(appID, "lina") {
					t.Errorf("signed in as %q", got)
				}
				want := map[wechattest.DoubleMode]int{wechattest.SameCode: 1, wechattest.TwoCodes: 2}[mode]
				if n := w.sim.CountCalls(wechattest.PathToken); n != want {
					t.Errorf("WeChat was asked %d times, want %d", n, want)
				}
				if p := open(t, b, page); len(p.Redirects) > 0 {
					t.Errorf("the session was lost: %v", p.Redirects)
				}
			})
		}
	})
}

// One good login with any number of junk codes asks WeChat five times at most.
func TestALoginTakesFiveCodes(t *testing.T) {
	both(t, "", func(t *testing.T, w *world, page string) {
		c := w.client()
		callback, cookies := begin(t, w, c, page)
		w.sim.ResetCalls()
		for i := range 30 {
			follow(t, c, withQuery(t, callback, "code", strings.Repeat(string(rune('a'+i%26)), 31)+string(rune('0'+i%10))), cookies)
		}
		if n := w.sim.CountCalls(wechattest.PathToken); n != 5 {
			t.Errorf("WeChat was asked %d times, want 5", n)
		}
	})
}

func TestMalformedAndForeignCallbacksAreRefused(t *testing.T) {
	both(t, "", func(t *testing.T, w *world, page string) {
		c := w.client()
		callback, cookies := begin(t, w, c, page)
		elsewhere, _ := begin(t, w, c, page)
		site := siteCallback(t, c, callback)
		cases := map[string]string{
			"without login":              withQuery(t, site, "login", ""),
			"with another login's state": withQuery(t, site, "state", queryOf(t, elsewhere).Get("state")),
			"without state":              withQuery(t, site, "state", ""),
			"with a changed seal":        withQuery(t, site, "login", queryOf(t, site).Get("login")+"A"),
			"with two logins":            site + "&login=x",
			"with two states":            site + "&state=" + strings.Repeat("0", 32),
			"with two codes":             site + "&code=a&code=b",
		}
		for name, address := range cases {
			t.Run(name, func(t *testing.T) {
				resp, body := get(t, c, address, pageHeader(cookies))
				if resp.StatusCode != http.StatusBadRequest || sessionOf(resp) != "" {
					t.Errorf("status %d, cookies %q\n%.300s", resp.StatusCode, resp.Header["Set-Cookie"], body)
				}
				wantOwnAnswer(t, resp)
			})
		}
	})
}

// Some browsers append junk to what WeChat sent them to.
func TestJunkInTheCallbackIsNotLookedAt(t *testing.T) {
	both(t, "", func(t *testing.T, w *world, page string) {
		c := w.client()
		for _, junk := range []string{"https://i.maxthon.cn", ";x", "%zz", "&from=a;b", "&x=100%", "&&="} {
			callback, cookies := begin(t, w, c, page)
			state := queryOf(t, callback).Get("state")
			if s := follow(t, c, strings.Replace(callback, "state="+state, "state="+state+junk, 1), cookies); s == "" {
				t.Errorf("%q: not signed in", junk)
			}
		}
	})
}

// begin starts a login without a browser and returns the address that WeChat sends its user back to,
// and the cookies that the login left.
func begin(t *testing.T, w *world, c *http.Client, page string) (callback string, cookies []*http.Cookie) {
	t.Helper()
	resp, body := get(t, c, page, pageHeader(nil))
	if resp.StatusCode != http.StatusFound {
		t.Fatalf("a login began with status %d\n%.500s", resp.StatusCode, body)
	}
	cookies = resp.Cookies()
	resp, body = get(t, c, resp.Header.Get("Location"), http.Header{"User-Agent": {wechattest.UserAgentAndroid}})
	if resp.StatusCode != http.StatusFound {
		t.Fatalf("WeChat answered %d\n%.500s", resp.StatusCode, body)
	}
	return strings.Split(resp.Header.Get("Location"), "#")[0], cookies
}

// follow walks from a callback to the end of the login and returns the session's token, if there is one.
func follow(t *testing.T, c *http.Client, address string, cookies []*http.Cookie) string {
	t.Helper()
	for range 3 {
		resp, _ := get(t, c, address, pageHeader(cookies))
		if s := sessionOf(resp); s != "" {
			return s
		}
		to := resp.Header.Get("Location")
		if !strings.Contains(to, "/_wechat/callback?") || strings.Contains(to, "/connect/oauth2/") {
			return ""
		}
		address = to
	}
	return ""
}

// callbacks are the callback's own address and, across domains, that of the site behind it.
func callbacks(t *testing.T, c *http.Client, callback string) []string {
	t.Helper()
	list := []string{callback}
	if site := siteCallback(t, c, callback); site != callback {
		list = append(list, site)
	}
	return list
}

// siteCallback is where the login ends: the callback itself on the bound domain, else where the broker
// sends it on to.
func siteCallback(t *testing.T, c *http.Client, callback string) string {
	t.Helper()
	if q := queryOf(t, callback); q.Get("login") == "" {
		t.Fatalf("not a callback: %s", callback)
	}
	resp, _ := get(t, c, callback, pageHeader(nil))
	if to := resp.Header.Get("Location"); strings.Contains(to, "ticket=") && !strings.Contains(to, "/connect/oauth2/") {
		return to
	}
	return callback
}

// pageHeader is what WeChat's browser sends on a page load.
func pageHeader(cookies []*http.Cookie) http.Header {
	h := http.Header{
		"User-Agent": {wechattest.UserAgentAndroid}, "Accept": {"text/html,*/*;q=0.8"},
		"Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"document"},
	}
	for _, c := range cookies {
		h.Add("Cookie", c.Name+"="+c.Value)
	}
	return h
}

func sessionOf(resp *http.Response) string {
	for _, c := range resp.Cookies() {
		if c.Name == "__Host-wechat_session" && c.Value != "" {
			return c.Value
		}
	}
	return ""
}

func queryOf(t *testing.T, address string) url.Values {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query()
}

// withQuery returns address with one parameter changed, all others where they stand.
func withQuery(t *testing.T, address, name, value string) string {
	t.Helper()
	before, query, _ := strings.Cut(address, "?")
	parts := strings.Split(query, "&")
	for i, p := range parts {
		if strings.HasPrefix(p, name+"=") {
			parts[i] = name + "=" + url.QueryEscape(value)
		}
	}
	return before + "?" + strings.Join(parts, "&")
}

// wantOwnAnswer checks what every answer of the gateway's own carries.
func wantOwnAnswer(t *testing.T, resp *http.Response) {
	t.Helper()
	if got := resp.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control %q", got)
	}
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		return
	}
	csp := resp.Header.Get("Content-Security-Policy")
	if csp == "" || strings.Contains(csp, "unsafe-inline") || !strings.Contains(csp, "form-action 'self'") {
		t.Errorf("Content-Security-Policy %q", csp)
	}
	for name, want := range map[string]string{"X-Frame-Options": "DENY", "X-Robots-Tag": "noindex"} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s %q, want %q", name, got, want)
		}
	}
}
