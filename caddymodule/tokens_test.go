package caddymodule

import (
	"fmt"
	"hash/maphash"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-wechat/caddy-wechat/ticket"
)

// Where a cache answered for another token, site or account than it was asked for, one user would be taken
// for another. It may hand out any entry: its hashes are not what tells tokens apart.
func TestSessionCacheGivesOutOnlyWhatWasAskedFor(t *testing.T) {
	const token, audience, appID = "the token", "https://shop.example.org", "wx0123456789abcdef"
	now := time.Now()
	right := func() *liveSession {
		return newLiveSession(token, audience, ticket.Session{Identity: ticket.Identity{OpenID: "oLina", AppID: appID}, Expires: now.Add(time.Second)})
	}
	for name, c := range map[string]struct {
		change func(*liveSession)
		given  bool
	}{
		"nothing is another":    {func(*liveSession) {}, true},
		"the token is another":  {func(s *liveSession) { s.token = "the Token" }, false},
		"the token is longer":   {func(s *liveSession) { s.token += "x" }, false},
		"the origin is another": {func(s *liveSession) { s.audience = "https://blog.example.org" }, false},
		"the account another":   {func(s *liveSession) { s.AppID = "wxfedcba9876543210" }, false},
		"it ends now":           {func(s *liveSession) { s.Expires = now }, false},
	} {
		t.Run(name, func(t *testing.T) {
			cache, err := newSessionCache(0)
			if err != nil {
				t.Fatal(err)
			}
			defer cache.close()
			s := right()
			c.change(s)
			hash := maphash.String(cache.seed, token)
			cache.cache.Set(hash, s, 1)
			cache.cache.Wait()
			if got := cache.get(token, audience, appID, now); (got != nil) != c.given {
				t.Errorf("given out %v, want %v", got != nil, c.given)
			}
			cache.cache.Del(hash)
			cache.place(hash).Store(s)
			if got := cache.get(token, audience, appID, now); (got != nil) != c.given {
				t.Errorf("given out %v by what was found last, want %v", got != nil, c.given)
			}
		})
	}
}

// What a stranger's cookies may cost: however many or long they are, the work is that of the few that are
// looked at. Time would tell little in a test; allocations grow with work.
func TestPilesOfCookiesAreBoundedWork(t *testing.T) {
	a, token := signedInAuth(t)
	next := caddyhttp.HandlerFunc(nil)
	cost := func(cookies string) float64 {
		b := newBenchRequest(t, "")
		b.cookie = cookies
		return testing.AllocsPerRun(20, func() { b.serve(t, a, httptest.NewRecorder(), next) })
	}
	pile := func(n int, format string) string {
		var s strings.Builder
		for i := range n {
			fmt.Fprintf(&s, format+"; ", i)
		}
		return s.String()
	}
	sealed, err := a.site.app.gateway.keys.Seal(t.Context(), "login cookie of http://shop.example.org", []byte(`{"i":"x"}`))
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("A", 60<<10)
	for name, c := range map[string]struct{ few, many string }{
		"login cookies of junk":     {pile(maxLoginCookies, "wechat_session_login_%032d=AAAA"), pile(1000, "wechat_session_login_%032d=AAAA")},
		"login cookies that open":   {pile(maxLoginCookies, "wechat_session_login_%032d="+sealed), pile(1000, "wechat_session_login_%032d="+sealed)},
		"guest cookies":             {pile(20, "wechat_session_guest=%d"), pile(1000, "wechat_session_guest=%d")},
		"session cookies":           {pile(40, "wechat_session=%d"), pile(1000, "wechat_session=%d")},
		"session cookies of a kind": {pile(40, "wechat_session="+token[:20]+".%d.x"), pile(1000, "wechat_session="+token[:20]+".%d.x")},
		"a long session":            {"wechat_session=AAAA", "wechat_session=" + long},
		"a long session, its parts": {"wechat_session=" + token + "AAAA", "wechat_session=" + token + long},
		"a long login cookie":       {pile(1, "wechat_session_login_%032d=AAAA"), pile(1, "wechat_session_login_%032d="+long)},
	} {
		t.Run(name, func(t *testing.T) {
			few, many := cost(c.few), cost(c.many)
			if many > few+few/2+10 {
				t.Errorf("%.0f allocations for few, %.0f for many", few, many)
			}
		})
	}
}
