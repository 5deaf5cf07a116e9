package caddymodule

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// coldAllocations is what verifying an HS256 session takes: the token's copy, its parts decoded, the HMAC, the
// what golang-jwt validates by, the session and its place in the cache.
const coldAllocations = 22

func TestAllocations(t *testing.T) {
	withoutRace(t)
	const runs = 200
	w := httptest.NewRecorder()
	for _, c := range []struct {
		name  string
		most  float64 // on top of what Caddy's matcher takes, where there is one
		serve func(t *testing.T) (serve, matcher func())
	}{
		// The slice of the identity headers, and the cookies that stay.
		{"a request of somebody who was verified before", 2, func(t *testing.T) (serve, matcher func()) {
			a, b := warm(t)
			return func() { b.serve(t, a, w, done) }, nil
		}},
		{"the same where some paths are public: the matcher is not asked", 2, func(t *testing.T) (serve, matcher func()) {
			a, b := warm(t)
			a.Public = caddyhttp.MatchPath{"/member/*"}
			return func() { b.serve(t, a, w, done) }, nil
		}},
		{"a request of somebody who was not", coldAllocations, func(t *testing.T) (serve, matcher func()) {
			a, b := warm(t)
			cookies := make([]string, runs+1) // testing runs it once before it counts
			for i := range cookies {
				token := newToken(t, a.site.originOf(b.r), person(""))
				cookies[i] = "theme=dark; wechat_session=" + token + "; PHPSESSID=0123456789abcdef"
			}
			return func() {
				b.cookie, cookies = cookies[0], cookies[1:]
				b.serve(t, a, w, done)
			}, nil
		}},
		{"an anonymous request on a public path", 0, func(t *testing.T) (serve, matcher func()) {
			a, _ := warm(t)
			b := newBenchRequest(t, "")
			a.Public = caddyhttp.MatchPath{"/member/*"}
			return func() { b.serve(t, a, w, done) }, func() { _, _ = a.Public.MatchWithError(b.r) }
		}},
		{"an anonymous request on a public path, at a port", 0, func(t *testing.T) (serve, matcher func()) {
			a, _ := warm(t)
			b := newBenchRequest(t, "")
			b.r.Host = "shop.example.org:8080"
			b.r = b.r.WithContext(context.WithValue(b.r.Context(), http.LocalAddrContextKey, &net.TCPAddr{Port: 8080}))
			a.Public = caddyhttp.MatchPath{"/member/*"}
			if o := a.site.originOf(b.r); o == nil || o.name != "http://shop.example.org:8080" {
				t.Fatalf("the site's origin is %v", o)
			}
			return func() { b.serve(t, a, w, done) }, func() { _, _ = a.Public.MatchWithError(b.r) }
		}},
		{"a page of a site behind a broker with clients", 0, func(t *testing.T) (serve, matcher func()) {
			broker, _ := clientBroker(t)
			b := newBenchRequest(t, "")
			return func() { b.serve(t, broker, w, done) }, nil
		}},
		{"the home page of a site behind a broker with clients", 0, func(t *testing.T) (serve, matcher func()) {
			broker, _ := clientBroker(t)
			b := newBenchRequestTo(t, "/?page=2&code=3", "")
			return func() { b.serve(t, broker, w, done) }, nil
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			serve, matcher := c.serve(t)
			beside := 0.0
			if matcher != nil {
				beside = testing.AllocsPerRun(runs, matcher)
			}
			got := testing.AllocsPerRun(runs, serve) - beside
			t.Logf("%v allocations, and %v of Caddy's matcher", got, beside)
			if got > c.most {
				t.Errorf("%v allocations, want %v at most", got, c.most)
			}
		})
	}
}
