package integration

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

var hostileHref = regexp.MustCompile(`<a class="button"[^>]* href="([^"]*)"`)

// hostileButton is where a page's button leads.
func hostileButton(t *testing.T, page string) string {
	t.Helper()
	m := hostileHref.FindStringSubmatch(page)
	if m == nil {
		t.Fatalf("no button: %.600s", page)
	}
	return html.UnescapeString(m[1])
}

// TestHostileLoops: a client's page sends every user straight to the broker again. It ends on a page whose button
// goes on, whichever way the client logs in, and a user who is let in starts afresh.
func TestHostileLoops(t *testing.T) {
	w := hostileWorld(t)
	const shop = "https://client.example/shop/"
	own := broker + "/connect/oauth2/authorize?appid=" + appID + "&redirect_uri=https%3A%2F%2Fown.example%2F&response_type=code&scope=snsapi_base&state=s"
	cases := []struct {
		name, start string
		post        bool
		redeem      func(t *testing.T, q url.Values)
	}{
		{"V2", startV2(shop, "s"), false, func(t *testing.T, q url.Values) { hostileStatus(t, w, q.Get("ticket"), "shop", shopSecret) }},
		{"V2 by another site's form", startV2(shop, "s"), true, func(t *testing.T, q url.Values) { hostileStatus(t, w, q.Get("ticket"), "shop", shopSecret) }},
		{"an SDK", hostileSDK("shop", shop, "s"), false, func(t *testing.T, q url.Values) {
			hostileSNS(t, w, "oauth2/access_token", "appid=shop&grant_type=authorization_code&secret="+shopSecret+"&code="+q.Get("code"))
		}},
		{"pass_code", own, false, nil},
		{"GetWeixinCode", strings.Replace(own, "/connect/oauth2/authorize", "/get-weixin-code.html", 1), false, nil},
	}
	for _, x := range cases {
		t.Run(x.name, func(t *testing.T) {
			h := hijackBrowser(t, w, "lina")
			round := func() (*http.Response, string) {
				resp, body := hostileStart(h, x.start, x.post)
				if to := resp.Header.Get("Location"); to != "" {
					return h.get(h.authorize(to))
				}
				return resp, body
			}
			rounds := func() (n int, page string) {
				for n = range 10 {
					resp, body := round()
					if resp.StatusCode == http.StatusTooManyRequests && resp.Header.Get("Retry-After") != "" {
						return n, body
					}
				}
				t.Fatal("it does not end")
				return 0, ""
			}
			n, page := rounds()
			if n != 3 {
				t.Fatalf("it ended after %d logins", n)
			}
			stranger := hijackBrowser(t, w, "mallory")
			if resp, _ := stranger.get(broker + hostileButton(t, page)); resp.StatusCode != http.StatusBadRequest || resp.Header.Get("Location") != "" {
				t.Errorf("the button in another browser: %d", resp.StatusCode)
			}
			back := hostileBack(h, broker+hostileButton(t, page))
			if n, _ := rounds(); n != 0 {
				t.Errorf("after the button it went on for %d logins", n)
			}
			if x.redeem == nil {
				return
			}
			x.redeem(t, hostileQuery(t, back))
			want := 3
			if x.post {
				want = 2 // the form that came back to a page was begun after the login that was let in
			}
			if n, _ := rounds(); n != want {
				t.Errorf("a user who was let in has %d logins", n)
			}
		})
	}
}

// hostileStart starts a login by a link, or by another site's form: its cookies, which are Lax, stay at home then.
func hostileStart(h *hijacker, start string, post bool) (*http.Response, string) {
	if !post {
		return h.get(start)
	}
	h.mu.Lock()
	kept := h.jar["auth.example.com"]
	h.jar["auth.example.com"] = nil
	h.mu.Unlock()
	resp, body := h.do(http.MethodPost, start, "Origin", "https://client.example", "Sec-Fetch-Site", "cross-site")
	h.mu.Lock()
	defer h.mu.Unlock()
	if kept == nil {
		return resp, body
	}
	for name, value := range h.jar["auth.example.com"] {
		kept[name] = value
	}
	h.jar["auth.example.com"] = kept
	return resp, body
}

// TestHostileLoopOfOneClient is not in another's way.
func TestHostileLoopOfOneClient(t *testing.T) {
	w := hostileWorld(t)
	h := hijackBrowser(t, w, "lina")
	for range 3 {
		hostileBack(h, startV2("https://client.example/shop/", "s"))
	}
	if resp, _ := h.get(startV2("https://client.example/shop/", "s")); resp.StatusCode != http.StatusTooManyRequests {
		t.Errorf("the client itself: %d", resp.StatusCode)
	}
	if to := hostileBack(h, startV2("https://blog.example/", "s")); !strings.HasPrefix(to, "https://blog.example/?ticket=") {
		t.Errorf("another client: %s", to)
	}
}

// TestHostileAsk: no link, no other browser's button, no other client's and no callback skips the press that a client
// asks for.
func TestHostileAsk(t *testing.T) {
	w := hostileWorld(t)
	start := startV2("https://asks.example/", "s")
	mallory := hijackBrowser(t, w, "mallory")
	resp, page := mallory.get(start)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Location") != "" {
		t.Fatalf("the start: %d", resp.StatusCode)
	}
	pressed := broker + hostileButton(t, page)
	mark := "&pressed=" + hostileQuery(t, pressed).Get("pressed")
	wantAsked := func(what string, h *hijacker, address string) string {
		resp, body := h.get(address)
		if to := resp.Header.Get("Location"); to != "" {
			t.Errorf("%s: leads to %s", what, to)
		}
		return body
	}
	lina := hijackBrowser(t, w, "lina")
	wantAsked("another browser's button", lina, pressed)
	wantAsked("a mark of nobody's", lina, start+"&pressed=1")
	wantAsked("a mark as another", lina, start+strings.Replace(mark, "pressed", "retry", 1))
	_, page = lina.get(start)
	for _, other := range []string{mark, mark + "x", mark + mark} {
		wantAsked("another browser's mark beside an own cookie", lina, start+other)
	}
	wantAsked("an SDK", lina, hostileSDK("asks", "https://asks.example/", "s"))
	wantAsked("a form", lina, broker+"/auth/"+appID+"?redirect_uri=https://asks.example/&retry=")

	// Mallory presses, and sends the callback with a fresh code to somebody: it starts anew there, after a press.
	callback := mallory.begin(pressed)
	victim := hijackBrowser(t, w, "lina")
	body := wantAsked("a callback of another's", victim, callback)
	if to := hostileBack(victim, broker+hostileButton(t, body)); !strings.HasPrefix(to, "https://asks.example/?ticket=") {
		t.Errorf("after the press: %s", to)
	}

	// The person's own button works, and again with the back button; a smaller wish asks for nothing.
	own := broker + hostileButton(t, page)
	for range 2 {
		if to := hostileBack(lina, own); !strings.HasPrefix(to, "https://asks.example/?ticket=") || !strings.HasSuffix(to, "&state=s") {
			t.Errorf("the own button: %s", to)
		}
	}
	hostileBack(hijackBrowser(t, w, "lina"), start+"&scope=snsapi_base")

	// With cookies off the press leads to a page that says so.
	off := hijackBrowser(t, w, "lina")
	off.loses = func(*http.Response, *http.Cookie) bool { return true }
	_, page = off.get(start)
	if resp, body := off.get(broker + hostileButton(t, page)); resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, "ookie") {
		t.Errorf("with cookies off: %d", resp.StatusCode)
	}
}

// TestHostileScopesAndAccounts: no entry raises a client's scope or leaves its accounts.
func TestHostileScopesAndAccounts(t *testing.T) {
	w := &world{gateway: newGateway(t), sim: newSimulator(t, boundDomain), up: newUpstream(t)}
	w.sim.AddAccount(wechattest.Account{AppID: hijackApp2, Secret: appSecret, Domains: boundDomain.Domains})
	w.env = append(w.env, "SHOP_SECRET="+shopSecret, "BLOG_SECRET="+blogSecret)
	blocks := strings.NewReplacer("client shop {", "client shop {\n account default", "client blog {", "client blog {\n account default", "client own {", "client own {\n account default\n scope snsapi_base", "client tokens {", "client tokens {\n account default\n scope snsapi_base").Replace(clientBlocks)
	second := "account two {\n app_id " + hijackApp2 + "\n app_secret {env.WECHAT_APP_SECRET}\n domain auth.example.com\n open_url " + w.sim.url + "\n api_url " + w.sim.url + "\n}\n"
	w.start(strings.Replace(w.brokerWith(blocks, ""), "wechat {\n", "wechat {\n"+second, 1))
	c := w.client()
	own := "&redirect_uri=https%3A%2F%2Fown.example%2F&response_type=code"
	const two = broker + "/auth/" + hijackApp2 + "?redirect_uri=https%3A%2F%2F"
	for what, address := range map[string]string{
		"V2 with another account":            two + "client.example%2Fshop%2F",
		"pass_code with another account":     broker + "/connect/oauth2/authorize?appid=" + hijackApp2 + own,
		"GetWeixinCode with another account": broker + "/get-weixin-code.html?appid=" + hijackApp2 + own,
		"V2 asks for more":                   startV2("https://blog.example/", "", "&scope=snsapi_userinfo"),
		"V2 asks for a scope of websites":    startV2("https://client.example/shop/", "", "&scope=snsapi_login"),
		"V2 asks for two":                    startV2("https://blog.example/", "", "&scope=snsapi_base,snsapi_userinfo"),
		"an SDK asks for more":               hostileSDK("blog", "https://blog.example/", ""),
		"an SDK asks twice":                  hostileSDK("blog", "https://blog.example/", "", "&scope=snsapi_base"),
		"a public client's SDK":              strings.Replace(hostileSDK("old", "https://old.example/", ""), "snsapi_userinfo", "snsapi_base", 1),
		"pass_code asks for more":            broker + "/connect/oauth2/authorize?appid=" + appID + own + "&scope=snsapi_userinfo",
		"pass_code for a client without it":  broker + "/connect/oauth2/authorize?appid=" + appID + "&redirect_uri=https%3A%2F%2Fclient.example%2Fshop%2F",
		"GetWeixinCode asks for more":        broker + "/get-weixin-code.html?appid=" + appID + own + "&scope=snsapi_userinfo",
		"another client's address":           hostileSDK("shop", "https://blog.example/", ""),
	} {
		if resp, _ := get(t, c, address, pageHeader(nil)); resp.StatusCode != http.StatusBadRequest || resp.Header.Get("Location") != "" || len(resp.Cookies()) > 0 {
			t.Errorf("%s: %d %s", what, resp.StatusCode, resp.Header.Get("Location"))
		}
	}
	// A two-account client of old may use either; V1 reads no more than its client may, whatever WeChat granted.
	h := hijackBrowser(t, w, "lina")
	hostileBack(h, two+"old.example%2F&scope=snsapi_base")
	link := w.sim.url + wechattest.PathAuthorize + "?appid=" + appID + "&redirect_uri=" + url.QueryEscape(broker) + "&response_type=code&scope=snsapi_userinfo&state=0123abcd#wechat_redirect"
	to := hostileLanding(h, h.authorize(link))
	if _, user := w.redeem(t, hostileQuery(t, to).Get("ticket"), "tokens", blogSecret); user["scope"] != "snsapi_base" || user["nickname"] != nil || user["unionid"] != nil {
		t.Errorf("V1 read %v", user)
	}
	if n := w.sim.CountCalls("/sns/userinfo"); n != 0 {
		t.Errorf("the profile was read %d times", n)
	}
}
