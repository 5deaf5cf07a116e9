package integration

import (
	"encoding/json"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// passHeader is the one line in front of an app that logs in by itself: its link to WeChat leads to the bound
// domain instead. The ">" has it work on what the app answers.
const passHeader = `header >Location "^https://open\.weixin\.qq\.com/connect/" "https://auth.example.com/connect/"`

// easyWorld is a PHP app on EasyWeChat behind that line, beside the broker.
func easyWorld(t *testing.T) *world {
	t.Helper()
	root, err := filepath.Abs("easywechat")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{gateway: newGateway(t), sim: newSimulator(t, boundDomain), up: newUpstream(t)}
	w.env = append(w.env, "SHOP_SECRET="+shopSecret)
	w.start("{\n" + w.globals() + w.options("auth.example.com", "") + `}
auth.example.com {
	wechat_broker {
		client own {
			secret {env.SHOP_SECRET}
			return_to https://own.example/*
			pass_code
		}
	}
}
own.example {
	` + passHeader + `
	root * ` + root + `
	php_fastcgi unix/` + startPHP(t, "WECHAT_API="+w.sim.url, "WECHAT_APP_ID="+appID, "WECHAT_APP_SECRET="+appSecret) + `
}
`)
	return w
}

// easyUser is what the app says to somebody who is logged in.
type easyUser struct {
	URI       string
	User      struct{ OpenID, Nickname string }
	Callbacks int
}

func readEasy(t *testing.T, p *wechattest.Page) (u easyUser) {
	t.Helper()
	wantStatus(t, p, http.StatusOK)
	if err := json.Unmarshal(p.Body, &u); err != nil {
		t.Fatalf("%s: %v: %.300s", p.URL, err, p.Body)
	}
	return u
}

// wantAppAlone fails where the gateway asked WeChat anything: all is between the app and WeChat.
func (w *world) wantAppAlone(t *testing.T, tokens int) {
	t.Helper()
	for _, call := range w.sim.Calls() {
		if strings.HasPrefix(call.Path, "/sns/") && call.UserAgent != "GuzzleHttp/7" {
			t.Errorf("%s was asked by %q", call.Path, call.UserAgent)
		}
	}
	if n := w.sim.CountCalls(wechattest.PathToken); n != tokens {
		t.Errorf("%d codes were exchanged, want %d", n, tokens)
	}
}

func TestPassCodeEasyWeChat(t *testing.T) {
	w := easyWorld(t)
	b := w.browser(w.sim, wechattest.BrowserOptions{User: "lina"})
	p := open(t, b, "https://own.example/member/orders?x=1&y=%E5%A5%BD")
	u := readEasy(t, p)
	if u.User.OpenID != w.sim.OpenID(appID, "lina") || u.User.Nickname != "李娜🌸" || u.URI != "/member/orders?x=1&y=%E5%A5%BD" || u.Callbacks != 1 {
		t.Errorf("the app has %+v", u)
	}
	w.wantAppAlone(t, 1)

	link, back := p.Redirects[0].Location, p.Redirects[3].Location
	if !strings.HasPrefix(link, "https://auth.example.com/connect/oauth2/authorize?appid="+appID+"&redirect_uri=https%3A%2F%2Fown.example%2Foauth_callback%3Ffrom%3Dwechat&response_type=code&scope=snsapi_userinfo&state=") ||
		!strings.HasSuffix(link, "&connect_redirect=1#wechat_redirect") {
		t.Errorf("the app's link is now %s", link)
	}
	started, _ := url.Parse(link)
	if !strings.HasPrefix(back, "https://own.example/oauth_callback?from=wechat&code=") || !strings.HasSuffix(back, "&state="+started.Query().Get("state")) {
		t.Errorf("the user came back with %s", back)
	}
	t.Run("who is logged in stays so, and nobody is asked", func(t *testing.T) {
		if u := readEasy(t, open(t, b, "https://own.example/other")); u.User.OpenID == "" || u.Callbacks != 1 {
			t.Errorf("the app has %+v", u)
		}
		w.wantAppAlone(t, 1)
	})
}

// Other addresses of the app's, and what it says without one, stay as they are.
func TestPassCodeHeaderChangesNothingElse(t *testing.T) {
	w := easyWorld(t)
	b := w.browser(w.sim, wechattest.BrowserOptions{User: "lina"})
	p := open(t, b, "https://own.example/a?to=https://open.weixin.qq.com/connect/oauth2/authorize")
	if u := readEasy(t, p); u.URI != "/a?to=https://open.weixin.qq.com/connect/oauth2/authorize" {
		t.Errorf("the app has %+v", u)
	}
	if to := p.Redirects[len(p.Redirects)-1].Location; to != "/a?to=https://open.weixin.qq.com/connect/oauth2/authorize" {
		t.Errorf("the app's own address became %s", to)
	}
}

// WeChat sends users back twice. The gateway passes both on: what becomes of them is the app's.
func TestPassCodeDoubleCallbacks(t *testing.T) {
	for name, double := range map[string]wechattest.DoubleMode{"with one code": wechattest.SameCode, "with two codes": wechattest.TwoCodes} {
		t.Run(name, func(t *testing.T) {
			w := easyWorld(t)
			b := w.browser(w.sim, wechattest.BrowserOptions{User: "lina", Double: double})
			p := open(t, b, "https://own.example/")
			if u := readEasy(t, p); u.User.OpenID != w.sim.OpenID(appID, "lina") {
				t.Errorf("the app has %+v", u)
			}
			if double == wechattest.TwoCodes && (p.Twin == nil || !strings.HasPrefix(p.Twin.Location, "https://own.example/oauth_callback?from=wechat&code=")) {
				t.Errorf("the other callback: %+v", p.Twin)
			}
		})
	}
}

func TestPassCodeDeclined(t *testing.T) {
	w := easyWorld(t)
	w.sim.Update(func(k *wechattest.Knobs) { k.Consent = wechattest.DeclineLegacy })
	p := open(t, w.browser(w.sim, wechattest.BrowserOptions{User: "lina"}), "https://own.example/")
	if string(p.Body) != "you declined" || p.URL.Path != "/oauth_callback" || p.URL.Query().Has("code") {
		t.Errorf("%s: %.300s", p.URL, p.Body)
	}
	w.wantAppAlone(t, 0)
}

// A snapshot visitor's code is the app's as well: it sees is_snapshotuser itself.
func TestPassCodeSnapshot(t *testing.T) {
	w := easyWorld(t)
	p := open(t, w.browser(w.sim, wechattest.BrowserOptions{User: "lina", Snapshot: true}), "https://own.example/")
	if u := readEasy(t, p); u.User.OpenID == "" || u.User.OpenID == w.sim.OpenID(appID, "lina") {
		t.Errorf("the app has %+v", u)
	}
	w.wantAppAlone(t, 1)
}
