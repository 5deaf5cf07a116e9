package caddymodule

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-wechat/caddy-wechat/ticket"
)

// Each target compares with a slower reading of its own: a mistake would have to be made twice.

var notAlnum = regexp.MustCompile(`[^a-z0-9]`)

func slowFold(name string) string {
	ascii := strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, name)
	return notAlnum.ReplaceAllString(ascii, "")
}

// FuzzHeaders strips a header of any name, and any Connection line.
func FuzzHeaders(f *testing.F) {
	f.Add("X-Wechat-Openid", "close, X-Wechat-Openid")
	f.Add("x_auth.openid", "keep-alive")
	f.Add("X-Forwarded-For", "Upgrade,\tx~wechat~scope , x-foo")
	f.Add("X.JWT", ",,x-jwt-x, x!j!w!t,")
	f.Add("\u212a-wechat", "x\u017fwechat")
	f.Fuzz(func(t *testing.T, name, connection string) {
		h := newIdentityHeaders("X-Auth-", "X-Jwt")
		ours := func(name string) bool {
			folded := slowFold(name)
			return strings.HasPrefix(folded, "xwechat") || strings.HasPrefix(folded, "xauth") || folded == "xjwt"
		}
		r := &http.Request{Header: http.Header{"Connection": {connection}}, Trailer: http.Header{name: nil}}
		if name != "Connection" {
			r.Header[name] = []string{"v"}
		}
		h.scrub(r)
		if _, stayed := r.Header[name]; name != "Connection" && stayed == ours(name) {
			t.Errorf("%q: stayed %t", name, stayed)
		}
		if r.Trailer != nil {
			t.Error("trailers stayed")
		}
		var want []string
		for option := range strings.SplitSeq(connection, ",") {
			if !ours(option) {
				want = append(want, option)
			}
		}
		if got := strings.Join(r.Header["Connection"], "\n"); got != strings.Join(want, ",") {
			t.Errorf("Connection %q became %q", connection, got)
		}
	})
}

var slowOwn = regexp.MustCompile(`(?s)^(__Host-)?(__Secure-)?wechat_session(_[0-9]+)?(_guest|_login_.*)?$`)

// FuzzCookies hides the gateway's cookies from the upstream and finds its own, in two lines of any bytes.
func FuzzCookies(f *testing.F) {
	f.Add("a=1; __Host-wechat_session=x; b=2", "__Host-wechat_session_login_ab=y")
	f.Add("wechat_session=x;wechat_session=\"y\" ; wechat_session_8443=z", "")
	f.Add(" ; ;__Host-wechat_session_guest=g;", "wechat_sessions=1; wechat_session_login=2")
	f.Fuzz(func(t *testing.T, one, two string) {
		lines := []string{one, two}
		names := newCookieNames("wechat_session", "", true)
		own := names.readCookies(lines)
		var others, sessions []string
		for _, line := range lines {
			for part := range strings.SplitSeq(line, ";") {
				name, value, _ := strings.Cut(part, "=")
				switch name = trimSpace(name); {
				case !slowOwn.MatchString(name):
					if s := trimSpace(part); s != "" {
						others = append(others, s)
					}
				case name == "__Host-wechat_session":
					value = unquote(trimSpace(value))
					if value != "" && !slices.Contains(sessions, value) {
						sessions = append(sessions, value)
					}
				}
			}
		}
		for _, value := range own.session {
			if value != "" && !slices.Contains(sessions, value) {
				t.Errorf("read %q, which is not there", value)
			}
		}
		if len(sessions) > 0 && own.session[0] == "" || len(sessions) > 2 && len(own.more) == 0 {
			t.Errorf("of %q it read %q, more %q", sessions, own.session, own.more)
		}
		header := http.Header{"Cookie": slices.Clone(lines)}
		newCookieBases("wechat_session").hide(header)
		var left []string
		for _, line := range header["Cookie"] {
			for part := range strings.SplitSeq(line, ";") {
				if s := trimSpace(part); s != "" {
					left = append(left, s)
				}
			}
		}
		if !slices.Equal(left, others) {
			t.Errorf("the upstream sees %q, want %q", left, others)
		}
	})
}

// FuzzReturn: a return path stays on the site for every reader, and comes through whole where it may.
func FuzzReturn(f *testing.F) {
	for _, seed := range []string{
		"/", "/member/?a=1&b=%2F#top", "//evil.example", "/\\evil.example", "/\t/evil.example", "https://evil.example/",
		"/%09/evil.example", "/.//evil.example", "/_wechat/login", "/_wechat%2Flogout?x", "/a b", "/é\x80", "/" + strings.Repeat("a", 2000) + "?b",
		"/" + strings.Repeat("a", 1990) + " a?b",
	} {
		f.Add(seed)
	}
	o := &origin{site: &site{path: "/_wechat"}, name: "https://shop.example.org"}
	f.Fuzz(func(t *testing.T, p string) {
		got := o.site.returnPath(p)
		if again := o.site.returnPath(got); again != got {
			t.Errorf("%q became %q, and that %q", p, got, again)
		}
		if got[0] != '/' || strings.HasPrefix(got, "//") || len(got) > 3*maxReturn || strings.ContainsFunc(got, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\\' }) {
			t.Errorf("%q became %q", p, got)
		}
		plain := strings.HasPrefix(p, "/") && !strings.HasPrefix(p, "//") && len(p) <= maxReturn && !strings.Contains(p, "_wechat") && !strings.Contains(p, "%") &&
			!strings.ContainsFunc(p, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\\' })
		if plain && utf8.ValidString(p) && got != p {
			t.Errorf("%q became %q", p, got)
		}
		w := httptest.NewRecorder()
		o.go303(w, got)
		// A reader that drops tabs and line ends, and takes \ for /, as browsers do.
		location := strings.ReplaceAll(strings.NewReplacer("\t", "", "\r", "", "\n", "").Replace(w.Header().Get("Location")), "\\", "/")
		host, _, _ := strings.Cut(strings.TrimPrefix(location, "https://"), "/")
		if !strings.HasPrefix(location, "https://") || host != "shop.example.org" || strings.ContainsFunc(location, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			t.Errorf("%q leads to %q", p, location)
		}
		if u, err := url.Parse(o.site.loginURL(got, "")); err != nil || u.Query().Get("return") != got {
			t.Errorf("%q does not come through a button's address", got)
		}
	})
}

// FuzzCallback brings any query and cookies to a callback, with the true values of a login that is under
// way wherever a word in braces stands. Only the whole truth signs in, and nothing leads away.
func FuzzCallback(f *testing.F) {
	const truth = "login={login}&state={state}&ticket={ticket}"
	const cookies = "{cookie}={pending}"
	f.Add(truth, cookies)
	f.Add(truth+"&x=1", "a=b; "+cookies)
	f.Add(truth+"&ticket={ticket}", cookies)
	f.Add("login={other}&state={state}&ticket={ticket}", cookies)
	f.Add("login={login}&state={state}%0a&code=0612345678abcdef", cookies)
	f.Add("login={login}&state={state}&ticket={ticket}", "wechat_session_login_0={pending}")
	f.Add("error=expired&state={state}&login={login}", "{cookie}={pending};{cookie}=")
	f.Add("%6cogin={login}&state={state};ticket={ticket}", cookies)
	_, a := crossSites(f)
	o := a.site.newOrigin("http://shop.example.org", "", false)
	var login ticket.Login
	var sealed, other string
	runs := 0
	f.Fuzz(func(t *testing.T, query, cookie string) {
		plain := query == truth && cookie == cookies
		if runs%30 == 0 { // each login is counted in the store for minutes, and takes 40 tickets
			login, sealed = loginOf(t, a, func(*ticket.Login) {})
			_, other = loginOf(t, a, func(l *ticket.Login) { l.Origin, l.ID = "http://evil.example", login.ID })
		}
		runs++
		voucher := ticket.Voucher{Identity: ticket.Identity{OpenID: "oFuzz", AppID: "wx0123456789abcdef", Scope: ticket.ScopeBase}, At: time.Now().UnixMilli()}
		tkt, err := a.site.app.gateway.tickets.Issue(t.Context(), ticket.Owner{Account: login.Account, Origin: login.Origin, Login: login.ID}, voucher, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		v := &visit{site: a.site, origin: o}
		pending, err := v.jar().seal(t.Context(), ticket.Pending{ID: login.ID, Return: []byte("/p"), Started: login.Started}, nil)
		if err != nil {
			t.Fatal(err)
		}
		fill := strings.NewReplacer("{login}", sealed, "{other}", other, "{state}", login.ID, "{ticket}", tkt, "{cookie}", o.cookies.login+login.ID, "{pending}", pending)
		query, cookie = fill.Replace(query), fill.Replace(cookie)
		r := &http.Request{
			Method: "GET", Host: "shop.example.org", RequestURI: "/_wechat/callback?" + query,
			URL:    &url.URL{Path: "/_wechat/callback", RawQuery: query},
			Header: http.Header{"Cookie": {cookie}, "Accept": {"text/html"}, "User-Agent": {"MicroMessenger"}},
		}
		ctx := context.WithValue(t.Context(), http.LocalAddrContextKey, &net.TCPAddr{Port: 80})
		w := httptest.NewRecorder()
		if err := a.ServeHTTP(w, caddyhttp.PrepareRequest(r.WithContext(ctx), newTestReplacer(), nil, nil), done); err != nil {
			t.Fatal(err)
		}
		if w.Code >= 500 {
			t.Errorf("status %d", w.Code)
		}
		whole := strings.Contains(cookie, pending)
		for _, part := range []string{sealed, tkt, login.ID} {
			whole = whole && (strings.Contains(query, part) || strings.Contains(query, "%"))
		}
		signedIn := slices.ContainsFunc(w.Result().Cookies(), func(c *http.Cookie) bool { return c.Name == "wechat_session" && c.Value != "" })
		if signedIn && !whole || plain && !signedIn {
			t.Errorf("signed in: %t, by %q and %q", signedIn, query, cookie)
		}
		if to := w.Header().Get("Location"); to != "" && !strings.HasPrefix(to, "http://shop.example.org/") && !strings.HasPrefix(to, "https://open.weixin.qq.com/connect/oauth2/authorize?") {
			t.Errorf("leads to %q", to)
		}
	})
}
