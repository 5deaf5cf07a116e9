package integration

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

const legacyFrom = `
	client shop {
		secret {env.SHOP_SECRET}
		return_to https://client.example/shop/*
		redeem_from NETWORK
	}
	client old {
		public
		return_to https://old.example/*
		redeem_from 2001:db8::/32 NETWORK
	}
	client other {
		public
		return_to https://blog.example/*
	}`

// TestLegacyRedeemFrom: a client redeems from its networks alone, and a try from elsewhere spends nothing.
func TestLegacyRedeemFrom(t *testing.T) {
	from := func(network string) string { return strings.ReplaceAll(legacyFrom, "NETWORK", network) }
	w := clientWorld(t, from("10.0.0.0/8 192.0.2.1"), "")
	b := w.browser(w.sim, wechattest.BrowserOptions{User: "lina"})
	tickets := map[string]string{
		"shop": wantTicket(t, open(t, b, startV2(legacyShop, "")), legacyShop, ""),
		"old":  wantTicket(t, open(t, b, startV2("https://old.example/", "")), "https://old.example/", ""),
	}
	other := wantTicket(t, open(t, b, startV2("https://blog.example/", "")), "https://blog.example/", "")
	redeem := func(id string) int {
		client, secret := "", ""
		if id == "shop" {
			client, secret = "shop", shopSecret
		}
		resp, _ := w.redeem(t, tickets[id], client, secret)
		return resp.StatusCode
	}
	for id := range tickets {
		if status := redeem(id); status != 404 {
			t.Errorf("%s from elsewhere: %d", id, status)
		}
	}
	if resp, _ := w.redeem(t, other, "", ""); resp.StatusCode != 200 {
		t.Errorf("another client is held up: %d", resp.StatusCode)
	}
	if out, err := w.reload(w.brokerWith(from("127.0.0.0/8"), "")); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for id := range tickets {
		if status := redeem(id); status != 200 {
			t.Errorf("%s from its network: %d", id, status)
		}
	}
}

// TestLegacyCORS: a script of a public client's own pages may read the answer to its ticket, and no other.
func TestLegacyCORS(t *testing.T) {
	w := clientWorld(t, strings.ReplaceAll(legacyFrom, "NETWORK", "127.0.0.1"), "")
	cases := []struct {
		name, origin, method string
		status               int
		reads                bool
	}{
		{"its own page", "https://old.example", "GET", 200, true},
		{"its own page, as nobody writes it", "https://OLD.example:443", "GET", 200, true},
		{"its own host over plain http", "http://old.example", "GET", 200, false},
		{"its own host at another port", "https://old.example:8443", "GET", 200, false},
		{"another public client's page", "https://blog.example", "GET", 200, false},
		{"a confidential client's page", "https://client.example", "GET", 200, false},
		{"a stranger's page", "https://evil.example", "GET", 200, false},
		{"a subdomain", "https://a.old.example", "GET", 200, false},
		{"no page", "null", "GET", 200, false},
		{"a preflight", "https://old.example", "OPTIONS", 405, false},
		{"another method", "https://old.example", "POST", 405, false},
		{"HEAD", "https://old.example", "HEAD", 405, false},
	}
	for _, x := range cases {
		t.Run(x.name, func(t *testing.T) {
			b := w.browser(w.sim, wechattest.BrowserOptions{User: "lina"})
			tkt := wantTicket(t, open(t, b, startV2("https://old.example/", "")), "https://old.example/", "")
			resp, _ := do(t, w.client(), x.method, broker+"/ticket/"+tkt, http.Header{"Origin": {x.origin}}, nil)
			allowed := resp.Header["Access-Control-Allow-Origin"]
			if resp.StatusCode != x.status || x.reads != (len(allowed) == 1 && allowed[0] == x.origin) || !x.reads && len(allowed) > 0 {
				t.Errorf("status %d, allowed %v", resp.StatusCode, allowed)
			}
			if len(resp.Header["Access-Control-Allow-Credentials"]) > 0 || !strings.Contains(strings.Join(resp.Header["Vary"], ","), "Origin") {
				t.Errorf("headers %v", resp.Header)
			}
			if again, _ := w.redeem(t, tkt, "", ""); (again.StatusCode == 200) != (x.status == 405) {
				t.Errorf("then %d", again.StatusCode)
			}
		})
	}
}

// TestLegacyPlainHTTP: where the site is written with both addresses, clients of old get their answers over plain
// http, and browsers are sent to https.
func TestLegacyPlainHTTP(t *testing.T) {
	w := &world{gateway: newGateway(t), sim: newSimulator(t, boundDomain), up: newUpstream(t)}
	w.env = append(w.env, "SHOP_SECRET="+shopSecret, "BLOG_SECRET="+blogSecret)
	caddyfile := w.brokerWith(clientBlocks, "")
	w.start(strings.Replace(caddyfile, "app_id "+appID, "app_id "+appID+"\n verify_file MP_verify_0123456789abcdef.txt", 1))
	c := w.plainClient()
	const plain = "http://auth.example.com"
	cases := []struct {
		name, url string
		status    int
		to        string
	}{
		{"a verify file", plain + "/MP_verify_0123456789abcdef.txt", 200, ""},
		{"a ticket", plain + "/ticket/00112233445566778899aabbccddeeff", 404, ""},
		{"a ticket with a slash", plain + "/ticket/00112233445566778899aabbccddeeff/", 404, ""},
		{"a user", plain + "/user/" + appID + "/oSimA1-lina_0000000000000002", 404, ""},
		{"a start", plain + "/auth/" + appID + "?redirect_uri=https://blog.example/&params=a%20b", 302, broker + "/auth/" + appID + "?redirect_uri=https://blog.example/&params=a%20b"},
		{"a start of old", plain + "/view/" + appID + "/?x=1", 302, broker + "/view/" + appID + "/?x=1"},
		{"WeChat's own address", plain + "/connect/oauth2/authorize?appid=shop&redirect_uri=https%3A%2F%2Fclient.example%2Fexact&state=1", 302, broker + "/connect/oauth2/authorize?appid=shop&redirect_uri=https%3A%2F%2Fclient.example%2Fexact&state=1"},
		{"an arrival", plain + "/?code=ABC&state=0123abcdx", 302, broker + "/?code=ABC&state=0123abcdx"},
	}
	for _, x := range cases {
		t.Run(x.name, func(t *testing.T) {
			resp, _ := get(t, c, x.url, pageHeader(nil))
			if resp.StatusCode != x.status || resp.Header.Get("Location") != x.to || len(resp.Cookies()) > 0 {
				t.Errorf("status %d to %s %v", resp.StatusCode, resp.Header.Get("Location"), resp.Cookies())
			}
		})
	}
	t.Run("a callback", func(t *testing.T) {
		resp, _ := get(t, w.client(), startV2("https://blog.example/", "1"), pageHeader(nil))
		to, err := resp.Location()
		if err != nil {
			t.Fatal(err)
		}
		callback := strings.Replace(to.Query().Get("redirect_uri"), "https://", "http://", 1) + "&code=ABC&state=" + to.Query().Get("state")
		resp, _ = get(t, c, callback, pageHeader(nil))
		if want := strings.Replace(callback, "http://", "https://", 1); resp.StatusCode != 302 || resp.Header.Get("Location") != want {
			t.Errorf("status %d to %s", resp.StatusCode, resp.Header.Get("Location"))
		}
		if w.sim.CountCalls(wechattest.PathToken) != 0 {
			t.Error("WeChat was asked")
		}
	})
}
