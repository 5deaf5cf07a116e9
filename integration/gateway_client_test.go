package integration

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// TestGatewayClient: two machines, one bound domain. Only the first has the app secret.
func TestGatewayClient(t *testing.T) {
	p := newGatewayPair(t, pairSecret, "outside_wechat redirect")
	for _, x := range []struct {
		name string
		test func(*testing.T, *gatewayPair)
	}{
		{"logs in, by five redirects", pairLogin},
		{"asks for a profile after a press, and gets it", pairProfile},
		{"signs in whoever's callback arrives twice", pairDouble},
		{"redeems a ticket once, however often and close its callback comes", pairTogether},
		{"knows the person again who comes back with the back button", pairBack},
		{"gives another browser nothing, and spends nothing for it", pairStranger},
		{"refuses a ticket of another login of the same browser", pairSwapped},
		{"asks again whoever declined, when they press", pairDeclined},
		{"tells a snapshot visitor so, and signs them in who leave it", pairSnapshot},
		{"believes nobody's word", pairForged},
	} {
		t.Run(x.name, func(t *testing.T) {
			in := *p
			in.t = t
			x.test(t, &in)
		})
	}
}

func pairLogin(t *testing.T, p *gatewayPair) {
	const page = "https://shop.example.org/member/?a=1&b=%2F"
	b := p.browser(wechattest.BrowserOptions{User: "lina"})
	got := open(t, b, page)
	if id := openID(t, got); id != p.openID("lina") || len(got.Redirects) != 5 {
		t.Errorf("signed in as %q by %d redirects: %v", id, len(got.Redirects), got.Redirects)
	}
	if s := readSeen(t, got.Body); s.URI != "/member/?a=1&b=%2F" || len(s.Header["Cookie"]) != 0 || strings.TrimSuffix(got.URL.String(), "#") != page {
		t.Errorf("the upstream got %s with cookies %q; the address bar shows %s", s.URI, s.Header["Cookie"], got.URL)
	}
	for _, c := range b.Cookies(page) {
		if c.Name == "__Host-wechat_session" && claims(t, c.Value)["iss"] != "https://auth.example.com" {
			t.Errorf("issued by %v", claims(t, c.Value)["iss"])
		}
	}
	if again := open(t, b, page); len(again.Redirects) != 0 {
		t.Errorf("a signed-in page load was redirected: %v", again.Redirects)
	}
}

func pairProfile(t *testing.T, p *gatewayPair) {
	b := p.browser(wechattest.BrowserOptions{User: "lina"})
	got := open(t, b, "https://shop.example.org/_wechat/login?return=/member/&scope=snsapi_userinfo")
	s := readSeen(t, got.Body)
	if s.Header.Get("X-Wechat-Openid") != p.openID("lina") || s.Header.Get("X-Wechat-Nickname") == "" || s.Header.Get("X-Wechat-Scope") != "snsapi_userinfo" {
		t.Errorf("the upstream got %v", s.Header)
	}
}

func pairDouble(t *testing.T, p *gatewayPair) {
	for name, mode := range map[string]wechattest.DoubleMode{"with one code": wechattest.SameCode, "with two codes for one state": wechattest.TwoCodes} {
		t.Run(name, func(t *testing.T) {
			b := p.browser(wechattest.BrowserOptions{User: "lina", Double: mode})
			if got := openID(t, open(t, b, shopPage)); got != p.openID("lina") {
				t.Errorf("signed in as %q", got)
			}
			if again := open(t, b, shopPage); len(again.Redirects) != 0 {
				t.Errorf("the session was lost: %v", again.Redirects)
			}
		})
	}
}

func pairTogether(t *testing.T, p *gatewayPair) {
	for name, gap := range map[string]time.Duration{"at once": 0, "50 ms apart": 50 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			h := p.byHand("lina")
			callback := p.ticketed(h)
			cookies := h.cookies(hijackHost(shopPage))
			p.asked.Store(0)
			ids := make([]string, 5)
			together(len(ids), gap, func(i int) {
				resp, body := get(t, h.c, callback, with(pageHeader(nil), "Cookie", cookies))
				if token := sessionOf(resp); token != "" {
					ids[i] = jti(t, token)
					return
				}
				t.Errorf("callback %d: %d\n%.300s", i, resp.StatusCode, body)
			})
			for _, id := range ids {
				if id != ids[0] {
					t.Errorf("several sessions: %q", ids)
				}
			}
			if n := p.asked.Load(); n != 1 {
				t.Errorf("the broker was asked %d times", n)
			}
			h.finish(callback)
			h.mustBe(shopPage, "lina")
		})
	}
}

func pairBack(t *testing.T, p *gatewayPair) {
	h := p.byHand("lina")
	callback := p.ticketed(h)
	h.finish(callback)
	h.mustBe(shopPage, "lina")
	for range 2 {
		if resp, _ := h.get(callback); !hijackEndsAt(resp, shopPage) {
			t.Errorf("back at the callback: %d %s", resp.StatusCode, resp.Header.Get("Location"))
		}
		h.mustBe(shopPage, "lina")
	}
}

func pairStranger(t *testing.T, p *gatewayPair) {
	lina, mallory := p.byHand("lina"), p.byHand("mallory")
	callback := p.ticketed(lina)
	mallory.get(shopPage) // has cookies of a login of their own
	resp, body := mallory.get(callback)
	mallory.mustGetNothing("the callback in another browser", "lina", resp, body)
	lina.finish(callback)
	lina.mustBe(shopPage, "lina")
	resp, body = mallory.get(callback)
	mallory.mustGetNothing("the callback in another browser, once it is spent", "lina", resp, body)
}

func pairSwapped(t *testing.T, p *gatewayPair) {
	h := p.byHand("lina")
	one, other := p.ticketed(h), p.ticketed(h)
	swapped := withQuery(t, other, "ticket", queryOf(t, one).Get("ticket"))
	resp, body := h.get(swapped)
	h.mustGetNothing("a ticket of another login", "lina", resp, body)
	if h.session(shopPage) != "" {
		t.Error("a session")
	}
	h.finish(other)
	h.mustBe(shopPage, "lina")
}

func pairDeclined(t *testing.T, p *gatewayPair) {
	p.sim.Update(func(k *wechattest.Knobs) { k.Consent = wechattest.DeclineLegacy })
	defer p.sim.Update(func(k *wechattest.Knobs) { k.Consent = wechattest.Silent })
	h := p.byHand("lina")
	resp, body, _ := h.walk("https://shop.example.org/_wechat/login?return=/member/&scope=snsapi_userinfo")
	if resp.StatusCode != http.StatusOK || !strings.Contains(body, "你没有允许登录") || resp.Request.URL.Host != "shop.example.org" {
		t.Fatalf("%s: %d\n%.300s", resp.Request.URL.Host, resp.StatusCode, body)
	}
	p.sim.Update(func(k *wechattest.Knobs) { k.Consent = wechattest.Silent })
	if resp, _ := pressByHand(t, h, shopPage, body); resp.StatusCode != http.StatusOK {
		t.Errorf("yes led to %d", resp.StatusCode)
	}
	h.mustBe(shopPage, "lina")
}

func pairSnapshot(t *testing.T, p *gatewayPair) {
	b := p.browser(wechattest.BrowserOptions{User: "lina", Snapshot: true})
	page := open(t, b, shopPage)
	wantStatus(t, page, http.StatusOK)
	if !strings.Contains(string(page.Body), "使用完整服务") || page.URL.Host != "shop.example.org" {
		t.Fatalf("no snapshot page at %s\n%.500s", page.URL, page.Body)
	}
	page, err := b.LeaveSnapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := openID(t, page); got != p.openID("lina") || strings.TrimSuffix(page.URL.String(), "#") != shopPage {
		t.Errorf("after the snapshot: %q at %s", got, page.URL)
	}
}

// Attack: the word `error` is not sealed. Whoever writes it gets no more than a page.
func pairForged(t *testing.T, p *gatewayPair) {
	for _, word := range []string{"access_denied", "snapshot", "expired", "x"} {
		h, mallory := p.byHand("lina"), p.byHand("mallory")
		callback := p.ticketed(h)
		before, rest, _ := strings.Cut(callback, "&ticket=")
		_, after, _ := strings.Cut(rest, "&")
		forged := before + "&error=" + word + "&" + after
		if resp, body := mallory.get(forged); resp.StatusCode == http.StatusOK || sessionOf(resp) != "" {
			t.Errorf("%s: a stranger got %d\n%.300s", word, resp.StatusCode, body)
		}
		if resp, _ := h.get(forged); strings.Contains(strings.Join(resp.Header["Set-Cookie"], " "), "_guest") || sessionOf(resp) != "" {
			t.Errorf("%s: cookies %q", word, resp.Header["Set-Cookie"])
		}
		h.finish(callback)
		h.mustBe(shopPage, "lina")
	}
}

// A guest's cookie opens reading, and anybody can write the word that would bring one.
func TestGatewayClientHasNoGuests(t *testing.T) {
	for mode, status := range map[string]int{"guest": http.StatusOK, "deny": http.StatusForbidden} {
		t.Run("snapshot "+mode, func(t *testing.T) {
			p := newGatewayPair(t, pairSecret, "snapshot "+mode)
			b := p.browser(wechattest.BrowserOptions{User: "lina", Snapshot: true})
			page := open(t, b, shopPage)
			wantStatus(t, page, status)
			if !strings.Contains(string(page.Body), "使用完整服务") {
				t.Errorf("no snapshot page: %.300s", page.Body)
			}
			if again := open(t, b, shopPage); len(again.Redirects) == 0 {
				t.Error("a guest was let in")
			}
		})
	}
}

func TestGatewayClientWithRestarts(t *testing.T) {
	p := newGatewayPair(t, pairSecret, "")
	t.Run("of the second, while its person is at WeChat", func(t *testing.T) {
		h := p.byHand("lina")
		callback := p.begin(h)
		p.restart(p.second, p.secondFile)
		h.finish(callback)
		h.mustBe(shopPage, "lina")
	})
	t.Run("of the second, while a ticket is on its way to it", func(t *testing.T) {
		h := p.byHand("lina")
		callback := p.ticketed(h)
		p.restart(p.second, p.secondFile)
		h.finish(callback)
		h.mustBe(shopPage, "lina")
		p.restart(p.second, p.secondFile)
		h.mustBe(shopPage, "lina")
	})
	t.Run("of the first, while its person is at WeChat", func(t *testing.T) {
		h := p.byHand("lina")
		callback := p.begin(h)
		p.restart(p.first, p.firstFile)
		h.finish(callback)
		h.mustBe(shopPage, "lina")
	})
	t.Run("of the first, whose ticket was in its memory", func(t *testing.T) {
		h := p.byHand("lina")
		callback := p.ticketed(h)
		p.restart(p.first, p.firstFile)
		h.walk(callback) // begins anew by itself
		h.mustBe(shopPage, "lina")
	})
}

func TestGatewayClientWhoseBrokerIsGone(t *testing.T) {
	p := newGatewayPair(t, pairSecret, "")
	known, lina := p.byHand("zhangwei"), p.byHand("lina")
	known.finish(p.begin(known))
	known.mustBe(shopPage, "zhangwei")
	callback := p.ticketed(lina)
	p.first.stop()
	known.mustBe(shopPage, "zhangwei")
	resp, body := lina.get(callback)
	if resp.StatusCode != http.StatusBadGateway || resp.Header.Get("Retry-After") == "" || len(hrefs(body)) != 1 {
		t.Errorf("in the middle of a login: %d\n%.500s", resp.StatusCode, body)
	}
	wantOwnAnswer(t, resp)
	line := p.logLines("login failed at the broker")
	for _, want := range []string{`"level":"error"`, `"broker":"https://auth.example.com"`, "see that the gateway at https://auth.example.com runs"} {
		if !strings.Contains(line, want) {
			t.Errorf("the log lacks %s:\n%s", want, line)
		}
	}
	p.first.start(p.firstFile)
	if resp, _ := pressByHand(t, lina, shopPage, body); resp.StatusCode != http.StatusOK {
		t.Errorf("the button led to %d", resp.StatusCode)
	}
	lina.mustBe(shopPage, "lina")
}

func TestGatewayClientWithAWrongSecret(t *testing.T) {
	p := newGatewayPair(t, pairWrong, "")
	h := p.byHand("lina")
	resp, body, _ := h.walk(shopPage)
	if resp.StatusCode != http.StatusBadRequest || h.session(shopPage) != "" || len(hrefs(body)) != 1 {
		t.Errorf("the visitor got %d\n%.500s", resp.StatusCode, body)
	}
	line := p.logLines("the broker refused the ticket")
	for _, want := range []string{`"level":"error"`, `"broker":"https://auth.example.com"`, "compare client id, secret and redeem_from with the broker's configuration"} {
		if !strings.Contains(line, want) {
			t.Errorf("the log lacks %s:\n%s", want, line)
		}
	}
}

// What is only known when the configuration is loaded.
func TestGatewayClientsMistakes(t *testing.T) {
	file := func(address, secret, site string) string {
		return "{\n wechat {\n account {\n app_id " + appID + "\n broker " + address + " shop " + secret + "\n}\n}\n}\nexample.com {\n tls internal\n " + site + "\n}\n"
	}
	const good, site = "https://auth.example.com", "wechat_auth"
	g := newGateway(t)
	g.env = []string{"SHORT=tooshort", "ADDRESS=http://auth.example.com", "GOOD=" + pairSecret}
	for _, c := range []struct{ name, caddyfile, want string }{
		{"a secret that is not there", file(good, "{env.NO_SUCH_SECRET}", site), "NO_SUCH_SECRET"},
		{"a short secret behind a placeholder", file(good, "{env.SHORT}", site), "16 are the least"},
		{"plain http behind a placeholder", file("{env.ADDRESS}", "{env.GOOD}", site), "plain http"},
		{"a broker for an account of another's", file(good, "{env.GOOD}", "wechat_broker default"), "logs in through the broker at https://auth.example.com"},
		{"a broker that would have only that", file(good, "{env.GOOD}", "wechat_broker"), "no account names this site as its domain"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := g.validate(c.caddyfile)
			if err == nil || !strings.Contains(out, c.want) {
				t.Errorf("validate said, with error %v:\n%s\nwant %s", err, out, c.want)
			}
		})
	}
	t.Run("a secret that stands there literally draws a warning", func(t *testing.T) {
		out, err := g.validate(file(good, pairSecret, site))
		if err != nil || !strings.Contains(out, "broker's secret stands literally") || strings.Contains(out, pairSecret) {
			t.Errorf("%v\n%s", err, out)
		}
	})
}
