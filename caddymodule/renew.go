package caddymodule

import (
	"io"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

// owesCookies reports whether r is a signed-in page load whose session is due, or that still carries cookies
// of ended logins.
func (v *visit) owesCookies(r *http.Request) bool {
	return v.session != nil && (v.due() || len(v.own.logins) > 0) && (v.answered == nil || !*v.answered) && kindOf(r) == kindPageLoad
}

func (v *visit) due() bool { return v.at.Sub(v.session.IssuedAt) > v.site.renew }

// renewing returns a writer that puts the cookies that v owes on the answer.
func (v *visit) renewing(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
	if v.answered != nil {
		*v.answered = true
	}
	cookies := v.endedLogins(r)
	if v.due() {
		cookies = append(cookies, v.renewed(r)...)
	}
	if len(cookies) == 0 {
		return w
	}
	return &cookieWriter{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, cookies: cookies}
}

// endedLogins are the Set-Cookie lines that remove what ended logins left: a signed-in request ends
// their counting as attempts.
func (v *visit) endedLogins(r *http.Request) (lines []string) {
	if len(v.own.logins) == 0 {
		return nil
	}
	open, _ := v.pending(r)
	for _, c := range open {
		if c.Ended > 0 {
			lines = append(lines, v.origin.cookies.header(c.name, "", -1))
		}
	}
	return lines
}

// renewed is the Set-Cookie line of the session's next token. It keeps the session's id, so a logout
// that runs at the same time ends it as well.
func (v *visit) renewed(r *http.Request) []string {
	token, s, err := v.origin.sessions.Sign(r.Context(), v.session.Session)
	if err != nil {
		v.site.logger.Error("a session could not be renewed; it goes on until it ends", zap.Error(err))
		return nil
	}
	return []string{v.origin.cookies.header(v.origin.cookies.session, token, s.Expires.Sub(s.IssuedAt))}
}

// cookieWriter adds cookies to an answer when its header is written, unless a shared cache may keep it.
type cookieWriter struct {
	*caddyhttp.ResponseWriterWrapper
	cookies []string
	done    bool
}

// WriteHeader adds the cookies to the final header.
func (w *cookieWriter) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		w.addCookies()
	}
	w.ResponseWriterWrapper.WriteHeader(status)
}

func (w *cookieWriter) Write(b []byte) (int, error) {
	w.addCookies()
	return w.ResponseWriterWrapper.Write(b)
}

// ReadFrom keeps the fast path of files, which would go past Write.
func (w *cookieWriter) ReadFrom(src io.Reader) (int64, error) {
	w.addCookies()
	return w.ResponseWriterWrapper.ReadFrom(src)
}

// FlushError is what http.ResponseController flushes through.
func (w *cookieWriter) FlushError() error {
	w.addCookies()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

func (w *cookieWriter) addCookies() {
	if w.done {
		return
	}
	w.done = true
	h := w.Header()
	if !forOne(h) {
		return
	}
	for _, c := range w.cookies {
		h.Add("Set-Cookie", c)
	}
}

// forOne sees to it that no shared cache may keep an answer that gets a cookie: it would be handed to
// others. It reports false where the upstream means the answer for them. Saying nothing of that (no-cache,
// an age of nothing) still lets a cache keep it, by RFC 9111, so what is not forbidden beyond doubt gets
// `private`: in front, where no open quote can swallow it.
func forOne(h http.Header) bool {
	shared, forbidden := cacheMarks(h)
	if shared || forbidden {
		return forbidden
	}
	h.Set("Cache-Control", strings.TrimSuffix("private, "+strings.Join(h["Cache-Control"], ", "), ", "))
	return true
}

// cacheMarks tells whether an answer is marked for caches that serve others, and whether it is forbidden to
// them, which counts whatever else stands there.
func cacheMarks(h http.Header) (shared, forbidden bool) {
	if hasTargetedMark(h) {
		return true, false
	}
	expires, err := http.ParseTime(h.Get("Expires"))
	shared = err == nil && expires.After(now())
	lines := strings.ToLower(strings.Join(h["Cache-Control"], ","))
	sure := !strings.Contains(lines, `"`) // a word inside quotes is no directive
	for directive := range strings.SplitSeq(lines, ",") {
		name, value, hasValue := strings.Cut(directive, "=")
		switch strings.TrimSpace(name) {
		case "private": // private=X-Foo is about that field alone
			forbidden = forbidden || sure && !hasValue
		case "no-store": // must-understand takes it back
			forbidden = forbidden || sure && !hasValue && !strings.Contains(lines, "must-understand")
		case "public":
			shared = true
		case "s-maxage", "max-age":
			shared = shared || strings.Trim(value, "\"0 \t") != ""
		}
	}
	return shared, forbidden
}

// hasTargetedMark reports whether a field speaks to one kind of cache, which then looks at no other (RFC 9213
// and its forerunners).
func hasTargetedMark(h http.Header) bool {
	for name, lines := range h {
		targeted := strings.HasSuffix(name, "-Cache-Control") || name == "Surrogate-Control" || name == "X-Accel-Expires"
		if targeted && strings.Join(lines, "") != "" {
			return true
		}
	}
	return false
}

// Interface guards.
var (
	_ http.ResponseWriter = (*cookieWriter)(nil)
	_ io.ReaderFrom       = (*cookieWriter)(nil)
)
