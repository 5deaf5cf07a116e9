package integration

import (
	"bytes"
	"mime/multipart"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

const legacyEnds = `
	client shop {
		secret {env.SHOP_SECRET}
		return_to https://client.example/shop/*
	}
	client asks {
		secret {env.BLOG_SECRET}
		return_to https://blog.example/*
		ask
	}
	client again {
		secret {env.BLOG_SECRET}
		return_to https://own.example/*
		scope snsapi_base
		reuse
	}
	client raw {
		secret {env.SHOP_SECRET}
		return_to https://tokens.example/*
		raw_state
		fragment_append
	}`

const legacyShop = "https://client.example/shop/back"

// press follows the only button of a page of the gateway's.
func press(t *testing.T, b *wechattest.Browser, p *wechattest.Page) *wechattest.Page {
	t.Helper()
	if len(p.Links()) != 1 {
		t.Fatalf("%s has the buttons %v", p.URL, p.Links())
	}
	next, err := b.Click(t.Context(), p, p.Links()[0].Text)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// wantTicket asserts that the user came back to the client with a ticket and this state.
func wantTicket(t *testing.T, p *wechattest.Page, at, state string) string {
	t.Helper()
	q := landed(t, p, at)
	if q.Get("ticket") == "" || !q.Has("state") || q.Get("state") != state || q.Has("error") {
		t.Fatalf("came back with %s", p.URL.RawQuery)
	}
	return q.Get("ticket")
}

// TestLegacyEnds: how logins of wxauth's V2 end that are not the ordinary ones.
func TestLegacyEnds(t *testing.T) {
	w := clientWorld(t, legacyEnds, "")
	turn := func(t *testing.T, change func(*wechattest.Knobs)) {
		w.sim.ResetCalls()
		w.sim.Update(change)
		t.Cleanup(func() { w.sim.Update(func(k *wechattest.Knobs) { *k = wechattest.Knobs{} }) })
	}
	phone := func(opts wechattest.BrowserOptions) *wechattest.Browser {
		opts.User = "lina"
		return w.browser(w.sim, opts)
	}

	t.Run("a user who declines comes back with an error where WeChat sends them back, and may try again", func(t *testing.T) {
		turn(t, func(k *wechattest.Knobs) { k.Consent = wechattest.DeclineLegacy })
		b := phone(wechattest.BrowserOptions{})
		p := open(t, b, startV2(legacyShop, "a b&c"))
		landed(t, p, legacyShop)
		if p.URL.RawQuery != "error=access_denied&state=a%20b%26c" || w.sim.CountCalls(wechattest.PathToken) != 0 {
			t.Errorf("came back with %s", p.URL.RawQuery)
		}
		w.sim.Update(func(k *wechattest.Knobs) { k.Consent = wechattest.Silent })
		wantTicket(t, open(t, b, startV2(legacyShop, "2")), legacyShop, "2")
	})
	t.Run("a user who declines stays with WeChat as it is today, and the next start works", func(t *testing.T) {
		turn(t, func(k *wechattest.Knobs) { k.Consent = wechattest.DeclineNothing })
		b := phone(wechattest.BrowserOptions{})
		if p := open(t, b, startV2(legacyShop, "1")); p.URL.Host != w.sim.host {
			t.Errorf("came to %s", p.URL)
		}
		w.sim.Update(func(k *wechattest.Knobs) { k.Consent = wechattest.Silent })
		wantTicket(t, open(t, b, startV2(legacyShop, "2")), legacyShop, "2")
	})
	t.Run("a snapshot visitor comes back with an error, never with a ticket", func(t *testing.T) {
		for _, scope := range []string{"snsapi_base", "snsapi_userinfo"} {
			b := phone(wechattest.BrowserOptions{Snapshot: true})
			p := open(t, b, startV2(legacyShop, "7", "&scope="+scope))
			landed(t, p, legacyShop)
			if p.URL.RawQuery != "error=snapshot&state=7" {
				t.Errorf("came back with %s", p.URL.RawQuery)
			}
		}
	})
	t.Run("a snapshot visitor without cookies gets the page", func(t *testing.T) {
		p := open(t, phone(wechattest.BrowserOptions{Snapshot: true, NoCookies: true}), startV2(legacyShop, "7"))
		wantPageOf(t, p, "auth.example.com", 200, "这是预览")
	})
	t.Run("while WeChat is away there is a page whose button logs in once it is back", func(t *testing.T) {
		turn(t, func(k *wechattest.Knobs) {
			k.Faults = map[string]wechattest.Fault{wechattest.PathToken: {Status: 503, Raw: "down"}}
		})
		b := phone(wechattest.BrowserOptions{})
		p := open(t, b, startV2(legacyShop, "s=1"))
		wantPageOf(t, p, "auth.example.com", 502, "暂时无法登录")
		if p.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		p = press(t, b, p)
		wantPageOf(t, p, "auth.example.com", 502, "暂时无法登录")
		w.sim.Update(func(k *wechattest.Knobs) { k.Faults = nil })
		wantTicket(t, press(t, b, p), legacyShop, "s=1")
	})
	t.Run("the fourth start in a minute is a page whose button logs in", func(t *testing.T) {
		b := phone(wechattest.BrowserOptions{})
		for range 3 {
			wantTicket(t, open(t, b, startV2(legacyShop, "1")), legacyShop, "1")
		}
		p := open(t, b, startV2(legacyShop, "1"))
		wantPageOf(t, p, "auth.example.com", 429, "尝试次数过多")
		wantTicket(t, open(t, b, startV2("https://own.example/", "")), "https://own.example/", "") // another client's
		tkt := wantTicket(t, press(t, b, p), legacyShop, "1")
		wantPageOf(t, open(t, b, startV2(legacyShop, "1")), "auth.example.com", 429, "尝试次数过多")
		if resp, _ := w.redeem(t, tkt, "shop", shopSecret); resp.StatusCode != 200 {
			t.Fatalf("status %d", resp.StatusCode)
		}
		wantTicket(t, open(t, b, startV2(legacyShop, "1")), legacyShop, "1")
	})
	t.Run("with cookies off it starts anew once, then there is a page", func(t *testing.T) {
		turn(t, func(*wechattest.Knobs) {})
		b := phone(wechattest.BrowserOptions{NoCookies: true})
		p := open(t, b, startV2(legacyShop, "1"))
		wantPageOf(t, p, "auth.example.com", 400, "Cookie 没有开启")
		if n := w.sim.CountCalls("/connect/oauth2/authorize"); n != 2 {
			t.Errorf("%d trips to WeChat", n)
		}
		b.NoCookies = false
		wantTicket(t, press(t, b, p), legacyShop, "1")
	})
	t.Run("outside WeChat the user is sent there all the same", func(t *testing.T) {
		p := open(t, phone(wechattest.BrowserOptions{UserAgent: wechattest.UserAgentOutside}), startV2(legacyShop, "1"))
		if p.URL.Host != w.sim.host || p.URL.Path != "/connect/oauth2/authorize" {
			t.Errorf("came to %s", p.URL)
		}
	})
	t.Run("with ask a profile takes a press, and the openid alone does not", func(t *testing.T) {
		turn(t, func(*wechattest.Knobs) {})
		b := phone(wechattest.BrowserOptions{})
		p := open(t, b, startV2("https://blog.example/x", "1"))
		wantPageOf(t, p, "auth.example.com", 200, "请先登录")
		if n := w.sim.CountCalls("/connect/oauth2/authorize"); n != 0 {
			t.Errorf("%d trips to WeChat before the press", n)
		}
		wantTicket(t, press(t, b, p), "https://blog.example/x", "1")
		wantTicket(t, open(t, b, startV2("https://blog.example/x", "1", "&scope=snsapi_base")), "https://blog.example/x", "1")
	})
	t.Run("a press cannot be written into a link", func(t *testing.T) {
		p := open(t, phone(wechattest.BrowserOptions{}), startV2("https://blog.example/x", "1", "&pressed=1&retry=1"))
		wantPageOf(t, p, "auth.example.com", 200, "请先登录")
	})
	t.Run("a raw state goes back as it came, behind the fragment", func(t *testing.T) {
		p := open(t, phone(wechattest.BrowserOptions{}), startV2("https://tokens.example/app?x=1#/home", "a=1&b=[2]"))
		landed(t, p, "https://tokens.example/app")
		tkt := strings.TrimPrefix(p.URL.Fragment, "/home?ticket=")
		if p.URL.RawQuery != "x=1" || len(tkt) < 32 || p.URL.EscapedFragment() != "/home?ticket="+tkt[:32]+"&state=a=1&b=[2]" && p.URL.Fragment != "/home?ticket="+tkt[:32]+"&state=a=1&b=[2]" {
			t.Errorf("came back at %s", p.URL)
		}
	})
	t.Run("a raw state that ends the line or brings a second ticket is refused", func(t *testing.T) {
		for _, state := range []string{"a\r\nSet-Cookie: x=1", "a\x00", "a&ticket=00112233445566778899aabbccddeeff", "a&state&TICKET=x", "#a"} {
			resp, _ := get(t, w.client(), startV2("https://tokens.example/", state), pageHeader(nil))
			if resp.StatusCode != 400 || resp.Header.Get("Location") != "" {
				t.Errorf("%q: %d", state, resp.StatusCode)
			}
		}
	})
}

// TestLegacyStarts: the ways of browsers and of clients' forms into a login.
func TestLegacyStarts(t *testing.T) {
	w := clientWorld(t, legacyEnds, "")
	phone := func() *wechattest.Browser { return w.browser(w.sim, wechattest.BrowserOptions{User: "lina"}) }

	t.Run("a form of the client's page", func(t *testing.T) {
		b := phone()
		p := open(t, b, "https://client.example/shop/form")
		p, err := b.PostForm(t.Context(), p, broker+"/auth/"+appID+"/", url.Values{"request_uri": {legacyShop}, "params": {"form"}})
		if err != nil {
			t.Fatal(err)
		}
		wantTicket(t, p, legacyShop, "form")
	})
	t.Run("a form over plain http, which goes to https with its fields", func(t *testing.T) {
		b := phone()
		p, err := b.PostForm(t.Context(), open(t, b, "https://client.example/shop/form"), "http://auth.example.com/auth/"+appID, url.Values{"redirect_uri": {legacyShop}, "params": {"form"}})
		if err != nil {
			t.Fatal(err)
		}
		wantTicket(t, p, legacyShop, "form")
	})
	t.Run("a link without an address leads back to the origin that browsers tell", func(t *testing.T) {
		b := phone()
		p, err := b.PostForm(t.Context(), open(t, b, "https://own.example/news/1?id=7"), broker+"/auth/"+appID, nil)
		if err != nil {
			t.Fatal(err)
		}
		wantTicket(t, p, "https://own.example/", "")
	})
	t.Run("a multipart form", func(t *testing.T) {
		var body bytes.Buffer
		form := multipart.NewWriter(&body)
		_ = form.WriteField("redirect_uri", legacyShop)
		_ = form.WriteField("params", "多")
		_ = form.Close()
		h := with(pageHeader(nil), "Content-Type", form.FormDataContentType())
		resp, _ := do(t, w.client(), "POST", broker+"/view/"+appID, h, &body)
		if resp.StatusCode != 303 || !strings.HasPrefix(resp.Header.Get("Location"), w.sim.url) || len(resp.Cookies()) != 1 {
			t.Errorf("status %d to %s", resp.StatusCode, resp.Header.Get("Location"))
		}
	})
	t.Run("a form that is too large, or a query that cannot be read", func(t *testing.T) {
		h := with(pageHeader(nil), "Content-Type", "application/x-www-form-urlencoded")
		resp, _ := do(t, w.client(), "POST", broker+"/auth/"+appID, h, strings.NewReader("redirect_uri="+url.QueryEscape(legacyShop)+"&params="+strings.Repeat("x", 70<<10)))
		if resp.StatusCode != 400 {
			t.Errorf("a large form: %d", resp.StatusCode)
		}
		resp, _ = get(t, w.client(), startV2(legacyShop, "1", "&x=%zz"), pageHeader(nil))
		if resp.StatusCode != 400 {
			t.Errorf("a broken query: %d", resp.StatusCode)
		}
	})
}

// TestLegacyTimes sets the gateway's clock: a login that ends an hour later.
func TestLegacyTimes(t *testing.T) {
	w := &world{gateway: newGateway(t), sim: newSimulator(t, boundDomain), up: newUpstream(t)}
	w.binary = lifeClockBinary(t)
	w.env = append(w.env, "SHOP_SECRET="+shopSecret, "BLOG_SECRET="+blogSecret, "LIFE_CLOCK="+filepath.Join(w.dir, "clock"))
	w.lifeSet(0)
	w.start(w.brokerWith(legacyEnds, ""))
	b := w.browser(w.sim, wechattest.BrowserOptions{User: "lina"})

	t.Run("a login that comes back an hour later has expired, and its button logs in", func(t *testing.T) {
		first := open(t, b, startV2(legacyShop, "late"))
		wantTicket(t, first, legacyShop, "late")
		calls := w.sim.CountCalls(wechattest.PathToken)
		w.lifeSet(time.Hour)
		var callback string
		for _, hop := range first.Redirects {
			if strings.HasSuffix(hop.URL.Path, "/callback") {
				callback = hop.URL.String()
			}
		}
		for _, phone := range []*wechattest.Browser{b, w.browser(w.sim, wechattest.BrowserOptions{User: "lina"})} {
			p := open(t, phone, callback)
			wantPageOf(t, p, "auth.example.com", http.StatusBadRequest, "这次登录已失效")
			if w.sim.CountCalls(wechattest.PathToken) != calls {
				t.Error("WeChat was asked")
			}
			wantTicket(t, press(t, phone, p), legacyShop, "late")
			calls = w.sim.CountCalls(wechattest.PathToken)
		}
	})
}

// TestLegacyTicketTTL: a shorter minute, of the operator's own.
func TestLegacyTicketTTL(t *testing.T) {
	w := clientWorld(t, legacyEnds+"\nticket_ttl 2s\n", "")
	tkt := wantTicket(t, open(t, w.browser(w.sim, wechattest.BrowserOptions{User: "lina"}), startV2("https://own.example/", "")), "https://own.example/", "")
	ends := 0
	lifeUntil(t, 20*time.Second, "the ticket ends", func() bool {
		resp, user := w.redeem(t, tkt, "again", blogSecret)
		if resp.StatusCode == 200 {
			wantKeys(t, user, "openid", "app", "appid", "scope", "state")
			ends++
		}
		return resp.StatusCode == 404
	})
	if ends == 0 {
		t.Error("it was never good")
	}
}
