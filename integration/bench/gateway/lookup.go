package main

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddy.RegisterModule(new(Lookup))
	httpcaddyfile.RegisterHandlerDirective("bench_lookup", parseLookup)
	httpcaddyfile.RegisterDirectiveOrder("bench_lookup", httpcaddyfile.Before, "forward_auth")
}

// Lookup is the least that a gateway of this kind can do, and what wechat_auth is measured by: it finds the session's
// cookie, looks it up, compares its end, deletes four headers and sets three. Its map is unbounded, its names are
// fixed, and other spellings of a header pass.
type Lookup struct {
	// Tokens is a file with a session's token on each line: the users who are signed in.
	Tokens string `json:"tokens"`

	mu       sync.RWMutex
	sessions map[string]*session // guarded by mu
}

type session struct {
	openID, appID, scope string
	expires              time.Time
}

const (
	sessionLife = 24 * time.Hour // longer than any run
	maxLine     = 8 << 10
)

// CaddyModule returns the Caddy module information.
func (*Lookup) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.bench_lookup", New: func() caddy.Module { return new(Lookup) }}
}

// parseLookup reads `bench_lookup * <file>`; without the star the file would be a path that is matched.
func parseLookup(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	l := new(Lookup)
	h.Next()
	if !h.Args(&l.Tokens) {
		return nil, h.ArgErr()
	}
	return l, nil
}

// Provision signs in whoever stands in the file.
func (l *Lookup) Provision(caddy.Context) error {
	f, err := os.Open(l.Tokens)
	if err != nil {
		return fmt.Errorf("opening the tokens: %w", err)
	}
	defer f.Close()
	l.sessions = map[string]*session{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		openID := fmt.Sprintf("oUpF8uMuAJO_M2pxb1Q9%08d", len(l.sessions))
		l.sessions[lines.Text()] = &session{openID, "wx0123456789abcdef", "snsapi_base", time.Now().Add(sessionLife)}
	}
	return lines.Err()
}

func (l *Lookup) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	s := l.find(r.Header["Cookie"])
	for _, name := range []string{"X-Wechat-Openid", "X-Wechat-Appid", "X-Wechat-Scope", "X-Wechat-Unionid"} {
		delete(r.Header, name)
	}
	if s != nil && s.expires.After(time.Now()) {
		r.Header["X-Wechat-Openid"] = []string{s.openID}
		r.Header["X-Wechat-Appid"] = []string{s.appID}
		r.Header["X-Wechat-Scope"] = []string{s.scope}
	}
	return next.ServeHTTP(w, r)
}

func (l *Lookup) find(lines []string) *session {
	for _, line := range lines {
		for line != "" {
			var part string
			part, line, _ = strings.Cut(line, ";")
			if token, ok := strings.CutPrefix(strings.TrimLeft(part, " "), "wechat_session="); ok {
				l.mu.RLock()
				defer l.mu.RUnlock()
				return l.sessions[token]
			}
		}
	}
	return nil
}

var (
	_ caddy.Provisioner           = (*Lookup)(nil)
	_ caddyhttp.MiddlewareHandler = (*Lookup)(nil)
)
