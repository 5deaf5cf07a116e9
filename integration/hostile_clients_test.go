package integration

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// hostileNothing fails where an answer leads to a client or tells anything.
func hostileNothing(t *testing.T, what string, h *hijacker, resp *http.Response, body string) {
	t.Helper()
	h.mustGetNothing(what, "lina", resp, body)
	to := resp.Header.Get("Location")
	if to != "" && !strings.HasPrefix(to, h.w.sim.url+"/connect/") || strings.Contains(to, "ticket=") {
		t.Errorf("%s: leads to %s", what, to)
	}
	if to == "" && (resp.StatusCode < 400 || resp.StatusCode > 499) {
		t.Errorf("%s: status %d", what, resp.StatusCode)
	}
}

// TestHostileCallbacks: a login ends in the browser that began it, whole or not at all.
func TestHostileCallbacks(t *testing.T) {
	w := hostileWorld(t)
	starts := map[string]string{
		"V2":        startV2("https://client.example/shop/", "s"),
		"an SDK":    hostileSDK("shop", "https://client.example/shop/", "s"),
		"pass_code": broker + "/connect/oauth2/authorize?appid=" + appID + "&redirect_uri=https%3A%2F%2Fown.example%2F&response_type=code&scope=snsapi_base&state=s",
	}
	for way, start := range starts {
		t.Run(way, func(t *testing.T) {
			lina := hijackBrowser(t, w, "lina")
			callback := lina.begin(start)
			if way == "pass_code" { // its code is claimed when it comes back: before, whoever stole it may use it
				hostileLanding(lina, callback)
			}
			other := hijackBrowser(t, w, "mallory")
			otherCallback := other.begin(startV2("https://blog.example/", "mallory"))
			seal, state := hostileQuery(t, otherCallback).Get("login"), hostileQuery(t, otherCallback).Get("state")
			name := "__Host-wechat_broker_login_" + hostileQuery(t, callback).Get("state")
			tampered := lina.cookie(broker, name)
			if tampered == "" {
				t.Fatal("no login cookie")
			}
			tampered = tampered[:len(tampered)-2] + map[bool]string{true: "BA", false: "AB"}[strings.HasSuffix(tampered, "AB")]
			nobody := func() *hijacker { return hijackBrowser(t, w, "mallory") }
			holding := func(cookie string) *hijacker {
				h := nobody()
				h.put("auth.example.com", name, cookie)
				return h
			}
			mine := "__Host-wechat_broker_login_" + state
			cases := []struct {
				name    string
				h       *hijacker
				address string
			}{
				{"another browser", nobody(), callback},
				{"another's seal", lina, withQuery(t, callback, "login", seal)},
				{"another's state", lina, withQuery(t, callback, "state", state)},
				{"another's seal and state", lina, withQuery(t, withQuery(t, callback, "login", seal), "state", state)},
				{"a cookie that was changed", holding(tampered), callback},
				{"another login's cookie under this one's name", holding(other.cookie(broker, mine)), callback},
				{"an empty cookie", holding(""), callback},
				{"no seal", lina, withQuery(t, callback, "login", "")},
				{"two seals", lina, callback + "&login=" + seal},
				{"two codes in one", lina, callback + "&code=x"},
				{"two states", lina, callback + "&state=" + state},
				{"a state in other letters", lina, withQuery(t, callback, "state", strings.ToUpper(hostileQuery(t, callback).Get("state"))+"x")},
			}
			for _, x := range cases {
				resp, body := x.h.get(x.address)
				hostileNothing(t, x.name, lina, resp, body)
			}
			// Nothing of that was in the way of the browser that began it: once more as often as it likes.
			for range 3 {
				if to := hostileLanding(lina, callback); !strings.HasSuffix(to, "&state=s") {
					t.Errorf("came back to %s", to)
				}
			}
			if to := hostileLanding(other, otherCallback); !strings.HasPrefix(to, "https://blog.example/?ticket=") || !strings.HasSuffix(to, "&state=mallory") {
				t.Errorf("the other came back to %s", to)
			}
		})
	}
}

// TestHostileCodesOfOthers: a code that one client's login brought is refused with another's, of whatever browser.
func TestHostileCodesOfOthers(t *testing.T) {
	w := hostileWorld(t)
	lina, mallory := hijackBrowser(t, w, "lina"), hijackBrowser(t, w, "mallory")
	callback := lina.begin(startV2("https://client.example/shop/", "s"))
	code := hostileQuery(t, callback).Get("code")
	hostileLanding(lina, callback)
	for what, start := range map[string]string{
		"V2": startV2("https://blog.example/", ""), "the same client": startV2("https://client.example/shop/", ""), "an SDK": hostileSDK("shop", "https://client.example/shop/", ""),
		"pass_code": broker + "/connect/oauth2/authorize?appid=" + appID + "&redirect_uri=https%3A%2F%2Fown.example%2F&scope=snsapi_base",
	} {
		m := hijackBrowser(t, w, "mallory")
		stolen := withQuery(t, m.begin(start), "code", code)
		resp, body := m.get(stolen)
		hostileNothing(t, what, m, resp, body)
	}
	resp, body := mallory.get(broker + "/?code=" + code + "&state=0123abcdx")
	hostileNothing(t, "V1", mallory, resp, body)

	// Two codes for one state: each stands for itself.
	twice := mallory.leave(startV2("https://client.example/shop/", "two"))
	first, second := mallory.authorize(twice), mallory.authorize(twice)
	a, b := hostileQuery(t, hostileLanding(mallory, first)).Get("ticket"), hostileQuery(t, hostileLanding(mallory, second)).Get("ticket")
	if a == b || hostileStatus(t, w, a, "shop", shopSecret) != http.StatusOK || hostileStatus(t, w, b, "shop", shopSecret) != http.StatusOK {
		t.Errorf("two codes brought %s and %s", a, b)
	}
	// One code of a victim and one of the thief's in the thief's login: each is whose it is.
	mixed := mallory.begin(startV2("https://client.example/shop/", "mixed"))
	again := hostileLanding(mallory, mixed)
	if _, user := w.redeem(t, hostileQuery(t, again).Get("ticket"), "shop", shopSecret); user["openid"] == w.sim.OpenID(appID, "lina") || user["state"] != "mixed" {
		t.Errorf("the user is %v", user["openid"])
	}
}

// TestHostileTabs: one browser runs logins of two clients in two tabs at once. However their steps interleave, each
// ends at its own client, with its own state and ticket.
func TestHostileTabs(t *testing.T) {
	w := hostileWorld(t)
	type tab struct{ start, at, id, secret string }
	tabs := []tab{
		{startV2("https://client.example/shop/", "one"), "https://client.example/shop/?ticket=", "shop", shopSecret},
		{startV2("https://blog.example/", "two"), "https://blog.example/?ticket=", "blog", blogSecret},
	}
	for order := range 64 { // each bit says whose turn it is
		h := hijackBrowser(t, w, "lina")
		at, step := [2]string{tabs[0].start, tabs[1].start}, [2]int{}
		for turn := 0; step[0]+step[1] < 6; turn++ {
			i := order >> (turn % 6) & 1
			if step[i] == 3 {
				i = 1 - i
			}
			switch step[i]++; step[i] {
			case 1:
				at[i] = h.leave(at[i])
			case 2:
				at[i] = h.authorize(at[i])
			case 3:
				at[i] = hostileLanding(h, at[i])
			}
		}
		for i, x := range tabs {
			state := []string{"one", "two"}[i]
			if !strings.HasPrefix(at[i], x.at) || !strings.HasSuffix(at[i], "&state="+state) {
				t.Fatalf("order %b: tab %s came back to %s", order, state, at[i])
			}
			if _, user := w.redeem(t, hostileQuery(t, at[i]).Get("ticket"), x.id, x.secret); user["state"] != state {
				t.Errorf("order %b: tab %s has %v", order, state, user)
			}
		}
	}
}

// TestHostileLateCallbacks: what comes back late, without cookies or among forty others gets a page or a new login,
// never a user.
func TestHostileLateCallbacks(t *testing.T) {
	w := hostileWorld(t)
	h := hijackBrowser(t, w, "lina")
	callback := h.begin(startV2("https://client.example/shop/", "s"))
	h.forget(broker)
	resp, _ := h.get(callback) // its cookie is gone: it starts anew once
	if to := resp.Header.Get("Location"); resp.StatusCode != http.StatusFound || !strings.HasPrefix(to, w.sim.url) {
		t.Fatalf("without cookies: %d %s", resp.StatusCode, to)
	}
	again := h.authorize(resp.Header.Get("Location"))
	h.forget(broker)
	if resp, _ := h.get(again); resp.StatusCode != http.StatusBadRequest || resp.Header.Get("Location") != "" {
		t.Errorf("without cookies again: %d %s", resp.StatusCode, resp.Header.Get("Location"))
	}
	// Forty are begun and none finished: the newest ends well, an old one begins anew, and the cookies stay few.
	forty := hijackBrowser(t, w, "lina")
	var last, first string
	for i := range 40 {
		if i%3 == 0 { // a redeemed ticket, or the fourth within a minute gets a page
			tkt := hostileQuery(t, hostileBack(forty, startV2("https://client.example/shop/", "x"))).Get("ticket")
			hostileStatus(t, w, tkt, "shop", shopSecret)
			continue
		}
		last = forty.begin(startV2("https://client.example/shop/", fmt.Sprint(i)))
		if first == "" {
			first = last
		}
		if n := len(forty.loginCookies(broker)); n > 5 {
			t.Fatalf("%d login cookies", n)
		}
	}
	if to := hostileLanding(forty, last); !strings.HasSuffix(to, "&state=38") {
		t.Errorf("the newest came back to %s", to)
	}
	resp, _ = forty.get(first)
	if to := resp.Header.Get("Location"); strings.Contains(to, "ticket=") {
		t.Errorf("the oldest came back to %s", to)
	}
	// Cookies that were tossed in, in any number, are no way in and not in the way.
	tossed := hijackBrowser(t, w, "lina")
	callback = tossed.begin(startV2("https://client.example/shop/", "s"))
	for i := range 30 {
		tossed.put("auth.example.com", "__Host-wechat_broker_login_"+fmt.Sprintf("%032x", i), strings.Repeat("x", 40))
	}
	if to := hostileLanding(tossed, callback); !strings.HasSuffix(to, "&state=s") {
		t.Errorf("among tossed cookies: %s", to)
	}
}

// TestHostileFormsPileUp: another site's forms bring no cookie along, so that their starts can drop none; the callback
// does.
func TestHostileFormsPileUp(t *testing.T) {
	w := hostileWorld(t)
	h := hijackBrowser(t, w, "lina")
	var callback string
	for i := range 12 {
		kept := h.jar["auth.example.com"]
		h.jar["auth.example.com"] = nil
		resp, _ := h.do(http.MethodPost, startV2("https://client.example/shop/", fmt.Sprint(i)))
		if resp.StatusCode != http.StatusSeeOther {
			t.Fatalf("status %d", resp.StatusCode)
		}
		for name, value := range kept {
			h.put("auth.example.com", name, value)
		}
		callback = h.authorize(resp.Header.Get("Location"))
	}
	resp, _ := h.get(callback)
	if resp.StatusCode != http.StatusTooManyRequests || strings.Contains(resp.Header.Get("Location"), "ticket=") {
		t.Errorf("the twelfth: %d", resp.StatusCode)
	}
	if n := len(h.loginCookies(broker)); n > 6 { // one of them is the button's
		t.Errorf("%d login cookies are left", n)
	}
}

// TestHostileClocks: a login of an hour ago is over, for the browser that began it as well.
func TestHostileClocks(t *testing.T) {
	w := &world{gateway: newGateway(t), sim: newSimulator(t, boundDomain), up: newUpstream(t)}
	w.binary = lifeClockBinary(t)
	clock := lifeWrite(t, filepath.Join(w.dir, "clock"), "0")
	w.env = append(w.env, "SHOP_SECRET="+shopSecret, "BLOG_SECRET="+blogSecret, "LIFE_CLOCK="+clock)
	w.start(w.brokerWith(hostileBlocks, ""))
	h := hijackBrowser(t, w, "lina")
	callback := h.begin(startV2("https://client.example/shop/", "s"))
	asks := hijackBrowser(t, w, "lina")
	_, page := asks.get(startV2("https://asks.example/", ""))
	lifeWrite(t, clock, "3600")
	if resp, _ := asks.get(broker + hostileButton(t, page)); resp.StatusCode != http.StatusOK {
		t.Errorf("a button of an hour ago: %d", resp.StatusCode)
	}
	resp, body := h.get(callback)
	hostileNothing(t, "after an hour", h, resp, body)
	if calls := w.sim.CountCalls("/sns/oauth2/access_token"); calls != 0 {
		t.Errorf("WeChat was asked %d times", calls)
	}
}
