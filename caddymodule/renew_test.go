package caddymodule

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// A handler may write its header in several ways; each must carry the cookie, and the mark that keeps it private.
func TestCookieRidesHoweverTheHeaderIsWritten(t *testing.T) {
	for name, write := range map[string]func(http.ResponseWriter){
		"by its status": func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) },
		"by a body":     func(w http.ResponseWriter) { _, _ = w.Write([]byte("x")) },
		"by a file":     func(w http.ResponseWriter) { _, _ = w.(*cookieWriter).ReadFrom(strings.NewReader("x")) },
		"by a flush":    func(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() },
	} {
		t.Run(name, func(t *testing.T) {
			rec := httptest.NewRecorder()
			write(&cookieWriter{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: rec}, cookies: []string{"a=b"}})
			if h := rec.Result().Header; h.Get("Set-Cookie") != "a=b" || h.Get("Cache-Control") != "private" {
				t.Errorf("%q", h)
			}
		})
	}
}
