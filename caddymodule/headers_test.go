package caddymodule

import (
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/ticket"
)

func TestScrubRemovesEverySpellingOfOurNames(t *testing.T) {
	h := newIdentityHeaders("X-Auth-", "X-Session-Token")
	ours := []string{"X-Wechat-Openid", "x_wechat_openid", "X.Wechat.Openid", "x-WECHAT.openID", "X-Wechat-Foo", "X-Wechat", "XWechat", "X--Wechat~Openid", "X!Wechat+x", "X-Auth-Openid", "x_auth.any", "X-Session-Token", "x_session.token"}
	others := []string{"X-Forwarded-For", "X-Wecha", "Wechat-Openid", "X-We-Chap", "Y-Wechat-Openid", "X-Session-Token-Id", "Authorization", "Xw"}
	r := httptest.NewRequest("GET", "/", nil)
	for _, name := range slices.Concat(ours, others) {
		r.Header[name] = []string{"forged"}
	}
	r.Trailer = http.Header{"X-Wechat-Openid": nil}
	h.scrub(r)
	for _, name := range ours {
		if _, ok := r.Header[name]; ok {
			t.Errorf("%s stayed", name)
		}
	}
	for _, name := range others {
		if _, ok := r.Header[name]; !ok {
			t.Errorf("%s went", name)
		}
	}
	if r.Trailer != nil {
		t.Errorf("trailers stayed: %v", r.Trailer)
	}
}

// Random spellings: letters' case, and any bytes of a header name that are neither letter nor digit between.
func TestScrubHoldsForRandomSpellings(t *testing.T) {
	const fill = "-_.~!+#$%&'*^`|"
	h := newIdentityHeaders(defaultPrefix, "")
	for range 5000 {
		var name strings.Builder
		for _, c := range "xwechatopenid" {
			for rand.IntN(3) == 0 {
				name.WriteByte(fill[rand.IntN(len(fill))])
			}
			if rand.IntN(2) == 0 {
				name.WriteString(strings.ToUpper(string(c)))
			} else {
				name.WriteRune(c)
			}
		}
		if !h.claims(name.String()) {
			t.Fatalf("%q is not taken for ours", name.String())
		}
	}
}

// A client that names our headers in Connection would have the proxy drop the ones we set.
func TestScrubTakesOurNamesOutOfConnection(t *testing.T) {
	cases := []struct{ in, want []string }{
		{[]string{"close, X-Wechat-Openid"}, []string{"close"}},
		{[]string{"X-Wechat-Openid"}, nil},
		{[]string{"keep-alive", "x_wechat.openid, Upgrade"}, []string{"keep-alive", " Upgrade"}},
		{[]string{"Upgrade,X-WECHAT-SCOPE,X-Other"}, []string{"Upgrade,X-Other"}},
		{[]string{"Upgrade"}, []string{"Upgrade"}},
	}
	h := newIdentityHeaders(defaultPrefix, "")
	for _, c := range cases {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header["Connection"] = c.in
		h.scrub(r)
		if got := r.Header["Connection"]; !slices.Equal(got, c.want) {
			t.Errorf("%q became %q, want %q", c.in, got, c.want)
		}
	}
}

// Behind any other upgrade a client speaks HTTP with the upstream itself, under whatever name it likes.
func TestScrubLeavesNoUpgradeButAWebSocket(t *testing.T) {
	cases := []struct {
		in   []string
		want []string
	}{
		{[]string{"websocket"}, []string{"websocket"}},
		{[]string{"WebSocket"}, []string{"WebSocket"}},
		{[]string{"h2c"}, nil},
		{[]string{"websocket, h2c"}, nil},
		{[]string{"websocket", "h2c"}, nil},
		{[]string{"TLS/1.2"}, nil},
		{[]string{""}, nil},
		{nil, nil},
	}
	h := newIdentityHeaders(defaultPrefix, "")
	for _, c := range cases {
		r := httptest.NewRequest("GET", "/", nil)
		if c.in != nil {
			r.Header["Upgrade"] = c.in
		}
		h.scrub(r)
		if got := r.Header["Upgrade"]; !slices.Equal(got, c.want) {
			t.Errorf("%q became %q, want %q", c.in, got, c.want)
		}
	}
}

func TestSetGivesEachRequestSlicesOfItsOwn(t *testing.T) {
	h := newIdentityHeaders(defaultPrefix, "X-Jwt")
	s := newLiveSession("token", "https://a.test", ticket.Session{Identity: ticket.Identity{OpenID: "o1", AppID: "wx1", Scope: ticket.ScopeUserInfo, Nickname: "张 三+%"}})
	one, two := http.Header{}, http.Header{}
	h.set(one, s)
	h.set(two, s)
	one["X-Wechat-Openid"][0] = "changed"
	one["X-Wechat-Openid"] = append(one["X-Wechat-Openid"], "more")
	want := map[string]string{"X-Wechat-Openid": "o1", "X-Wechat-Appid": "wx1", "X-Wechat-Scope": "snsapi_userinfo", "X-Wechat-Nickname": "%E5%BC%A0%20%E4%B8%89%2B%25", "X-Jwt": "token"}
	if len(two) != len(want) {
		t.Errorf("got %v", two)
	}
	for name, value := range want {
		if got := two[name]; len(got) != 1 || got[0] != value {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
	if one["X-Wechat-Appid"][0] != "wx1" {
		t.Error("appending to one header wrote into the next")
	}
}
