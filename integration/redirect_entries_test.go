package integration

import (
	"fmt"
	"html"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// payloadsHaveTeeth: a list that a browser would stay at home with proves nothing.
func (x *redirectWorld) payloadsHaveTeeth(t *testing.T) {
	payloads := redirectPayloads()
	if len(payloads) < 1000 {
		t.Errorf("%d payloads", len(payloads))
	}
	var bare, behind []redirectFound
	for _, p := range payloads {
		bare = append(bare, redirectFound{Base: "https://shop.example.org/member/", Address: p})
		behind = append(behind, redirectFound{Base: "https://shop.example.org/member/", Address: "https://shop.example.org" + p})
	}
	away := func(found []redirectFound) (n int) {
		for _, v := range redirectVerdicts(t, x.node, found) {
			if v.Error == "" && v.Origin != "https://shop.example.org" {
				n++
			}
		}
		return n
	}
	if n := away(bare); n < 300 {
		t.Errorf("as an address only %d of them leave", n)
	}
	if n := away(behind); n < 20 {
		t.Errorf("put behind the origin only %d of them leave", n)
	}
}

// redirectPlain is a path of this site as every browser reads it.
var redirectPlain = regexp.MustCompile(`^/([^/\\\x00-\x1f\x7f][^\\\x00-\x1f\x7f]*)?$`)

// redirectWanted is where the return path p must lead; leadsBack says that a browser would find the start or the end of
// a login there.
func redirectWanted(p string, leadsBack bool) string {
	if len(p) > 2000 {
		p = p[:strings.IndexAny(p+"?", "?#")]
	}
	if len(p) > 2000 || leadsBack || !redirectPlain.MatchString(p) {
		p = "/"
	}
	return redirectSent(p)
}

// redirectLeadsBack: path is what the WHATWG parser makes of a return path, and endpoints those of a site.
func redirectLeadsBack(path, endpoints string) bool {
	plain, err := url.PathUnescape(path)
	if err != nil {
		plain = path
	}
	name, ok := strings.CutPrefix(plain, endpoints+"/")
	return ok && (name == "login" || name == "callback" || name == "logout")
}

// redirectSent is how a browser sends a path, but for the fragment: an empty one keeps #wechat_redirect away.
func redirectSent(p string) string {
	var b strings.Builder
	for i := range len(p) {
		if c := p[i]; c == ' ' || c >= 0x80 {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	if !strings.Contains(p, "#") {
		b.WriteByte('#')
	}
	return b.String()
}

// redirectPayload is a payload and what it must lead to as a return path.
type redirectPayload struct {
	text, wanted string
	path         string // as the WHATWG parser reads it
	behind       string // and with /app in front
}

func (x *redirectWorld) payloads(t *testing.T) (list []redirectPayload) {
	t.Helper()
	var found []redirectFound
	for _, p := range redirectPayloads() {
		found = append(found, redirectFound{Base: "https://shop.example.org", Address: p}, redirectFound{Base: "https://shop.example.org", Address: "/app" + p})
	}
	verdicts := redirectVerdicts(t, x.node, found)
	for i := 0; i < len(found); i += 2 {
		p := found[i].Address
		list = append(list, redirectPayload{p, redirectWanted(p, redirectLeadsBack(verdicts[i].Path, "/_wechat")), verdicts[i].Path, verdicts[i+1].Path})
	}
	return list
}

// redirectEntry is a way on which a payload comes in.
type redirectEntry struct {
	name  string
	at    redirectAt
	play  redirectPlay
	begin func(t *testing.T) redirectPlay // makes play of what it needs first
	half  bool                            // every other payload will do
	least int                             // addresses that the answers named
}

type redirectPlay func(t *testing.T, w *redirectWire, at redirectAt, p redirectPayload)

func (x *redirectWorld) entries(t *testing.T) {
	payloads := x.payloads(t)
	var halves [2][]redirectPayload
	for i, p := range payloads {
		halves[i%2] = append(halves[i%2], p)
	}
	for i, e := range x.entryList() {
		t.Run(e.name, func(t *testing.T) {
			if e.begin != nil {
				e.play = e.begin(t)
			}
			some := payloads
			if e.half {
				some = halves[i%2]
			}
			if len(some) < 500 {
				t.Errorf("%d payloads", len(some))
			}
			redirectEach(x, some, func(w *redirectWire, p redirectPayload) {
				if !t.Failed() {
					e.play(t, w, e.at, p)
				}
			})
			if n := x.judge(t); n < e.least {
				t.Errorf("the answers named %d addresses, want %d at least", n, e.least)
			}
		})
	}
}

func (x *redirectWorld) entryList() []redirectEntry {
	shop, part := redirectSite("shop.example.org"), redirectSite("part.example.org")
	return []redirectEntry{
		{name: "the request's own URI, across domains", at: shop, play: x.ownURI("", "/_wechat"), least: 2000},
		{name: "the request's own URI after a rewrite", at: redirectSite("rewrite.example.org"), play: x.ownURI("", "/_wechat"), half: true, least: 750},
		{name: "the request's own URI after uri strip_prefix", at: redirectSite("strip.example.org"), play: x.ownURI("/app", "/_wechat"), half: true, least: 550},
		{name: "the request's own URI in handle_path", at: redirectSite("path.example.org"), play: x.ownURI("/app", "/app/_wechat"), half: true, least: 550},
		{name: "the request's own URI after try_files", at: redirectSite("try.example.org"), play: x.ownURI("", "/_wechat"), half: true, least: 750},
		{name: "the request's own URI in handle_errors", at: redirectSite("errors.example.org"), play: x.errorRoute, half: true},
		{name: "a return path, percent-encoded, to its end", at: redirectSite("both.example.com"), play: x.returnTo("/_wechat", url.QueryEscape), least: 3000},
		{name: "a return path in handle_path", at: redirectSite("path.example.org"), begin: x.signedIn(redirectSite("path.example.org"), "/app/x", "/app/_wechat", redirectEscape), half: true, least: 500},
		{name: "a return path of somebody signed in, every byte encoded", at: shop, begin: x.signedIn(shop, "/", "/_wechat", redirectEscape), least: 1000},
		{name: "a return path as it is", at: shop, begin: x.signedIn(shop, "/", "/_wechat", nil), least: 600},
		{name: "a return path, encoded twice", at: shop, begin: x.signedIn(shop, "/", "/_wechat", func(s string) string { return url.QueryEscape(redirectEscape(s)) }), half: true, least: 500},
		{name: "the button of the page before a profile is asked for", at: redirectSite("profile.example.org"), play: x.profileButton, half: true, least: 250},
		{name: "the address to open in WeChat", at: shop, play: x.openInWeChat, half: true, least: 400},
		{name: "a script's Referer", at: shop, play: x.scriptReferer, least: 1000},
		{name: "a form's Referer", at: shop, play: x.formReferer, half: true, least: 350},
		{name: "a logout's return, by POST", at: part, play: x.logoutByPost, least: 1500},
		{name: "a logout's return, by a link of the site's own", at: part, play: x.logoutByGet, least: 1500},
		{name: "the button of the logout page", at: part, play: x.logoutPage, half: true, least: 500},
		{name: "a callback's parameters, each of them junk", at: shop, play: x.callbackJunk, least: 500},
		{name: "a broker's parameters, each of them junk", at: redirectSite("auth.example.com"), play: x.callbackJunk, half: true},
		{name: "a callback with the login of another tab", at: shop, begin: x.callbackWithLogin, half: true, least: 500},
		{name: "the button after too many attempts", at: shop, begin: x.tooManyAttempts, least: 1000},
		{name: "a snapshot visitor's way on", at: redirectSite("guest.example.org"), play: x.snapshot, half: true, least: 750},
		{name: "the button where cookies are off", at: shop, play: x.withoutCookies, half: true, least: 750},
	}
}

// redirectEscape encodes every byte.
func redirectEscape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, "%%%02x", s[i])
	}
	return b.String()
}

// play sends a request, looks at the answer and returns it, nil where there was none.
func (x *redirectWorld) play(t *testing.T, w *redirectWire, at redirectAt, p, request string) *redirectAnswer {
	t.Helper()
	a, err := w.send(at.sni, request)
	if err != nil {
		t.Errorf("%.200q: %v", p, err)
		return nil
	}
	if a != nil {
		x.look(t, p, at, at.origin, a)
	}
	return a
}

// login follows what an answer began, and compares where it ends; "" is anywhere at home.
func (x *redirectWorld) login(t *testing.T, w *redirectWire, at redirectAt, p string, a *redirectAnswer, wanted string) {
	t.Helper()
	landing, token := x.walk(t, w, at, p, a)
	if token == "" {
		t.Errorf("%.200q does not sign in; it led to %.200q", p, landing)
		return
	}
	if aud := claims(t, token)["aud"]; aud != at.origin {
		t.Errorf("%.200q brought a session for %v", p, aud)
	}
	if wanted != "" && landing != at.origin+wanted {
		t.Errorf("%.200q came back as %.200q, want %.200q", p, landing, at.origin+wanted)
	}
}

// ownURI: a login starts without any parameter, so GET //evil.example/ is the open redirect.
func (x *redirectWorld) ownURI(prefix, endpoints string) redirectPlay {
	return func(t *testing.T, w *redirectWire, at redirectAt, p redirectPayload) {
		target, wanted := prefix+p.text, p.wanted
		if prefix != "" {
			wanted = redirectWanted(target, redirectLeadsBack(p.behind, endpoints))
		}
		a := x.play(t, w, at, target, redirectGet(at.host, target, redirectInside, redirectLoad))
		u, err := url.ParseRequestURI(target)
		refused := err != nil || !redirectPlain.MatchString(target) || strings.Contains(target, " ") // by Go, with 400
		switch own := err == nil && strings.HasPrefix(u.Path, endpoints+"/"); {
		case prefix != "" && (!strings.HasPrefix(p.text, "/") || err == nil && strings.Contains(u.Path, "/.") && a.Header.Get("Location") == ""): // not in /app
		case err == nil && u.Host != "" && u.Host != at.host: // another site's
		case a != nil && a.Header.Get("Location") != "" && (own || target[0] != '/'):
			x.login(t, w, at, target, a, "") // an endpoint with a return path of its own, or absolute-form
		case a != nil && a.Header.Get("Location") != "":
			x.login(t, w, at, target, a, wanted)
		case !refused && !own:
			t.Errorf("%.200q: %v", target, a)
		}
	}
}

// errorRoute: an error route asks nobody to log in.
func (x *redirectWorld) errorRoute(t *testing.T, w *redirectWire, at redirectAt, p redirectPayload) {
	a := x.play(t, w, at, p.text, redirectGet(at.host, p.text, redirectInside, redirectLoad))
	if a != nil && strings.HasPrefix(p.text, "/") && (a.Header.Get("Location") != "" || len(a.Header["Set-Cookie"]) > 0) {
		t.Errorf("%.200q got %d %v", p.text, a.StatusCode, a.Header)
	}
}

// returnTo starts a login by its endpoint and follows it.
func (x *redirectWorld) returnTo(path string, encode func(string) string) redirectPlay {
	return func(t *testing.T, w *redirectWire, at redirectAt, p redirectPayload) {
		a := x.play(t, w, at, p.text, redirectGet(at.host, path+"/login?return="+encode(p.text), redirectInside, redirectLoad))
		x.login(t, w, at, p.text, a, p.wanted)
	}
}

// session signs somebody in at a site, for the header lines of the next requests.
func (x *redirectWorld) session(t *testing.T, at redirectAt, page string) string {
	t.Helper()
	w := x.redirectWire()
	defer w.close()
	a := x.play(t, w, at, page, redirectGet(at.host, page, redirectInside, redirectLoad))
	_, token := x.walk(t, w, at, page, a)
	if token == "" {
		t.Fatalf("not signed in at %s", at.origin)
	}
	return "Cookie: __Host-wechat_session=" + token + "\r\n"
}

// redirectRaw is a return path that means itself without being encoded.
var redirectRaw = regexp.MustCompile(`^/[^\\&#+%\x00-\x20\x7f]*$`)

// signedIn: a session that suffices goes straight to the return path. encode is nil for a payload as it is.
func (x *redirectWorld) signedIn(at redirectAt, page, path string, encode func(string) string) func(*testing.T) redirectPlay {
	return func(t *testing.T) redirectPlay {
		session := x.session(t, at, page)
		return func(t *testing.T, w *redirectWire, at redirectAt, p redirectPayload) {
			sent := p.text
			if encode != nil {
				sent = encode(sent)
			}
			a := x.play(t, w, at, p.text, redirectGet(at.host, path+"/login?return="+sent, redirectInside, redirectLoad, session))
			switch {
			case encode == nil && !redirectRaw.MatchString(p.text):
			case encode == nil && a.Header.Get("Location") != at.origin+p.wanted:
				t.Errorf("%.200q, as it is, came back as %.200q, want %.200q", p.text, a, p.wanted)
			case encode == nil:
			case a == nil || a.StatusCode != 303:
				t.Errorf("%.200q: %v", p.text, a)
			case len(sent) == 3*len(p.text) && path == "/_wechat" && a.Header.Get("Location") != at.origin+p.wanted:
				t.Errorf("%.200q came back as %.200q, want %.200q", p.text, a.Header.Get("Location"), p.wanted)
			}
		}
	}
}

// returnIn is the return path in the one address of a page or of JSON.
func (x *redirectWorld) returnIn(t *testing.T, p string, a *redirectAnswer) string {
	t.Helper()
	if a == nil {
		t.Errorf("%.200q: no answer", p)
		return ""
	}
	links := redirectLinks(a)
	if len(links) != 1 {
		t.Errorf("%.200q: status %d with the addresses %.200q", p, a.StatusCode, links)
		return ""
	}
	u, err := url.Parse(links[0])
	if err != nil {
		t.Errorf("%.200q: %v", p, err)
		return ""
	}
	return u.Query().Get("return")
}

func (x *redirectWorld) profileButton(t *testing.T, w *redirectWire, at redirectAt, p redirectPayload) {
	a := x.play(t, w, at, p.text, redirectGet(at.host, p.text, redirectInside, redirectLoad))
	u, err := url.ParseRequestURI(p.text)
	if err != nil || a == nil || a.StatusCode != 200 || strings.HasPrefix(u.Path, "/_wechat/") || p.text[0] != '/' {
		return
	}
	if to := x.returnIn(t, p.text, a); redirectSent(to) != p.wanted {
		t.Errorf("%.200q is behind the button as %.200q, want %.200q", p.text, to, p.wanted)
	}
}

// openInWeChat: the address that a page shows and draws is opened by whoever believes it.
func (x *redirectWorld) openInWeChat(t *testing.T, w *redirectWire, at redirectAt, p redirectPayload) {
	for i, target := range []string{p.text, "/_wechat/login?return=" + url.QueryEscape(p.text)} {
		if i > 0 && len(p.text)%3 > 0 {
			continue // drawing takes its time
		}
		a := x.play(t, w, at, target, redirectGet(at.host, target, redirectOutside, redirectLoad))
		if a == nil || a.StatusCode != 403 {
			continue
		}
		_, shown, _ := strings.Cut(a.body, `translate="no">`)
		shown, _, _ = strings.Cut(shown, "</div>")
		if shown == "" {
			t.Errorf("%.200q: a page without an address", target)
		}
		x.note(target, at.origin, html.UnescapeString(shown))
	}
}

func (x *redirectWorld) scriptReferer(t *testing.T, w *redirectWire, at redirectAt, p redirectPayload) {
	for _, referer := range []string{at.origin + p.text, p.text} {
		a := x.play(t, w, at, referer, redirectGet(at.host, "/api", redirectInside, redirectScript, "Referer: "+referer+"\r\n"))
		if a == nil || a.StatusCode != 401 {
			continue // the line ends of a payload
		}
		to, wanted := x.returnIn(t, referer, a), "/#"
		if referer != p.text && strings.TrimSpace(p.text) == p.text && !strings.ContainsAny(p.text, "\r\n") {
			wanted = p.wanted
		}
		if got := redirectSent(to); got != wanted && !strings.ContainsAny(p.text, "\r\n") && strings.TrimSpace(p.text) == p.text {
			t.Errorf("the Referer %.200q is in login_url as %.200q, want %.200q", referer, to, wanted)
		}
	}
}

// formReferer: the button back to a form's page is the only one that leads to a return path itself.
func (x *redirectWorld) formReferer(t *testing.T, w *redirectWire, at redirectAt, p redirectPayload) {
	for _, referer := range []string{at.origin + p.text, p.text} {
		x.play(t, w, at, referer, redirectPost(at.host, "/form", "a=b", redirectInside, redirectForm, "Referer: "+referer+"\r\n"))
	}
	x.play(t, w, at, p.text, redirectPost(at.host, p.text, "a=b", redirectInside, redirectForm))
}

func (x *redirectWorld) logoutByPost(t *testing.T, w *redirectWire, at redirectAt, p redirectPayload) {
	sent := url.QueryEscape(p.text)
	own := "Origin: " + at.origin + "\r\nSec-Fetch-Site: same-origin\r\n"
	x.afterLogout(t, at, p, x.play(t, w, at, p.text, redirectPost(at.host, "/_wechat/logout?return="+sent, "", redirectForm, own)))
	x.afterLogout(t, at, p, x.play(t, w, at, p.text, redirectPost(at.host, "/_wechat/logout", "return="+sent, redirectForm, own)))
}

// afterLogout: the return path itself, or the page that says so, as some paths need a login.
func (x *redirectWorld) afterLogout(t *testing.T, at redirectAt, p redirectPayload, a *redirectAnswer) {
	t.Helper()
	if a == nil || a.StatusCode != 303 {
		t.Errorf("%.200q: a logout got %v", p.text, a)
		return
	}
	to, bye := a.Header.Get("Location"), at.origin+"/_wechat/bye#"
	if to != bye && (to != at.origin+p.wanted || strings.HasPrefix(p.path, "/member/") && p.wanted != "/#") {
		t.Errorf("%.200q: a logout led to %.200q", p.text, to)
	}
}

func (x *redirectWorld) logoutByGet(t *testing.T, w *redirectWire, at redirectAt, p redirectPayload) {
	encoded := "/_wechat/logout?return=" + redirectEscape(p.text)
	x.afterLogout(t, at, p, x.play(t, w, at, p.text, redirectGet(at.host, encoded, redirectLoad, "Sec-Fetch-Site: same-origin\r\n")))
	x.afterLogout(t, at, p, x.play(t, w, at, p.text, redirectGet(at.host, encoded, "Accept: text/html\r\nReferer: "+at.origin+"/x\r\n")))
	x.play(t, w, at, p.text, redirectGet(at.host, "/_wechat/logout?return="+p.text, redirectLoad, "Sec-Fetch-Site: same-origin\r\n"))
}

func (x *redirectWorld) logoutPage(t *testing.T, w *redirectWire, at redirectAt, p redirectPayload) {
	a := x.play(t, w, at, p.text, redirectGet(at.host, "/_wechat/logout?return="+url.QueryEscape(p.text), redirectLoad))
	if to := x.returnIn(t, p.text, a); p.text != "" && redirectSent(to) != p.wanted {
		t.Errorf("%.200q is behind the button as %.200q, want %.200q", p.text, to, p.wanted)
	}
}
