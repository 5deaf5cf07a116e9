package integration

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// leakForms is which kind of answer a request must get: what is judged is judged by the canary, this says
// that it was recognised for what it is.
var leakForms = map[canaryForm]string{canaryForeign: "none of ours", canaryPage: "a page", canaryJSON: "JSON", canaryRedirect: "a redirect"}

// TestEveryAnswerOfOursIsJudged walks through every kind of answer that the gateway gives by itself. The
// suite's other answers are judged as well, each as it passes; here none is missing.
func TestEveryAnswerOfOursIsJudged(t *testing.T) {
	w := newLeakWorld(t)
	c := w.client()
	token := signIn(t, w, c, "https://auth.example.com/member/")
	mine := pageHeader(holding(token))
	early := with(mine, "Early-Data", "1")
	inside, outside := with(navigation, "User-Agent", wechattest.UserAgentAndroid), with(navigation, "User-Agent", wechattest.UserAgentOutside)
	form := with(formPost, "User-Agent", wechattest.UserAgentAndroid)
	callback, cookies := begin(t, w, c, shopPage)
	failing, failed := begin(t, w, c, authPage)
	declined, decliner := begin(t, w, c, authPage)
	expired, expirer := begin(t, w, c, shopPage)
	back := siteCallback(t, c, callback)
	late, _ := get(t, c, withQuery(t, expired, "code", strings.Repeat("x", 32)), inside)
	const auth, shop = "https://auth.example.com", "https://shop.example.org"
	const page, text, redirect = canaryPage, canaryJSON, canaryRedirect
	cases := []struct {
		name   string
		method string
		url    string
		header http.Header
		status int
		form   canaryForm
	}{
		{"a login begins", "GET", auth + "/member/", inside, 302, redirect},
		{"a login begins, asked by HEAD", "HEAD", auth + "/member/", inside, 302, redirect},
		{"a login begins at its endpoint", "GET", auth + "/_wechat/login?return=/x", inside, 302, redirect},
		{"a page to press before a profile is asked for", "GET", "https://profile.example.org/x", inside, 200, page},
		{"that page by HEAD", "HEAD", "https://profile.example.org/x", inside, 200, page},
		{"that page, if it has changed", "GET", "https://profile.example.org/x", with(inside, "If-None-Match", "*", "If-Modified-Since", "Fri, 31 Dec 2060 23:59:59 GMT"), 200, page},
		{"that page, a part of it", "GET", "https://profile.example.org/x", with(inside, "Range", "bytes=0-9"), 200, page},
		{"open this in WeChat", "GET", shop + "/member/", outside, 403, page},
		{"open this in WeChat, by HEAD", "HEAD", shop + "/member/", outside, 403, page},
		{"open the login in WeChat", "GET", shop + "/_wechat/login", outside, 403, page},
		{"a form without a login", "POST", auth + "/x", form, 401, page},
		{"a form outside", "POST", auth + "/x", with(form, "User-Agent", wechattest.UserAgentOutside), 403, page},
		{"a script without a login", "GET", auth + "/x", with(script, "User-Agent", wechattest.UserAgentAndroid), 401, text},
		{"a script outside", "GET", auth + "/x", script, 403, text},
		{"a script without a login, in Chinese", "GET", auth + "/x", with(script, "User-Agent", wechattest.UserAgentAndroid, "Accept-Language", "zh"), 401, text},
		{"a login at a foreign host", "GET", "https://stray.example.net/member/", inside, 400, page},
		{"userinfo of nobody", "GET", auth + "/_wechat/userinfo", script, 401, text},
		{"userinfo", "GET", auth + "/_wechat/userinfo", mine, 200, text},
		{"userinfo, if it has changed", "GET", auth + "/_wechat/userinfo", with(mine, "If-None-Match", "*"), 200, text},
		{"userinfo by another method", "PUT", auth + "/_wechat/userinfo", mine, 405, text},
		{"an unknown endpoint", "GET", auth + "/_wechat/none", mine, 404, text},
		{"a login that is there already", "GET", auth + "/_wechat/login?return=/x", mine, 303, redirect},
		{"a button before a logout", "GET", auth + "/_wechat/logout", mine, 200, page},
		{"another site's logout", "POST", auth + "/_wechat/logout", with(mine, "Origin", "https://evil.example"), 403, text},
		{"signed out", "GET", auth + "/_wechat/bye", inside, 200, page},
		{"signed out, by HEAD", "HEAD", auth + "/_wechat/bye", inside, 200, page},
		{"a callback by HEAD", "HEAD", auth + "/_wechat/callback", inside, 405, canaryForeign},
		{"a callback by POST", "POST", auth + "/_wechat/callback", inside, 405, text},
		{"a callback without anything", "GET", auth + "/_wechat/callback", inside, 400, page},
		{"a broker's, too", "GET", "https://bound.example.net/_wechat/callback", inside, 400, page},
		{"a broker's by POST", "POST", "https://bound.example.net/_wechat/callback", inside, 405, text},
		{"a callback to a script", "GET", auth + "/_wechat/callback", script, 400, text},
		{"a callback as early data", "GET", auth + "/_wechat/callback", early, 425, page},
		{"a broker's as early data", "GET", callback, with(inside, "Early-Data", "1"), 425, page},
		{"a callback of another login", "GET", withQuery(t, callback, "state", strings.Repeat("0", 32)), inside, 302, redirect},
		{"a broker sends a ticket on", "GET", callback, inside, 302, redirect},
		{"the callback of a stranger begins anew", "GET", back, inside, 302, redirect},
		{"a callback at a foreign host", "GET", "https://stray.example.net/_wechat/callback", inside, 400, page},
		{"a login ends", "GET", back, pageHeader(cookies), 303, redirect},
		{"a login ends at WeChat's refusal", "GET", failing, pageHeader(failed), 502, page},
		{"a login was declined", "GET", withQuery(t, declined, "code", ""), pageHeader(decliner), 200, page},
		{"a login came too late", "GET", late.Header.Get("Location"), pageHeader(expirer), 400, page},
		{"a logout", "POST", auth + "/_wechat/logout", with(mine, "Origin", auth), 303, redirect},
		{"a logout of nobody", "GET", auth + "/_wechat/logout", with(inside, "Sec-Fetch-Site", "same-origin"), 303, redirect},
	}
	for _, x := range cases {
		t.Run(x.name, func(t *testing.T) {
			if x.status == http.StatusBadGateway {
				w.sim.Update(func(k *wechattest.Knobs) { k.Faults[wechattest.PathToken] = wechattest.Fault{Errcodes: []int{40125}} })
			}
			resp, body := do(t, c, x.method, x.url, x.header, nil)
			faults, _ := canaryJudge(resp, []byte(body))
			if form := canaryFormOf(resp, []byte(body)); resp.StatusCode != x.status || form != x.form || len(faults) > 0 {
				t.Errorf("status %d, %s, want %d, %s: %q\n%q\n%.500s", resp.StatusCode, leakForms[form], x.status, leakForms[x.form], faults, resp.Header, body)
			}
			if resp.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("Cache-Control %q", resp.Header["Cache-Control"])
			}
			if strings.Contains(x.url, "/callback") && resp.Header.Get("Referrer-Policy") != "no-referrer" {
				t.Errorf("Referrer-Policy %q: the address has what a login is made of", resp.Header["Referrer-Policy"])
			}
		})
	}
}

// Files for machines: no browser runs them, no cache outlives a change of them.
func TestLeakFilesForMachines(t *testing.T) {
	w := newLeakWorld(t)
	c := w.client()
	for path, kind := range map[string]string{"/MP_verify_0123456789abcdef.txt": "text/plain; charset=utf-8", "/_wechat/jwks.json": "application/jwk-set+json"} {
		for _, method := range []string{"GET", "HEAD"} {
			for _, header := range []http.Header{nil, {"Range": {"bytes=0-3"}}, {"If-None-Match": {"*"}}} {
				resp, body := do(t, c, method, "https://auth.example.com"+path, header, nil)
				h := resp.Header
				if resp.StatusCode != 200 || h.Get("Content-Type") != kind || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") != "no-store" || h["Set-Cookie"] != nil || (body == "") != (method == "HEAD") {
					t.Errorf("%s %s: %d %q", method, path, resp.StatusCode, h)
				}
			}
		}
	}
}
