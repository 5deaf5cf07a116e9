package caddymodule

import (
	"io"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

// renewing returns w, or, on a signed-in page load whose session is due or that still carries cookies of
// ended logins, a writer that puts the new cookies on the answer.
func (v *visit) renewing(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
	due := v.session != nil && now().Sub(v.session.IssuedAt) > v.site.renew
	if v.session == nil || v.answered || (!due && len(v.own.logins) == 0) || kindOf(r) != kindPageLoad {
		return w
	}
	v.answered = true
	cookies := v.endedLogins(r)
	if due {
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
	if sharedCacheable(h) {
		return
	}
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "private")
	}
	for _, c := range w.cookies {
		h.Add("Set-Cookie", c)
	}
}

// sharedCacheable reports whether an answer is marked for caches that serve others: a cookie on it would
// be handed to them. private and no-store rule that out whatever else
// stands there; an age of nothing is no mark.
func sharedCacheable(h http.Header) bool {
	for _, name := range []string{"Surrogate-Control", "CDN-Cache-Control"} {
		if h.Get(name) != "" {
			return true
		}
	}
	expires, err := http.ParseTime(h.Get("Expires"))
	marked := err == nil && expires.After(now())
	for _, line := range h["Cache-Control"] {
		for directive := range strings.SplitSeq(line, ",") {
			name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(directive)), "=")
			switch name {
			case "private", "no-store":
				return false
			case "public":
				marked = true
			case "s-maxage", "max-age":
				marked = marked || strings.Trim(value, `"0`) != ""
			}
		}
	}
	return marked
}

// Interface guards.
var (
	_ http.ResponseWriter = (*cookieWriter)(nil)
	_ io.ReaderFrom       = (*cookieWriter)(nil)
)
