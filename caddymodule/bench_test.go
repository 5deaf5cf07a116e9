package caddymodule

import (
	"context"
	"encoding/json"
	"hash/maphash"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	_ "github.com/caddyserver/caddy/v2/modules/filestorage"

	"github.com/caddy-wechat/caddy-wechat/ticket"
)

// provision loads a Caddyfile as `caddy validate` does, and returns its wechat app.
func provision(tb testing.TB, caddyfile string) *App {
	tb.Helper()
	app, err := tryProvision(tb, caddyfile)
	if err != nil {
		tb.Fatal(err)
	}
	return app
}

// tryProvision returns the error that `caddy validate` shows.
func tryProvision(tb testing.TB, caddyfile string) (*App, error) {
	tb.Helper()
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), nil)
	if err != nil {
		tb.Fatal(err)
	}
	var cfg caddy.Config
	if err := json.Unmarshal(adapted, &cfg); err != nil {
		tb.Fatal(err)
	}
	ctx, err := caddy.ProvisionContext(&cfg)
	if err != nil {
		return nil, err
	}
	_, failed := ctx.App("http")
	app, err := ctx.App("wechat")
	if err != nil {
		return nil, err
	}
	tb.Cleanup(func() { _ = app.(*App).Cleanup() })
	return app.(*App), failed
}

// signedInAuth returns the handler of a site, and the token of somebody who is signed in there.
func signedInAuth(tb testing.TB) (*Auth, string) {
	tb.Helper()
	tb.Setenv("BENCH_APP_SECRET", "0123456789abcdef0123456789abcdef")
	app := provision(tb, `{
		log default {
			output discard
		}
		storage file_system `+tb.TempDir()+`
		wechat {
			account {
				app_id wx0123456789abcdef
				app_secret {env.BENCH_APP_SECRET}
			}
		}
	}
	http://shop.example.org {
		wechat_auth
	}`)
	for _, s := range app.sites {
		o := s.newOrigin("http://shop.example.org", "", false)
		session := ticket.Session{
			Identity: ticket.Identity{OpenID: "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", AppID: "wx0123456789abcdef", Scope: ticket.ScopeBase},
			ID:       ticket.SessionID(ticket.NewLoginID()), AuthTime: time.Now(),
		}
		token, _, err := o.sessions.Sign(tb.Context(), session)
		if err != nil {
			tb.Fatal(err)
		}
		return s.auths[0], token
	}
	tb.Fatal("no site")
	return nil, ""
}

// request is what a signed-in browser sends; serve hands it to a handler as Caddy does, with its
// header and replacer put back to what they were.
type benchRequest struct {
	r      *http.Request
	cookie string
	repl   *caddy.Replacer
	blank  caddy.Replacer // as Caddy hands it over
}

func newBenchRequest(tb testing.TB, token string) *benchRequest {
	tb.Helper()
	return newBenchRequestTo(tb, "/member/", token)
}

func newBenchRequestTo(tb testing.TB, target, token string) *benchRequest {
	tb.Helper()
	b := &benchRequest{cookie: "theme=dark; wechat_session=" + token + "; PHPSESSID=0123456789abcdef"}
	if token == "" {
		b.cookie = "theme=dark; PHPSESSID=0123456789abcdef"
	}
	r := httptest.NewRequest("GET", target, nil)
	r.Host = "shop.example.org"
	for name, value := range map[string]string{
		"User-Agent": "MicroMessenger", "Accept": "text/html", "Accept-Language": "zh-CN", "Accept-Encoding": "gzip",
		"Referer": "https://shop.example.org/", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document",
	} {
		r.Header.Set(name, value)
	}
	r.Header["Cookie"] = []string{b.cookie}
	ctx := context.WithValue(tb.Context(), http.LocalAddrContextKey, &net.TCPAddr{Port: 80})
	b.repl = caddy.NewReplacer()
	b.r = caddyhttp.PrepareRequest(r.WithContext(ctx), b.repl, nil, nil)
	b.blank = *b.repl
	return b
}

func (b *benchRequest) serve(tb testing.TB, h caddyhttp.MiddlewareHandler, w http.ResponseWriter, next caddyhttp.Handler) {
	lines := b.r.Header["Cookie"]
	if len(lines) == 0 {
		lines = make([]string, 1)
		b.r.Header["Cookie"] = lines
	}
	lines[0], *b.repl = b.cookie, b.blank
	if err := h.ServeHTTP(w, b.r, next); err != nil {
		tb.Fatal(err)
	}
}

// lookupHandler is the least that a gateway of this kind can do, and what wechat_auth is measured by: it finds
// the session's cookie, looks it up, compares its end, deletes four headers and sets three. Its map is
// unbounded, its names are fixed, and spellings pass.
type lookupHandler struct {
	mu       sync.RWMutex
	sessions map[string]*liveSession
}

func (h *lookupHandler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	s := h.find(r.Header["Cookie"])
	for _, name := range []string{"X-Wechat-Openid", "X-Wechat-Appid", "X-Wechat-Scope", "X-Wechat-Unionid"} {
		delete(r.Header, name)
	}
	if s != nil && s.Expires.After(time.Now()) {
		r.Header["X-Wechat-Openid"] = []string{s.OpenID}
		r.Header["X-Wechat-Appid"] = []string{s.AppID}
		r.Header["X-Wechat-Scope"] = []string{s.Scope}
	}
	return next.ServeHTTP(w, r)
}

func (h *lookupHandler) find(lines []string) *liveSession {
	for _, line := range lines {
		for line != "" {
			var part string
			part, line, _ = strings.Cut(line, ";")
			if token, ok := strings.CutPrefix(strings.TrimLeft(part, " "), "wechat_session="); ok {
				h.mu.RLock()
				defer h.mu.RUnlock()
				return h.sessions[token]
			}
		}
	}
	return nil
}

// forget makes the next request with that token a cold one.
func (c *sessionCache) forget(token string) {
	hash := maphash.String(c.seed, token)
	c.place(hash).Store(nil)
	c.seen[hash/64%uint64(len(c.seen))].Store(0)
	c.cache.Del(hash)
}

type emptyHandler struct{}

func (emptyHandler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return next.ServeHTTP(w, r)
}

func warm(tb testing.TB) (*Auth, *benchRequest) {
	tb.Helper()
	a, token := signedInAuth(tb)
	b := newBenchRequest(tb, token)
	identity := ""
	see := caddyhttp.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) error {
		identity = r.Header.Get("X-Wechat-Openid")
		return nil
	})
	b.serve(tb, a, httptest.NewRecorder(), see)
	a.site.app.gateway.cache.cache.Wait()
	if identity == "" {
		tb.Fatal("not signed in")
	}
	return a, b
}

var done = caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })

// BenchmarkHandler: what a request pays in wechat_auth, beside a handler that does nothing.
func BenchmarkHandler(b *testing.B) {
	b.Run("empty", func(b *testing.B) {
		_, req := warm(b)
		w := httptest.NewRecorder()
		b.ReportAllocs()
		for b.Loop() {
			req.serve(b, emptyHandler{}, w, done)
		}
	})
	b.Run("look-up", func(b *testing.B) {
		a, req := warm(b)
		o := a.site.originOf(req.r)
		token := o.cookies.readCookies([]string{req.cookie}).session[0]
		h := &lookupHandler{sessions: map[string]*liveSession{token: o.session(req.r, token, time.Now())}}
		w := httptest.NewRecorder()
		b.ReportAllocs()
		for b.Loop() {
			req.serve(b, h, w, done)
		}
	})
	b.Run("signed in, warm", func(b *testing.B) {
		a, req := warm(b)
		w := httptest.NewRecorder()
		b.ReportAllocs()
		for b.Loop() {
			req.serve(b, a, w, done)
		}
	})
	b.Run("signed in, cold", func(b *testing.B) {
		a, req := warm(b)
		token := a.site.originOf(req.r).cookies.readCookies([]string{req.cookie}).session[0]
		w := httptest.NewRecorder()
		b.ReportAllocs()
		for b.Loop() {
			a.site.app.gateway.cache.forget(token)
			req.serve(b, a, w, done)
		}
	})
	b.Run("login start", func(b *testing.B) {
		a, _ := warm(b)
		req := newBenchRequest(b, "")
		b.ReportAllocs()
		for b.Loop() {
			w := httptest.ResponseRecorder{HeaderMap: http.Header{}}
			req.serve(b, a, &w, done)
			if w.Code != http.StatusFound {
				b.Fatal(w.Code)
			}
		}
	})
	b.Run("Caddy's path matcher", func(b *testing.B) { // part of the next one
		public := caddyhttp.MatchPath{"/member/*"}
		req := newBenchRequest(b, "")
		b.ReportAllocs()
		for b.Loop() {
			if yes, err := public.MatchWithError(req.r); !yes || err != nil {
				b.Fatal(yes, err)
			}
		}
	})
	b.Run("anonymous on a public path", func(b *testing.B) {
		a, _ := warm(b)
		a.Public = caddyhttp.MatchPath{"/member/*"}
		req := newBenchRequest(b, "")
		w := httptest.NewRecorder()
		b.ReportAllocs()
		for b.Loop() {
			req.serve(b, a, w, done)
		}
	})
}

// A warm request checks no signature: with the keys taken away it still passes.
func TestWarmRequestChecksNoSignature(t *testing.T) {
	a, b := warm(t)
	a.site.originOf(b.r).sessions.Keys = &ticket.Keyring{}
	passed := false
	b.serve(t, a, httptest.NewRecorder(), caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error {
		passed = true
		return nil
	}))
	if !passed {
		t.Error("a warm request was refused")
	}
}

// But it is refused once the session was revoked, or its time has come.
func TestWarmSessionEnds(t *testing.T) {
	a, b := warm(t)
	w := httptest.NewRecorder()
	o := a.site.originOf(b.r)
	live := o.session(b.r, o.cookies.readCookies([]string{b.cookie}).session[0], time.Now())
	if live == nil {
		t.Fatal("not signed in")
	}
	if a.site.app.gateway.cache.get(live.token, live.audience, live.AppID, live.Expires) != nil {
		t.Error("an expired session is served from memory")
	}
	if err := a.site.app.gateway.revoked.Revoke(t.Context(), live.ID, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	b.serve(t, a, w, caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error {
		t.Error("a revoked session is served from memory")
		return nil
	}))
	if w.Code != http.StatusFound {
		t.Errorf("status %d", w.Code)
	}
}
