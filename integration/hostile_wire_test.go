package integration

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// hostileAt asks at an address under another Host.
func hostileAt(t *testing.T, c *http.Client, host, address string, cookies []*http.Cookie, more ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host, req.Header = host, with(pageHeader(cookies), more...)
	resp, _ := send(t, c, req)
	return resp
}

// TestHostileHosts: whatever Host a browser names at the broker, it is sent to the bound domain and nowhere else, and
// a callback under another spends nothing.
func TestHostileHosts(t *testing.T) {
	w := &world{gateway: newGateway(t), sim: newSimulator(t, boundDomain), up: newUpstream(t)}
	w.env = append(w.env, "SHOP_SECRET="+shopSecret, "BLOG_SECRET="+blogSecret)
	all := strings.Replace(w.brokerWith(hostileBlocks, ""), "auth.example.com, http://auth.example.com {\n wechat_broker", "https://auth.example.com, http://auth.example.com, https://, http:// {\n tls internal\n wechat_broker default", 1)
	w.start(all)
	c, plain := w.client(), w.plainClient()
	start := strings.TrimPrefix(startV2("https://client.example/shop/", "s"), broker)
	for _, host := range []string{"evil.example.com", "auth.example.com.", "auth.example.com:444", "AUTH.example.com", "auth.example.com.evil.example.com", "client.example.com"} {
		resp := hostileAt(t, c, host, broker+start, nil)
		to := resp.Header.Get("Location")
		if to != broker+start && !strings.HasPrefix(to, w.sim.url+"/connect/oauth2/authorize?appid="+appID+"&redirect_uri=https%3A%2F%2Fauth.example.com%2F_wechat%2Fcallback%3F") {
			t.Errorf("%s: %d leads to %q", host, resp.StatusCode, to)
		}
		if to == broker+start && len(resp.Cookies()) > 0 {
			t.Errorf("%s: %v", host, resp.Header)
		}
	}
	h := hijackBrowser(t, w, "lina")
	callback := h.begin(broker + start)
	path := strings.TrimPrefix(callback, broker)
	cookies := []*http.Cookie{}
	for name, value := range h.jar["auth.example.com"] {
		cookies = append(cookies, &http.Cookie{Name: name, Value: value})
	}
	for _, host := range []string{"evil.example.com", "auth.example.com.", "x.auth.example.com"} {
		for _, held := range [][]*http.Cookie{nil, cookies} {
			if resp := hostileAt(t, c, host, callback, held); resp.Header.Get("Location") != callback && (resp.StatusCode < 400 || resp.Header.Get("Location") != "") {
				t.Errorf("a callback at %s: %d leads to %q", host, resp.StatusCode, resp.Header.Get("Location"))
			}
		}
	}
	for _, host := range []string{"auth.example.com", "evil.example.net"} {
		if resp := hostileAt(t, plain, host, "http://auth.example.com"+path, cookies); resp.Header.Get("Location") != callback {
			t.Errorf("a callback over plain http at %s: %d leads to %q", host, resp.StatusCode, resp.Header.Get("Location"))
		}
	}
	if n := w.sim.CountCalls(wechattest.PathToken); n != 0 {
		t.Errorf("WeChat was asked %d times", n)
	}
	if to := hostileLanding(h, callback); !strings.HasPrefix(to, "https://client.example/shop/?ticket=") {
		t.Errorf("and then it came back to %s", to)
	}
}

// TestHostilePlainHTTP: what browsers open is redirected to https, what a secret opens is neither answered nor
// spent, and what clients of old read is there.
func TestHostilePlainHTTP(t *testing.T) {
	w := &world{gateway: newGateway(t), sim: newSimulator(t, boundDomain), up: newUpstream(t)}
	w.env = append(w.env, "SHOP_SECRET="+shopSecret, "BLOG_SECRET="+blogSecret)
	w.start(strings.Replace(w.brokerWith(hostileBlocks, ""), "open_url", "verify_file MP_verify_0123456789abcdef.txt\n open_url", 1))
	c := w.plainClient()
	const at = "http://auth.example.com"
	own := "/connect/oauth2/authorize?appid=" + appID + "&redirect_uri=https%3A%2F%2Fown.example%2F"
	for _, target := range []string{
		strings.TrimPrefix(startV2("https://client.example/shop/", "s"), broker), "/view/" + appID + "?redirect_uri=https://client.example/shop/",
		strings.TrimPrefix(hostileSDK("shop", "https://client.example/shop/", ""), broker), own, strings.Replace(own, "/connect/oauth2/authorize", "/get-weixin-code.html", 1),
		"/?code=021aBcDeFgHiJkLmNoPqRsTuVwXyZ012&state=0123abcdx",
	} {
		for _, more := range [][]string{nil, {"X-Forwarded-Host", "evil.example"}, {"Cookie", "__Host-wechat_broker_login_0=x"}} {
			resp := hostileAt(t, c, "auth.example.com", at+target, nil, more...)
			if to := resp.Header.Get("Location"); resp.StatusCode != http.StatusFound || to != broker+target || len(resp.Cookies()) > 0 {
				t.Errorf("%s %v: %d leads to %q", target, more, resp.StatusCode, to)
			}
		}
		// A proxy that is not trusted says https, or http: never a loop, never a login over plain http.
		for _, proto := range []string{"https", "http", "wss"} {
			resp := hostileAt(t, c, "auth.example.com", at+target, nil, "X-Forwarded-Proto", proto)
			if to := resp.Header.Get("Location"); to != "" || resp.StatusCode != http.StatusBadRequest || len(resp.Cookies()) > 0 {
				t.Errorf("%s said to be %s: %d leads to %q", target, proto, resp.StatusCode, to)
			}
		}
	}
	tkt := hostileTicket(t, w, "https://client.example/shop/")
	for _, more := range [][]string{nil, {"X-Forwarded-Proto", "https"}} {
		h := append([]string{"Authorization", hostileBasic("shop", shopSecret)}, more...)
		if status := hostileAsk(t, c, "GET", at+"/ticket/"+tkt, h...); status != http.StatusNotFound {
			t.Errorf("a ticket and its secret: %d", status)
		}
		h[1] = hostileBasic("blog", blogSecret) // would spend it
		if status := hostileAsk(t, c, "GET", at+"/ticket/"+tkt, h...); status != http.StatusNotFound {
			t.Errorf("a ticket and another's secret: %d", status)
		}
	}
	if status := hostileStatus(t, w, tkt, "shop", shopSecret); status != http.StatusOK {
		t.Errorf("and then over https: %d", status)
	}
	code := hostileQuery(t, hostileBack(hijackBrowser(t, w, "lina"), hostileSDK("shop", "https://client.example/shop/", ""))).Get("code")
	exchange := "oauth2/access_token?appid=shop&grant_type=authorization_code&secret=" + shopSecret + "&code=" + code
	if _, body := get(t, c, at+"/sns/"+exchange, nil); hostileJSON(t, body)["errcode"] != 43003.0 {
		t.Errorf("a code over plain http: %s", body)
	}
	call, query, _ := strings.Cut(exchange, "?")
	if answer := hostileSNS(t, w, call, query); answer["openid"] == nil {
		t.Errorf("and then over https: %v", answer)
	}
	public := hostileTicket(t, w, "https://old.example/")
	if status := hostileAsk(t, c, "GET", at+"/ticket/"+public); status != http.StatusOK {
		t.Errorf("a public ticket: %d", status)
	}
	if resp, body := get(t, c, at+"/MP_verify_0123456789abcdef.txt", nil); resp.StatusCode != http.StatusOK || body != "0123456789abcdef" {
		t.Errorf("the verify file: %d %s", resp.StatusCode, body)
	}
	if resp, body := get(t, c, at+"/user/"+appID+"/oNobody", http.Header{"Authorization": {hostileBasic("tokens", blogSecret)}}); resp.StatusCode != http.StatusNotFound || body != "" {
		t.Errorf("a user: %d %s", resp.StatusCode, body)
	}
}

// hostileV1 is the address at which WeChat sends a V1 client's user back.
func hostileV1(code, state string) string {
	return broker + "/?code=" + url.QueryEscape(code) + "&state=" + url.QueryEscape(state)
}

// TestHostileTargets: V1 goes to its registered address, with what was given along encoded behind it, or nowhere.
func TestHostileTargets(t *testing.T) {
	w := hostileWorld(t)
	link := func(state string) string {
		return w.sim.url + wechattest.PathAuthorize + "?appid=" + appID + "&redirect_uri=" + url.QueryEscape(broker) + "&response_type=code&scope=snsapi_base&state=" + url.QueryEscape(state) + "#wechat_redirect"
	}
	for state, want := range map[string]string{
		"0123ABCD":                   "",
		"0123abcdx":                  "x",
		"0123AbCd&ticket=evil":       "&ticket=evil",
		"0123abcd#ticket=evil":       "#ticket=evil",
		"0123abcdfeedbeef":           "feedbeef",
		"0123abcd&openid=o&state=1;": "&openid=o&state=1;",
	} {
		h := hijackBrowser(t, w, "lina")
		code := hostileQuery(t, h.authorize(link("a"))).Get("code")
		to := hostileLanding(h, hostileV1(code, state))
		q := hostileQuery(t, to)
		if !strings.HasPrefix(to, "https://tokens.example/in?from=wechat&ticket=") || q.Get("state") != want || len(q["state"]) != 1 || len(q["ticket"]) != 1 || len(q["openid"]) != 1 || q.Get("openid") != w.sim.OpenID(appID, "lina") {
			t.Errorf("%q: %s", state, to)
		}
		if again := hostileLanding(hijackBrowser(t, w, "lina"), hostileV1(code, state)); hostileQuery(t, again).Get("ticket") == q.Get("ticket") {
			t.Errorf("%q: the same ticket twice", state)
		}
		m := hijackBrowser(t, w, "mallory") // the code with another target
		resp, body := m.get(hostileV1(code, "feedbeef"))
		hostileNothing(t, "a code with another's token", m, resp, body)
	}
	w.sim.ResetCalls()
	const code = "021aBcDeFgHiJkLmNoPqRsTuVwXyZ012"
	for _, address := range []string{
		broker + "/", broker + "/?code=" + code, hostileV1(code, ""), hostileV1(code, "0123abc"), hostileV1(code, "0123abce"), hostileV1(code, "x0123abcd"), hostileV1(code, " 0123abcd"), hostileV1(code, "%30123abcd"),
		hostileV1("", "0123abcd") + "&code=" + code, hostileV1(code, "0123abcd") + "&state=feedbeef", hostileV1(code, "0123abcd") + "&code=x", broker + "/x" + hostileV1(code, "0123abcd")[len(broker):], broker + "//" + hostileV1(code, "0123abcd")[len(broker):],
		broker + "/?code=" + code + "&state=%zz0123abcd", broker + "/?code=" + code + ";state=0123abcd",
	} {
		h := hijackBrowser(t, w, "lina")
		if resp, body := h.get(address); resp.StatusCode != http.StatusOK || resp.Header.Get("Location") != "" || !strings.Contains(body, `"URI"`) {
			t.Errorf("%s is not the site's: %d %s", address, resp.StatusCode, resp.Header.Get("Location"))
		}
	}
	for _, state := range []string{"feedbeef&ticket=evil", "feedbeef#", "feedbeef\r\nSet-Cookie: a=b", "feedbeefx;%74icket=1", "feedbeef&[ticket]=1", "0123abcd" + strings.Repeat("x", 1025)} {
		h := hijackBrowser(t, w, "lina")
		resp, body := h.get(hostileV1(code, state))
		hostileNothing(t, state, h, resp, body)
	}
	if n := w.sim.CountCalls(wechattest.PathToken); n != 0 {
		t.Errorf("WeChat was asked %d times", n)
	}
}

// TestHostileTargetFlood: a stranger brings junk to V1, where no login is needed to bring a code. WeChat is asked a few
// times, and others are let in meanwhile.
func TestHostileTargetFlood(t *testing.T) {
	w := &world{gateway: newGateway(t), sim: newSimulator(t, boundDomain), up: newUpstream(t)}
	w.env = append(w.env, "SHOP_SECRET="+shopSecret, "BLOG_SECRET="+blogSecret)
	w.start(strings.Replace(w.brokerWith(hostileBlocks, ""), "wechat {", "servers {\n trusted_proxies static 127.0.0.0/8\n}\n wechat {", 1))
	var codes []string
	for i := range 3000 {
		codes = append(codes, fmt.Sprintf("021aBcDeFgHiJkLmNoPqRsTuVw%06d", i))
	}
	var refused atomic.Int64
	c := w.client()
	from := func(address string) http.Header { return with(pageHeader(nil), "X-Forwarded-For", address) }
	hostileEach(codes, func(code string) {
		resp, _ := get(t, c, hostileV1(code, "0123abcd"), from("2001:db8::"+code[28:]))
		if resp.Header.Get("Location") != "" || resp.StatusCode != http.StatusBadRequest && resp.StatusCode != http.StatusTooManyRequests {
			t.Errorf("%d %s", resp.StatusCode, resp.Header.Get("Location"))
		}
		if resp.StatusCode == http.StatusTooManyRequests {
			refused.Add(1)
		}
	})
	if n := w.sim.CountCalls(wechattest.PathToken); n < 30 || n > 100 || refused.Load() < 2000 {
		t.Errorf("WeChat was asked %d times, and %d were refused", n, refused.Load())
	}
	link := w.sim.url + wechattest.PathAuthorize + "?appid=" + appID + "&redirect_uri=" + url.QueryEscape(broker) + "&response_type=code&scope=snsapi_base&state=0123abcd"
	arrive := func(address string) int {
		callback := hijackBrowser(t, w, "lina").authorize(link)
		resp, _ := get(t, c, callback, from(address))
		return resp.StatusCode
	}
	if status := arrive("2001:db8:1::1"); status != http.StatusFound {
		t.Errorf("somebody from elsewhere: %d", status)
	}
	if status := arrive("2001:db8::ffff"); status != http.StatusTooManyRequests {
		t.Errorf("somebody from there: %d", status)
	}
}
