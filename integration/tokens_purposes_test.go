package integration

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

const (
	tokensGuestOrigin = "https://" + tokensGuests
	tokensGuestPage   = tokensGuestOrigin + "/member/"
	tokensLoginCookie = "__Host-wechat_session_login_"
)

// tokensThings is one of everything that the gateway hands out, all of one site and of one victim.
type tokensThings struct {
	session, guest string
	id             string // of a login that waits for its end
	login          string // its parameter, as the broker sealed it anew
	pending        string // its cookie
	ticket         string
	begun, begunID string // another login's parameter, as the site sealed it, and its id
	code           string // WeChat's, for begun
	retry          string
	attempts       string // cookies of three logins that led to nothing
}

func newTokensThings(t *testing.T, w *tokensSites) (*tokensThings, *tokensKeys) {
	t.Helper()
	c := w.client()
	x := &tokensThings{session: w.login(t, tokensGuestPage, "lina")}
	k := tokensKeysOf(t, w.gateway, x.session)
	snapshot := w.browser(w.sim, wechattest.BrowserOptions{Snapshot: true})
	wantStatus(t, open(t, snapshot, tokensGuestPage), http.StatusOK)
	for _, ck := range snapshot.Cookies(tokensGuestPage) {
		if strings.HasSuffix(ck.Name, "_guest") {
			x.guest = ck.Value
		}
	}
	callback, _ := begin(t, w.world, c, tokensGuestPage)
	q := queryOf(t, callback)
	x.begun, x.begunID, x.code = q.Get("login"), q.Get("state"), q.Get("code")
	callback, cookies := begin(t, w.world, c, tokensGuestPage)
	q = queryOf(t, siteCallback(t, c, callback))
	x.id, x.login, x.ticket, x.pending = q.Get("state"), q.Get("login"), q.Get("ticket"), cookies[0].Value
	for range 3 {
		id := tokensID()
		ended := tokensPending(t, id, time.Now(), time.Now(), "/")
		x.attempts += "Cookie: " + tokensLoginCookie + id + "=" + k.seal(t, "login cookie of "+tokensGuestOrigin, ended) + "\r\n"
	}
	a := w.edge(t, tokensGuests).get(t, tokensGuests, "/member/", x.attempts)
	if links := hrefs(a.body); a.status == http.StatusTooManyRequests && len(links) > 0 {
		x.retry = queryOf(t, links[0]).Get("retry")
	}
	if x.guest == "" || x.ticket == "" || x.retry == "" {
		t.Fatalf("not one of everything: %+v", x)
	}
	return x, k
}

func (x *tokensThings) all() map[string]string {
	return map[string]string{
		"a session": x.session, "a guest's token": x.guest, "a login's parameter": x.login, "a login's first parameter": x.begun,
		"a login cookie": x.pending, "a ticket": x.ticket, "a retry": x.retry, "a login's id": x.id, "a code": x.code,
	}
}

// tokensSlots are the places where each of them counts, and took tells whether an answer gave what the
// right one brings.
var tokensSlots = []struct {
	name, right string
	ask         func(t *testing.T, e *tokensEdge, x *tokensThings, v string) tokensAnswer
	took        func(a tokensAnswer) bool
}{
	{"the session cookie", "a session", func(t *testing.T, e *tokensEdge, _ *tokensThings, v string) tokensAnswer {
		return e.get(t, tokensGuests, "/member/", tokensCookie(v))
	}, tokensReached},
	{"the guest cookie", "a guest's token", func(t *testing.T, e *tokensEdge, _ *tokensThings, v string) tokensAnswer {
		return e.get(t, tokensGuests, "/member/", "Cookie: __Host-wechat_session_guest="+v+"\r\n")
	}, tokensReached},
	{"the login cookie", "a login cookie", func(t *testing.T, e *tokensEdge, x *tokensThings, v string) tokensAnswer {
		return e.callback(t, x.id, x.login, x.ticket, v, x.id)
	}, tokensSignedIn},
	{"the callback's login", "a login's parameter", func(t *testing.T, e *tokensEdge, x *tokensThings, v string) tokensAnswer {
		return e.callback(t, x.id, v, x.ticket, x.pending, x.id)
	}, tokensSignedIn},
	{"the callback's ticket", "a ticket", func(t *testing.T, e *tokensEdge, x *tokensThings, v string) tokensAnswer {
		return e.callback(t, x.id, x.login, v, x.pending, x.id)
	}, tokensSignedIn},
	{"the callback's state", "a login's id", func(t *testing.T, e *tokensEdge, x *tokensThings, v string) tokensAnswer {
		return e.callback(t, v, x.login, x.ticket, x.pending, x.id)
	}, tokensSignedIn},
	{"the broker's login", "a login's first parameter", func(t *testing.T, e *tokensEdge, x *tokensThings, v string) tokensAnswer {
		return e.get(t, "auth.example.com", "/_wechat/callback?login="+url.QueryEscape(v)+"&code="+x.code+"&state="+x.begunID, "")
	}, tokensTicketed},
	{"the retry", "a retry", func(t *testing.T, e *tokensEdge, x *tokensThings, v string) tokensAnswer {
		return e.get(t, tokensGuests, "/_wechat/login?return=/&retry="+url.QueryEscape(v), x.attempts)
	}, tokensRedirected},
}

func (e *tokensEdge) callback(t *testing.T, state, login, ticket, cookie, cookieID string) tokensAnswer {
	t.Helper()
	q := url.Values{"state": {state}, "login": {login}, "ticket": {ticket}}
	return e.get(t, tokensGuests, "/_wechat/callback?"+q.Encode(), "Cookie: "+tokensLoginCookie+cookieID+"="+cookie+"\r\n")
}

func tokensReached(a tokensAnswer) bool  { return a.upstream != nil }
func tokensSignedIn(a tokensAnswer) bool { return sessionOf(&http.Response{Header: a.header}) != "" }
func tokensTicketed(a tokensAnswer) bool {
	return strings.Contains(a.header.Get("Location"), "ticket=")
}
func tokensRedirected(a tokensAnswer) bool { return a.status == http.StatusFound }

// Whatever the gateway hands out counts in its own place alone. A callback's
// address travels through logs and histories, a ticket through the broker: none of them may stand for
// what only the browser holds.
func tokensForAnotherPurpose(t *testing.T, w *tokensSites) {
	x, _ := newTokensThings(t, w)
	e := w.edge(t, tokensGuests)
	for _, right := range []bool{false, true} { // the right ones last: they spend tickets and codes
		for _, slot := range tokensSlots {
			for name, v := range x.all() {
				if right != (name == slot.right) {
					continue
				}
				t.Run(name+" as "+slot.name, func(t *testing.T) {
					a := slot.ask(t, e, x, v)
					if a.status >= 500 || slot.took(a) != right {
						t.Errorf("taken %v, want %v: %d %v", !right, right, a.status, a.header)
					}
					if a.upstream != nil && a.who(t) != map[bool]string{true: w.sim.OpenID(appID, "lina")}[name == "a session"] {
						t.Errorf("known as %q", a.who(t))
					}
				})
			}
		}
	}
}

// TestTokensSealed: seals and guests' tokens need but one gateway.
func TestTokensSealed(t *testing.T) {
	w := newTokensSites(t, tokensKeyKinds[0].option, "")
	t.Run("wrong in one thing", func(t *testing.T) { tokensSealedWrongInOneThing(t, w) })
	t.Run("a guest's, wrong in one thing", func(t *testing.T) { tokensGuestWrongInOneThing(t, w) })
}

// What is sealed with the gateway's own key, and right in all but its
// purpose or one of its fields, does not end a login.
func tokensSealedWrongInOneThing(t *testing.T, w *tokensSites) {
	x, k := newTokensThings(t, w)
	e := w.edge(t, tokensGuests)
	const cookieOf = "login cookie of " + tokensGuestOrigin
	now := time.Now()
	login, pending := readTokensLogin(t, k.open(t, "login", x.login)), string(k.open(t, cookieOf, x.pending))
	pendingOf := func(id string, started time.Time) string {
		return tokensPending(t, id, started, time.Time{}, "/member/")
	}
	if pending != pendingOf(x.id, time.Unix(login.numbers[tokensStarted], 0)) {
		t.Fatalf("a login cookie says %q", pending)
	}
	cases := []struct {
		name                        string
		loginPurpose, cookiePurpose string
		login                       func(*tokensLogin)
		pending                     string // "": the right one
		right                       bool
	}{
		{"the login's purpose", "Login", cookieOf, nil, "", false},
		{"the login's purpose, as a cookie's", cookieOf, cookieOf, nil, "", false},
		{"the login's purpose, none", "", cookieOf, nil, "", false},
		{"the login's account", "login", cookieOf, func(l *tokensLogin) { l.texts[tokensAccount] = "two" }, "", false},
		{"the login's origin", "login", cookieOf, func(l *tokensLogin) { l.texts[tokensOrigin] = "https://" + tokensShop }, "", false},
		{"the login's id", "login", cookieOf, func(l *tokensLogin) { l.id = tokensID() }, "", false},
		{"the login's age", "login", cookieOf, func(l *tokensLogin) { l.numbers[tokensStarted] = now.Add(-11 * time.Minute).Unix() }, "", false},
		{"the login's time, ahead", "login", cookieOf, func(l *tokensLogin) { l.numbers[tokensStarted] = now.Add(3 * time.Minute).Unix() }, "", false},
		{"the cookie's purpose", "login", "login", nil, "", false},
		{"the cookie's purpose, none", "login", "", nil, "", false},
		{"the cookie's origin", "login", "login cookie of https://" + tokensShop, nil, "", false},
		{"the cookie's id", "login", cookieOf, nil, pendingOf(tokensID(), now), false},
		{"the cookie's age", "login", cookieOf, nil, pendingOf(x.id, now.Add(-11*time.Minute)), false},
		{"the cookie's time, ahead", "login", cookieOf, nil, pendingOf(x.id, now.Add(3*time.Minute)), false},
		{"nothing", "login", cookieOf, nil, "", true},
	}
	for _, c := range cases {
		t.Run(c.name+" is wrong", func(t *testing.T) {
			changed := login
			if c.login != nil {
				c.login(&changed)
			}
			a := e.callback(t, x.id, k.seal(t, c.loginPurpose, changed.String()), x.ticket, k.seal(t, c.cookiePurpose, cmp.Or(c.pending, pending)), x.id)
			if a.status >= 500 || tokensSignedIn(a) != c.right {
				t.Errorf("signed in %v, want %v: %d %v", !c.right, c.right, a.status, a.header)
			}
		})
	}
	for _, c := range []struct {
		name, purpose, text string
		right               bool
	}{
		{"the retry's purpose", "login", now.UTC().Format(time.RFC3339), false},
		{"the retry's origin", "retry at https://" + tokensShop, now.UTC().Format(time.RFC3339), false},
		{"the retry's age", "retry at " + tokensGuestOrigin, now.Add(-11 * time.Minute).UTC().Format(time.RFC3339), false},
		{"the retry's time, none", "retry at " + tokensGuestOrigin, "x", false},
		{"nothing", "retry at " + tokensGuestOrigin, now.UTC().Format(time.RFC3339), true},
	} {
		t.Run(c.name+" is wrong", func(t *testing.T) {
			a := e.get(t, tokensGuests, "/_wechat/login?return=/&retry="+k.seal(t, c.purpose, c.text), x.attempts)
			if want := map[bool]int{true: 302, false: 429}[c.right]; a.status != want {
				t.Errorf("%d, want %d", a.status, want)
			}
		})
	}
}

// A guest's token, right in all but one thing, lets nobody look around;
// and a right one neither gives a name nor lets anything be sent.
func tokensGuestWrongInOneThing(t *testing.T, w *tokensSites) {
	k := tokensKeysOf(t, w.gateway, w.login(t, tokensGuestPage, "lina"))
	e := w.edge(t, tokensGuests)
	now := time.Now().Unix()
	iat, exp := fmt.Sprintf(`"iat":%d`, now), fmt.Sprintf(`"exp":%d`, now+600)
	payload := `{"iss":"https://auth.example.com","aud":"` + tokensGuestOrigin + `",` + iat + `,` + exp + `}`
	token := func(c tokensChange) string { return k.forge(k.header("guest"), tokensChanged(t, payload, c)) }
	ask := func(method, value string) tokensAnswer {
		return e.ask(t, method+" /member/ HTTP/1.1\r\nHost: "+tokensGuests+"\r\nContent-Length: 0\r\n"+tokensBrowser+"Cookie: __Host-wechat_session_guest="+value+"\r\n\r\n")
	}
	for _, c := range []tokensChange{
		{"iss", "auth.example.com", "auth.example.net"},
		{"aud", tokensGuests, tokensShop},
		{"aud, which is missing,", `"aud":"` + tokensGuestOrigin + `",`, ""},
		{"exp", exp, fmt.Sprintf(`"exp":%d`, now-1)},
		{"exp, which is missing,", "," + exp, ""},
		{"exp, which is 0,", exp, `"exp":0`},
		{"exp, which is null,", exp, `"exp":null`},
		{"iat", iat, fmt.Sprintf(`"iat":%d`, now+3600)},
		{"a claim that was added", iat, iat + `,"sub":"oLina"`},
		{"a claim that stands there twice", iat, iat + `,` + iat},
	} {
		t.Run(c.name+" is wrong", func(t *testing.T) {
			if a := ask("GET", token(c)); a.upstream != nil || a.status >= 500 {
				t.Errorf("let through: %d", a.status)
			}
		})
	}
	t.Run("typ is wrong", func(t *testing.T) {
		if a := ask("GET", k.forge(k.header("session"), payload)); a.upstream != nil {
			t.Error("let through")
		}
	})
	t.Run("nothing is wrong", func(t *testing.T) {
		right := token(tokensChange{"", iat, iat})
		if a := ask("GET", right); a.upstream == nil || a.who(t) != "" {
			t.Errorf("a guest is refused: %d", a.status)
		}
		if a := ask("POST", right); a.upstream != nil || a.status != http.StatusUnauthorized {
			t.Errorf("a guest's POST got %d", a.status)
		}
	})
}
