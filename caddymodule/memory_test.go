package caddymodule

import (
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-wechat/caddy-wechat/ticket"
)

// heapInUse is what lives on the heap now.
func heapInUse() int64 {
	runtime.GC()
	runtime.GC() // what the first one's finalizers let go
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

// withoutRace skips what the race detector distorts; ./xcaddy.sh test runs it again without.
func withoutRace(t *testing.T) {
	t.Helper()
	if raceEnabled {
		t.Skip("measured without the race detector")
	}
}

// person returns an identity as WeChat gives it: silently, or with a profile under this nickname.
func person(nickname string) ticket.Identity {
	id := ticket.Identity{OpenID: "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", AppID: "wx0123456789abcdef", Scope: ticket.ScopeBase}
	if nickname != "" {
		id.Scope, id.Nickname, id.UnionID = ticket.ScopeUserInfo, nickname, "o6_bmasdasdsad6_2sgVt7hMZOPfL"
		id.HeadImgURL = "https://thirdwx.qlogo.cn/mmopen/vi_32/" + strings.Repeat("x", 80) + "/132"
	}
	return id
}

func newToken(tb testing.TB, o *origin, id ticket.Identity) string {
	tb.Helper()
	token, _, err := o.sessions.Sign(tb.Context(), ticket.Session{Identity: id, ID: ticket.SessionID(ticket.NewLoginID()), AuthTime: time.Now()})
	if err != nil {
		tb.Error(err)
	}
	return token
}

// A million people are signed in, and all of them come: the heap keeps to what the option `cache` says.
func TestMillionLiveSessions(t *testing.T) {
	withoutRace(t)
	const million = 1_000_000
	a, _ := signedInAuth(t)
	app := a.site.app
	o := a.site.newOrigin("http://shop.example.org", "", false)
	app.gateway.cache.close() // an empty one, too, takes memory
	before := heapInUse()
	c, err := newSessionCache(0)
	if err != nil {
		t.Fatal(err)
	}
	app.gateway.cache = c
	r := newBenchRequest(t, "").r
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for range million / runtime.GOMAXPROCS(0) {
				s := o.session(r, newToken(t, o, person("")), time.Now())
				if s == nil {
					t.Error("a session does not count")
					return
				}
				c.put(s) // they come again
			}
		})
	}
	all.Wait()
	c.cache.Wait()
	taken := heapInUse() - before
	t.Logf("%.1f MiB of %d", float64(taken)/(1<<20), defaultCache>>20)
	if taken > defaultCache {
		t.Errorf("a million sessions take %d bytes, the cache may take %d", taken, defaultCache)
	}
	if taken < defaultCache/2 {
		t.Errorf("a million sessions take %d bytes: they are not in the cache", taken)
	}
}

// Whatever a session says, what it costs is no less than what it takes.
func TestCacheTakesNoMoreThanItSays(t *testing.T) {
	withoutRace(t)
	a, _ := signedInAuth(t)
	o := a.site.newOrigin("http://shop.example.org", "", false)
	for _, x := range []struct{ name, nickname string }{
		{"without a profile", ""},
		{"with an ordinary profile", "小明"},
		{"with the longest nickname", strings.Repeat("🌸", 32)},
		{"with a nickname that JSON escapes", strings.Repeat("<", 32)},
	} {
		for _, size := range []int64{minCache, 5 << 20, 16<<20 + 1<<10} {
			t.Run(fmt.Sprintf("%s, in %d KiB", x.name, size>>10), func(t *testing.T) {
				before := heapInUse()
				c, err := newSessionCache(size)
				if err != nil {
					t.Fatal(err)
				}
				defer c.close()
				for i := range size / 800 {
					token := newToken(t, o, person(x.nickname))
					verified, err := o.sessions.Verify(t.Context(), token)
					if err != nil {
						t.Fatal(err)
					}
					s := newLiveSession(token, o.name, verified)
					c.put(s)
					c.put(s) // the first one only lets it be seen
					if i%1000 == 0 {
						c.cache.Wait() // none is dropped
					}
				}
				c.cache.Wait()
				taken := heapInUse() - before
				t.Logf("%.2f of %d KiB", float64(taken)/float64(size), size>>10)
				if taken > size {
					t.Errorf("the cache takes %d bytes, its bound is %d", taken, size)
				}
			})
		}
	}
}

// A session is kept without the cookies that it came with.
func TestCacheKeepsNoOtherCookies(t *testing.T) {
	withoutRace(t)
	const people, beside = 1000, 16 << 10
	a, _ := signedInAuth(t)
	o := a.site.newOrigin("http://shop.example.org", "", false)
	b := newBenchRequest(t, "")
	cache := a.site.app.gateway.cache
	before := heapInUse()
	for range people {
		b.cookie = "beside=" + strings.Repeat("x", beside) + "; wechat_session=" + newToken(t, o, person(""))
		passed := false
		b.serve(t, a, nil, caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { passed = true; return nil }))
		if !passed {
			t.Fatal("not signed in")
		}
	}
	b.cookie = ""
	b.r.Header["Cookie"] = nil
	cache.cache.Wait()
	if taken := heapInUse() - before; taken > people*beside/2 {
		t.Errorf("%d sessions take %d bytes", people, taken)
	}
	runtime.KeepAlive(a)
}
