package wechattest

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

func ask(t *testing.T, s *Server, path string, pairs ...string) map[string]any {
	t.Helper()
	q := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		q.Set(pairs[i], pairs[i+1])
	}
	res := get(s, "api.weixin.qq.com", path+"?"+q.Encode())
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/plain" {
		t.Errorf("%s: %d %q, want 200 text/plain", path, res.StatusCode, res.Header.Get("Content-Type"))
	}
	var body map[string]any
	if err := json.Unmarshal([]byte(bodyOf(t, res)), &body); err != nil {
		t.Fatal(err)
	}
	return body
}

func errcode(body map[string]any) int {
	code, _ := body["errcode"].(float64)
	return int(code)
}

func exchangeOf(code string) []string {
	return []string{"appid", testApp, "secret", testSecret, "code", code, "grant_type", "authorization_code"}
}

func newCode(t *testing.T, s *Server, scope string) string {
	t.Helper()
	return codeFrom(t, get(s, "open.weixin.qq.com", strings.Replace(goodLink, "snsapi_base", scope, 1)))
}

func TestExchangeRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		key, value string
		want       int
	}{
		"no app id":            {"appid", "", 41002},
		"no secret":            {"secret", "", 41004},
		"no code":              {"code", "", 41008},
		"another grant":        {"grant_type", "client_credential", 40002},
		"an unknown app id":    {"appid", "wxunknown", 40013},
		"a wrong secret":       {"secret", strings.Repeat("0", 32), 40125},
		"a code never issued":  {"code", strings.Repeat("a", 32), 40029},
		"another account's":    {"appid", "wxalone", 40029},
		"the code and a space": {"code", " ", 40029},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer()
			args := exchangeOf(newCode(t, s, "snsapi_base"))
			for i := 0; i < len(args); i += 2 {
				if args[i] == c.key {
					args[i+1] = c.value
				}
			}
			body := ask(t, s, PathToken, args...)
			if errcode(body) != c.want {
				t.Errorf("got %v, want %d", body, c.want)
			}
			form := `, rid: [0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{8}$|, hints: \[ req_id: [\w-]+ \]$`
			if !regexp.MustCompile(form).MatchString(body["errmsg"].(string)) {
				t.Errorf("errmsg %q has no request id", body["errmsg"])
			}
		})
	}
}

func TestCodeIsGoodOnceAndForFiveMinutes(t *testing.T) {
	s := newServer()
	now := time.Unix(1_700_000_000, 0)
	s.Update(func(k *Knobs) { k.Now = func() time.Time { return now } })
	code := newCode(t, s, "snsapi_base")
	old := newCode(t, s, "snsapi_base")
	now = now.Add(5*time.Minute - time.Nanosecond)
	if body := ask(t, s, PathToken, exchangeOf(code)...); body["openid"] != defaultUsers[0].OpenID {
		t.Errorf("got %v", body)
	}
	if body := ask(t, s, PathToken, exchangeOf(code)...); errcode(body) != 40163 {
		t.Errorf("a second time: %v", body)
	}
	now = now.Add(time.Nanosecond)
	if body := ask(t, s, PathToken, exchangeOf(old)...); errcode(body) != 42003 {
		t.Errorf("after five minutes: %v", body)
	}
	s.Update(func(k *Knobs) { k.ExpiredCode = 40029 })
	if body := ask(t, s, PathToken, exchangeOf(old)...); errcode(body) != 40029 {
		t.Errorf("with the other errcode: %v", body)
	}
}

func TestCodeIsSpentOnceUnderLoad(t *testing.T) {
	s := newServer()
	args := exchangeOf(newCode(t, s, "snsapi_base"))
	var wg sync.WaitGroup
	var mu sync.Mutex
	good := 0
	for range 20 {
		wg.Go(func() {
			body := ask(t, s, PathToken, args...)
			mu.Lock()
			defer mu.Unlock()
			if errcode(body) == 0 {
				good++
			}
		})
	}
	wg.Wait()
	if good != 1 || s.CountCalls(PathToken) != 20 {
		t.Errorf("%d of %d calls got a token", good, s.CountCalls(PathToken))
	}
}

func TestTokenFields(t *testing.T) {
	s := newServer()
	base := ask(t, s, PathToken, exchangeOf(newCode(t, s, "snsapi_base"))...)
	full := ask(t, s, PathToken, exchangeOf(newCode(t, s, "snsapi_userinfo"))...)
	t.Run("unionid comes with snsapi_userinfo alone", func(t *testing.T) {
		if base["unionid"] != nil || full["unionid"] == nil {
			t.Errorf("base %v, userinfo %v", base["unionid"], full["unionid"])
		}
	})
	t.Run("an account without open platform has no unionid", func(t *testing.T) {
		link := strings.Replace(strings.Replace(goodLink, testApp, "wxalone", 1), "snsapi_base", "snsapi_userinfo", 1)
		body := ask(t, s, PathToken, "appid", "wxalone", "secret", testSecret, "grant_type", "authorization_code",
			"code", codeFrom(t, get(s, "open.weixin.qq.com", link)))
		if body["unionid"] != nil || body["openid"] != s.OpenID("wxalone", "zhangwei") || body["openid"] == base["openid"] {
			t.Errorf("got %v", body)
		}
	})
	t.Run("is_snapshotuser is there for snapshots alone, whose ids are virtual", func(t *testing.T) {
		if _, ok := full["is_snapshotuser"]; ok {
			t.Error("it is there")
		}
		s.Update(func(k *Knobs) { k.Snapshot = true })
		virtual := ask(t, s, PathToken, exchangeOf(newCode(t, s, "snsapi_userinfo"))...)
		if virtual["is_snapshotuser"] != 1.0 || virtual["openid"] == full["openid"] || virtual["unionid"] == full["unionid"] {
			t.Errorf("got %v", virtual)
		}
		s.Update(func(k *Knobs) { k.SnapshotUserInfo = 48001 })
		if got := errcode(ask(t, s, PathUserInfo, "access_token", virtual["access_token"].(string), "openid", virtual["openid"].(string))); got != 48001 {
			t.Errorf("userinfo: %d", got)
		}
	})
}

func TestUserInfoAndAuth(t *testing.T) {
	s := newServer()
	now := time.Unix(1_700_000_000, 0)
	s.Update(func(k *Knobs) { k.Now = func() time.Time { return now } })
	base := ask(t, s, PathToken, exchangeOf(newCode(t, s, "snsapi_base"))...)
	full := ask(t, s, PathToken, exchangeOf(newCode(t, s, "snsapi_userinfo"))...)
	openID, access := full["openid"].(string), full["access_token"].(string)
	if got := ask(t, s, PathUserInfo, "access_token", access, "openid", openID, "lang", "en"); got["nickname"] != "张伟" || got["unionid"] != full["unionid"] {
		t.Errorf("profile: %v", got)
	}
	for name, c := range map[string]struct {
		path, access, openID string
		want                 int
	}{
		"no token":               {PathUserInfo, "", openID, 41001},
		"no openid":              {PathUserInfo, access, "", 41009},
		"an unknown token":       {PathUserInfo, "AT_x", openID, 40001},
		"another's openid":       {PathUserInfo, access, "oOther", 40003},
		"a token of snsapi_base": {PathUserInfo, base["access_token"].(string), openID, 48001},
		"auth, a good token":     {PathAuth, access, openID, 0},
		"auth, another's openid": {PathAuth, access, "oOther", 40003},
	} {
		t.Run(name, func(t *testing.T) {
			if got := errcode(ask(t, s, c.path, "access_token", c.access, "openid", c.openID)); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
	now = now.Add(2 * time.Hour)
	if got := errcode(ask(t, s, PathAuth, "access_token", access, "openid", openID)); got != 42001 {
		t.Errorf("after two hours: %d", got)
	}
}

func TestRefresh(t *testing.T) {
	s := newServer()
	now := time.Unix(1_700_000_000, 0)
	s.Update(func(k *Knobs) { k.Now = func() time.Time { return now } })
	first := ask(t, s, PathToken, exchangeOf(newCode(t, s, "snsapi_userinfo"))...)
	args := []string{"appid", testApp, "grant_type", "refresh_token", "refresh_token", first["refresh_token"].(string)}
	now = now.Add(time.Hour)
	if got := ask(t, s, PathRefresh, args...); got["access_token"] != first["access_token"] {
		t.Error("a living token was replaced")
	}
	now = now.Add(90 * time.Minute)
	if got := errcode(ask(t, s, PathAuth, "access_token", first["access_token"].(string), "openid", first["openid"].(string))); got != 0 {
		t.Errorf("it was not prolonged: %d", got)
	}
	now = now.Add(time.Hour)
	if got := ask(t, s, PathRefresh, args...); got["access_token"] == first["access_token"] || errcode(got) != 0 {
		t.Errorf("an expired token was not replaced: %v", got)
	}
	now = now.Add(30 * 24 * time.Hour)
	if got := errcode(ask(t, s, PathRefresh, args...)); got != 42002 {
		t.Errorf("after 30 days: %d", got)
	}
	if got := errcode(ask(t, s, PathRefresh, "appid", testApp, "grant_type", "refresh_token", "refresh_token", "RT_x")); got != 40030 {
		t.Errorf("an unknown one: %d", got)
	}
}

func TestFaultsAndLog(t *testing.T) {
	t.Run("errcodes come in turn and spend no code", func(t *testing.T) {
		s := newServer()
		s.Update(func(k *Knobs) { k.Faults[PathToken] = Fault{Errcodes: []int{-1, 45011}} })
		args := exchangeOf(newCode(t, s, "snsapi_base"))
		for _, want := range []int{-1, 45011, 0, 40163} {
			if got := errcode(ask(t, s, PathToken, args...)); got != want {
				t.Errorf("got %d, want %d", got, want)
			}
		}
	})
	t.Run("a spoilt answer has spent the code", func(t *testing.T) {
		s := newServer()
		s.Update(func(k *Knobs) { k.Faults[PathToken] = Fault{Raw: "<html>", Status: 502, Times: 1} })
		args := exchangeOf(newCode(t, s, "snsapi_base"))
		if res := get(s, "api.weixin.qq.com", PathToken+"?appid="+testApp+"&secret="+testSecret+"&code="+args[5]+"&grant_type=authorization_code"); res.StatusCode != 502 {
			t.Errorf("status %d", res.StatusCode)
		}
		if got := errcode(ask(t, s, PathToken, args...)); got != 40163 {
			t.Errorf("got %d", got)
		}
	})
	t.Run("the log is bounded and the counters are exact", func(t *testing.T) {
		s := newServer()
		for range maxCalls + 5 {
			get(s, "api.weixin.qq.com", PathAuth)
		}
		if len(s.Calls()) != maxCalls || s.CountCalls(PathAuth) != maxCalls+5 {
			t.Errorf("%d logged, %d counted", len(s.Calls()), s.CountCalls(PathAuth))
		}
		s.ResetCalls()
		if len(s.Calls()) != 0 || s.CountCalls(PathAuth) != 0 {
			t.Error("not reset")
		}
	})
	t.Run("the log says what was answered", func(t *testing.T) {
		s := newServer()
		ask(t, s, PathToken, exchangeOf("nope")...)
		if c := s.Calls()[0]; c.Errcode != 40029 || c.Outcome != "refused" || c.Query.Get("secret") != testSecret || c.Host != "api.weixin.qq.com" {
			t.Errorf("%+v", c)
		}
	})
	t.Run("each host has its own paths", func(t *testing.T) {
		s := newServer()
		if get(s, "api.weixin.qq.com", goodLink).StatusCode != 404 || get(s, "open.weixin.qq.com", PathToken).StatusCode != 404 {
			t.Error("a path of the other host was served")
		}
		if get(s, "sim.test:8443", goodLink).StatusCode != 302 || get(s, "sim.test:8443", PathToken).StatusCode != 200 {
			t.Error("one host for both does not work")
		}
	})
	t.Run("knobs are copies", func(t *testing.T) {
		s := newServer()
		s.Update(func(k *Knobs) { k.Faults[PathToken] = Fault{Errcodes: []int{-1}} })
		k := s.Knobs()
		k.Faults[PathToken].Errcodes[0] = 1
		if s.Knobs().Faults[PathToken].Errcodes[0] != -1 {
			t.Error("a copy changed the knobs")
		}
	})
}
