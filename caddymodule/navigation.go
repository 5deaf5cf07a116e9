package caddymodule

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// requestKind is what a refusal has to suit: a person who sees a page, or a script that reads JSON.
type requestKind int

const (
	kindOther requestKind = iota
	kindPageLoad
	kindForm
)

// kindOf tells what r is. Only a page load may be redirected: a script would follow to WeChat and get
// nothing, and a POST would arrive there without its body.
func kindOf(r *http.Request) requestKind {
	mode := r.Header.Get("Sec-Fetch-Mode")
	dest := r.Header.Get("Sec-Fetch-Dest")
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		if mode != "" {
			return when(mode == "navigate" && (dest == "" || dest == "document"), kindPageLoad)
		}
		return when(acceptsHTML(r) && r.Header.Get("Upgrade") == "" && !isXHR(r), kindPageLoad)
	case http.MethodPost:
		if mode != "" {
			return when(mode == "navigate", kindForm)
		}
		return when(acceptsHTML(r) && hasFormBody(r) && !isXHR(r), kindForm)
	}
	return kindOther
}

func when(yes bool, k requestKind) requestKind {
	if yes {
		return k
	}
	return kindOther
}

// isXHR compares with the literal: WeChat on Android sends com.tencent.mm there on navigations.
func isXHR(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("X-Requested-With"), "XMLHttpRequest")
}

func acceptsHTML(r *http.Request) bool {
	for _, line := range r.Header["Accept"] {
		for part := range strings.SplitSeq(line, ",") {
			media, params, _ := strings.Cut(part, ";")
			if strings.EqualFold(strings.TrimSpace(media), "text/html") && !refused(params) {
				return true
			}
		}
	}
	return false
}

// refused reports whether a media type's parameters say q=0.
func refused(params string) bool {
	for p := range strings.SplitSeq(params, ";") {
		if q, ok := strings.CutPrefix(strings.ToLower(strings.TrimSpace(p)), "q="); ok {
			return strings.Trim(q, "0.") == ""
		}
	}
	return false
}

func hasFormBody(r *http.Request) bool {
	media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	switch strings.ToLower(strings.TrimSpace(media)) {
	case "application/x-www-form-urlencoded", "multipart/form-data", "text/plain":
		return true
	}
	return false
}

// asSent is a request's line as the browser sent it, before rewrite, try_files and handle_path.
type asSent struct {
	Method     string
	URL        *url.URL
	RequestURI string
}

func original(r *http.Request) asSent {
	switch orig := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(type) { // an assertion copies the request once more: 20 ns
	case http.Request:
		return asSent{orig.Method, orig.URL, orig.RequestURI}
	default:
		return asSent{r.Method, r.URL, r.RequestURI}
	}
}

// maxReturn bounds a return path, in bytes.
const maxReturn = 2000

// returnPath returns s if it is a path of this site that a browser can be sent to, else "/". It is put
// behind the site's own origin, so it cannot leave; what a URL parser would drop or bend is refused all
// the same. One over maxReturn is cut to its path, then to "/".
func (s *site) returnPath(p string) string {
	p = strings.ReplaceAll(p, " ", "%20") // first, or it would grow past the bound
	if len(p) > maxReturn {
		p, _, _ = strings.Cut(p, "?")
		p, _, _ = strings.Cut(p, "#")
	}
	if len(p) > maxReturn || len(p) == 0 || p[0] != '/' || strings.HasPrefix(p, "//") {
		return "/"
	}
	for i := range len(p) {
		if c := p[i]; c <= 0x1f || c == 0x7f || c == '\\' {
			return "/"
		}
	}
	if s.leadsBack(p) {
		return "/"
	}
	return p
}

// wantedReturn is the parameter return of a query. Go's own reading drops a value with a semicolon in it,
// which is a path that a browser sends as it is.
func wantedReturn(rawQuery string) string {
	for pair := range strings.SplitSeq(rawQuery, "&") {
		if value, ok := strings.CutPrefix(pair, "return="); ok {
			plain, _ := url.QueryUnescape(value)
			return plain
		}
	}
	return ""
}

// leadsBack reports whether p is an endpoint that would start or end a login again.
func (s *site) leadsBack(p string) bool {
	if plain := strings.IndexByte(p, '%') < 0 && !strings.Contains(p, "/."); plain && !strings.HasPrefix(p, s.path) {
		return false // as most are: a browser changes nothing in them
	}
	rest, ok := strings.CutPrefix(browserPath(p), s.path+"/")
	return ok && (rest == "login" || rest == "callback" || rest == "logout")
}

// browserPath is the path at which a browser asks for the return path p, percent-decoded: it resolves dot
// segments first, written as %2e too, and one that is empty or holds %2F counts as a segment.
func browserPath(p string) string {
	p, _, _ = strings.Cut(p, "?")
	p, _, _ = strings.Cut(p, "#")
	var kept []string
	for segment := range strings.SplitSeq(strings.TrimPrefix(p, "/"), "/") {
		switch strings.ReplaceAll(strings.ToLower(segment), "%2e", ".") {
		case ".":
		case "..":
			kept = kept[:max(0, len(kept)-1)]
		default:
			kept = append(kept, segment)
		}
	}
	p = "/" + strings.Join(kept, "/")
	if plain, err := url.PathUnescape(p); err == nil {
		return plain
	}
	return p
}

// ownURI returns the return path to the page that r asked for.
func (s *site) ownURI(r *http.Request) string {
	orig := original(r)
	if strings.HasPrefix(orig.RequestURI, "/") {
		return s.returnPath(orig.RequestURI)
	}
	return s.returnPath(orig.URL.RequestURI())
}

// refererPath returns the path and query of the page that r came from, if it is of this origin, else "/".
func (o *origin) refererPath(r *http.Request) string {
	rest, ok := strings.CutPrefix(r.Header.Get("Referer"), o.name)
	if !ok || rest == "" || rest[0] != '/' {
		return "/"
	}
	return o.site.returnPath(rest)
}

// go303 sends the browser on to a return path. The empty fragment keeps it from carrying
// #wechat_redirect along.
func (o *origin) go303(w http.ResponseWriter, returnPath string) {
	to := o.name + encodeHigh(returnPath)
	if !strings.Contains(to, "#") {
		to += "#"
	}
	redirect(w, http.StatusSeeOther, to)
}

// encodeHigh percent-encodes what is not ASCII: browsers differ about such bytes in a Location.
func encodeHigh(s string) string {
	const hex = "0123456789ABCDEF"
	var b []byte
	for i := range len(s) {
		if c := s[i]; c >= 0x80 {
			if b == nil {
				b = append(b, s[:i]...)
			}
			b = append(b, '%', hex[c>>4], hex[c&15])
		} else if b != nil {
			b = append(b, c)
		}
	}
	if b == nil {
		return s
	}
	return string(b)
}

// redirect answers with a redirect that no cache keeps and no body repeats.
func redirect(w http.ResponseWriter, status int, to string) {
	h, values := w.Header(), []string{to, "no-store", "no-referrer"} // in one piece
	h["Location"], h["Cache-Control"], h["Referrer-Policy"] = values[0:1:1], values[1:2:2], values[2:3:3]
	w.WriteHeader(status)
}
