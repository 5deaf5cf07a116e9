package integration

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// redirectCookie is the only shape of a cookie that the gateway sets: host-only, for the whole host.
var redirectCookie = regexp.MustCompile(`^(__Host-)?wechat_session(_\d+)?(_guest|_login_[0-9a-f]{32})?=[A-Za-z0-9_.-]*; Path=/; Max-Age=\d+; HttpOnly; SameSite=Lax(; Secure)?$`)

// look notes every address in an answer: where it redirects to, where its page's links and forms lead, its login_url.
func (x *redirectWorld) look(t *testing.T, payload string, at redirectAt, base string, a *redirectAnswer) {
	t.Helper()
	for name, lines := range a.Header {
		if name != "Location" && strings.Contains(strings.ToLower(name+strings.Join(lines, "\n")), "redirect=evil") {
			t.Errorf("%q got into the header %s", payload, name)
		}
	}
	for _, line := range a.Header["Set-Cookie"] {
		if !redirectCookie.MatchString(line) || strings.HasPrefix(line, "__Host-") != strings.HasSuffix(line, "; Secure") {
			t.Errorf("%q set the cookie %q", payload, line)
		}
		if name, _, _ := strings.Cut(line, ";"); len(name) > 4096 {
			t.Errorf("%.200q set a cookie of %d bytes, which browsers drop", payload, len(name))
		}
	}
	home := []string{at.origin, x.sim.url, "https://auth.example.com", "https://both.example.com"}
	locations := a.Header["Location"]
	if len(locations) > 1 {
		t.Errorf("%q got the locations %q", payload, locations)
	}
	for _, to := range locations {
		if i := strings.IndexFunc(to, func(r rune) bool { return r <= ' ' || r >= 0x7f }); i >= 0 {
			t.Errorf("%q led to %q, which browsers do not read alike", payload, to)
		}
		x.note(payload, base, to, home...)
	}
	for _, to := range redirectLinks(a) {
		x.note(payload, base, to)
	}
}

// redirectLinks are the addresses in an answer's page or JSON.
func redirectLinks(a *redirectAnswer) (list []string) {
	switch kind := a.Header.Get("Content-Type"); {
	case strings.HasPrefix(kind, "application/json"):
		var body struct {
			LoginURL string `json:"login_url"`
		}
		if json.Unmarshal([]byte(a.body), &body) == nil && body.LoginURL != "" {
			list = append(list, body.LoginURL)
		}
	case strings.HasPrefix(kind, "text/html"):
		for z := html.NewTokenizer(strings.NewReader(a.body)); z.Next() != html.ErrorToken; {
			token := z.Token()
			for _, attr := range token.Attr {
				name := strings.TrimPrefix(attr.Key, "xlink:")
				leads := slices.Contains([]string{"href", "action", "formaction", "src", "srcset", "data", "ping", "cite", "poster", "background", "manifest"}, name)
				if leads || token.Data == "meta" && strings.Contains(strings.ToLower(attr.Val), "url=") || token.Data == "base" {
					list = append(list, attr.Val)
				}
			}
		}
	}
	return list
}

// weixin is WeChat's answer to an authorize link: where it sends the user.
func (x *redirectWorld) weixin(address string) (back string, status int) {
	address, _, _ = strings.Cut(address, "#")
	r := httptest.NewRequest(http.MethodGet, address, nil)
	r.Header.Set("User-Agent", wechattest.UserAgentAndroid)
	rec := httptest.NewRecorder()
	x.sim.ServeHTTP(rec, r)
	return rec.Header().Get("Location"), rec.Code
}

// redirectAt is where a walk begins: a site as it is reached, and the origin that must be signed there.
type redirectAt struct {
	sni, host, origin string
}

func redirectSite(host string) redirectAt { return redirectAt{host, host, "https://" + host} }

// walk follows a login that an answer began to its end, looking at every answer on the way. It returns where the signed-in
// browser was sent, and its token.
func (x *redirectWorld) walk(t *testing.T, w *redirectWire, at redirectAt, payload string, first *redirectAnswer) (landing, token string) {
	t.Helper()
	cookies, to := redirectCookies(first), first.Header.Get("Location")
	for range 5 {
		if strings.HasPrefix(to, x.sim.url+wechattest.PathAuthorize+"?") {
			back, status := x.weixin(to)
			if status != http.StatusFound {
				t.Errorf("%q: WeChat answered %d to %s", payload, status, to)
				return "", ""
			}
			x.note(payload, x.sim.url, back, at.origin, redirectNoPort(at.origin), "https://auth.example.com", "https://both.example.com")
			to = back
		}
		u, err := url.Parse(to)
		if err != nil {
			t.Errorf("%q led to %q", payload, to)
			return "", ""
		}
		sni, host, lines := at.sni, at.host, redirectInside+redirectLoad+cookies
		base := u.Scheme + "://" + u.Host
		if base != at.origin && base != redirectNoPort(at.origin) {
			sni, host, lines = u.Host, u.Host, redirectInside+redirectLoad // the broker sees no cookie of the site
		}
		a, err := w.send(sni, redirectGet(host, u.RequestURI(), lines))
		if err != nil || a == nil {
			t.Errorf("%q: no answer to %s: %v", payload, to, err)
			return "", ""
		}
		x.look(t, payload, at, base, a)
		to = a.Header.Get("Location")
		if token := redirectToken(a); token != "" || a.StatusCode != http.StatusFound {
			return to, token
		}
	}
	t.Errorf("%q: the login does not end", payload)
	return "", ""
}

// redirectNoPort is what WeChat is told of an origin: it takes no port.
func redirectNoPort(origin string) string {
	scheme, host, _ := strings.Cut(origin, "://")
	host, _, _ = strings.Cut(host, ":")
	return scheme + "://" + host
}

// redirectCookies is what a browser sends back of an answer's cookies, as header lines.
func redirectCookies(a *redirectAnswer) (lines string) {
	for _, c := range a.Cookies() {
		if c.Value != "" {
			lines += "Cookie: " + c.Name + "=" + c.Value + "\r\n"
		}
	}
	return lines
}

// redirectToken is the session that an answer signs in.
func redirectToken(a *redirectAnswer) string {
	for _, c := range a.Cookies() {
		name := strings.TrimPrefix(c.Name, "__Host-")
		if c.Value != "" && strings.HasPrefix(name, "wechat_session") && !strings.Contains(name, "_login_") && !strings.HasSuffix(name, "_guest") {
			return c.Value
		}
	}
	return ""
}
