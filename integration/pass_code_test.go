package integration

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// ownHome is where the users of the client with pass_code come back to.
const ownHome = "https://own.example/callback"

// getWeixinCode is the address that GetWeixinCode's README tells its callers to use.
func getWeixinCode(to string, more ...string) string {
	return broker + "/get-weixin-code.html?appid=" + appID + strings.Join(more, "") + "&redirect_uri=" + url.QueryEscape(to)
}

// exchangeOwn exchanges a code as the client does, with the account's own secret.
func (w *world) exchangeOwn(t *testing.T, code string) snsAnswer {
	t.Helper()
	_, _, a := w.sns(t, http.MethodGet, snsToken(w.sim.url, appID, appSecret, code))
	return a
}

// The ways in which clients that exchange for themselves ask for a code, and what comes back. A browser carries
// WeChat's #wechat_redirect along where the address has no fragment of its own, as it does from WeChat itself.
func TestPassCode(t *testing.T) {
	w := clientWorld(t, clientBlocks, "redir /xxx/get-weixin-code.html /get-weixin-code.html?{query}")
	cases := []struct{ name, start, back, fragment, scope string }{
		{"WeChat's link", authorizeLink(appID, ownHome, "snsapi_userinfo", "st@te 1"), "code=?&state=st%40te%201", "wechat_redirect", "snsapi_userinfo"},
		{"an address with a query and a fragment", authorizeLink(appID, ownHome+"?a=1&b=%20#/route?x=1", "snsapi_base", "1"), "a=1&b=%20&code=?&state=1", "/route?x=1", "snsapi_base"},
		{"no state", authorizeLink(appID, ownHome, "snsapi_base", ""), "code=?&state=", "wechat_redirect", "snsapi_base"},
		{"GetWeixinCode's address", getWeixinCode(ownHome, "&scope=snsapi_base&state=hello-world"), "code=?&state=hello-world", "wechat_redirect", "snsapi_base"},
		{"GetWeixinCode's address with a profile", getWeixinCode(ownHome, "&scope=snsapi_userinfo&state=1"), "code=?&state=1", "wechat_redirect", "snsapi_userinfo"},
		{"GetWeixinCode's address with its defaults", getWeixinCode(ownHome), "code=?&state=", "wechat_redirect", "snsapi_base"},
		{"GetWeixinCode's address with a fragment", getWeixinCode(ownHome+"?a=1#/vue", "&state=1"), "a=1&code=?&state=1", "/vue", "snsapi_base"},
		{"GetWeixinCode's address in a folder", strings.Replace(getWeixinCode(ownHome, "&state=1"), "/get", "/xxx/get", 1), "code=?&state=1", "wechat_redirect", "snsapi_base"},
		{"GetWeixinCode's address on plain http", strings.Replace(getWeixinCode(ownHome, "&state=1"), "https", "http", 1), "code=?&state=1", "wechat_redirect", "snsapi_base"},
	}
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := open(t, w.browser(w.sim, wechattest.BrowserOptions{User: "lina"}), c.start)
			code := landed(t, p, ownHome).Get("code")
			if got := strings.Replace(p.URL.RawQuery, code, "?", 1); got != c.back || p.URL.Fragment != c.fragment {
				t.Errorf("came back with %s#%s, want %s#%s", got, p.URL.Fragment, c.back, c.fragment)
			}
			if n := w.sim.CountCalls(wechattest.PathToken); n != i {
				t.Errorf("the gateway exchanged %d codes", n-i)
			}
			if a := w.exchangeOwn(t, code); a.OpenID != w.sim.OpenID(appID, "lina") || a.Scope != c.scope {
				t.Errorf("the client got openid %q of scope %q", a.OpenID, a.Scope)
			}
		})
	}
}

// A static page that is a caller of GetWeixinCode's: its link leads through the bound domain and back to it.
func TestPassCodeFromAStaticPage(t *testing.T) {
	w := clientWorld(t, clientBlocks, "")
	link := strings.ReplaceAll(getWeixinCode("https://own.example/hello-world.html", "&scope=snsapi_base&state=hello-world"), "&", "&amp;")
	w.mustReload(t, strings.Replace(w.brokerWith(clientBlocks, ""), "own.example, ", "", 1)+
		"own.example {\n header Content-Type text/html\n respond <<HTML\n<a href=\""+link+"\">微信登录</a>\nHTML\n}\n")
	b := w.browser(w.sim, wechattest.BrowserOptions{User: "lina"})
	p, err := b.Click(t.Context(), open(t, b, "https://own.example/hello-world.html"), "微信登录")
	if err != nil {
		t.Fatal(err)
	}
	q := landed(t, p, "https://own.example/hello-world.html")
	if p.URL.RawQuery != "code="+q.Get("code")+"&state=hello-world" {
		t.Errorf("came back with %s", p.URL.RawQuery)
	}
	if a := w.exchangeOwn(t, q.Get("code")); a.OpenID != w.sim.OpenID(appID, "lina") {
		t.Errorf("the client got openid %q", a.OpenID)
	}
}

func TestPassCodeIsRefused(t *testing.T) {
	w := clientWorld(t, clientBlocks, "")
	cases := []struct {
		name, start string
		status      int
		why         string // in the log; none where the site itself answers
	}{
		{"an address that is no client's", authorizeLink(appID, "https://evil.example/", "snsapi_base", "1"), 400, "no client has it"},
		{"an address that is no client's, at GetWeixinCode's", getWeixinCode("https://evil.example/"), 400, "no client has it"},
		{"an address in front of a client's", getWeixinCode("https://own.example@evil.example/"), 400, "no client has it"},
		{"a host that ends as a client's", getWeixinCode("https://xown.example/"), 400, "no client has it"},
		{"another scheme", getWeixinCode("http://own.example/callback"), 400, "no client has it"},
		{"a script", getWeixinCode("javascript:alert(1)//own.example/"), 400, "no http or https address"},
		{"a client without pass_code", authorizeLink(appID, sdkHome, "snsapi_base", "1"), 400, "its client has no pass_code"},
		{"a client without pass_code, at GetWeixinCode's", getWeixinCode(sdkHome), 400, "its client has no pass_code"},
		{"an unknown app id", authorizeLink("wxffffffffffffffff", ownHome, "snsapi_base", "1"), 404, "has this app id"},
		{"an unknown app id at GetWeixinCode's", strings.Replace(getWeixinCode(ownHome), appID, "wxffffffffffffffff", 1), 200, ""},
		{"no app id at GetWeixinCode's", broker + "/get-weixin-code.html", 200, ""},
		{"a client's id at GetWeixinCode's", strings.Replace(getWeixinCode(sdkHome), appID, "shop", 1), 200, ""},
		{"a code in the address already", getWeixinCode(ownHome + "?code=1"), 400, "has a name already"},
		{"two addresses", getWeixinCode(ownHome, "&redirect_uri=https://evil.example/"), 400, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			resp, body := get(t, w.client(), c.start, pageHeader(nil))
			if resp.StatusCode != c.status || resp.Header.Get("Location") != "" || len(resp.Cookies()) > 0 {
				t.Fatalf("status %d to %q, want %d: %.300s", resp.StatusCode, resp.Header.Get("Location"), c.status, body)
			}
			if site := strings.Contains(body, `"URI":"/get-weixin-code.html`); site != (c.status == 200) {
				t.Errorf("the site itself answered: %v", site)
			}
			if !w.logged(c.why) {
				t.Errorf("the log does not say why: %s", c.why)
			}
		})
	}
	t.Run("by another method", func(t *testing.T) {
		if resp, _ := do(t, w.client(), http.MethodPost, getWeixinCode(ownHome), pageHeader(nil), nil); resp.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("status %d", resp.StatusCode)
		}
	})
	t.Run("where no client has pass_code, the address is the site's", func(t *testing.T) {
		w.mustReload(t, w.brokerWith(strings.Replace(clientBlocks, "\n\t\t\tpass_code", "", 1), ""))
		if resp, body := get(t, w.client(), getWeixinCode(ownHome), pageHeader(nil)); !strings.Contains(body, `"URI":"/get-weixin-code.html`) {
			t.Errorf("status %d: %.300s", resp.StatusCode, body)
		}
		if resp, _ := get(t, w.client(), authorizeLink(appID, ownHome, "snsapi_base", "1"), pageHeader(nil)); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("WeChat's link: status %d", resp.StatusCode)
		}
	})
}

// passLogin is a login under way: where WeChat sends its browser back to, and that browser's cookies.
type passLogin struct {
	callback, state string
	cookies         []*http.Cookie
}

func (w *world) beginAt(t *testing.T, start string) passLogin {
	t.Helper()
	resp, body := get(t, w.client(), start, pageHeader(nil))
	to, err := resp.Location()
	if err != nil {
		t.Fatalf("status %d: %.300s", resp.StatusCode, body)
	}
	q := to.Query()
	return passLogin{q.Get("redirect_uri"), q.Get("state"), resp.Cookies()}
}

// arrives brings a code to the login's callback, in its own browser.
func (w *world) arrives(t *testing.T, l passLogin, code string) (*http.Response, string) {
	t.Helper()
	return get(t, w.client(), l.callback+"&code="+code+"&state="+l.state, pageHeader(l.cookies))
}

// A callback that comes twice goes to the client twice, with the same code; nobody else gets it.
func TestPassCodeTwice(t *testing.T) {
	w := clientWorld(t, clientBlocks, "")
	l := w.beginAt(t, authorizeLink(appID, ownHome, "snsapi_base", "mine"))
	const code, other = "081000000000000000000000000000a1", "081000000000000000000000000000b2"
	for range 2 {
		resp, _ := w.arrives(t, l, code)
		if to := resp.Header.Get("Location"); to != ownHome+"?code="+code+"&state=mine" {
			t.Errorf("status %d to %q", resp.StatusCode, to)
		}
	}
	if resp, _ := w.arrives(t, l, other); resp.Header.Get("Location") != ownHome+"?code="+other+"&state=mine" {
		t.Errorf("a second code for one state: status %d to %q", resp.StatusCode, resp.Header.Get("Location"))
	}
	l.cookies = nil
	if resp, _ := w.arrives(t, l, code); strings.Contains(resp.Header.Get("Location"), code) {
		t.Errorf("without the login's cookie: status %d to %q", resp.StatusCode, resp.Header.Get("Location"))
	}
	if n := w.sim.CountCalls(wechattest.PathToken); n != 0 {
		t.Errorf("the gateway exchanged %d codes", n)
	}
}

// A code that was passed on is its client's: whoever brings it to a callback where the gateway exchanges, or to
// another client's, gets nothing for it, and WeChat is not asked.
func TestPassedCodesAreNeverExchanged(t *testing.T) {
	w := clientWorld(t, clientBlocks+`
		client rival {
			secret {env.BLOG_SECRET}
			return_to https://tokens.example/*
			pass_code
		}`, "wechat_auth {\n public /open/*\n}")
	p := open(t, w.browser(w.sim, wechattest.BrowserOptions{User: "lina"}), authorizeLink(appID, ownHome, "snsapi_base", "1"))
	code := landed(t, p, ownHome).Get("code")
	for name, start := range map[string]string{
		"wxauth's login":                startV2("https://client.example/shop/", ""),
		"a login of WeChat's interface": authorizeLink("shop", sdkHome, "snsapi_base", "1"),
		"the site's own login":          broker + "/member/",
		"another client with pass_code": authorizeLink(appID, "https://tokens.example/x", "snsapi_base", "1"),
		"another login of its client":   authorizeLink(appID, ownHome, "snsapi_base", "1"),
	} {
		t.Run(name, func(t *testing.T) {
			resp, body := w.arrives(t, w.beginAt(t, start), code)
			if to := resp.Header.Get("Location"); resp.StatusCode != http.StatusBadRequest || to != "" {
				t.Errorf("status %d to %q: %.300s", resp.StatusCode, to, body)
			}
		})
	}
	t.Run("a request target", func(t *testing.T) {
		resp, _ := get(t, w.client(), broker+"/?code="+code+"&state=0123ABCDfree", pageHeader(nil))
		if to := resp.Header.Get("Location"); strings.Contains(to, "ticket=") {
			t.Errorf("status %d to %q", resp.StatusCode, to)
		}
	})
	if n := w.sim.CountCalls(wechattest.PathToken); n != 0 {
		t.Errorf("the gateway exchanged %d codes", n)
	}
	if a := w.exchangeOwn(t, code); a.OpenID != w.sim.OpenID(appID, "lina") {
		t.Errorf("the client's own exchange brought %+v", a)
	}
}
