package integration

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// TestLegacyTabs: one browser runs logins for several clients in tabs at once, and none takes another's ticket,
// state or way back.
func TestLegacyTabs(t *testing.T) {
	w := clientWorld(t, clientBlocks, "")
	starts := []struct{ id, secret, to string }{
		{"shop", shopSecret, "https://client.example/shop/"}, {"blog", blogSecret, "https://blog.example/post"}, {"own", shopSecret, "https://own.example/"},
	}
	for round := range 3 {
		b := w.browser(w.sim, wechattest.BrowserOptions{User: "lina", Double: wechattest.DoubleMode(round)})
		var tabs sync.WaitGroup
		for i, s := range starts {
			for _, state := range []string{"a", "b"} {
				if i > 0 && state == "b" {
					continue // browsers keep five logins
				}
				tabs.Go(func() {
					state := fmt.Sprint(s.id, round, state)
					p, err := b.Open(t.Context(), startV2(s.to, state))
					if err != nil {
						t.Error(err)
						return
					}
					if !strings.HasPrefix(p.URL.String(), s.to+"?ticket=") || p.URL.Query().Get("state") != state {
						t.Errorf("round %d: the tab of %s ended at %s: %d", round, s.id, p.URL, p.Status)
						return
					}
					resp, user := w.redeem(t, p.URL.Query().Get("ticket"), s.id, s.secret)
					if resp.StatusCode != 200 || user["state"] != state || user["openid"] != w.sim.OpenID(appID, "lina") {
						t.Errorf("round %d: %s redeemed %d %v", round, s.id, resp.StatusCode, user)
					}
				})
			}
		}
		tabs.Wait()
	}
}

// TestLegacyTabsInTurns plays two logins of two clients, step by step: both have begun before one comes back,
// in either order.
func TestLegacyTabsInTurns(t *testing.T) {
	w := clientWorld(t, clientBlocks, "")
	for _, order := range [][]int{{0, 1}, {1, 0}} {
		b := w.browser(w.sim, wechattest.BrowserOptions{User: "lina"})
		to := []string{"https://client.example/shop/", "https://own.example/"}
		var waiting [2]string
		for i := range to {
			w.sim.Update(func(k *wechattest.Knobs) { k.Consent = wechattest.AskPage })
			p := open(t, b, startV2(to[i], fmt.Sprint("tab", i)))
			w.sim.Update(func(k *wechattest.Knobs) { k.Consent = wechattest.Silent })
			waiting[i] = p.URL.String()
			if p.URL.Host != w.sim.host {
				t.Fatalf("at %s", p.URL)
			}
		}
		for _, i := range order {
			wantTicket(t, open(t, b, waiting[i]), to[i], fmt.Sprint("tab", i))
		}
	}
}
