package caddymodule

import (
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// isPublic reports whether r needs no login whatever the matcher says: by the option `public`, which
// sees the path as the next handler does, or because it is one of the files that machines fetch.
func isPublic(public caddyhttp.MatchPath, r *http.Request) bool {
	if r.Method == http.MethodGet && isMachineFile(r.URL.Path) && isMachineFile(original(r).URL.Path) {
		return true
	}
	if len(public) == 0 || !plainPath(r.URL.EscapedPath()) {
		return false
	}
	yes, err := public.MatchWithError(r)
	return yes && err == nil
}

// isMachineFile: crawlers, browsers and WeChat fetch these without a session.
func isMachineFile(path string) bool {
	if path == "/robots.txt" || path == "/favicon.ico" {
		return true
	}
	return isVerifyFile(path)
}

func isVerifyFile(path string) bool {
	return (strings.HasPrefix(path, "/MP_verify_") || strings.HasPrefix(path, "/WW_verify_")) &&
		strings.HasSuffix(path, ".txt") && strings.Count(path, "/") == 1
}

// plainPath reports whether every upstream reads the path as Caddy does. What some read otherwise (dot
// segments, //, ;params, encoded slashes, dots, backslashes and control bytes) is never public:
// /pub/..;/member is /member to a servlet.
func plainPath(escaped string) bool {
	for i := range len(escaped) {
		switch rest := escaped[i+1:]; escaped[i] {
		case ';', '\\':
			return false
		case '%':
			if len(rest) < 2 || oddEscape(strings.ToLower(rest[:2])) {
				return false
			}
		case '/':
			if !plainSegment(rest) {
				return false
			}
		}
	}
	return strings.HasPrefix(escaped, "/") || plainSegment(escaped)
}

// plainSegment reports whether what begins a path's segment is neither the end of an empty one nor a dot segment.
func plainSegment(rest string) bool {
	if rest == "" || rest[0] != '.' {
		return rest == "" || rest[0] != '/'
	}
	segment, _, _ := strings.Cut(rest, "/")
	return segment != "." && segment != ".."
}

// oddEscape: control bytes, and % . / ; \ in disguise.
func oddEscape(hex string) bool {
	switch hex {
	case "25", "2e", "2f", "3b", "5c", "7f":
		return true
	}
	return hex[0] == '0' || hex[0] == '1'
}
