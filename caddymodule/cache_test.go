package caddymodule

import (
	"hash/maphash"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/ticket"
)

// On a reload Caddy cleans the old configuration up while its last requests still run: they must neither
// meet a closed channel nor race with its closing.
func TestRequestsMayOutliveTheCache(t *testing.T) {
	for range 5 {
		c, err := newSessionCache(minCache)
		if err != nil {
			t.Fatal(err)
		}
		var running sync.WaitGroup
		begun := make(chan struct{}, 4)
		for worker := range 4 {
			running.Go(func() {
				for i := range 1500 {
					token := strconv.Itoa(worker) + " " + strconv.Itoa(i)
					c.put(newLiveSession(token, "https://shop.example.org", ticket.Session{}))
					c.get(token, "https://shop.example.org", "", time.Time{})
					if i == 500 {
						begun <- struct{}{}
					}
				}
			})
		}
		<-begun
		c.close()
		running.Wait()
	}
}

// Most people open one page. They are remembered for the requests that follow at once, and push nobody out who
// comes again.
func TestWhoComesOncePushesNobodyOut(t *testing.T) {
	const (
		origin = "https://shop.example.org"
		many   = 20_000 // ten times what the cache holds
	)
	c, err := newSessionCache(minCache)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	session := func(i int) *liveSession {
		s := ticket.Session{Identity: ticket.Identity{OpenID: strconv.Itoa(i)}, Expires: time.Now().Add(time.Hour)}
		return newLiveSession("token "+strconv.Itoa(i), origin, s)
	}
	regular := session(0)
	c.put(regular)
	c.put(regular)
	c.cache.Wait()
	for i := 1; i < many; i++ {
		s := session(i)
		c.put(s)
		if c.get(s.token, origin, "", time.Now()) != s {
			t.Fatal("the next request verifies anew")
		}
	}
	c.cache.Wait()
	found := 0
	for i := range many {
		if c.find(maphash.String(c.seed, session(i).token)) != nil {
			found++
		}
	}
	// At most one hash in seenFull looks like one that came before.
	if found < 1 || found > many/seenFull || c.get(regular.token, origin, "", time.Now()) != regular {
		t.Errorf("%d sessions are kept, want the one that came again", found)
	}
}
