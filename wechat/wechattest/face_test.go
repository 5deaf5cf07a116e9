package wechattest

import (
	"net/http"
	"strings"
	"testing"
)

func TestPhone(t *testing.T) {
	s := newServer()
	s.Update(func(k *Knobs) { k.Consent, k.AvatarBase = AskPage, "https://sim.test" })
	t.Run("is handed to somebody, whose silent logins follow", func(t *testing.T) {
		res := get(s, "sim.test", "/?person=lina")
		codeFrom(t, get(s, "sim.test", goodLink, func(r *http.Request) { r.AddCookie(res.Cookies()[0]) }))
		if calls := s.Calls(); calls[len(calls)-1].User != "lina" {
			t.Errorf("the code is %q's", calls[len(calls)-1].User)
		}
	})
	t.Run("is held by nobody unknown", func(t *testing.T) {
		if res := get(s, "sim.test", "/?person=nobody"); len(res.Cookies()) != 0 {
			t.Error("a cookie was set")
		}
	})
	t.Run("has pictures of people", func(t *testing.T) {
		res := get(s, "sim.test", "/wechattest/avatar.svg?id=zhangwei")
		if body := bodyOf(t, res); res.Header.Get("Content-Type") != "image/svg+xml" || !strings.Contains(body, "张</text>") {
			t.Errorf("got %s", body)
		}
		if get(s, "sim.test", "/wechattest/avatar.svg?id=nobody").StatusCode != http.StatusNotFound {
			t.Error("a picture of nobody")
		}
	})
	t.Run("shows them in the profile", func(t *testing.T) {
		s.Update(func(k *Knobs) { k.Consent = Silent })
		token := ask(t, s, PathToken, exchangeOf(newCode(t, s, "snsapi_userinfo"))...)
		info := ask(t, s, PathUserInfo, "access_token", token["access_token"].(string), "openid", token["openid"].(string))
		if info["headimgurl"] != "https://sim.test/wechattest/avatar.svg?id=zhangwei" {
			t.Errorf("got %v", info["headimgurl"])
		}
	})
}

func TestPeopleHaveIDsOfWeChatsForm(t *testing.T) {
	for _, u := range New().Users() {
		if len(u.OpenID) != 28 || len(u.UnionID) != 28 || u.OpenID[0] != 'o' {
			t.Errorf("%+v", u)
		}
	}
}
