package caddymodule

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-wechat/caddy-wechat/ticket"
)

// cookieNames are the gateway's cookies at one origin.
type cookieNames struct {
	base    string // the site's name for them
	session string
	guest   string
	login   string // a login's id stands behind it
	secure  bool
}

// newCookieNames names the cookies of an origin. On https they carry __Host-, so that no sibling domain
// can toss one in; cookies do not tell ports apart, so an origin's own port is part of the name.
func newCookieNames(base, port string, secure bool) cookieNames {
	name := base
	if secure {
		name = "__Host-" + name
	}
	if port != "" {
		name += "_" + port
	}
	return cookieNames{base: base, session: name, guest: name + "_guest", login: name + "_login_", secure: secure}
}

// ownCookies is what a request carries of the gateway's cookies. Names and values point into its headers.
type ownCookies struct {
	session [2]string // of two with one name, one was tossed in: see visit.recognise
	more    []string  // there were more than two: the further ones
	guest   string
	logins  []cookie // of this origin, in the order they came
}

type cookie struct{ name, value string }

const (
	// maxLoginCookies bounds what is read of login cookies that piled up. Browsers send the newest last, and a
	// callback needs that most.
	maxLoginCookies = 40
	// maxTossed bounds what is read of session cookies that were tossed in.
	maxTossed = 20
)

// readCookies finds the origin's own cookies by a scan that allocates nothing where there is but a session.
func (n *cookieNames) readCookies(lines []string) (own ownCookies) {
	for _, line := range lines {
		if !strings.Contains(line, n.base) {
			continue // 30 ns less for who has none
		}
		for line != "" {
			var part string
			part, line, _ = strings.Cut(line, ";")
			name, value, _ := strings.Cut(part, "=")
			n.take(&own, trimSpace(name), value)
		}
	}
	return own
}

func (n *cookieNames) take(own *ownCookies, name, value string) {
	if len(name) < len(n.session) {
		return
	}
	value = unquote(trimSpace(value))
	switch {
	case name == n.session && own.session[0] == "":
		own.session[0] = value
	case name == n.session && value == own.session[0]:
	case name == n.session && own.session[1] == "":
		own.session[1] = value
	case name == n.session && len(own.more) < maxTossed:
		own.more = append(own.more, value)
	case name == n.guest:
		own.guest = value
	case n.isLogin(name):
		if len(own.logins) == maxLoginCookies {
			own.logins = own.logins[1:]
		}
		own.logins = append(own.logins, cookie{name, value})
	}
}

// isLogin reports whether name is a login cookie's. Another name that begins as one was never set here,
// and must not be repeated in an answer: it may be as long as a request's header.
func (n *cookieNames) isLogin(name string) bool {
	id, ok := strings.CutPrefix(name, n.login)
	return ok && ticket.IsLoginID(id)
}

// cookieBases are names that sites have for their cookies. However many there are, a cookie is found out by its own
// name, in a few look-ups.
type cookieBases struct {
	names  map[string]bool
	only   string    // the one of them, where there are no others: a line that has it not needs no scan, 35 ns less
	begins [256]bool // with what a name may begin
}

func newCookieBases(names ...string) *cookieBases {
	b := &cookieBases{names: map[string]bool{}}
	for _, name := range names {
		b.add(name)
	}
	return b
}

func (b *cookieBases) add(name string) {
	b.names[name], b.begins[name[0]], b.only = true, true, name
	if len(b.names) > 1 {
		b.only = ""
	}
}

// has reports whether name is one of the gateway's cookies, prefixed or not, whatever its port.
func (b *cookieBases) has(name string) bool {
	if len(name) > 2 && name[0] == '_' && name[1] == '_' {
		name = strings.TrimPrefix(strings.TrimPrefix(name, "__Host-"), "__Secure-")
	}
	if name == "" || !b.begins[name[0]] { // most are not ours by their first letter: 100 ns less
		return false
	}
	if b.atPort(name) || b.atPort(strings.TrimSuffix(name, "_guest")) {
		return true
	}
	for at := 0; ; at++ { // a base may have _login_ in it
		i := strings.Index(name[at:], "_login_")
		if i < 0 {
			return false
		}
		if at += i; b.atPort(name[:at]) {
			return true
		}
	}
}

// atPort reports whether name is a base, or one with a port.
func (b *cookieBases) atPort(name string) bool {
	if b.names[name] {
		return true
	}
	base := strings.TrimRight(name, "0123456789")
	return len(base) < len(name) && strings.HasSuffix(base, "_") && b.names[base[:len(base)-1]]
}

// hideCookies removes the cookies of the gateway's sites from what the upstream sees, those of another
// site on the same host too. All others stay byte for byte and in their order.
func (a *App) hideCookies(h http.Header) { a.cookieBases.hide(h) }

func (b *cookieBases) hide(h http.Header) {
	lines := h["Cookie"]
	kept := lines[:0]
	for _, line := range lines {
		if line = b.hideIn(line); line != "" {
			kept = append(kept, line)
		}
	}
	switch len(kept) {
	case len(lines): // changed in place, if at all
	case 0:
		delete(h, "Cookie")
	default:
		h["Cookie"] = kept
	}
}

// hideIn returns line without the gateway's cookies. It allocates only where others stand on both sides of one.
func (b *cookieBases) hideIn(line string) string {
	if !strings.Contains(line, b.only) {
		return line
	}
	kept, begin := make([]string, 0, 4), 0
	for at := 0; at < len(line); {
		end := len(line)
		if i := strings.IndexByte(line[at:], ';'); i >= 0 {
			end = at + i
		}
		name, _, _ := strings.Cut(line[at:end], "=")
		if b.has(trimSpace(name)) {
			if at > begin {
				kept = append(kept, line[begin:at-1])
			}
			begin = end + 1
		}
		at = end + 1
	}
	if begin == 0 {
		return line
	}
	if begin < len(line) {
		kept = append(kept, line[begin:])
	}
	return strings.TrimPrefix(strings.Join(kept, ";"), " ")
}

// trimSpace removes what may stand around a cookie's name and value.
func trimSpace(s string) string { return strings.Trim(s, " \t") }

func unquote(s string) string {
	if len(s) > 1 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}

// header returns a Set-Cookie line; a negative life removes the cookie.
func (n *cookieNames) header(name, value string, life time.Duration) string {
	seconds := int64(life / time.Second)
	if life < 0 {
		seconds = 0
	}
	flags := "; HttpOnly; SameSite=Lax"
	if n.secure {
		flags = "; HttpOnly; SameSite=Lax; Secure"
	}
	return name + "=" + value + "; Path=/; Max-Age=" + strconv.FormatInt(seconds, 10) + flags
}

// set adds a cookie to an answer of the gateway's own.
func (n *cookieNames) set(w http.ResponseWriter, name, value string, life time.Duration) {
	h := w.Header()
	h["Set-Cookie"] = append(h["Set-Cookie"], n.header(name, value, life))
}

func (n *cookieNames) clear(w http.ResponseWriter, name string) { n.set(w, name, "", -1) }
