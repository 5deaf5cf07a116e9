package caddymodule

import (
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/ticket"
)

// Attack: on plain http a sibling domain tosses in a session cookie of its own, in front of the true one
// or behind it. Nobody must end up as somebody else.
func TestTossedSessionCookies(t *testing.T) {
	a, mine := signedInAuth(t)
	o := a.site.newOrigin("http://shop.example.org", "", false)
	sign := func(openID string) string {
		token, _, err := o.sessions.Sign(t.Context(), ticket.Session{
			Identity: ticket.Identity{OpenID: openID, AppID: "wx0123456789abcdef", Scope: ticket.ScopeBase},
			ID:       ticket.SessionID(ticket.NewLoginID()), AuthTime: time.Now(),
		})
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	mallory := sign("oMallory")
	cases := []struct {
		name    string
		cookies string
		want    string
	}{
		{"one", "wechat_session=" + mine, "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"},
		{"the same twice", "wechat_session=" + mine + "; wechat_session=" + mine, "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"},
		{"another's in front", "wechat_session=" + mallory + "; wechat_session=" + mine, ""},
		{"another's behind", "wechat_session=" + mine + "; wechat_session=" + mallory, ""},
		{"junk in front", "wechat_session=junk; wechat_session=" + mine, "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"},
		{"junk behind", "wechat_session=" + mine + "; wechat_session=junk", "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"},
		{"two of junk", "wechat_session=" + mine + "; wechat_session=x; wechat_session=y", ""},
		{"two of another's", "wechat_session=" + mine + "; wechat_session=x; wechat_session=" + mallory, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			req := newBenchRequest(t, "")
			req.r.Header["Cookie"] = []string{c.cookies}
			got := ""
			if v := a.site.visit(req.r); v.session != nil {
				got = v.session.OpenID
			}
			if got != c.want || req.r.Header.Get("X-Wechat-Openid") != c.want {
				t.Errorf("known as %q, want %q", got, c.want)
			}
			if cookies := req.r.Header["Cookie"]; len(cookies) > 0 {
				t.Errorf("the upstream sees %q", cookies)
			}
		})
	}
}
