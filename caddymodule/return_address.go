package caddymodule

import (
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// returnAddress is where a client's user goes back to: parsed, checked, and rebuilt from its parts, so that
// a browser cannot read it otherwise than it was compared.
type returnAddress struct {
	origin   string // https://shop.example.org
	path     string // percent-encoded in one spelling
	query    string // "?…", or empty
	fragment string // "#…", or empty
}

var (
	errNoAddress     = errors.New("it is no http or https address with a host name, or there are two")
	errOddAddress    = errors.New("it has user info, a backslash, a control character, a blank or a dot segment")
	errLongAddress   = errors.New("it is longer than 2,000 bytes")
	errAppendedNames = errors.New("its query has a name already that is appended to it")
)

// parseReturn reads a return address to which parameters of these names will be appended.
func parseReturn(s string, appended ...string) (returnAddress, error) {
	if len(s) > maxReturn {
		return returnAddress{}, errLongAddress
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\\' }) {
		return returnAddress{}, errOddAddress
	}
	u, err := url.Parse(encodeHighPath(s))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Opaque != "" || u.Host == "" {
		return returnAddress{}, errNoAddress
	}
	if u.User != nil || hasDotSegment(u.EscapedPath()) {
		return returnAddress{}, errOddAddress
	}
	a := returnAddress{path: onePath(u.EscapedPath())}
	if a.origin, err = normalOrigin(u.Scheme + "://" + u.Host); err != nil || !isOneOrigin(a.origin) {
		return returnAddress{}, errNoAddress
	}
	if u.RawQuery != "" || u.ForceQuery {
		a.query = "?" + u.RawQuery
	}
	if _, fragment, ok := strings.Cut(encodeHigh(s), "#"); ok {
		a.fragment = "#" + fragment
	}
	if hasName(u.RawQuery, appended) {
		return returnAddress{}, errAppendedNames
	}
	return a, nil
}

// isOneOrigin reports whether a browser reads a normal origin as it is written. It reads 0x7f.1 and 127.1 as
// 127.0.0.1, and has several spellings of a port and of an IPv6 address for one.
func isOneOrigin(origin string) bool {
	u, err := url.Parse(origin)
	if err != nil || strings.Contains(u.Host, "*") || strings.HasPrefix(u.Port(), "0") {
		return false
	}
	host := u.Hostname()
	last := host[strings.LastIndexByte(host, '.')+1:]
	if strings.Trim(last, "0123456789") == "" || strings.HasPrefix(last, "0x") || strings.HasPrefix(u.Host, "[") {
		addr, err := netip.ParseAddr(host)
		return err == nil && !addr.Is4In6() && addr.String() == host
	}
	for label := range strings.SplitSeq(host, ".") {
		if _, err := idna.Lookup.ToASCII(label); err != nil && strings.HasPrefix(label, "xn--") {
			return false
		}
	}
	return true
}

// encodeHighPath percent-encodes what is not ASCII behind the host, which stays as it is written.
func encodeHighPath(s string) string {
	_, rest, ok := strings.Cut(s, "://")
	i := strings.IndexAny(rest, "/?#")
	if !ok || i < 0 {
		return s
	}
	i += len(s) - len(rest)
	return s[:i] + encodeHigh(s[i:])
}

// onePath returns an escaped path in one spelling: what needs no escape has none, the others are upper-case.
func onePath(escaped string) string {
	if escaped == "" {
		return "/"
	}
	var b strings.Builder
	for i := 0; i < len(escaped); i++ {
		if escaped[i] != '%' || i+2 >= len(escaped) {
			b.WriteByte(escaped[i])
			continue
		}
		plain, err := url.PathUnescape(escaped[i : i+3])
		if err == nil && isUnreserved(plain[0]) {
			b.WriteString(plain)
		} else {
			b.WriteString(strings.ToUpper(escaped[i : i+3]))
		}
		i += 2
	}
	return b.String()
}

func isUnreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

// maxDecodings is how many times over a path may be encoded.
const maxDecodings = 8

// hasDotSegment reports whether anybody may read a dot segment, or a control character, into the path:
// encoded, with encoded slashes or backslashes, with parameters behind it. What is encoded without end counts
// as one.
func hasDotSegment(escaped string) bool {
	p := escaped
	for range maxDecodings {
		for segment := range strings.FieldsFuncSeq(p, func(r rune) bool { return r == '/' || r == '\\' }) {
			segment, _, _ = strings.Cut(segment, ";")
			if segment == "." || segment == ".." {
				return true
			}
		}
		if strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return true
		}
		plain, changed := decodeOnce(p)
		if !changed {
			return false
		}
		p = plain
	}
	return true
}

// decodeOnce decodes what is an escape, as lenient readers do, and leaves the rest. It reports whether there was
// one.
func decodeOnce(s string) (plain string, changed bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i, changed = i+2, true
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String(), changed
}

// hasName reports whether somebody may read one of these names in the query: case ignored as some do, name[] and
// [name] as name, with blanks before it, as PHP does, or with another ? before it, as scripts do that cut one off
// themselves.
func hasName(rawQuery string, names []string) bool {
	for pair := range strings.FieldsFuncSeq(rawQuery, func(r rune) bool { return r == '&' || r == ';' }) {
		name, _, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		name = strings.TrimLeftFunc(name, func(r rune) bool { return r <= ' ' || r == '?' || r == '[' })
		if i := strings.IndexAny(name, "[]\x00"); i >= 0 {
			name = name[:i]
		}
		name = strings.TrimRightFunc(name, func(r rune) bool { return r <= ' ' })
		if err != nil || slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) }) {
			return true
		}
	}
	return false
}

// hasNameBehind reports whether somebody may read one of these names in the fragment.
func (a returnAddress) hasNameBehind(names []string) bool {
	return hasName(strings.NewReplacer("#", "&", "?", "&").Replace(a.fragment), names)
}

// with returns the address with pairs appended to its query, or, where it has a fragment and behind says so,
// to that.
func (a returnAddress) with(pairs string, behind bool) string {
	query, fragment := a.query, a.fragment
	if behind && fragment != "" {
		fragment = appendPairs(fragment, pairs)
	} else {
		query = appendPairs(query, pairs)
	}
	return a.origin + a.path + query + fragment
}

func appendPairs(s, pairs string) string {
	switch {
	case !strings.Contains(s, "?"):
		return s + "?" + pairs
	case strings.IndexByte(s, '?') == len(s)-1:
		return s + pairs
	}
	return s + "&" + pairs
}

// String returns the address without anything appended.
func (a returnAddress) String() string { return a.origin + a.path + a.query + a.fragment }

// returnPattern is an option return_to: origin exact, the path exact or up to its *.
type returnPattern struct {
	origin string
	path   string
	prefix bool
}

func newReturnPattern(pattern string) returnPattern {
	path := normalReturnTo(pattern)
	origin := path[:strings.Index(path[len("https://"):], "/")+len("https://")]
	path, prefix := strings.CutSuffix(path[len(origin):], "*")
	return returnPattern{origin, onePath(path), prefix}
}

// compare puts the pattern first that says more: the longer one, and of two equally long ones that without a *.
func (p returnPattern) compare(q returnPattern) int {
	if n := len(q.origin+q.path) - len(p.origin+p.path); n != 0 || p.prefix == q.prefix {
		return n
	}
	if q.prefix {
		return -1
	}
	return 1
}

func (p returnPattern) matches(a returnAddress) bool {
	return p.origin == a.origin && (p.path == a.path || p.prefix && strings.HasPrefix(a.path, p.path))
}

// String returns the pattern as it is written.
func (p returnPattern) String() string {
	if p.prefix {
		return p.origin + p.path + "*"
	}
	return p.origin + p.path
}
