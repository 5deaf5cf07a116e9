package integration

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// What a client may do with WeChat's interface ends where its block ends.
func TestSDKStartIsBoundToItsClient(t *testing.T) {
	w := clientWorld(t, clientBlocks, "")
	cases := []struct {
		name, link string
		status     int
		why        string // in the log
	}{
		{"its own address", authorizeLink("shop", sdkHome, "snsapi_userinfo", "1"), 302, ""},
		{"less than its scope", authorizeLink("shop", sdkHome, "snsapi_base", "1"), 302, ""},
		{"nobody's address", authorizeLink("shop", "https://evil.example/shop/", "snsapi_base", "1"), 400, "no client has it"},
		{"another path of its host", authorizeLink("shop", "https://client.example/other", "snsapi_base", "1"), 400, "no client has it"},
		{"another client's address", authorizeLink("shop", "https://blog.example/x", "snsapi_base", "1"), 400, "it is another client's"},
		{"more than its scope", authorizeLink("blog", "https://blog.example/x", "snsapi_userinfo", "1"), 400, "asks for more than its client's option scope"},
		{"a scope that there is not", authorizeLink("shop", sdkHome, "snsapi_all", "1"), 400, "option scope"},
		{"a public client", authorizeLink("old", "https://old.example/x", "snsapi_base", "1"), 400, "a public client has no secret"},
		{"a client that is not there", authorizeLink("nobody", sdkHome, "snsapi_base", "1"), 404, "no client, has this app id"},
		{"an address with a code of its own", authorizeLink("shop", sdkHome+"?code=1", "snsapi_base", "1"), 400, "has a name already"},
		{"two addresses", authorizeLink("shop", sdkHome, "snsapi_base", "1", "&redirect_uri="+sdkHome), 400, ""},
		{"two clients", authorizeLink("shop", sdkHome, "snsapi_base", "1", "&appid=blog"), 400, ""},
		{"no address", authorizeLink("shop", "", "snsapi_base", "1"), 400, "no http or https address"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			resp, body := get(t, w.client(), c.link, pageHeader(nil))
			to := resp.Header.Get("Location")
			if resp.StatusCode != c.status || (to != "") != (c.status == 302) || c.status != 302 && len(resp.Cookies()) > 0 {
				t.Fatalf("status %d to %q, want %d: %.300s", resp.StatusCode, to, c.status, body)
			}
			if !w.logged(c.why) {
				t.Errorf("the log does not say why: %s", c.why)
			}
			if strings.Contains(body, "evil.example") {
				t.Error("the page repeats what a stranger wrote")
			}
		})
	}
	if resp, _ := do(t, w.client(), http.MethodPost, authorizeLink("shop", sdkHome, "snsapi_base", "1"), pageHeader(nil), nil); resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("by POST: status %d", resp.StatusCode)
	}
}

// sdkLogin logs somebody in and returns the client's tokens.
func (w *world) sdkLogin(t *testing.T, id, secret, home, scope string) snsAnswer {
	t.Helper()
	code := w.sdkCode(t, wechattest.BrowserOptions{User: "lina"}, authorizeLink(id, home, scope, "1"), home)
	return w.wantSNS(t, "a code", snsToken(broker, id, secret, code), 0)
}

func TestSDKCallsAreBoundToTheirClient(t *testing.T) {
	const office = `
		client office {
			secret {env.SHOP_SECRET}
			return_to https://client.example/office
			redeem_from %
		}`
	elsewhere := clientBlocks + strings.Replace(office, "%", "192.0.2.0/24", 1)
	w := clientWorld(t, elsewhere, "")
	a := w.sdkLogin(t, "shop", shopSecret, sdkHome, "snsapi_userinfo")

	t.Run("another client's refresh token is none", func(t *testing.T) {
		w.wantSNS(t, "refresh", snsRefresh(broker, "blog", a.RefreshToken), 40030)
	})
	t.Run("a client's id goes with its own secret alone", func(t *testing.T) {
		w.wantSNS(t, "token", snsToken(broker, "shop", blogSecret, "x"), 40125)
		w.wantSNS(t, "token with the app secret", snsToken(broker, "shop", appSecret, "x"), 40125)
	})
	t.Run("the account's own app id is none here", func(t *testing.T) {
		w.wantSNS(t, "token", snsToken(broker, appID, appSecret, "x"), 40013)
	})
	t.Run("a public client has no part in it", func(t *testing.T) {
		w.wantSNS(t, "token", snsToken(broker, "old", "", "x"), 41004)
		w.wantSNS(t, "token", snsToken(broker, "old", "x", "x"), 40013)
		w.wantSNS(t, "refresh", snsRefresh(broker, "old", a.RefreshToken), 40013)
	})
	t.Run("nothing is answered on plain http", func(t *testing.T) {
		for _, call := range []string{snsToken(broker, "shop", shopSecret, "x"), snsRefresh(broker, "shop", a.RefreshToken), snsUser(broker, a.AccessToken, a.OpenID), snsCheck(broker, a.AccessToken, a.OpenID)} {
			resp, body := get(t, w.plainClient(), strings.Replace(call, "https://", "http://", 1), nil)
			if resp.StatusCode != http.StatusOK || !strings.HasPrefix(body, `{"errcode":43003,"errmsg":"require https, rid: `) {
				t.Errorf("status %d: %s", resp.StatusCode, body)
			}
		}
	})
	t.Run("redeem_from counts, and spends nothing", func(t *testing.T) {
		const home = "https://client.example/office"
		code := w.sdkCode(t, wechattest.BrowserOptions{User: "lina"}, authorizeLink("office", home, "snsapi_base", "1"), home)
		w.wantSNS(t, "from elsewhere", snsToken(broker, "office", shopSecret, code), 40164)
		w.wantSNS(t, "a wrong secret from elsewhere", snsToken(broker, "office", blogSecret, code), 40125)
		w.mustReload(t, w.brokerWith(clientBlocks+strings.Replace(office, "%", "127.0.0.0/8 ::1", 1), ""))
		w.wantSNS(t, "from there", snsToken(broker, "office", shopSecret, code), 0)
	})
	t.Run("a path that WeChat has not is nothing", func(t *testing.T) {
		if resp, body := get(t, w.client(), broker+"/sns/jscode2session?appid=shop", nil); resp.StatusCode != http.StatusNotFound || body != "" {
			t.Errorf("status %d: %s", resp.StatusCode, body)
		}
	})
}

func (g *gateway) mustReload(t *testing.T, caddyfile string) {
	t.Helper()
	if out, err := g.reload(caddyfile); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// What becomes of tokens when the operator changes their client, and when the store is lost.
func TestSDKTokensOverChanges(t *testing.T) {
	w := clientWorld(t, clientBlocks, "")
	a := w.sdkLogin(t, "shop", shopSecret, sdkHome, "snsapi_userinfo")
	good := func(t *testing.T, a snsAnswer) {
		t.Helper()
		w.wantSNS(t, "check", snsCheck(broker, a.AccessToken, a.OpenID), 0)
		if got := w.wantSNS(t, "profile", snsUser(broker, a.AccessToken, a.OpenID), 0); got.Nickname != "李娜🌸" {
			t.Errorf("the profile of %q", got.Nickname)
		}
	}
	gone := func(t *testing.T, refresh int) {
		t.Helper()
		w.wantSNS(t, "check", snsCheck(broker, a.AccessToken, a.OpenID), 40001)
		w.wantSNS(t, "profile", snsUser(broker, a.AccessToken, a.OpenID), 40001)
		w.wantSNS(t, "refresh", snsRefresh(broker, "shop", a.RefreshToken), refresh)
	}
	good(t, a)
	t.Run("a reload loses none", func(t *testing.T) {
		w.mustReload(t, w.brokerWith(clientBlocks, ""))
		good(t, a)
		good(t, w.wantSNS(t, "refresh", snsRefresh(broker, "shop", a.RefreshToken), 0))
	})
	t.Run("a new secret ends them", func(t *testing.T) {
		w.mustReload(t, w.brokerWith(strings.Replace(clientBlocks, "{env.SHOP_SECRET}", "{env.BLOG_SECRET}", 1), ""))
		gone(t, 40030)
		w.wantSNS(t, "the old secret", snsToken(broker, "shop", shopSecret, "x"), 40125)
		w.wantSNS(t, "the new secret", snsToken(broker, "shop", blogSecret, "x"), 40029)
	})
	t.Run("without their client they are nothing", func(t *testing.T) {
		w.mustReload(t, w.brokerWith(strings.Replace(clientBlocks, "client shop {", "client other {", 1), ""))
		gone(t, 40013)
	})
	t.Run("with their client and its secret they are back", func(t *testing.T) {
		w.mustReload(t, w.brokerWith(clientBlocks, ""))
		good(t, a)
	})
	t.Run("a restart loses the profile until the token is refreshed", func(t *testing.T) {
		w.stop()
		w.start(w.brokerWith(clientBlocks, ""))
		w.wantSNS(t, "check", snsCheck(broker, a.AccessToken, a.OpenID), 0)
		w.wantSNS(t, "profile", snsUser(broker, a.AccessToken, a.OpenID), 42001)
		good(t, w.wantSNS(t, "refresh", snsRefresh(broker, "shop", a.RefreshToken), 0))
	})
}

// WeChat's links may carry more than the gateway reads. What WeChat documents reaches it, where it reads it;
// nothing else does harm.
func TestSDKLinksWithMore(t *testing.T) {
	w := clientWorld(t, clientBlocks, "")
	cases := []struct{ name, more, reaches string }{
		{"nothing", "", ""},
		{"connect_redirect", "&connect_redirect=1", ""},
		{"a language", "&lang=zh_CN", ""},
		{"what WeChat's app adds", "&uin=MQ%3D%3D&key=k&pass_ticket=p&version=28003257", ""},
		{"a popup", "&forcePopup=true", "&forcePopup=true"},
		{"a popup that is not wanted", "&forcePopup=false", ""},
		{"a snapshot and a popup", "&forceSnapShot=true&forcePopup=1", "&forcePopup=true&forceSnapShot=true"},
		{"a forced parameter with more in it", "&forcePopup=true%26scope%3Dsnsapi_userinfo", ""},
	}
	for _, c := range cases {
		for _, appid := range []string{"shop", appID} {
			home := map[string]string{"shop": sdkHome, appID: "https://own.example/callback"}[appid]
			t.Run(c.name+" for "+appid, func(t *testing.T) {
				p := open(t, w.browser(w.sim, wechattest.BrowserOptions{User: "lina"}), authorizeLink(appid, home, "snsapi_base", "1", c.more))
				if q := landed(t, p, home); len(q.Get("code")) != 32 || q.Get("state") != "1" || len(q) != 2 {
					t.Errorf("landed with %d parameters", len(q))
				}
				calls := w.sim.Calls()
				for i := len(calls) - 1; i >= 0; i-- {
					if calls[i].Path == wechattest.PathAuthorize {
						_, behind, _ := strings.Cut(calls[i].RawQuery, "&state=")
						if behind[32:] != c.reaches {
							t.Errorf("WeChat's link ends in %s, want %s", behind[32:], c.reaches)
						}
						break
					}
				}
			})
		}
	}
}
