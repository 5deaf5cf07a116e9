package integration

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// Each of these was broken once.

// A handler that meets a request for the second time must still know who it is: its cookies are hidden by then.
func TestHandlersThatMeetARequestTwice(t *testing.T) {
	blocks := map[string]string{
		"a named route invoked twice": `&(protect) {
			wechat_auth {
				origin https://auth.example.com
			}
		}
		auth.example.com {
			invoke protect
			handle /member/* {
				invoke protect
				reverse_proxy UPSTREAM
			}
		}`,
		"a named route inside a site of its own": `&(protect) {
			wechat_auth {
				origin https://auth.example.com
			}
		}
		auth.example.com {
			wechat_auth
			handle /member/* {
				invoke protect
				reverse_proxy UPSTREAM
			}
		}`,
		"a named route inside a site of another origin": `&(protect) {
			wechat_auth {
				origin https://auth.example.com
			}
		}
		auth.example.com {
			wechat_auth {
				origin https://www.example.com
				path /_www
				public /*
			}
			@shop path /member/* /_wechat/*
			handle @shop {
				invoke protect
				reverse_proxy UPSTREAM
			}
		}`,
		"a named route and an error route": `&(protect) {
			wechat_auth {
				origin https://auth.example.com
			}
		}
		auth.example.com {
			invoke protect
			error /member/* 404
			handle_errors {
				invoke protect
				reverse_proxy UPSTREAM
			}
		}`,
	}
	for name, block := range blocks {
		t.Run(name, func(t *testing.T) {
			w := siteWorld(t, "", block)
			b := w.browser(w.sim, wechattest.BrowserOptions{User: "lina"})
			p := open(t, b, authPage)
			s := readSeen(t, p.Body)
			if got := s.Header.Get("X-Wechat-Openid"); got != w.sim.OpenID(appID, "lina") || len(s.Header["Cookie"]) > 0 {
				t.Errorf("after %d redirects the upstream got %q with cookies %q", len(p.Redirects), got, s.Header["Cookie"])
			}
		})
	}
}

// Two people log in, one after the other, in one browser; the back button lands on a callback whose
// session the second login replaced.
func TestBackToACallbackWhoseSessionWasReplaced(t *testing.T) {
	both(t, "", func(t *testing.T, w *world, page string) {
		c := w.client()
		one, first := begin(t, w, c, page)
		w.sim.Update(func(k *wechattest.Knobs) { k.User = "lina" })
		defer w.sim.Update(func(k *wechattest.Knobs) { k.User = "" })
		two, second := begin(t, w, c, page)
		a := follow(t, c, one, first)
		b := follow(t, c, two, append(holding(a), second...))
		if resp, _ := get(t, c, page, pageHeader(holding(a))); resp.StatusCode != 302 {
			t.Errorf("the replaced session lives: %d", resp.StatusCode)
		}
		for _, address := range callbacks(t, c, one) {
			resp, _ := get(t, c, address, pageHeader(append(holding(b), first...)))
			if resp.StatusCode >= 400 {
				t.Errorf("a signed-in browser got %d", resp.StatusCode)
			}
		}
	})
}

// A login for less that ends late must not take the profile away.
func TestALesserLoginKeepsTheProfile(t *testing.T) {
	w := singleWorld(t, "")
	c := w.client()
	late, lateCookies := begin(t, w, c, authPage)
	full, fullCookies := begin(t, w, c, "https://auth.example.com/_wechat/login?return=/member/&scope=snsapi_userinfo")
	token := follow(t, c, full, fullCookies)
	if claims(t, token)["scope"] != "snsapi_userinfo" {
		t.Fatalf("the session is %v", claims(t, token))
	}
	resp, _ := get(t, c, late, pageHeader(append(holding(token), lateCookies...)))
	if resp.StatusCode != 303 || sessionOf(resp) != "" {
		t.Errorf("status %d, session %q", resp.StatusCode, sessionOf(resp))
	}
	if resp, _ := get(t, c, authPage, pageHeader(holding(token))); resp.StatusCode != 200 {
		t.Errorf("the fuller session is gone: %d", resp.StatusCode)
	}
}

// The bound domain written with both addresses: over http a login comes back over http.
func TestBoundDomainOverPlainHTTP(t *testing.T) {
	w := siteWorld(t, "domain auth.example.com", "auth.example.com, http://auth.example.com {\n wechat_auth\n reverse_proxy UPSTREAM\n}\n")
	c := w.client()
	resp, _ := get(t, c, "http://auth.example.com/member/", pageHeader(nil))
	to := resp.Header.Get("Location")
	if !strings.Contains(to, "redirect_uri=http%3A%2F%2Fauth.example.com%2F") {
		t.Fatalf("sent to %s", to)
	}
	cookies := resp.Cookies()
	resp, _ = get(t, c, to, http.Header{"User-Agent": {wechattest.UserAgentAndroid}})
	resp, _ = get(t, c, strings.Split(resp.Header.Get("Location"), "#")[0], pageHeader(cookies))
	if resp.StatusCode != 303 || len(resp.Cookies()) == 0 || resp.Cookies()[0].Secure {
		t.Errorf("ended with %d %v", resp.StatusCode, resp.Header)
	}
}

func TestOddMethodsAreRefused(t *testing.T) {
	w := singleWorld(t, "")
	for _, method := range []string{"G", "GE", "ET", "POS", "get", "PUT", "DELETE"} {
		for _, endpoint := range []string{"login", "callback", "userinfo", "logout"} {
			resp, _ := do(t, w.client(), method, "https://auth.example.com/_wechat/"+endpoint, pageHeader(nil), nil)
			if resp.StatusCode != 405 || resp.Header.Get("Allow") == "" || resp.Header.Get("Referrer-Policy") != "no-referrer" {
				t.Errorf("%s %s: %d", method, endpoint, resp.StatusCode)
			}
		}
	}
}

// Behind some proxies a web socket's scheme is wss.
func TestWebSocketBehindAProxyIsSignedIn(t *testing.T) {
	w := newWorld(t, boundDomain, func(w *world) string {
		return "{\n" + w.globals() + "servers {\n trusted_proxies static 127.0.0.0/8\n}\n" + w.options("", "") + "}\n" +
			"http://auth.example.com {\n wechat_auth {\n origin https://auth.example.com\n}\n reverse_proxy " + w.up.addr + "\n}\n"
	})
	c := w.plainClient()
	header := func(proto string, cookies []*http.Cookie) http.Header {
		h := pageHeader(cookies)
		h.Set("X-Forwarded-Proto", proto)
		return h
	}
	resp, _ := get(t, c, "http://auth.example.com/member/", header("https", nil))
	cookies := resp.Cookies()
	resp, _ = get(t, c, resp.Header.Get("Location"), http.Header{"User-Agent": {wechattest.UserAgentAndroid}})
	callback := strings.Replace(strings.Split(resp.Header.Get("Location"), "#")[0], "https://", "http://", 1)
	resp, _ = get(t, c, callback, header("https", cookies))
	token := sessionOf(resp)
	for _, proto := range []string{"https", "wss"} {
		if resp, _ := get(t, c, "http://auth.example.com/member/", header(proto, holding(token))); resp.StatusCode != 200 {
			t.Errorf("%s: %d", proto, resp.StatusCode)
		}
	}
}

// A failed login tells its errcode across domains, and a script gets it as JSON.
func TestErrcodeIsShown(t *testing.T) {
	both(t, "", func(t *testing.T, w *world, page string) {
		c := w.client()
		w.sim.Update(func(k *wechattest.Knobs) {
			k.Faults[wechattest.PathToken] = wechattest.Fault{Errcodes: []int{45011, 45011}}
		})
		callback, cookies := begin(t, w, c, page)
		resp, body := get(t, c, callback, pageHeader(cookies))
		if to := resp.Header.Get("Location"); to != "" {
			if !strings.Contains(to, "/callback?error=unavailable&state=") {
				t.Errorf("the broker sent the browser to %s", to)
			}
			callback = to
			resp, body = get(t, c, callback, pageHeader(cookies))
		}
		if resp.StatusCode != 502 || !strings.Contains(body, "45011") {
			t.Errorf("status %d\n%.2000s", resp.StatusCode, body)
		}
		h := pageHeader(cookies)
		h.Set("Sec-Fetch-Mode", "cors")
		if resp, body := get(t, c, callback, h); resp.StatusCode != 502 || body != `{"code":-1,"msg":"WeChat refused: errcode 45011"}` {
			t.Errorf("a script got %d %s", resp.StatusCode, body)
		}
	})
}

// Ten codes that WeChat does not know, in ten logins, are ten calls; the same again at once are none.
func TestJunkCodesAreAskedOnce(t *testing.T) {
	w := singleWorld(t, "")
	c := w.client()
	for i := range 10 {
		callback, cookies := begin(t, w, c, authPage)
		address := withQuery(t, callback, "code", fmt.Sprintf("%032d", i))
		for range 3 {
			resp, _ := get(t, c, address, pageHeader(cookies))
			if resp.StatusCode != 400 {
				t.Fatalf("status %d", resp.StatusCode)
			}
		}
	}
	if n := w.sim.CountCalls(wechattest.PathToken); n != 10 {
		t.Errorf("WeChat was asked %d times", n)
	}
}

// A login of another site, or of another account, is none of this site's: its code is not spent here.
func TestALoginOfAnotherIsNotExchanged(t *testing.T) {
	sites := func(w *world, account string) string {
		options := strings.Replace(w.options("auth.example.com", ""), "account {", "account "+account+" {", 1)
		return "{\n" + w.globals() + options + "}\n" +
			"auth.example.com {\n wechat_auth\n reverse_proxy " + w.up.addr + "\n}\n" +
			"shop.example.org {\n wechat_auth\n reverse_proxy " + w.up.addr + "\n}\n"
	}
	w := newWorld(t, boundDomain, func(w *world) string { return sites(w, "one") })
	c := w.client()
	refused := func(address string, cookies []*http.Cookie) {
		t.Helper()
		w.sim.ResetCalls()
		resp, body := get(t, c, address, pageHeader(cookies))
		if resp.StatusCode != 400 || !strings.Contains(body, "4002") || w.sim.CountCalls(wechattest.PathToken) > 0 {
			t.Errorf("status %d, WeChat was asked %d times", resp.StatusCode, w.sim.CountCalls(wechattest.PathToken))
		}
	}
	callback, cookies := begin(t, w, c, shopPage)
	refused(callback, cookies) // the bound domain has no broker here
	callback, cookies = begin(t, w, c, authPage)
	if out, err := w.reload(sites(w, "two")); err != nil {
		t.Fatal(out)
	}
	refused(callback, cookies)
}

// A callback that is repeated after the logout must not sign in again: its session's id is the login's.
func TestACallbackRepeatedAfterLogout(t *testing.T) {
	both(t, "", func(t *testing.T, w *world, page string) {
		c := w.client()
		callback, cookies := begin(t, w, c, page)
		addresses := callbacks(t, c, callback)
		logout(t, c, page, follow(t, c, callback, cookies))
		for _, address := range addresses {
			if s := follow(t, c, address, cookies); s != "" {
				t.Errorf("%s signed in again", address)
			}
		}
	})
}

// Tabs that log in at once: a later one's callback must not end the session that the others' requests carry.
func TestALoginOfTheSamePersonKeepsTheSession(t *testing.T) {
	both(t, "", func(t *testing.T, w *world, page string) {
		c := w.client()
		one, first := begin(t, w, c, page)
		two, second := begin(t, w, c, page)
		token := follow(t, c, one, first)
		if s := follow(t, c, two, append(holding(token), second...)); s != "" {
			t.Error("the session was replaced")
		}
		if resp, _ := get(t, c, page, pageHeader(holding(token))); resp.StatusCode != 200 {
			t.Errorf("the session was ended: %d", resp.StatusCode)
		}
	})
}

// For anybody unknown the placeholders are empty, not their own text.
func TestPlaceholders(t *testing.T) {
	w := siteWorld(t, "scope snsapi_userinfo", `auth.example.com {
		wechat_auth {
			public /open
		}
		respond "[{http.auth.user.id}|{http.auth.user.openid}|{http.auth.user.appid}|{http.auth.user.scope}|{http.auth.user.nickname}|{http.auth.user.headimgurl}|{http.auth.user.unionid}]"
	}`)
	c := w.client()
	if _, body := get(t, c, "https://auth.example.com/open", nil); body != "[||||||]" {
		t.Errorf("anonymous: %s", body)
	}
	callback, cookies := begin(t, w, c, "https://auth.example.com/_wechat/login?return=/")
	token := follow(t, c, callback, cookies)
	_, body := get(t, c, "https://auth.example.com/open", pageHeader(holding(token)))
	id := openIDOf(t, token)
	if !strings.HasPrefix(body, "["+id+"|"+id+"|"+appID+"|snsapi_userinfo|"+claims(t, token)["nickname"].(string)+"|") {
		t.Errorf("signed in: %s", body)
	}
}

// Unused, a session ends; used, it is renewed, but no longer than its longest life. A machine that stands still for two
// seconds does not end it: a token has three at least, and is renewed after one.
func TestSessionEnds(t *testing.T) {
	const (
		unused, most = 4 * time.Second, 8 * time.Second
		early        = 3 * time.Second // a life ends at a whole second, and begins before its answer is here
	)
	w := singleWorld(t, fmt.Sprintf("session %s %s\nrenew 1s", unused, most))
	c := w.client()
	idle, used := signIn(t, w, c, authPage), signIn(t, w, c, authPage)
	begun := time.Now()
	looked := false
	for time.Since(begun) < most+2*time.Second {
		time.Sleep(500 * time.Millisecond)
		sent := time.Since(begun)
		if sent > unused && !looked {
			looked = true
			if resp, _ := get(t, c, authPage, pageHeader(holding(idle))); resp.StatusCode != http.StatusFound {
				t.Errorf("an unused session got %d", resp.StatusCode)
			}
		}
		resp, _ := get(t, c, authPage, pageHeader(holding(used)))
		if next := sessionOf(resp); next != "" {
			used = next
		}
		lives := resp.StatusCode == http.StatusOK
		if lives && sent > most || !lives && time.Since(begun) < most-early {
			t.Fatalf("after %v a used session got %d", sent, resp.StatusCode)
		}
	}
}

// Strangers who know a login's address must not use up the codes of its owner.
func TestStrangersLeaveTheOwnersCodes(t *testing.T) {
	w := singleWorld(t, "")
	c := w.client()
	callback, cookies := begin(t, w, c, authPage)
	w.sim.ResetCalls()
	for i := range 10 {
		get(t, c, withQuery(t, callback, "code", fmt.Sprintf("%032d", i)), pageHeader(nil))
	}
	if n := w.sim.CountCalls(wechattest.PathToken); n != 1 {
		t.Errorf("WeChat was asked %d times for strangers", n)
	}
	if follow(t, c, callback, cookies) == "" {
		t.Error("the owner cannot log in")
	}
}
