package integration

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

const legacyTargets = `
	client tokens {
		secret {env.BLOG_SECRET}
		token 0123ABCD https://tokens.example/in?from=wechat
		token 89abcdef https://tokens.example/plain#top
		openid
	}
	client brief {
		secret {env.SHOP_SECRET}
		token 22222222 https://blog.example/brief
		scope snsapi_base
		profile_ttl 2s
	}
	client raw {
		secret {env.SHOP_SECRET}
		token 33333333 https://client.example/raw
		raw_state
	}
	client none {
		secret {env.SHOP_SECRET}
		return_to https://own.example/*
	}`

// authorizeV1 is where a client of V1 sends its users itself: WeChat, which brings them to the bound domain's root.
func (w *world) authorizeV1(state, scope string) string {
	return w.sim.url + "/connect/oauth2/authorize?appid=" + appID + "&redirect_uri=" + url.QueryEscape(broker) +
		"&response_type=code&scope=" + scope + "&state=" + url.QueryEscape(state) + "#wechat_redirect"
}

// arriveV1 is the bound domain's root with a code of WeChat's and a state that WeChat would not take.
func (w *world) arriveV1(t *testing.T, state string) string {
	t.Helper()
	resp, _ := get(t, &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		w.authorizeV1("00000000", "snsapi_userinfo"), http.Header{"User-Agent": {wechattest.UserAgentAndroid}})
	to, err := resp.Location()
	if err != nil || to.Query().Get("code") == "" {
		t.Fatalf("%v %v", err, to)
	}
	return broker + "/?code=" + to.Query().Get("code") + "&state=" + url.QueryEscape(state)
}

// profileV1 asks for a user's profile, as V1's clients do.
func (w *world) profileV1(t *testing.T, address, id, secret string) (int, map[string]any) {
	t.Helper()
	req := httptest.NewRequest(http.MethodGet, address, nil)
	req.RequestURI = ""
	if id != "" {
		req.SetBasicAuth(id, secret)
	}
	resp, body := send(t, w.client(), req)
	if resp.StatusCode != http.StatusOK {
		if body != "" || resp.Header.Get("Location") != "" {
			t.Errorf("status %d with %q %v", resp.StatusCode, body, resp.Header)
		}
		return resp.StatusCode, nil
	}
	var user map[string]any
	if err := json.Unmarshal([]byte(body), &user); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, user
}

func TestLegacyV1(t *testing.T) {
	w := clientWorld(t, legacyTargets, "")
	lina := w.sim.OpenID(appID, "lina")
	user := func(id string) string { return broker + "/user/" + appID + "/" + id }
	phone := func() *wechattest.Browser { return w.browser(w.sim, wechattest.BrowserOptions{User: "lina"}) }

	t.Run("a user comes to the target with ticket, state and openid", func(t *testing.T) {
		p := open(t, phone(), w.authorizeV1("0123abcdFreeText9", "snsapi_userinfo"))
		if q := landed(t, p, "https://tokens.example/in"); p.URL.RawQuery != "from=wechat&ticket="+q.Get("ticket")+"&state=FreeText9&openid="+lina {
			t.Errorf("came with %s", p.URL)
		}
		w.sim.Update(func(k *wechattest.Knobs) { k.User = "lina" })
		p = open(t, phone(), w.arriveV1(t, "0123abcdfree text&=你"))
		tkt := landed(t, p, "https://tokens.example/in").Get("ticket")
		if want := "from=wechat&ticket=" + tkt + "&state=free%20text%26%3D%E4%BD%A0&openid=" + lina; p.URL.RawQuery != want {
			t.Errorf("came with %s, want %s", p.URL.RawQuery, want)
		}
		resp, got := w.redeem(t, tkt, "tokens", blogSecret)
		if resp.StatusCode != 200 || got["openid"] != lina || got["state"] != "free text&=你" || got["nickname"] != "李娜🌸" {
			t.Errorf("the ticket is %d %v", resp.StatusCode, got)
		}
	})
	t.Run("an empty state comes along as well, and a fragment stays last", func(t *testing.T) {
		p := open(t, phone(), w.authorizeV1("89abcdef", "snsapi_base"))
		if q := landed(t, p, "https://tokens.example/plain"); p.URL.RawQuery != "ticket="+q.Get("ticket")+"&state=&openid="+lina || p.URL.Fragment != "top" {
			t.Errorf("came with %s", p.URL)
		}
	})
	t.Run("openid alone where the option is", func(t *testing.T) {
		p := open(t, phone(), w.authorizeV1("22222222x", "snsapi_base"))
		if q := landed(t, p, "https://blog.example/brief"); q.Has("openid") || q.Get("state") != "x" {
			t.Errorf("came with %s", p.URL)
		}
	})
	t.Run("a profile can be read again and again by the client alone that the user logged in through", func(t *testing.T) {
		for _, address := range []string{user(lina), user(lina) + "/", strings.Replace(user(lina), "https", "http", 1)} {
			status, got := w.profileV1(t, address, "tokens", blogSecret)
			if status != 200 || got["openid"] != lina || got["state"] != nil {
				t.Errorf("%s: %d %v", address, status, got)
			}
		}
		said := legacyPython(t, w, "redeem.py", blogSecret, user(lina), "tokens")
		if said.Status != 200 || said.User["openid"] != lina {
			t.Errorf("Python has %+v", said)
		}
		for _, x := range []struct{ name, address, id, secret string }{
			{"somebody who did not log in", user(w.sim.OpenID(appID, "zhangwei")), "tokens", blogSecret},
			{"another app id", strings.Replace(user(lina), appID, "wxffffffffffffffff", 1), "tokens", blogSecret},
			{"a wrong secret", user(lina), "tokens", shopSecret},
			{"no secret", user(lina), "", ""},
			{"a client with tokens of its own", user(lina), "raw", shopSecret},
			{"a client without tokens", user(lina), "none", shopSecret},
		} {
			if status, _ := w.profileV1(t, x.address, x.id, x.secret); status != 404 {
				t.Errorf("%s: %d", x.name, status)
			}
		}
	})
	t.Run("a profile is there for profile_ttl", func(t *testing.T) {
		open(t, phone(), w.authorizeV1("22222222", "snsapi_userinfo"))
		status, got := w.profileV1(t, user(lina), "brief", shopSecret)
		if status != 200 {
			t.Fatalf("status %d", status)
		}
		wantKeys(t, got, "openid", "app", "appid", "scope")
		lifeUntil(t, 20*time.Second, "the profile ends", func() bool {
			status, _ := w.profileV1(t, user(lina), "brief", shopSecret)
			return status == 404
		})
	})
	t.Run("what WeChat granted is what the client may read", func(t *testing.T) {
		for scope, known := range map[string]string{
			"snsapi_base":     "openid app appid scope",
			"snsapi_userinfo": "openid unionid nickname sex city province country headimgurl privilege avatar app appid scope",
		} {
			open(t, phone(), w.authorizeV1("0123abcd", scope))
			_, got := w.profileV1(t, user(lina), "tokens", blogSecret)
			wantKeys(t, got, known)
		}
	})
	t.Run("a raw state that could bring a second ticket is refused", func(t *testing.T) {
		before := w.sim.CountCalls(wechattest.PathToken)
		for _, state := range []string{"x&ticket=00112233445566778899aabbccddeeff", "x#y", "x&TICKET[]=1", "x\ny", strings.Repeat("x", 2000)} {
			resp, _ := get(t, w.client(), broker+"/?code=ABC&state="+url.QueryEscape("33333333"+state), pageHeader(nil))
			if resp.StatusCode != 400 || resp.Header.Get("Location") != "" {
				t.Errorf("%.50q: %d, to %s", state, resp.StatusCode, resp.Header.Get("Location"))
			}
		}
		if w.sim.CountCalls(wechattest.PathToken) != before {
			t.Error("WeChat was asked")
		}
		p := open(t, phone(), w.arriveV1(t, "33333333a=1&b=2"))
		if q := landed(t, p, "https://client.example/raw"); p.URL.RawQuery != "ticket="+q.Get("ticket")+"&state=a=1&b=2" {
			t.Errorf("came with %s", p.URL)
		}
	})
	t.Run("a snapshot visitor gets the page", func(t *testing.T) {
		b := w.browser(w.sim, wechattest.BrowserOptions{User: "lina", Snapshot: true})
		p := open(t, b, w.authorizeV1("0123abcd", "snsapi_userinfo"))
		wantPageOf(t, p, "auth.example.com", 200, "这是预览")
	})
	t.Run("WeChat away is a 502, and a code that it does not know is expired", func(t *testing.T) {
		for errcode, want := range map[int]int{40029: 400, -1: 502} {
			w.sim.Update(func(k *wechattest.Knobs) {
				k.Faults = map[string]wechattest.Fault{wechattest.PathToken: {Errcodes: []int{errcode, errcode, errcode}}}
			})
			p := open(t, phone(), w.authorizeV1("0123abcd", "snsapi_base"))
			wantStatus(t, p, want)
			if p.URL.Host != "auth.example.com" || strings.Contains(string(p.Body), p.URL.Query().Get("code")) {
				t.Errorf("at %s", p.URL.Host)
			}
		}
		w.sim.Update(func(k *wechattest.Knobs) { k.Faults = nil })
	})
}

// wantPageOf asserts that the browser stands before a page of the gateway's with that title.
func wantPageOf(t *testing.T, p *wechattest.Page, host string, status int, title string) {
	t.Helper()
	wantStatus(t, p, status)
	if p.URL.Host != host || !strings.Contains(string(p.Body), "<h1>"+title+"</h1>") {
		t.Errorf("at %s, and not %s:\n%.600s", p.URL, title, p.Body)
	}
}
