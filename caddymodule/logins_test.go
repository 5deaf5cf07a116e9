package caddymodule

import (
	"net/http"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/ticket"
)

// Attack: on plain http a sibling domain tosses in a session of its own, in front of the true one. The logout
// must end both: the true one's copies would live on.
func TestLogoutEndsEverySessionThatTheBrowserSent(t *testing.T) {
	a, mine := signedInAuth(t)
	o := a.site.newOrigin("http://shop.example.org", "", false)
	tossed, _, err := o.sessions.Sign(t.Context(), ticket.Session{
		Identity: ticket.Identity{OpenID: "oMallory", AppID: "wx0123456789abcdef", Scope: ticket.ScopeBase},
		ID:       ticket.SessionID(ticket.NewLoginID()), AuthTime: time.Now(),
	})
	if err != nil {
		t.Fatal(err)
	}
	alive := func(token string) bool {
		w := serveAt(t, a, "http://shop.example.org/_wechat/userinfo", func(r *http.Request) { r.Header.Set("Cookie", "wechat_session="+token) })
		return w.Code == http.StatusOK
	}
	if !alive(mine) || !alive(tossed) {
		t.Fatal("not two sessions")
	}
	w := serveAt(t, a, "http://shop.example.org/_wechat/logout", func(r *http.Request) {
		r.Method = http.MethodPost
		r.Header.Set("Cookie", "wechat_session="+tossed+"; wechat_session="+mine)
	})
	if w.Code != http.StatusSeeOther || alive(mine) || alive(tossed) {
		t.Errorf("logout answered %d; alive: %v, the tossed one: %v", w.Code, alive(mine), alive(tossed))
	}
}
