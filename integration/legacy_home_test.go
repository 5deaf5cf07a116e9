package integration

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// homeSeen is what the company's home page got of a request.
type homeSeen struct {
	Method, URI, Cookie, Type, Sum string
	Length                         int
	OpenID                         string
}

// legacyHome is the company's home page on the bound domain: it echoes what it got.
func legacyHome(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Home", "yes")
		http.SetCookie(w, &http.Cookie{Name: "PHPSESSID", Value: "0123456789", Path: "/"})
		_ = json.NewEncoder(w).Encode(homeSeen{
			r.Method, r.RequestURI, strings.Join(r.Header["Cookie"], " | "), r.Header.Get("Content-Type"), fmt.Sprintf("%x", sha256.Sum256(body)), len(body), r.Header.Get("X-Wechat-Openid"),
		})
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func readHome(t *testing.T, resp *http.Response, body string) (got homeSeen) {
	t.Helper()
	if resp.Header.Get("X-Home") != "yes" {
		t.Fatalf("the home page was not asked: %d %v %.300s", resp.StatusCode, resp.Header, body)
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	return got
}

const homeClients = `
	client shop {
		secret {env.SHOP_SECRET}
		return_to https://client.example/shop/*
	}
	client tokens {
		secret {env.BLOG_SECRET}
		token 0123ABCD https://tokens.example/in?from=wechat
	}`

func homeWorld(t *testing.T, auth string) *world {
	t.Helper()
	w := &world{gateway: newGateway(t), sim: newSimulator(t, boundDomain), up: newUpstream(t)}
	w.env = append(w.env, "SHOP_SECRET="+shopSecret, "BLOG_SECRET="+blogSecret)
	w.up.addr = legacyHome(t)
	w.start(w.brokerWith(homeClients, auth))
	return w
}

// homePages are the home page's own, each named like something of the broker's.
var homePages = []string{
	"/", "/?page=2", "/?code=SAVE20", "/?code=SAVE20&state=", "/?code=SAVE20&state=Bayern", "/?code=x&state=deadbeefx", "/?code=x&state=0123ab", "/?code=&state=0123abcd&state=0123abcd",
	"/?state=0123abcd", "/?ticket=00112233445566778899aabbccddeeff&state=1", "/index.php?code=x&state=0123abcdx",
	"/auth/login", "/auth/login/", "/auth/", "/auth", "/auth/login/x?redirect_uri=https://client.example/shop/", "/auth/w", "/AUTH/wx0123456789abcdef", "/auth/wx0123456789abcdef/more",
	"/view/", "/view/1", "/view/2024/06", "/view/product?id=1&params=2",
	"/user/", "/user/profile", "/user/profile/", "/user/profile/edit", "/user/1/orders", "/user/oSimA1-lina_0000000000000002/avatar", "/users/wx0123456789abcdef/x",
	"/ticket/", "/ticket/help", "/ticket/help/", "/ticket/123", "/ticket/00112233445566778899AABBCCDDEEFF", "/ticket/00112233445566778899aabbccddeeff0", "/ticket/00112233445566778899aabbccddeeff/x", "/tickets/00112233445566778899aabbccddeeff",
	"/connect", "/connect/", "/connect/oauth2", "/connect/qrconnect", "/sns", "/snsapi", "/get-weixin-code.html", "/get-weixin-code.html?appid=wx0123456789abcdef&redirect_uri=https://client.example/shop/&state=1&scope=snsapi_base",
	"/_wechat", "/_wechat.html", "/MP_verify_fedcba9876543210.txt", "/a%2Fb/%E4%BD%A0?x=%zz&&y=a+b;c=%2F&=", "/auth/%6Cogin?q=%20",
}

// TestLegacyHome: the broker stands beside the company's home page, and answers nothing that is not certainly its
// own. What the home page gets, it gets byte for byte.
func TestLegacyHome(t *testing.T) {
	const own = "lang=zh; PHPSESSID=0123456789; wechat_brokers=mine; cart=\"a b\""
	for name, auth := range map[string]string{
		"alone":                               "",
		"with a wechat_auth on the same site": "wechat_auth /member/*",
		"with a wechat_auth on a part of it":  "handle /member/* {\n wechat_auth {\n path /member/_wechat\n}\n}",
	} {
		t.Run(name, func(t *testing.T) {
			w := homeWorld(t, auth)
			c, plain := w.client(), w.plainClient()
			for _, page := range homePages {
				for address, c := range map[string]*http.Client{broker + page: c, "http://auth.example.com" + page: plain} {
					resp, body := get(t, c, address, with(pageHeader(nil), "Cookie", own))
					got := readHome(t, resp, body)
					if got.URI != page || got.Cookie != own || resp.StatusCode != 200 || len(resp.Header["Set-Cookie"]) != 1 {
						t.Errorf("%s came as %+v, with %v", address, got, resp.Header["Set-Cookie"])
					}
				}
			}
			wantUploads(t, c)
			wantHidden(t, w, own)
		})
	}
}

// wantUploads asserts that POSTs and uploads pass as they are, at the home page's own addresses.
func wantUploads(t *testing.T, c *http.Client) {
	t.Helper()
	upload := strings.Repeat("redirect_uri=x&params=\x00\xff", 100_000)
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
		for _, page := range []string{"/", "/?code=ABC&state=0123abcdx", "/auth/login", "/ticket/help", "/user/profile/photo", "/upload?redirect_uri=https://client.example/shop/"} {
			resp, body := do(t, c, method, broker+page, with(pageHeader(nil), "Content-Type", "multipart/form-data; boundary=x"), strings.NewReader(upload))
			got := readHome(t, resp, body)
			if got.URI != page || got.Method != method || got.Length != len(upload) || got.Sum != fmt.Sprintf("%x", sha256.Sum256([]byte(upload))) || got.Type != "multipart/form-data; boundary=x" {
				t.Errorf("%s %s came as %+v", method, page, got)
			}
		}
	}
}

// wantHidden asserts that the home page sees its own cookies beside a client's login, and none of the gateway's.
func wantHidden(t *testing.T, w *world, own string) {
	t.Helper()
	resp, _ := get(t, w.client(), startV2("https://client.example/shop/", "1"), pageHeader(nil))
	if len(resp.Cookies()) != 1 || !strings.HasPrefix(resp.Cookies()[0].Name, "__Host-wechat_broker_login_") {
		t.Fatalf("the start set %v", resp.Cookies())
	}
	login := resp.Cookies()[0].Name + "=" + resp.Cookies()[0].Value
	for _, line := range []string{login + "; " + own, own + "; " + login, strings.Replace(own, "; PHP", "; "+login+"; PHP", 1)} {
		for _, page := range []string{"/", "/auth/login", "/other"} {
			resp, body := get(t, w.client(), broker+page, with(pageHeader(nil), "Cookie", line))
			if got := readHome(t, resp, body); got.Cookie != own {
				t.Errorf("the home page got the cookies %q, want %q", got.Cookie, own)
			}
		}
	}
}

// TestLegacyHomeLogins: on the bound domain the site's own logins and those of clients run side by side in one
// browser, in either order, and the home page keeps its session.
func TestLegacyHomeLogins(t *testing.T) {
	w := homeWorld(t, "wechat_auth /member/*")
	b := w.browser(w.sim, wechattest.BrowserOptions{User: "lina"})
	lina := w.sim.OpenID(appID, "lina")
	home := func(page, want string) {
		t.Helper()
		p := open(t, b, broker+page)
		var got homeSeen
		if err := json.Unmarshal(p.Body, &got); err != nil || got.OpenID != want || got.URI != page {
			t.Errorf("%s: %+v %v", p.URL, got, err)
		}
	}
	client := func(state string) {
		t.Helper()
		tkt := wantTicket(t, open(t, b, startV2("https://client.example/shop/", state)), "https://client.example/shop/", state)
		if resp, user := w.redeem(t, tkt, "shop", shopSecret); resp.StatusCode != 200 || user["openid"] != lina {
			t.Errorf("the client redeemed %d %v", resp.StatusCode, user)
		}
	}
	home("/?code=SAVE20&state=x", "")
	client("1")
	home("/user/profile", "") // a client's login signs nobody in here
	home("/member/x?code=1&state=2", lina)
	client("2")
	home("/member/y", lina)
	p := open(t, b, w.authorizeV1("0123abcdV1", "snsapi_base"))
	if q := landed(t, p, "https://tokens.example/in"); q.Get("state") != "V1" {
		t.Errorf("came with %s", p.URL)
	}
	home("/?code=x&state=deadbeef", lina)
	var kept []string
	for _, c := range b.Cookies(broker) {
		kept = append(kept, c.Name)
	}
	if !strings.Contains(strings.Join(kept, " "), "PHPSESSID") {
		t.Errorf("the browser keeps %v", kept)
	}
}
