package integration

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

func TestClientLogsInByTicket(t *testing.T) {
	w := clientWorld(t, clientBlocks, "")
	b := w.browser(w.sim, wechattest.BrowserOptions{User: "lina"})
	p := open(t, b, startV2("https://client.example/shop/back?a=1#top", "it's {\"x\":1}&y"))
	q := landed(t, p, "https://client.example/shop/back")
	tkt := q.Get("ticket")
	if want := "a=1&ticket=" + tkt + "&state=it%27s%20%7B%22x%22%3A1%7D%26y"; p.URL.RawQuery != want || p.URL.Fragment != "top" {
		t.Errorf("came back with %s#%s, want %s", p.URL.RawQuery, p.URL.Fragment, want)
	}
	resp, user := w.redeem(t, tkt, "shop", shopSecret)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Fatalf("status %d %v", resp.StatusCode, resp.Header)
	}
	want := map[string]any{
		"openid": w.sim.OpenID(appID, "lina"), "nickname": "李娜🌸", "scope": "snsapi_userinfo", "app": appID, "appid": appID,
		"state": "it's {\"x\":1}&y", "privilege": "[]", "sex": 0.0, "language": nil, "city": "", "province": "", "country": "",
	}
	for name, value := range want {
		if user[name] != value {
			t.Errorf("%s is %v, want %v", name, user[name], value)
		}
	}
	if user["avatar"] != user["headimgurl"] || user["avatar"] == "" || user["unionid"] == nil || len(user) != 15 {
		t.Errorf("the user is %v", slices.Sorted(maps.Keys(user)))
	}
	if resp, _ := w.redeem(t, tkt, "shop", shopSecret); resp.StatusCode != http.StatusNotFound {
		t.Errorf("a second time: %d", resp.StatusCode)
	}
}

func TestStartsOfClients(t *testing.T) {
	w := clientWorld(t, clientBlocks, "")
	c := w.client()
	cases := []struct {
		name, method, url, body, referer string
		status                           int
		scope                            string
	}{
		{"by GET", "GET", startV2("https://client.example/shop/", ""), "", "", 302, "snsapi_userinfo"},
		{"with a slash at the end", "GET", broker + "/auth/" + appID + "/?redirect_uri=https://client.example/shop/", "", "", 302, "snsapi_userinfo"},
		{"by view", "GET", broker + "/view/" + appID + "?redirect_uri=https://client.example/shop/", "", "", 302, "snsapi_userinfo"},
		{"by request_uri", "GET", broker + "/auth/" + appID + "?request_uri=https://client.example/shop/", "", "", 302, "snsapi_userinfo"},
		{"asking for less", "GET", startV2("https://client.example/shop/", "", "&scope=snsapi_base"), "", "", 302, "snsapi_base"},
		{"a client of lesser scope", "GET", startV2("https://blog.example/", ""), "", "", 302, "snsapi_base"},
		{"asking for more", "GET", startV2("https://blog.example/", "", "&scope=snsapi_userinfo"), "", "", 400, ""},
		{"by a form", "POST", broker + "/auth/" + appID, "redirect_uri=" + url.QueryEscape("https://blog.example/x") + "&params=1", "", 303, "snsapi_base"},
		{"a form before the query", "POST", startV2("https://evil.example/", ""), "redirect_uri=" + url.QueryEscape("https://blog.example/x"), "", 303, "snsapi_base"},
		{"by the page that it came from", "GET", broker + "/auth/" + appID, "", "https://blog.example/post/1", 302, "snsapi_base"},
		{"from an origin alone", "GET", broker + "/auth/" + appID, "", "https://blog.example/", 302, "snsapi_base"},
		{"from nowhere", "GET", broker + "/auth/" + appID, "", "", 400, ""},
		{"from somewhere else", "GET", broker + "/auth/" + appID, "", "https://evil.example/post", 400, ""},
		{"to somewhere else", "GET", startV2("https://evil.example/", ""), "", "https://blog.example/post", 400, ""},
		{"twice", "GET", startV2("https://blog.example/", "", "&redirect_uri=https://blog.example/"), "", "", 400, ""},
		{"an unknown app id", "GET", broker + "/auth/wxffffffffffffffff?redirect_uri=https://blog.example/", "", "", 404, ""},
		{"another method", "PUT", startV2("https://blog.example/", ""), "", "", 405, ""},
	}
	for _, x := range cases {
		t.Run(x.name, func(t *testing.T) {
			h := pageHeader(nil)
			h.Set("Content-Type", "application/x-www-form-urlencoded")
			if x.referer != "" {
				h.Set("Referer", x.referer)
			}
			resp, body := do(t, c, x.method, x.url, h, strings.NewReader(x.body))
			if resp.StatusCode != x.status {
				t.Fatalf("status %d, want %d: %.300s", resp.StatusCode, x.status, body)
			}
			to := resp.Header.Get("Location")
			if x.scope == "" && (to != "" || len(resp.Cookies()) > 0) {
				t.Errorf("refused, and yet %v", resp.Header)
			}
			if x.scope != "" && (!strings.HasPrefix(to, w.sim.url+"/connect/oauth2/authorize?appid="+appID+"&redirect_uri=https%3A%2F%2Fauth.example.com%2F_wechat%2Fcallback%3Flogin%3D") || !strings.Contains(to, "&scope="+x.scope+"&state=")) {
				t.Errorf("leads to %s", to)
			}
		})
	}
}
