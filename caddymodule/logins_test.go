package caddymodule

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
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

// loginsStore is a store that can be away.
type loginsStore struct {
	ticket.Store
	away bool
}

var errAway = errors.New("the store is away")

func (s *loginsStore) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if s.away {
		return errAway
	}
	return s.Store.Put(ctx, key, value, ttl)
}

func (s *loginsStore) Get(ctx context.Context, key string) ([]byte, error) {
	if s.away {
		return nil, errAway
	}
	return s.Store.Get(ctx, key)
}

func (s *loginsStore) Take(ctx context.Context, key string, prefix []byte) ([]byte, error) {
	if s.away {
		return nil, errAway
	}
	return s.Store.Take(ctx, key, prefix)
}

func (s *loginsStore) Count(ctx context.Context, key string, ttl time.Duration) (int64, error) {
	if s.away {
		return 0, errAway
	}
	return s.Store.Count(ctx, key, ttl)
}

// loginCookieOf is what the shop left in the browser of a login.
func loginCookieOf(t *testing.T, a *Auth, p ticket.Pending) string {
	t.Helper()
	sealed, err := a.site.app.gateway.keys.SealPending(t.Context(), "http://shop.example.org", p)
	if err != nil {
		t.Fatal(err)
	}
	return "wechat_session_login_" + p.ID + "=" + sealed
}

// The store goes and comes back while a browser is on its way: a page whose button works, nobody is let in,
// and the very same ticket signs in once it is back.
func TestLoginsWhileTheStoreIsAway(t *testing.T) {
	_, shop := crossSites(t)
	g := shop.site.app.gateway
	store := &loginsStore{Store: g.tickets.Store}
	g.tickets.Store, g.codes.Store = store, store
	l, sealed := loginOf(t, shop, func(*ticket.Login) {})
	voucher := ticket.Voucher{Identity: ticket.Identity{OpenID: "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", AppID: "wx0123456789abcdef", Scope: ticket.ScopeBase}, At: time.Now().UnixMilli()}
	tkt, err := g.tickets.Issue(t.Context(), ticket.Owner{Account: defaultAccount, Origin: l.Origin, Login: l.ID}, voucher, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	cookie := loginCookieOf(t, shop, ticket.Pending{ID: l.ID, Return: []byte("/member/"), Started: l.Started})
	bring := func() *httptest.ResponseRecorder {
		return serveAt(t, shop, "http://shop.example.org/_wechat/callback?ticket="+tkt+"&state="+l.ID+"&login="+sealed, func(r *http.Request) { r.Header.Set("Cookie", cookie) })
	}
	store.away = true
	for range 2 {
		if w := bring(); w.Code != 502 || len(w.Header()["Set-Cookie"]) > 0 || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "/_wechat/login?return=%2Fmember%2F") {
			t.Errorf("away: %d %v\n%.500s", w.Code, w.Header(), w.Body)
		}
	}
	if w := serveAt(t, shop, "http://shop.example.org/member/", nil); w.Code != 302 {
		t.Errorf("a login cannot begin: %d", w.Code) // it needs no store
	}
	store.away = false
	if w := bring(); w.Code != 303 || !strings.Contains(strings.Join(w.Header()["Set-Cookie"], "\n"), "wechat_session=ey") {
		t.Errorf("back: %d %v", w.Code, w.Header())
	}
}

// The broker has nobody to ask for a ticket's place: the browser goes back to its site, which says so.
func TestBrokerWhileTheStoreIsAway(t *testing.T) {
	broker, shop := crossSites(t)
	g := shop.site.app.gateway
	g.codes.Store = &loginsStore{Store: g.codes.Store, away: true}
	l, sealed := loginOf(t, shop, func(*ticket.Login) {})
	w := serveAt(t, broker, "http://auth.example.com/_wechat/callback?login="+sealed+"&code=c&state="+l.ID, nil)
	to := w.Header().Get("Location")
	if w.Code != 302 || !strings.Contains(to, "/_wechat/callback?error=unavailable&state="+l.ID) {
		t.Fatalf("%d %s", w.Code, to)
	}
	if w := serveAt(t, shop, to, nil); w.Code != 502 || !strings.Contains(w.Body.String(), "/_wechat/login?return=%2Fmember%2F") {
		t.Errorf("the site answered %d", w.Code)
	}
}

// The back button after an hour: who is signed in goes on, anybody else gets a page with a button, by whatever
// cookies; and a stale login takes no identity, its ticket still standing.
func TestCallbackAfterAnHour(t *testing.T) {
	_, shop := crossSites(t)
	g := shop.site.app.gateway
	l, sealed := loginOf(t, shop, func(l *ticket.Login) { l.Started -= 3600 })
	voucher := ticket.Voucher{Identity: ticket.Identity{OpenID: "oStale", AppID: "wx0123456789abcdef", Scope: ticket.ScopeBase}, At: time.Now().UnixMilli()}
	tkt, err := g.tickets.Issue(t.Context(), ticket.Owner{Account: defaultAccount, Origin: l.Origin, Login: l.ID}, voucher, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	o := shop.site.newOrigin("http://shop.example.org", "", false)
	session, _, err := o.sessions.Sign(t.Context(), ticket.Session{
		Identity: ticket.Identity{OpenID: "oLina", AppID: "wx0123456789abcdef", Scope: ticket.ScopeBase},
		ID:       ticket.SessionID(ticket.NewLoginID()), AuthTime: time.Now(),
	})
	if err != nil {
		t.Fatal(err)
	}
	old := loginCookieOf(t, shop, ticket.Pending{ID: l.ID, Return: []byte("/member/"), Started: l.Started})
	kept := loginCookieOf(t, shop, ticket.Pending{ID: l.ID, Return: []byte("/member/"), Started: time.Now().Unix()})
	for name, x := range map[string]struct {
		cookies string
		status  int
	}{
		"without cookies":                        {"", 400},
		"with its login cookie":                  {old, 400},
		"with a login cookie that is not as old": {kept, 400},
		"signed in":                              {"wechat_session=" + session, 303},
		"signed in, with its login cookie":       {"wechat_session=" + session + "; " + old, 303},
	} {
		w := serveAt(t, shop, "http://shop.example.org/_wechat/callback?ticket="+tkt+"&state="+l.ID+"&login="+sealed, func(r *http.Request) { r.Header.Set("Cookie", x.cookies) })
		if w.Code != x.status || strings.Contains(strings.Join(w.Header()["Set-Cookie"], "\n"), "wechat_session=") {
			t.Errorf("%s: %d %v", name, w.Code, w.Header())
		}
		if x.status == 400 && !strings.Contains(w.Body.String(), "/_wechat/login?return=%2Fmember%2F") {
			t.Errorf("%s: no button", name)
		}
	}
}

// Three attempts count for a minute, not longer, and only this browser's own.
func TestAttemptsCountForAMinute(t *testing.T) {
	_, shop := crossSites(t)
	at := func(ended time.Duration) (cookies []string) {
		for range maxAttempts {
			t := time.Now().Add(ended).Unix()
			cookies = append(cookies, loginCookieOfAttempt(shop, t))
		}
		return cookies
	}
	for name, x := range map[string]struct {
		cookies []string
		status  int
	}{
		"three just now":                 {at(-time.Second), 429},
		"three a minute ago":             {at(-attemptWindow - time.Second), 302},
		"two just now, one a minute ago": {append(at(-time.Second)[1:], at(-attemptWindow - time.Second)[0]), 302},
		"none":                           {nil, 302},
	} {
		for _, address := range []string{"http://shop.example.org/member/", "http://shop.example.org/_wechat/login?return=/member/"} {
			w := serveAt(t, shop, address, func(r *http.Request) { r.Header.Set("Cookie", strings.Join(x.cookies, "; ")) })
			if w.Code != x.status {
				t.Errorf("%s: %d, want %d", name, w.Code, x.status)
			}
		}
	}
}

func loginCookieOfAttempt(a *Auth, ended int64) string {
	p := ticket.Pending{ID: ticket.NewLoginID(), Return: []byte("/"), Started: ended, Ended: ended}
	sealed, _ := a.site.app.gateway.keys.SealPending(context.Background(), "http://shop.example.org", p)
	return "wechat_session_login_" + p.ID + "=" + sealed
}
