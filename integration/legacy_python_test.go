package integration

import (
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// TestLegacyPython redeems as Python backends do, on https and, for clients of old, on http.
func TestLegacyPython(t *testing.T) {
	w := clientWorld(t, clientBlocks, "")
	lina := w.sim.OpenID(appID, "lina")
	ticketAt := func(t *testing.T, to, page string) string {
		b := w.browser(w.sim, wechattest.BrowserOptions{User: "lina"})
		return landed(t, open(t, b, startV2(to, "s")), page).Get("ticket")
	}
	cases := []struct {
		name, to, address, secret string
		client                    []string
		status                    int
	}{
		{"with Basic auth", "https://blog.example/", broker + "/ticket/", blogSecret, []string{"blog"}, 200},
		{"with a wrong secret", "https://blog.example/", broker + "/ticket/", shopSecret, []string{"blog"}, 404},
		{"without any", "https://blog.example/", broker + "/ticket/", "", nil, 404},
		{"as another client", "https://blog.example/", broker + "/ticket/", shopSecret, []string{"shop"}, 404},
		{"with Basic auth over plain http", "https://blog.example/", "http://auth.example.com/ticket/", blogSecret, []string{"blog"}, 404},
		{"of a public client", "https://old.example/", broker + "/ticket/", "", nil, 200},
		{"of a public client over plain http", "https://old.example/", "http://auth.example.com/ticket/", "", nil, 200},
	}
	for _, x := range cases {
		for _, slash := range []string{"", "/"} {
			t.Run(x.name+slash, func(t *testing.T) {
				address := x.address + ticketAt(t, x.to, x.to) + slash
				said := legacyPython(t, w, "redeem.py", x.secret, append([]string{address}, x.client...)...)
				if said.Status != x.status {
					t.Fatalf("status %d %s, want %d", said.Status, said.Body, x.status)
				}
				if x.status != 200 {
					if said.Body != "" {
						t.Errorf("a body: %s", said.Body)
					}
					return
				}
				wantKeys(t, said.User, "openid", "app", "appid", "scope", "state")
				if said.User["openid"] != lina || said.User["state"] != "s" || said.URL != address {
					t.Errorf("Python has %v at %s", said.User, said.URL)
				}
				if again := legacyPython(t, w, "redeem.py", x.secret, append([]string{address}, x.client...)...); again.Status != 404 {
					t.Errorf("a second time: %d", again.Status)
				}
			})
		}
	}
}
