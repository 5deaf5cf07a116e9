package caddymodule

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/ticket"
)

const remoteSecret = "remote-client-secret-0123456789"

// remoteBroker is another gateway's broker, of which only the tickets are here: each is good for one
// redeeming. An answer of its own takes the place of what it would say.
type remoteBroker struct {
	mu      sync.Mutex // guards everything below
	tickets map[string]map[string]any
	asked   int
	answer  http.HandlerFunc
}

func (b *remoteBroker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked++
	if b.answer != nil {
		b.answer(w, r)
		return
	}
	id, secret, _ := r.BasicAuth()
	tkt, ok := strings.CutPrefix(r.URL.Path, "/ticket/")
	user := b.tickets[tkt]
	if r.Method != http.MethodGet || !ok || id != "shop" || secret != remoteSecret || user == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	delete(b.tickets, tkt)
	_ = json.NewEncoder(w).Encode(user)
}

// issue makes a ticket for state, with these of its values changed.
func (b *remoteBroker) issue(state string, change map[string]any) string {
	user := remoteUser(state)
	maps.Copy(user, change)
	tkt := ticket.NewLoginID() // has the same shape
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tickets[tkt] = user
	return tkt
}

func (b *remoteBroker) say(answer http.HandlerFunc) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = answer
}

func (b *remoteBroker) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asked
}

func remoteUser(state string) map[string]any {
	return map[string]any{
		"openid": "oLina", "unionid": nil, "nickname": nil, "sex": nil, "language": nil, "city": nil, "province": nil,
		"country": nil, "headimgurl": nil, "privilege": nil, "avatar": nil, "app": "wx0123456789abcdef",
		"appid": "wx0123456789abcdef", "scope": "snsapi_base", "state": state,
	}
}

// remoteSite is a shop whose account logs in through a broker.
type remoteSite struct {
	*Auth
	broker  *remoteBroker
	address string // the broker's
	log     string // its file
}

func newRemoteSite(t *testing.T, options string) *remoteSite {
	t.Helper()
	t.Setenv("REMOTE_SECRET", remoteSecret)
	s := &remoteSite{broker: &remoteBroker{tickets: map[string]map[string]any{}}, log: filepath.Join(t.TempDir(), "log")}
	server := httptest.NewServer(s.broker)
	t.Cleanup(server.Close)
	s.address = server.URL
	app := provision(t, `{
		log default {
			output file `+s.log+` {
				roll_disabled
			}
		}
		storage file_system `+t.TempDir()+`
		wechat {
			account {
				app_id wx0123456789abcdef
				broker `+s.address+` shop {env.REMOTE_SECRET}
				timeout 300ms
			}
		}
	}
	http://shop.example.org:8080 {
		wechat_auth {
			origin http://shop.example.org:8080
			outside_wechat redirect
			`+options+`
		}
	}`)
	for _, site := range app.sites {
		s.Auth = site.auths[0]
	}
	return s
}

func (s *remoteSite) logged(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(s.log)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// remoteLogin is a login that was begun.
type remoteLogin struct {
	start  *url.URL // where the browser was sent
	back   string   // where it comes back, with its login
	state  string
	cookie string
}

func (s *remoteSite) begin(t *testing.T) remoteLogin {
	t.Helper()
	w := serveAt(t, s, "http://shop.example.org:8080/_wechat/login?return=/member/", nil)
	l, ok := s.begun(w)
	if !ok {
		t.Fatalf("status %d, Location %q", w.Code, w.Header().Get("Location"))
	}
	return l
}

// begun reads the login that an answer begins, if it does.
func (s *remoteSite) begun(w *httptest.ResponseRecorder) (l remoteLogin, ok bool) {
	start, err := url.Parse(w.Header().Get("Location"))
	if err != nil || w.Code != http.StatusFound || !strings.HasPrefix(start.String(), s.address+"/auth/") {
		return l, false
	}
	l = remoteLogin{start: start, back: start.Query().Get("redirect_uri"), state: start.Query().Get("params")}
	for _, c := range w.Result().Cookies() {
		if strings.HasSuffix(c.Name, "_login_"+l.state) {
			l.cookie = c.Name + "=" + c.Value
		}
	}
	return l, true
}

// end brings the login back with what the broker appends. Where that begins another by itself, as after a
// lost ticket, it ends that one, too.
func (s *remoteSite) end(t *testing.T, l remoteLogin, pairs string) *httptest.ResponseRecorder {
	t.Helper()
	w := s.endOnce(t, l, pairs)
	if again, ok := s.begun(w); ok && l.cookie != "" {
		w = s.endOnce(t, again, pairs)
	}
	return w
}

func (s *remoteSite) endOnce(t *testing.T, l remoteLogin, pairs string) *httptest.ResponseRecorder {
	t.Helper()
	return serveAt(t, s, l.back+"&"+pairs+"&state="+l.state, func(r *http.Request) {
		if l.cookie != "" {
			r.Header.Set("Cookie", l.cookie)
		}
	})
}

// remoteSession returns the session cookie that an answer sets.
func remoteSession(w *httptest.ResponseRecorder) string {
	for _, c := range w.Result().Cookies() {
		if strings.HasPrefix(c.Name, "wechat_session") && strings.HasPrefix(c.Value, "eyJ") {
			return c.Value
		}
	}
	return ""
}

func TestARemoteLogin(t *testing.T) {
	s := newRemoteSite(t, "")
	l := s.begin(t)
	t.Run("begins at the broker, to which it names this site's own address", func(t *testing.T) {
		login, _ := url.Parse(l.back)
		want := s.address + "/auth/wx0123456789abcdef?redirect_uri=" + url.QueryEscape(l.back) + "&params=" + l.state + "&scope=snsapi_base"
		if l.start.String() != want || !ticket.IsLoginID(l.state) {
			t.Errorf("began at %s, want %s", l.start, want)
		}
		if login.Host != "shop.example.org:8080" || login.Path != "/_wechat/callback" || len(login.Query()) != 1 {
			t.Errorf("comes back to %s", login)
		}
	})
	tkt := s.broker.issue(l.state, nil)
	w := s.end(t, l, "ticket="+tkt)
	token := remoteSession(w)
	t.Run("ends with a session that the broker vouches for", func(t *testing.T) {
		payload, err := json.Marshal(tokenPayload(t, token))
		if err != nil || w.Code != http.StatusSeeOther || !strings.HasPrefix(w.Header().Get("Location"), "http://shop.example.org:8080/member/") {
			t.Fatalf("%v: %d to %s", err, w.Code, w.Header().Get("Location"))
		}
		for _, want := range []string{`"iss":"` + s.address + `"`, `"sub":"oLina"`, `"appid":"wx0123456789abcdef"`, `"scope":"snsapi_base"`} {
			if !strings.Contains(string(payload), want) {
				t.Errorf("%s lacks %s", payload, want)
			}
		}
	})
	t.Run("answers the same callback again with the same session, and asks nobody", func(t *testing.T) {
		again := s.end(t, l, "ticket="+tkt)
		if again.Code != http.StatusSeeOther || tokenPayload(t, remoteSession(again))["jti"] != tokenPayload(t, token)["jti"] {
			t.Errorf("status %d", again.Code)
		}
		if s.broker.count() != 1 {
			t.Errorf("the broker was asked %d times", s.broker.count())
		}
	})
	t.Run("spends nothing for a browser that did not begin it", func(t *testing.T) {
		fresh := s.begin(t)
		stolen := s.broker.issue(fresh.state, nil)
		before := s.broker.count()
		thief := fresh
		thief.cookie = ""
		if w := s.end(t, thief, "ticket="+stolen); remoteSession(w) != "" || s.broker.count() != before {
			t.Errorf("status %d, and the broker was asked %d times", w.Code, s.broker.count()-before)
		}
		if w := s.end(t, fresh, "ticket="+stolen); remoteSession(w) == "" {
			t.Errorf("its owner got %d", w.Code)
		}
	})
}

// tokenPayload returns what a token says.
func tokenPayload(t *testing.T, token string) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("no token, but %q", token)
	}
	plain, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(plain, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

func TestARemoteLoginForAProfile(t *testing.T) {
	profile := map[string]any{
		"unionid": "uLina", "nickname": "李娜\r\nX-Forged: 1", "headimgurl": "https://img.example/1", "scope": "snsapi_userinfo",
	}
	t.Run("brings it, less what a header cannot carry", func(t *testing.T) {
		s := newRemoteSite(t, "scope snsapi_userinfo")
		l := s.begin(t)
		claims := tokenPayload(t, remoteSession(s.end(t, l, "ticket="+s.broker.issue(l.state, profile))))
		if claims["unionid"] != "uLina" || claims["nickname"] != "李娜X-Forged: 1" || claims["headimgurl"] != "https://img.example/1" || claims["scope"] != "snsapi_userinfo" {
			t.Errorf("the session says %v", claims)
		}
	})
	t.Run("with a unionid that is none is refused", func(t *testing.T) {
		s := newRemoteSite(t, "scope snsapi_userinfo")
		l := s.begin(t)
		w := s.end(t, l, "ticket="+s.broker.issue(l.state, map[string]any{"scope": "snsapi_userinfo", "unionid": "a b"}))
		if w.Code != http.StatusBadGateway || !strings.Contains(s.logged(t), "not shaped like") {
			t.Errorf("status %d\n%s", w.Code, s.logged(t))
		}
	})
	t.Run("that was not asked for is not taken", func(t *testing.T) {
		s := newRemoteSite(t, "")
		l := s.begin(t)
		claims := tokenPayload(t, remoteSession(s.end(t, l, "ticket="+s.broker.issue(l.state, profile))))
		if claims["unionid"] != nil || claims["nickname"] != nil || claims["scope"] != "snsapi_base" {
			t.Errorf("the session says %v", claims)
		}
	})
	t.Run("that brings less is refused, and the log says what to compare", func(t *testing.T) {
		s := newRemoteSite(t, "scope snsapi_userinfo")
		l := s.begin(t)
		w := s.end(t, l, "ticket="+s.broker.issue(l.state, nil))
		if w.Code != http.StatusBadGateway || !strings.Contains(s.logged(t), "compare scope") {
			t.Errorf("status %d\n%s", w.Code, s.logged(t))
		}
	})
}

// Whatever a broker says that is not exactly a user of this login is no user, and is told without the ticket and
// the secret.
func TestARemoteAnswerThatIsNoUser(t *testing.T) {
	text := func(status int, body string) func(remoteLogin) http.HandlerFunc {
		return func(l remoteLogin) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(status)
				_, _ = w.Write([]byte(strings.ReplaceAll(body, "STATE", l.state)))
			}
		}
	}
	changed := func(change map[string]any) func(remoteLogin) http.HandlerFunc {
		return func(l remoteLogin) http.HandlerFunc {
			user := remoteUser(l.state)
			maps.Copy(user, change)
			body, _ := json.Marshal(user) // strings always marshal
			return text(http.StatusOK, string(body))(l)
		}
	}
	const user = `{"openid":"oLina","app":"wx0123456789abcdef","appid":"wx0123456789abcdef","scope":"snsapi_base","state":"STATE"`
	cases := []struct {
		name   string
		answer func(remoteLogin) http.HandlerFunc
		status int
		logged string
	}{
		{"404, though a user stands in it", text(http.StatusNotFound, user+"}"), 400, "compare client id, secret and redeem_from"},
		{"401", text(http.StatusUnauthorized, user+"}"), 502, "compare client id, secret and redeem_from"},
		{"403", text(http.StatusForbidden, ""), 502, "HTTP status 403"},
		{"500", text(http.StatusInternalServerError, user+"}"), 502, "HTTP status 500"},
		{"206", text(http.StatusPartialContent, user+"}"), 502, "HTTP status 206"},
		{"an empty body", text(http.StatusOK, ""), 502, "the body is not a JSON object"},
		{"a page", text(http.StatusOK, "<html>"), 502, "the body is not a JSON object"},
		{"a list", text(http.StatusOK, "["+user+"}]"), 502, "the body is not a JSON object"},
		{"two users", text(http.StatusOK, user+"}"+user+"}"), 502, "goes on behind"},
		{"an openid twice", text(http.StatusOK, user+`,"openid":"oMallory"}`), 502, "a key stands twice"},
		{"an openid in another case", text(http.StatusOK, user+`,"OpenID":"oMallory"}`), 502, "another case"},
		{"a body without end", text(http.StatusOK, user+`,"x":"`+strings.Repeat("x", maxRemoteAnswer)+`"}`), 502, "too large"},
		{"a number for an openid", changed(map[string]any{"openid": 1}), 502, "of another type"},
		{"no openid", changed(map[string]any{"openid": nil}), 502, "not shaped like"},
		{"an openid of other characters", changed(map[string]any{"openid": "oLina\r\nX-Forged: 1"}), 502, "not shaped like"},
		{"an unknown scope", changed(map[string]any{"scope": "snsapi_all"}), 502, "compare scope"},
		{"no scope", changed(map[string]any{"scope": nil}), 502, "compare scope"},
		{"another account's user", changed(map[string]any{"appid": "wx1111111111111111"}), 502, "compare app_id"},
		{"two accounts' user", changed(map[string]any{"app": "wx1111111111111111"}), 502, "compare app_id"},
		{"another login's user", changed(map[string]any{"state": ticket.NewLoginID()}), 400, "another login"},
		{"a user without a login", changed(map[string]any{"state": nil}), 400, "another login"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := newRemoteSite(t, "")
			l := s.begin(t)
			s.broker.say(c.answer(l))
			tkt := ticket.NewLoginID()
			w := s.end(t, l, "ticket="+tkt)
			if w.Code != c.status || remoteSession(w) != "" || !strings.Contains(w.Body.String(), "/_wechat/login") {
				t.Errorf("answered %d, want %d and a button", w.Code, c.status)
			}
			log := s.logged(t)
			if !strings.Contains(log, c.logged) || !strings.Contains(log, s.address) {
				t.Errorf("the log lacks %q:\n%s", c.logged, log)
			}
			for _, secret := range []string{tkt, remoteSecret, "oMallory", "X-Forged"} {
				if strings.Contains(log+w.Body.String(), secret) {
					t.Errorf("%s is shown", secret)
				}
			}
			if got := w.Header().Get("Retry-After"); (c.status == 502) != (got != "") {
				t.Errorf("Retry-After is %q", got)
			}
		})
	}
}

func TestARemoteBrokerThatIsAway(t *testing.T) {
	t.Run("refuses connections", func(t *testing.T) {
		s := newRemoteSite(t, "")
		l := s.begin(t)
		s.site.account.way.(*remote).origin = "http://127.0.0.1:1"
		w := s.end(t, l, "ticket="+ticket.NewLoginID())
		if w.Code != http.StatusBadGateway || !strings.Contains(s.logged(t), "connection refused") || !strings.Contains(s.logged(t), "see that the gateway at http://127.0.0.1:1 runs") {
			t.Errorf("status %d\n%s", w.Code, s.logged(t))
		}
	})
	t.Run("does not answer in time", func(t *testing.T) {
		s := newRemoteSite(t, "")
		l := s.begin(t)
		s.broker.say(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		w := s.end(t, l, "ticket="+ticket.NewLoginID())
		if w.Code != http.StatusBadGateway || !strings.Contains(s.logged(t), "timed out") {
			t.Errorf("status %d\n%s", w.Code, s.logged(t))
		}
		patience, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := s.site.account.way.identify(patience, l.state, ticket.NewLoginID(), want{}); err == nil || patience.Err() != nil {
			t.Errorf("the option timeout did not end it: %v", err)
		}
	})
	// Attack: whoever can answer for the broker sends the client secret elsewhere.
	t.Run("redirects, which is not followed", func(t *testing.T) {
		followed := false
		other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed = true }))
		defer other.Close()
		s := newRemoteSite(t, "")
		l := s.begin(t)
		s.broker.say(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) })
		w := s.end(t, l, "ticket="+ticket.NewLoginID())
		if w.Code != http.StatusBadGateway || followed {
			t.Errorf("status %d; followed: %v", w.Code, followed)
		}
	})
}

// A stranger can make any number of tickets up: they must not fill the log with alarms.
func TestARefusedRemoteTicketAlarmsOnceAMinute(t *testing.T) {
	s := newRemoteSite(t, "")
	for range 3 {
		if w := s.end(t, s.begin(t), "ticket="+ticket.NewLoginID()); w.Code != http.StatusBadRequest {
			t.Fatalf("status %d", w.Code)
		}
	}
	alarms, all := 0, 0
	for line := range strings.Lines(s.logged(t)) {
		if strings.Contains(line, errTicketRefused.Error()) {
			all++
			if strings.Contains(line, `"level":"error"`) {
				alarms++
			}
		}
	}
	if alarms != 1 || all < 3 {
		t.Errorf("%d of %d lines are alarms\n%s", alarms, all, s.logged(t))
	}
}

// The word `error` is not sealed: anybody can write it.
func TestARemoteWord(t *testing.T) {
	cases := []struct {
		name, options, word string
		status              int
		says                string
	}{
		{"the user declined", "", "access_denied", 200, "You did not allow the login"},
		{"a snapshot visitor", "", "snapshot", 200, "This is a preview"},
		{"a snapshot visitor where guests are let in, who could be anybody", "snapshot guest", "snapshot", 200, "This is a preview"},
		{"a snapshot visitor where they are not", "snapshot deny", "snapshot", 403, "Not available in preview"},
		{"something that no broker says", "", "whatever", 502, ""},
		{"something that this gateway's own broker would have sealed", "", "unavailable", 502, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := newRemoteSite(t, c.options)
			l := s.begin(t)
			w := s.end(t, l, "error="+c.word)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) || remoteSession(w) != "" || strings.Contains(fmt.Sprint(w.Header()["Set-Cookie"]), "_guest") {
				t.Errorf("answered %d with %v", w.Code, w.Header()["Set-Cookie"])
			}
			if s.site.app.gateway.codes.CameBack(t.Context(), l.state) {
				t.Error("it is kept in the store, which anybody could fill so")
			}
			l = s.begin(t)
			stranger := l
			stranger.cookie = ""
			if w := s.end(t, stranger, "error="+c.word); w.Code != http.StatusFound || !strings.HasPrefix(w.Header().Get("Location"), s.address+"/auth/") {
				t.Errorf("a stranger got %d, and no login of their own", w.Code)
			}
			foreign := l
			foreign.state = ticket.NewLoginID()
			if w := s.end(t, foreign, "error="+c.word); w.Code != http.StatusBadRequest {
				t.Errorf("with another login's state: %d", w.Code)
			}
			if w := s.end(t, l, "error="+c.word+"&error=x"); w.Code != http.StatusBadRequest {
				t.Errorf("twice: %d", w.Code)
			}
			if s.broker.count() != 0 {
				t.Error("the broker was asked")
			}
		})
	}
}

func TestARemoteCallbackThatBringsNothing(t *testing.T) {
	for name, pairs := range map[string]string{
		"no ticket":              "x=y",
		"a code, as from WeChat": "code=0123456789abcdef0123456789abcdef",
		"no ticket's shape":      "ticket=../../auth/x",
		"upper case":             "ticket=" + strings.ToUpper(ticket.NewLoginID()[:31]+"a"),
	} {
		t.Run(name, func(t *testing.T) {
			s := newRemoteSite(t, "")
			if w := s.end(t, s.begin(t), pairs); w.Code != http.StatusBadRequest || s.broker.count() != 0 {
				t.Errorf("status %d, and the broker was asked %d times", w.Code, s.broker.count())
			}
		})
	}
}

func TestARemoteTicketOfAnotherLogin(t *testing.T) {
	s := newRemoteSite(t, "")
	first, second := s.begin(t), s.begin(t)
	both := first.cookie + "; " + second.cookie
	first.cookie, second.cookie = both, both
	t.Run("that was redeemed signs nobody in", func(t *testing.T) {
		tkt := s.broker.issue(first.state, nil)
		if w := s.end(t, first, "ticket="+tkt); remoteSession(w) == "" {
			t.Fatalf("its own login got %d", w.Code)
		}
		if w := s.end(t, second, "ticket="+tkt); w.Code != http.StatusBadRequest || s.broker.count() != 1 {
			t.Errorf("status %d; the broker was asked %d times", w.Code, s.broker.count())
		}
	})
	t.Run("that was not signs nobody in either", func(t *testing.T) {
		if w := s.end(t, second, "ticket="+s.broker.issue(first.state, nil)); w.Code != http.StatusBadRequest || remoteSession(w) != "" {
			t.Errorf("status %d", w.Code)
		}
	})
}

func TestALoginThroughABrokerIsNotCutShort(t *testing.T) {
	accounts := map[string]*account{"a": {way: &remote{timeout: time.Minute}}}
	if got := longestExchange(accounts); got <= time.Minute {
		t.Errorf("an exchange may take %s, and one call of the broker a minute", got)
	}
}
