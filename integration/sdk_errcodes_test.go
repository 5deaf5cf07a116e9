package integration

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// snsSide is one of the two that answer WeChat's calls: WeChat itself with the real app id, or the gateway with
// a client's id. Codes and tokens are each one's own.
type snsSide struct {
	at, appid, secret string

	fresh, used, other string // codes: of nobody yet, redeemed, another's
	access, refresh    string // with snsapi_userinfo
	base               string // an access token with snsapi_base
	openid             string
}

// weChatSide has another account beside the gateway's, whose codes are the others'.
func (w *world) weChatSide(t *testing.T) *snsSide {
	t.Helper()
	const otherID = "wxfedcba9876543210"
	w.sim.Update(func(k *wechattest.Knobs) { k.User = "lina" })
	w.sim.AddAccount(wechattest.Account{AppID: otherID, Secret: appSecret, Domains: []string{"auth.example.com"}})
	code := func(appid, scope string) string {
		c := w.client()
		link := strings.Replace(authorizeLink(appid, broker+"/direct", scope, "1"), broker, w.sim.url, 1)
		resp, _ := get(t, c, link, pageHeader(nil))
		to, err := resp.Location()
		if err != nil {
			t.Fatal(err)
		}
		return to.Query().Get("code")
	}
	return w.fillSide(t, &snsSide{at: w.sim.url, appid: appID, secret: appSecret}, code, otherID)
}

func (w *world) gatewaySide(t *testing.T) *snsSide {
	t.Helper()
	code := func(id, scope string) string {
		home := map[string]string{"shop": sdkHome, "blog": "https://blog.example/back"}[id]
		return w.sdkCode(t, wechattest.BrowserOptions{User: "lina"}, authorizeLink(id, home, scope, "1"), home)
	}
	return w.fillSide(t, &snsSide{at: broker, appid: "shop", secret: shopSecret}, code, "blog")
}

// fillSide logs the same user in as often as there are codes and tokens to be had.
func (w *world) fillSide(t *testing.T, s *snsSide, code func(id, scope string) string, other string) *snsSide {
	t.Helper()
	s.fresh, s.other, s.used = code(s.appid, "snsapi_userinfo"), code(other, "snsapi_base"), code(s.appid, "snsapi_userinfo")
	_, body, a := w.sns(t, http.MethodGet, snsToken(s.at, s.appid, s.secret, s.used))
	if a.AccessToken == "" {
		t.Fatalf("no token: %s", body)
	}
	_, _, base := w.sns(t, http.MethodGet, snsToken(s.at, s.appid, s.secret, code(s.appid, "snsapi_base")))
	s.access, s.refresh, s.base, s.openid = a.AccessToken, a.RefreshToken, base.AccessToken, a.OpenID
	return s
}

// token, renew and user are the side's calls; a change replaces text in them.
func (s *snsSide) token(code string) string { return snsToken(s.at, s.appid, s.secret, code) }
func (s *snsSide) renew() string            { return snsRefresh(s.at, s.appid, s.refresh) }
func (s *snsSide) user(token string) string { return snsUser(s.at, token, s.openid) }
func (s *snsSide) check() string            { return snsCheck(s.at, s.access, s.openid) }

func without(call, name string) string {
	return regexp.MustCompile(name+`=[^&]*&?`).ReplaceAllString(call, "")
}

func changed(call, name, to string) string {
	return regexp.MustCompile(`([?&]`+name+`)=[^&]*`).ReplaceAllString(call, "${1}="+to)
}

// snsTable is every answer of WeChat's calls that a backend can bring about, in an order in which the fresh
// code is redeemed last.
var snsTable = []struct {
	name, method string
	errcode      int
	call         func(s *snsSide) string
}{
	{"a token without appid", "GET", 41002, func(s *snsSide) string { return without(s.token(s.fresh), "appid") }},
	{"a token without secret", "GET", 41004, func(s *snsSide) string { return without(s.token(s.fresh), "secret") }},
	{"a token without code", "GET", 41008, func(s *snsSide) string { return without(s.token(s.fresh), "code") }},
	{"a token without grant_type", "GET", 40002, func(s *snsSide) string { return without(s.token(s.fresh), "grant_type") }},
	{"a token without anything", "GET", 41002, func(s *snsSide) string { return s.at + "/sns/oauth2/access_token" }},
	{"a token with an empty code", "GET", 41008, func(s *snsSide) string { return s.token("") }},
	{"a token with another grant_type", "GET", 40002, func(s *snsSide) string { return changed(s.token(s.fresh), "grant_type", "refresh_token") }},
	{"a token with another appid", "GET", 40013, func(s *snsSide) string { return changed(s.token(s.fresh), "appid", "wxffffffffffffffff") }},
	{"a wrong appid and no code", "GET", 41008, func(s *snsSide) string { return changed(s.token(""), "appid", "wxffffffffffffffff") }},
	{"a wrong appid and a wrong grant_type", "GET", 40002, func(s *snsSide) string {
		return changed(changed(s.token(s.fresh), "appid", "wxffffffffffffffff"), "grant_type", "x")
	}},
	{"a token with another secret", "GET", 40125, func(s *snsSide) string { return changed(s.token(s.fresh), "secret", "0000000000000000") }},
	{"a wrong secret and an unknown code", "GET", 40125, func(s *snsSide) string { return changed(s.token("x"), "secret", "0000000000000000") }},
	{"a token by POST", "POST", 43001, func(s *snsSide) string { return s.token(s.fresh) }},
	{"a token by HEAD", "HEAD", 43001, func(s *snsSide) string { return s.token(s.fresh) }},
	{"a code that was used", "GET", 40163, func(s *snsSide) string { return s.token(s.used) }},
	{"a code that never was", "GET", 40029, func(s *snsSide) string { return s.token("0123456789abcdef0123456789abcdef") }},
	{"a code that is none", "GET", 40029, func(s *snsSide) string { return s.token("%E7%A0%81%00'%22") }},
	{"a token as a code", "GET", 40029, func(s *snsSide) string { return s.token(s.access) }},
	{"another's code", "GET", 40029, func(s *snsSide) string { return s.token(s.other) }},
	{"another's code again", "GET", 40029, func(s *snsSide) string { return s.token(s.other) }},
	{"a code", "GET", 0, func(s *snsSide) string { return s.token(s.fresh) }},

	{"a refresh without appid", "GET", 41002, func(s *snsSide) string { return without(s.renew(), "appid") }},
	{"a refresh without token", "GET", 41003, func(s *snsSide) string { return without(s.renew(), "refresh_token") }},
	{"a refresh without grant_type", "GET", 40002, func(s *snsSide) string { return without(s.renew(), "grant_type") }},
	{"a refresh with another appid", "GET", 40013, func(s *snsSide) string { return changed(s.renew(), "appid", "wxffffffffffffffff") }},
	{"a wrong appid and no refresh token", "GET", 41003, func(s *snsSide) string {
		return changed(without(s.renew(), "refresh_token"), "appid", "wxffffffffffffffff")
	}},
	{"a refresh with an unknown token", "GET", 40030, func(s *snsSide) string { return changed(s.renew(), "refresh_token", "x") }},
	{"a refresh with an access token", "GET", 40030, func(s *snsSide) string { return changed(s.renew(), "refresh_token", s.access) }},
	{"a refresh by POST", "POST", 43001, func(s *snsSide) string { return s.renew() }},
	{"a refresh", "GET", 0, func(s *snsSide) string { return s.renew() }},

	{"a profile without token", "GET", 41001, func(s *snsSide) string { return without(s.user(s.access), "access_token") }},
	{"a profile without openid", "GET", 41009, func(s *snsSide) string { return without(s.user(s.access), "openid") }},
	{"a profile with an unknown token", "GET", 40001, func(s *snsSide) string { return s.user("x") }},
	{"a profile with a refresh token", "GET", 40001, func(s *snsSide) string { return s.user(s.refresh) }},
	{"a profile of another openid", "GET", 40003, func(s *snsSide) string { return changed(s.user(s.access), "openid", "oSomebodyElse") }},
	{"a profile with a token of base scope", "GET", 48001, func(s *snsSide) string { return s.user(s.base) }},
	{"a profile by POST", "POST", 43001, func(s *snsSide) string { return s.user(s.access) }},
	{"a profile", "GET", 0, func(s *snsSide) string { return s.user(s.access) }},
	{"a profile without lang", "GET", 0, func(s *snsSide) string { return without(s.user(s.access), "lang") }},

	{"a check without token", "GET", 41001, func(s *snsSide) string { return without(s.check(), "access_token") }},
	{"a check without openid", "GET", 41009, func(s *snsSide) string { return without(s.check(), "openid") }},
	{"a check of an unknown token", "GET", 40001, func(s *snsSide) string { return changed(s.check(), "access_token", "x") }},
	{"a check of another openid", "GET", 40003, func(s *snsSide) string { return changed(s.check(), "openid", "oSomebodyElse") }},
	{"a check", "GET", 0, func(s *snsSide) string { return s.check() }},
}

var (
	snsNames = regexp.MustCompile(`"(\w+)":`)
	snsRID   = regexp.MustCompile(`, (?:rid: [0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{8}|hints: \[ req_id: [\w-]+ \])$`)
)

// snsShape is what of an answer must be the same on both sides: status, type, the names in their order, the
// errcode and WeChat's words less the request's id.
func snsShape(t *testing.T, resp *http.Response, body string, a snsAnswer) string {
	t.Helper()
	words := a.Errmsg
	if words != "" && words != "ok" {
		words = snsRID.ReplaceAllString(words, "")
		if words == a.Errmsg {
			t.Errorf("no request id of WeChat's: %s", body)
		}
	}
	var names []string
	for _, m := range snsNames.FindAllStringSubmatch(body, -1) {
		names = append(names, m[1])
	}
	return strings.Join(append([]string{resp.Status, resp.Header.Get("Content-Type"), words}, names...), " | ")
}

// The gateway answers every call of WeChat's as WeChat does.
func TestSDKErrcodes(t *testing.T) {
	w := clientWorld(t, clientBlocks, "")
	weixin, gateway := w.weChatSide(t), w.gatewaySide(t)
	for _, c := range snsTable {
		t.Run(c.name, func(t *testing.T) {
			resp, body, want := w.sns(t, c.method, c.call(weixin))
			wantShape := snsShape(t, resp, body, want)
			if c.method != http.MethodHead && want.code() != c.errcode {
				t.Fatalf("WeChat says %s", body)
			}
			resp, body, got := w.sns(t, c.method, c.call(gateway))
			if shape := snsShape(t, resp, body, got); shape != wantShape || got.code() != want.code() || (got.Errcode == nil) != (want.Errcode == nil) {
				t.Errorf("the gateway's answer is\n %s, WeChat's\n %s", shape, wantShape)
			}
			if got.OpenID != want.OpenID || got.Nickname != want.Nickname || got.HeadImgURL != want.HeadImgURL || got.UnionID != want.UnionID || got.Scope != want.Scope || got.ExpiresIn != want.ExpiresIn {
				t.Errorf("the gateway says %+v, WeChat %+v", got, want)
			}
			if strings.HasSuffix(body, "\n") || resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%q with %v", body, resp.Header)
			}
			if len(got.AccessToken) > 512 {
				t.Errorf("an access token of %d characters", len(got.AccessToken))
			}
		})
	}
	w.wantSNS(t, "a code that another client tried", snsToken(broker, "blog", blogSecret, gateway.other), 40163)
}
