package integration

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// hostileAsk asks for a ticket in a way of its own, and returns the status; an answer that is no 200 has no body.
func hostileAsk(t *testing.T, c *http.Client, method, address string, headers ...string) int {
	t.Helper()
	req, err := http.NewRequest(method, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, body := send(t, c, req)
	if resp.StatusCode != http.StatusOK && body != "" && method != http.MethodHead || resp.StatusCode == http.StatusOK && method != http.MethodGet {
		t.Errorf("%s %v: %d with %.200q", method, headers, resp.StatusCode, body)
	}
	if h := resp.Header; h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("%s %v: %v", method, headers, h)
	}
	return resp.StatusCode
}

func hostileBasic(id, secret string) string {
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(id, secret)
	return r.Header.Get("Authorization")
}

// TestHostileTicketsAreNotSpent: all that is no redemption by its client leaves the ticket as it is.
func TestHostileTicketsAreNotSpent(t *testing.T) {
	w := hostileWorld(t)
	c, plain := w.client(), w.plainClient()
	const shop, old = "https://client.example/shop/", "https://old.example/"
	right := hostileBasic("shop", shopSecret)
	cases := []struct {
		name, to, method, path string
		headers                []string
		status                 int
	}{
		{"by HEAD", shop, "HEAD", "", []string{"Authorization", right}, 405},
		{"by OPTIONS", shop, "OPTIONS", "", []string{"Authorization", right, "Origin", "https://client.example", "Access-Control-Request-Method", "GET"}, 405},
		{"by POST", shop, "POST", "", []string{"Authorization", right}, 405},
		{"by a method of its own", shop, "REDEEM", "", []string{"Authorization", right}, 405},
		{"by a browser that fetches ahead", shop, "GET", "", []string{"Authorization", right, "Sec-Purpose", "prefetch;prerender"}, 404},
		{"by an old browser that fetches ahead", shop, "GET", "", []string{"Authorization", right, "X-Moz", "prefetch"}, 404},
		{"by a link preview", shop, "GET", "", []string{"User-Agent", "facebookexternalhit/1.1"}, 404},
		{"in early data", shop, "GET", "", []string{"Authorization", right, "Early-Data", "1"}, 425},
		{"without a secret", shop, "GET", "", []string{"Authorization", hostileBasic("shop", "")}, 404},
		{"with a wrong secret", shop, "GET", "", []string{"Authorization", hostileBasic("shop", shopSecret+"x")}, 404},
		{"with another client's secret", shop, "GET", "", []string{"Authorization", hostileBasic("shop", blogSecret)}, 404},
		{"with its secret under another id", shop, "GET", "", []string{"Authorization", hostileBasic("blog", shopSecret)}, 404},
		{"with its secret under no client's id", shop, "GET", "", []string{"Authorization", hostileBasic("nobody", shopSecret)}, 404},
		{"with its id in other letters", shop, "GET", "", []string{"Authorization", hostileBasic("Shop", shopSecret)}, 404},
		{"with its secret as a token", shop, "GET", "", []string{"Authorization", "Bearer " + shopSecret}, 404},
		{"with the app's own secret", shop, "GET", "", []string{"Authorization", hostileBasic(appID, appSecret)}, 404},
		{"as a public client", shop, "GET", "", []string{"Authorization", hostileBasic("old", "")}, 404},
		{"by a client that redeems from elsewhere", shop, "GET", "", []string{"Authorization", hostileBasic("fixed", shopSecret)}, 404},
		{"with the secret in the query", shop, "GET", "?id=shop&secret=" + shopSecret, nil, 404},
		{"in upper case", shop, "GET", "UPPER", []string{"Authorization", right}, 0},
		{"a public one by HEAD", old, "HEAD", "", nil, 405},
		{"a public one by a script from elsewhere", old, "OPTIONS", "", []string{"Origin", "https://evil.example", "Access-Control-Request-Method", "GET"}, 405},
		{"a public one by a browser that fetches ahead", old, "GET", "", []string{"Purpose", "prefetch"}, 404},
		{"a public one by an image", old, "GET", "", []string{"Sec-Fetch-Dest", "image"}, 404},
		{"a public one in early data", old, "GET", "", []string{"Early-Data", "1"}, 425},
		{"a public one with a wrong secret", old, "GET", "", []string{"Authorization", hostileBasic("old", "guess")}, 404},
	}
	for _, x := range cases {
		t.Run(x.name, func(t *testing.T) {
			tkt := hostileTicket(t, w, x.to)
			at := broker + "/ticket/" + tkt + x.path
			if x.path == "UPPER" {
				at = broker + "/ticket/A" + strings.ToUpper(tkt[1:])
			}
			if x.status == 0 { // the site's page
				if resp, _ := get(t, c, at, http.Header{"Authorization": {right}}); resp.StatusCode != http.StatusOK {
					t.Errorf("status %d", resp.StatusCode)
				}
			} else if status := hostileAsk(t, c, x.method, at, x.headers...); status != x.status {
				t.Errorf("status %d, want %d", status, x.status)
			}
			id, secret := "shop", shopSecret
			if x.to == old {
				id, secret = "", ""
			} else if status := hostileAsk(t, plain, "GET", "http://auth.example.com/ticket/"+tkt, "Authorization", right); status != 404 {
				t.Errorf("over plain http: %d", status)
			}
			if status := hostileStatus(t, w, tkt, id, secret); status != http.StatusOK {
				t.Errorf("and then its client gets %d", status)
			}
		})
	}
}

// TestHostileTicketsOfOthers: a client that tries another's spends it, whatever became of the own one; nobody gets
// what a ticket of another kind stands for.
func TestHostileTicketsOfOthers(t *testing.T) {
	w := hostileWorld(t)
	for _, to := range []string{"https://client.example/shop/", "https://again.example/"} {
		tkt := hostileTicket(t, w, to)
		if status := hostileStatus(t, w, tkt, "blog", blogSecret); status != http.StatusNotFound {
			t.Errorf("%s: another client gets %d", to, status)
		}
		for _, id := range []string{"shop", "again"} {
			if status := hostileStatus(t, w, tkt, id, shopSecret); status != http.StatusNotFound {
				t.Errorf("%s: then %s gets %d", to, id, status)
			}
		}
	}
	again := hostileTicket(t, w, "https://again.example/")
	for range 3 {
		if status := hostileStatus(t, w, again, "again", shopSecret); status != http.StatusOK {
			t.Errorf("a ticket of reuse: %d", status)
		}
	}
	nets := hostileTicket(t, w, "https://nets.example/")
	for _, id := range []string{"", "shop"} { // from the loopback, which is not in redeem_from
		if status := hostileStatus(t, w, nets, id, map[string]string{"": "", "shop": shopSecret}[id]); status != http.StatusNotFound {
			t.Errorf("a public ticket from another network, by %q: %d", id, status)
		}
	}
	fixed := hostileTicket(t, w, "https://fixed.example/")
	if status := hostileAsk(t, w.client(), "GET", broker+"/ticket/"+fixed, "Authorization", hostileBasic("fixed", shopSecret), "X-Forwarded-For", "192.0.2.7"); status != http.StatusNotFound {
		t.Errorf("from a network that the request claims: %d", status)
	}
	h := hijackBrowser(t, w, "lina")
	code := hostileQuery(t, hostileBack(h, hostileSDK("shop", "https://client.example/shop/", ""))).Get("code")
	if status := hostileStatus(t, w, code, "shop", shopSecret); status != http.StatusNotFound {
		t.Errorf("a code as a ticket: %d", status)
	}
	tkt := hostileTicket(t, w, "https://client.example/shop/")
	if answer := hostileSNS(t, w, "oauth2/access_token", "appid=shop&grant_type=authorization_code&secret="+shopSecret+"&code="+tkt); answer["errcode"] != 40029.0 {
		t.Errorf("a ticket as a code: %v", answer)
	}
	if answer := hostileSNS(t, w, "oauth2/access_token", "appid=shop&grant_type=authorization_code&secret="+shopSecret+"&code="+code); answer["openid"] != w.sim.OpenID(appID, "lina") {
		t.Errorf("the code, tried as a ticket before: %v", answer)
	}
	if status := hostileStatus(t, w, tkt, "shop", shopSecret); status != http.StatusOK {
		t.Errorf("the ticket, tried as a code before: %d", status)
	}
}

// TestHostileTicketsBehindAProxy: redeem_from counts where the trusted proxy says that a request comes from.
func TestHostileTicketsBehindAProxy(t *testing.T) {
	w := &world{gateway: newGateway(t), sim: newSimulator(t, boundDomain), up: newUpstream(t)}
	w.env = append(w.env, "SHOP_SECRET="+shopSecret, "BLOG_SECRET="+blogSecret)
	w.start(strings.Replace(w.brokerWith(hostileBlocks, ""), "wechat {", "servers {\n trusted_proxies static 127.0.0.0/8\n}\n wechat {", 1))
	right := hostileBasic("fixed", shopSecret)
	for from, want := range map[string]int{"192.0.2.7": 200, "::ffff:192.0.2.7": 200, "192.0.2.8": 404, "": 404, "junk": 404} {
		tkt := hostileTicket(t, w, "https://fixed.example/")
		if status := hostileAsk(t, w.client(), "GET", broker+"/ticket/"+tkt, "Authorization", right, "X-Forwarded-For", from); status != want {
			t.Errorf("from %q: %d, want %d", from, status, want)
		}
	}
	for from, want := range map[string]int{"192.0.2.200": 200, "192.0.3.1": 404} {
		tkt := hostileTicket(t, w, "https://nets.example/")
		if status := hostileAsk(t, w.client(), "GET", broker+"/ticket/"+tkt, "X-Forwarded-For", from); status != want {
			t.Errorf("a public one from %q: %d, want %d", from, status, want)
		}
	}
	tkt := hostileTicket(t, w, "https://client.example/shop/")
	for proto, want := range map[string]int{"http": 404, "https": 200} { // over plain http to the proxy that ended TLS
		if status := hostileAsk(t, w.plainClient(), "GET", "http://auth.example.com/ticket/"+tkt, "Authorization", hostileBasic("shop", shopSecret), "X-Forwarded-Proto", proto); proto == "http" && status != want {
			t.Errorf("%s by a trusted proxy: %d, want %d", proto, status, want)
		}
	}
}

// TestHostileTicketsRaced: of fifty that redeem one ticket at once exactly one has it, on both versions of HTTP; and
// where another client's right secret is among them, at most one.
func TestHostileTicketsRaced(t *testing.T) {
	w := hostileWorld(t)
	h2, h1 := w.client(), hostileH1(w)
	for round := range 12 {
		for _, to := range []string{"https://client.example/shop/", "https://old.example/"} {
			id, secret := "shop", shopSecret
			if to == "https://old.example/" {
				id, secret = "", ""
			}
			theft := round%3 == 2 && id != ""
			tkt := hostileTicket(t, w, to)
			won := hostileRace(50, func(i int) bool {
				c, as, word := []*http.Client{h1, h2}[i%2], id, secret
				if theft && i%5 == 0 {
					as, word = "blog", blogSecret
				}
				headers := []string{"X-Try", fmt.Sprint(i)}
				if as != "" {
					headers = append(headers, "Authorization", hostileBasic(as, word))
				}
				status := hostileAsk(t, c, "GET", broker+"/ticket/"+tkt, headers...)
				if status == http.StatusOK && as == "blog" {
					t.Error("another client has the user")
				}
				return status == http.StatusOK
			})
			if won > 1 || won != 1 && !theft {
				t.Errorf("%s: %d of 50 have the user", to, won)
			}
		}
		code := hostileQuery(t, hostileBack(hijackBrowser(t, w, "lina"), hostileSDK("shop", "https://client.example/shop/", ""))).Get("code")
		if won := hostileRace(50, func(int) bool {
			return hostileSNS(t, w, "oauth2/access_token", "appid=shop&grant_type=authorization_code&secret="+shopSecret+"&code="+code)["errcode"] == nil
		}); won != 1 {
			t.Errorf("a code: %d of 50 have the user", won)
		}
	}
}

// hostileH1 is a client that speaks HTTP/1.1 alone.
func hostileH1(w *world) *http.Client {
	c := w.client()
	c.Transport = canaryOf(w.t).watch(&http.Transport{DialContext: w.dial, TLSClientConfig: &tls.Config{RootCAs: w.roots()}, TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}})
	return c
}

// hostileRace lets n try at once, and returns how many succeed.
func hostileRace(n int, try func(i int) bool) (won int) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			ok := try(i)
			mu.Lock()
			defer mu.Unlock()
			if ok {
				won++
			}
		})
	}
	close(start)
	wg.Wait()
	return won
}

// TestHostileTicketsGuessed: nobody guesses one, and guessing leaves those that are there alone.
func TestHostileTicketsGuessed(t *testing.T) {
	w := hostileWorld(t)
	real := hostileTicket(t, w, "https://client.example/shop/")
	var guesses []string
	for i := range 10_000 {
		var b [16]byte
		_, _ = rand.Read(b[:])
		guess := hex.EncodeToString(b[:])
		if i%4 == 0 { // near the true one
			guess = real[:i%32] + hex.EncodeToString([]byte{real[i%32] ^ byte(1+i%7)})[:1] + real[i%32+1:]
		}
		if guess != real {
			guesses = append(guesses, guess)
		}
	}
	c, right := w.client(), hostileBasic("shop", shopSecret)
	hostileEach(guesses, func(guess string) {
		if status := hostileAsk(t, c, "GET", broker+"/ticket/"+guess, "Authorization", right); status != http.StatusNotFound {
			t.Errorf("%s: %d", guess, status)
		}
	})
	if status := hostileStatus(t, w, real, "shop", shopSecret); status != http.StatusOK {
		t.Errorf("and then its client gets %d", status)
	}
}

// hostileSNS asks WeChat's own interface of the broker.
func hostileSNS(t *testing.T, w *world, call, query string) map[string]any {
	t.Helper()
	resp, body := get(t, w.client(), broker+"/sns/"+call+"?"+query, nil)
	if resp.StatusCode != http.StatusOK {
		t.Errorf("%s: status %d", call, resp.StatusCode)
	}
	return hostileJSON(t, body)
}

// TestHostileTicketsOfSites: a site's ticket is unknown at /ticket/ and is not spent there, a client's at a site.
func TestHostileTicketsOfSites(t *testing.T) {
	w := &world{gateway: newGateway(t), sim: newSimulator(t, boundDomain), up: newUpstream(t)}
	w.env = append(w.env, "SHOP_SECRET="+shopSecret, "BLOG_SECRET="+blogSecret)
	w.start(w.brokerWith(hostileBlocks, "wechat_auth") + "shop.example.org {\n wechat_auth\n reverse_proxy " + w.up.addr + "\n}\n")
	h := hijackBrowser(t, w, "lina")
	at := h.atSite(h.begin(shopPage), shopPage)
	tkt := hostileQuery(t, at).Get("ticket")
	for id, secret := range map[string]string{"shop": shopSecret, "blog": blogSecret, "": ""} {
		if status := hostileStatus(t, w, tkt, id, secret); status != http.StatusNotFound {
			t.Errorf("a site's ticket for %q: %d", id, status)
		}
	}
	stolen := hostileTicket(t, w, "https://client.example/shop/")
	resp, body := h.get(withQuery(t, at, "ticket", stolen))
	h.mustGetNothing("a client's ticket at a site", "lina", resp, body)
	if status := hostileStatus(t, w, stolen, "shop", shopSecret); status != http.StatusOK {
		t.Errorf("a client's ticket, tried at a site: %d", status)
	}
	h.finish(at)
	h.mustBe(shopPage, "lina")

	// A client's whole callback and cookie, at the site on the bound domain under the site's own names.
	m := hijackBrowser(t, w, "mallory")
	callback := m.begin(startV2("https://client.example/shop/", ""))
	m.mu.Lock()
	for name, value := range m.jar["auth.example.com"] {
		m.put("auth.example.com", strings.Replace(name, "wechat_broker", "wechat_session", 1), value)
		delete(m.jar["auth.example.com"], name)
	}
	m.mu.Unlock()
	for _, address := range []string{callback, strings.Replace(callback, "auth.example.com", "shop.example.org", 1)} {
		resp, body = m.get(address)
		m.mustGetNothing("a client's login at a site", "mallory", resp, body)
		if to := resp.Header.Get("Location"); strings.Contains(to, "ticket=") {
			t.Errorf("a client's login without its cookie leads to %s", to)
		}
	}
}

// TestHostileTicketsStayHome: nothing of ours tells a ticket, a code or a token to another page or to the log. The
// harness reads every log and answer for them besides.
func TestHostileTicketsStayHome(t *testing.T) {
	w := hostileWorld(t)
	h := hijackBrowser(t, w, "lina")
	callback := h.begin(startV2("https://client.example/shop/", "s"))
	resp, _ := h.get(callback)
	if resp.Header.Get("Referrer-Policy") != "no-referrer" || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("the way back to the client: %v", resp.Header)
	}
	for _, address := range []string{callback, withQuery(t, callback, "state", "x"), startV2("https://evil.example/", ""), broker + "/?code=x&state=0123abcdx"} {
		if resp, _ := get(t, w.client(), address, pageHeader(nil)); resp.Header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: %v", address, resp.Header)
		}
	}
	tkt := hostileQuery(t, resp.Header.Get("Location")).Get("ticket")
	if status := hostileStatus(t, w, tkt, "shop", shopSecret); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	if u, err := url.Parse(callback); err != nil || strings.Contains(w.log.String(), u.Query().Get("code")) || strings.Contains(w.log.String(), tkt) || strings.Contains(w.log.String(), shopSecret) {
		t.Error("the log has the code, the ticket or the secret")
	}
}
