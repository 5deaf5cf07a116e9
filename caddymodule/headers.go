package caddymodule

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddy-wechat/caddy-wechat/ticket"
)

// identityHeaders names the headers that tell the upstream who the user is, and knows every spelling of
// them that a client may try.
type identityHeaders struct {
	names    [6]string // canonical, in the order of identityValues
	token    string    // canonical, "" for none
	families []string  // folded prefixes that are ours alone
	tokenKey string    // folded
	suspects [256]bool // with what a name of ours may begin, in any spelling
}

// identityNames are the endings of the headers' names.
var identityNames = [6]string{"Openid", "Unionid", "Appid", "Scope", "Nickname", "Headimgurl"}

func newIdentityHeaders(prefix, token string) *identityHeaders {
	h := &identityHeaders{families: []string{fold(defaultPrefix)}}
	if f := fold(prefix); f != h.families[0] {
		h.families = append(h.families, f)
	}
	for i, name := range identityNames {
		h.names[i] = http.CanonicalHeaderKey(prefix + name)
	}
	if token != "" {
		h.token, h.tokenKey = http.CanonicalHeaderKey(token), fold(token)
	}
	for c := range h.suspects {
		h.suspects[c] = h.mayBegin(fold(string(rune(c))))
	}
	return h
}

// mayBegin reports whether a name of ours may begin with a character that folds to folded: what folds to
// nothing may stand before any.
func (h *identityHeaders) mayBegin(folded string) bool {
	return folded == "" || h.tokenKey != "" && strings.HasPrefix(h.tokenKey, folded) ||
		slices.ContainsFunc(h.families, func(family string) bool { return strings.HasPrefix(family, folded) })
}

// identityValues are the headers' values, ready to send. An absent value is an absent header.
func identityValues(id ticket.Identity) [6]string {
	return [6]string{id.OpenID, id.UnionID, id.AppID, id.Scope, encodeComponent(id.Nickname), id.HeadImgURL}
}

// encodeComponent percent-encodes s as UTF-8, for rawurldecode and decodeURIComponent.
func encodeComponent(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// scrub removes all that a client sent under our names: headers in any spelling that an upstream may
// fold into the same name (PHP takes X_Wechat.Openid for X-Wechat-Openid), and all trailers, because Go
// fills those in after this (deleting single ones does not help). It also takes our names out of
// Connection, or the proxy would drop the headers that we set, and the way out of all this, Upgrade to
// something else than a web socket: with h2c a client would go on to speak to the upstream itself.
func (h *identityHeaders) scrub(r *http.Request) {
	for name := range r.Header {
		if (name == "" || h.suspects[name[0]]) && h.claims(name) { // most are not by their first letter: 30 ns less
			delete(r.Header, name)
		}
	}
	r.Trailer = nil
	if up := r.Header["Upgrade"]; len(up) > 1 || len(up) == 1 && !strings.EqualFold(up[0], "websocket") {
		delete(r.Header, "Upgrade")
	}
	if lines := r.Header["Connection"]; len(lines) > 0 {
		h.scrubConnection(r.Header, lines)
	}
}

func (h *identityHeaders) scrubConnection(header http.Header, lines []string) {
	var kept []string
	for _, line := range lines {
		var options []string
		for option := range strings.SplitSeq(line, ",") {
			if !h.claims(option) {
				options = append(options, option)
			}
		}
		if len(options) > 0 {
			kept = append(kept, strings.Join(options, ","))
		}
	}
	if len(kept) == 0 {
		delete(header, "Connection")
		return
	}
	header["Connection"] = kept
}

// claims reports whether name is one of ours in any spelling: letters and digits compared alone, case
// ignored. It allocates nothing.
func (h *identityHeaders) claims(name string) bool {
	for _, family := range h.families {
		if foldedPrefix(name, family) {
			return true
		}
	}
	return h.tokenKey != "" && foldedPrefix(name, h.tokenKey) && fold(name) == h.tokenKey
}

// foldedPrefix reports whether fold(name) begins with prefix.
func foldedPrefix(name, prefix string) bool {
	matched := 0
	for i := 0; i < len(name) && matched < len(prefix); i++ {
		c := name[i]
		switch {
		case c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		default:
			continue
		}
		if c != prefix[matched] {
			return false
		}
		matched++
	}
	return matched == len(prefix)
}

// set tells the next handler who s is. Each request gets slices of its own: request_header writes into them. All are
// cut from one: an allocation less for each header but the first.
func (h *identityHeaders) set(header http.Header, s *liveSession) {
	values := make([]string, 0, s.present+1)
	add := func(name, value string) {
		if value != "" {
			values = append(values, value)
			header[name] = values[len(values)-1 : len(values) : len(values)]
		}
	}
	for i, name := range h.names {
		add(name, s.values[i])
	}
	if h.token != "" {
		add(h.token, s.token)
	}
}

// fold returns the letters and digits of a header's name, lower-case: what every spelling of it that an
// upstream may take for the same name has in common.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return -1
	}, name)
}
