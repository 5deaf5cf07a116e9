package integration

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// Of all that redeem one code at the same moment one gets tokens.
func TestSDKCodeBringsTokensOnce(t *testing.T) {
	w := clientWorld(t, clientBlocks, "")
	code := w.sdkCode(t, wechattest.BrowserOptions{User: "lina"}, authorizeLink("shop", sdkHome, "snsapi_base", "1"), sdkHome)
	c := w.client()
	answers := make(chan string, 50)
	var group sync.WaitGroup
	for range cap(answers) {
		group.Go(func() {
			req := httptest.NewRequest(http.MethodGet, snsToken(broker, "shop", shopSecret, code), nil)
			req.RequestURI = ""
			_, body := send(t, c, req)
			answers <- body
		})
	}
	group.Wait()
	close(answers)
	tokens := 0
	for body := range answers {
		switch {
		case strings.HasPrefix(body, `{"access_token":"`):
			tokens++
		case !strings.HasPrefix(body, `{"errcode":40163,`) && !strings.HasPrefix(body, `{"errcode":40029,`):
			t.Errorf("%s", body)
		}
	}
	if tokens != 1 {
		t.Errorf("%d got tokens", tokens)
	}
}

// The configuration changes while a user is at WeChat: nobody is sent where nobody would be sent now, and what
// the code was good for is lost.
func TestSDKLoginsOverAReload(t *testing.T) {
	w := clientWorld(t, clientBlocks, "")
	cases := []struct {
		name, start string
		changes     []string
	}{
		{"the client is gone", authorizeLink("shop", sdkHome, "snsapi_base", "1"), []string{"client shop {", "client other {"}},
		{"its address is another", authorizeLink("shop", sdkHome, "snsapi_base", "1"), []string{"https://client.example/shop/*", "https://client.example/new/*"}},
		{"its address is another client's", authorizeLink("blog", "https://blog.example/x", "snsapi_base", "1"), []string{"https://old.example/*", "https://blog.example/*", "https://blog.example/*", "https://old.example/*"}},
		{"its scope is less", authorizeLink("shop", sdkHome, "snsapi_userinfo", "1"), []string{"https://client.example/exact", "https://client.example/exact\n scope snsapi_base"}},
		{"its code is not passed on any more", authorizeLink(appID, ownHome, "snsapi_base", "1"), []string{"pass_code", ""}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w.mustReload(t, w.brokerWith(clientBlocks, ""))
			l := w.beginAt(t, c.start)
			changed := strings.NewReplacer(c.changes...).Replace(clientBlocks)
			if changed == clientBlocks {
				t.Fatal("nothing changed")
			}
			w.mustReload(t, w.brokerWith(changed, ""))
			resp, body := w.arrives(t, l, "081000000000000000000000000000a1")
			if resp.StatusCode != http.StatusBadRequest || resp.Header.Get("Location") != "" {
				t.Errorf("status %d to %q: %.300s", resp.StatusCode, resp.Header.Get("Location"), body)
			}
		})
	}
	if n := w.sim.CountCalls(wechattest.PathToken); n != 0 {
		t.Errorf("WeChat was asked about %d codes", n)
	}
	t.Run("a reload that changes nothing loses no login", func(t *testing.T) {
		w.mustReload(t, w.brokerWith(clientBlocks, ""))
		l := w.beginAt(t, authorizeLink(appID, ownHome, "snsapi_base", "1"))
		w.mustReload(t, w.brokerWith(clientBlocks, ""))
		if resp, _ := w.arrives(t, l, "081000000000000000000000000000a1"); !strings.HasPrefix(resp.Header.Get("Location"), ownHome+"?code=") {
			t.Errorf("status %d to %q", resp.StatusCode, resp.Header.Get("Location"))
		}
	})
}

// A browser that keeps no cookies is sent through once more, and then told so; no client hears of it.
func TestSDKWithoutCookies(t *testing.T) {
	w := clientWorld(t, clientBlocks, "")
	for name, start := range map[string]string{
		"a code of the gateway's": authorizeLink("shop", sdkHome, "snsapi_base", "1"),
		"a code of WeChat's":      authorizeLink(appID, ownHome, "snsapi_base", "1"),
	} {
		t.Run(name, func(t *testing.T) {
			p := open(t, w.browser(w.sim, wechattest.BrowserOptions{User: "lina", NoCookies: true}), start)
			if p.Status != http.StatusBadRequest || p.URL.Host != "auth.example.com" || len(p.Redirects) != 4 {
				t.Errorf("status %d at %s after %d redirects", p.Status, p.URL.Host, len(p.Redirects))
			}
		})
	}
}

// A broker with two accounts: a client logs in with its own alone, whichever way it asks.
func TestSDKAccountsAreTheClients(t *testing.T) {
	const secondID = "wxfedcba9876543210"
	w := &world{gateway: newGateway(t), sim: newSimulator(t, boundDomain), up: newUpstream(t)}
	w.sim.AddAccount(wechattest.Account{AppID: secondID, Secret: appSecret, Domains: boundDomain.Domains})
	w.env = append(w.env, "SHOP_SECRET="+shopSecret)
	account := func(name, id string) string {
		return "account " + name + " {\n app_id " + id + "\n app_secret {env.WECHAT_APP_SECRET}\n domain auth.example.com\n open_url " + w.sim.url + "\n api_url " + w.sim.url + "\n}\n"
	}
	w.start("{\n" + w.globals() + "wechat {\n" + account("first", appID) + account("second", secondID) + `}
}
auth.example.com {
	wechat_broker {
		client shop {
			secret {env.SHOP_SECRET}
			return_to https://client.example/*
			account second
			pass_code
		}
		client both {
			secret {env.SHOP_SECRET}
			return_to https://own.example/*
			account second first
		}
	}
}
client.example, own.example {
	respond "welcome back"
}
`)
	second := w.sim.OpenID(secondID, "lina")
	if a := w.sdkLogin(t, "shop", shopSecret, sdkHome, "snsapi_base"); a.OpenID != second {
		t.Errorf("the client got openid %q, want %q", a.OpenID, second)
	}
	if a := w.sdkLogin(t, "both", shopSecret, ownHome, "snsapi_base"); a.OpenID != second {
		t.Errorf("a client of both accounts got openid %q, want that of the first it names: %q", a.OpenID, second)
	}
	p := open(t, w.browser(w.sim, wechattest.BrowserOptions{User: "lina"}), authorizeLink(secondID, sdkHome, "snsapi_base", "1"))
	code := landed(t, p, sdkHome).Get("code")
	if _, _, a := w.sns(t, http.MethodGet, snsToken(w.sim.url, secondID, appSecret, code)); a.OpenID != second {
		t.Errorf("the client got openid %q of a code passed on, want %q", a.OpenID, second)
	}
	resp, _ := get(t, w.client(), authorizeLink(appID, sdkHome, "snsapi_base", "1"), pageHeader(nil))
	if resp.StatusCode != http.StatusBadRequest || !w.logged("its client may not use this account") {
		t.Errorf("the other account's app id: status %d", resp.StatusCode)
	}
}
