package caddymodule

import (
	"crypto/tls"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-wechat/caddy-wechat/ticket/redisstore"
)

// A client is pooled by all that it was made of, and what is kept by where it is kept alone; neither text has the
// password.
func TestRedisKeys(t *testing.T) {
	base := redisstore.Config{Addresses: []string{"a:1", "b:2"}, Username: "u", Password: "s3cret", KeyPrefix: "p:", DB: 0, MasterName: "m"}
	client, kept := redisKeys(base)
	if strings.Contains(client+kept, "s3cret") {
		t.Errorf("the password is in %s", client)
	}
	for name, c := range map[string]struct {
		change   func(*redisstore.Config)
		sameKept bool
	}{
		"another address":        {func(c *redisstore.Config) { c.Addresses = []string{"a:1", "c:2"} }, false},
		"another db":             {func(c *redisstore.Config) { c.DB = 1 }, false},
		"another prefix":         {func(c *redisstore.Config) { c.KeyPrefix = "q:" }, false},
		"another master":         {func(c *redisstore.Config) { c.MasterName = "n" }, false},
		"another user":           {func(c *redisstore.Config) { c.Username = "v" }, true},
		"another password":       {func(c *redisstore.Config) { c.Password = "s4cret" }, true},
		"TLS":                    {func(c *redisstore.Config) { c.TLS = &tls.Config{MinVersion: tls.VersionTLS12} }, true},
		"addresses turned round": {func(c *redisstore.Config) { c.Addresses = []string{"b:2", "a:1"} }, true},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := base
			c.change(&cfg)
			otherClient, otherKept := redisKeys(cfg)
			if otherClient == client {
				t.Error("the same client")
			}
			if (otherKept == kept) != c.sameKept {
				t.Errorf("%q, and before %q", otherKept, kept)
			}
		})
	}
}

// Configurations that follow one another share a client; the last one closes it. One that is refused releases
// nothing that it did not take.
func TestRedisStoreIsPooled(t *testing.T) {
	t.Setenv("REDIS_PASSWORD", "s3cret")
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	defer cancel()
	provision := func() *RedisStore {
		r := &RedisStore{Addresses: []string{"127.0.0.1:1"}, Password: "{env.REDIS_PASSWORD}"}
		if err := r.Provision(ctx); err != nil {
			t.Fatal(err)
		}
		return r
	}
	references := func(r *RedisStore) int {
		n, _ := redisPool.References(r.key)
		return n
	}
	a, b := provision(), provision()
	if a.store != b.store || references(a) != 2 {
		t.Errorf("not shared, or %d references", references(a))
	}
	if a.Password != "{env.REDIS_PASSWORD}" || a.KeyPrefix != "" {
		t.Errorf("the configuration was changed: %+v", a)
	}
	refused := &RedisStore{Addresses: []string{"127.0.0.1:1"}, Password: "{env.NO_SUCH}"}
	if err := refused.Provision(ctx); err == nil || !strings.Contains(err.Error(), "option password") {
		t.Errorf("%v", err)
	}
	for i, r := range []*RedisStore{refused, a, b} {
		if err := r.Cleanup(); err != nil {
			t.Error(err)
		}
		if n := references(a); n != 2-i {
			t.Errorf("%d references", n)
		}
	}
	if _, err := a.store.Get(t.Context(), "k"); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("the client was not closed: %v", err)
	}
}

// A failure is told at once and every minute while it lasts, and its end once.
func TestWatchIsNeverSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		w := watch{logger: slog.New(slog.NewTextHandler(&log, nil)), what: "it fails", again: "works again"}
		for range 61 { // three minutes of looks, and the first
			w.report(errNoApp)
			time.Sleep(3 * time.Second)
		}
		if n := strings.Count(log.String(), "level=ERROR msg=\"it fails\""); n != 4 {
			t.Errorf("told %d times:\n%s", n, log.String())
		}
		w.report(nil)
		w.report(nil)
		if n := strings.Count(log.String(), "works again"); n != 1 {
			t.Errorf("the end was told %d times", n)
		}
		w.report(errNoApp)
		if n := strings.Count(log.String(), "level=ERROR"); n != 5 {
			t.Error("the next failure was not told at once")
		}
	})
}

// A page that tries again by itself leads to its button's address, which must be on this site.
func TestPageTriesAgain(t *testing.T) {
	for name, c := range map[string]struct {
		page page
		want string
	}{
		"a login":        {page{Refresh: 5, Action: "/_wechat/login?return=%2Fa%3Bb"}, "5; url=/_wechat/login?return=%2Fa%3Bb"},
		"not told to":    {page{Action: "/_wechat/login?return=%2F"}, ""},
		"another's site": {page{Refresh: 5, Action: "//evil.example/"}, ""},
		"no button":      {page{Refresh: 5}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			c.page.Name, c.page.Reason, c.page.Status = "error", "storage", 502
			c.page.write(w, httptest.NewRequest("GET", "/", nil))
			if got := w.Header().Get("Refresh"); got != c.want {
				t.Errorf("Refresh %q, want %q", got, c.want)
			}
		})
	}
}
