package caddymodule

import (
	"fmt"
	"hash/maphash"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/dgraph-io/ristretto/v2"

	"github.com/caddy-wechat/caddy-wechat/ticket"
)

// liveSession is a verified session, ready for the next request that carries its token. It never changes.
type liveSession struct {
	ticket.Session
	token    string
	audience string    // the origin it was verified for
	values   [6]string // of the identity headers
	present  int       // how many of them are not empty
	openID   any       // for the placeholder, boxed once; so is the function for the others
	provide  caddy.ReplacerFunc
}

func newLiveSession(token, audience string, s ticket.Session) *liveSession {
	live := &liveSession{Session: s, token: token, audience: audience, values: identityValues(s.Identity), openID: s.OpenID}
	live.provide = live.placeholder
	for _, value := range live.values {
		live.present += min(1, len(value))
	}
	return live
}

// sessionCache remembers verified sessions by their whole token, in no more bytes than its size. A miss costs a
// verification, never a login: ristretto may drop what it likes.
type sessionCache struct {
	// mu is held by close alone. Caddy cleans a configuration up while its last requests still run, and
	// ristretto panics where one of them asks it while it closes; afterwards all is a miss.
	mu    sync.RWMutex
	cache *ristretto.Cache[string, *liveSession] // guarded by mu; nil once closed
}

const (
	// sessionCost is what a session takes beside what it says, in bytes: the struct, its placeholders, its places
	// in ristretto's two maps when these have just grown. Measured on amd64 and rounded up.
	sessionCost = 576
	// cacheFixed and a cacheShare-th of the size are what ristretto takes for an empty cache: its queue and shards,
	// and the counters by which it chooses, which it rounds up to a power of two.
	cacheFixed = 384 << 10
	cacheShare = 30
)

// cost is what s takes of the cache's bound: the token, its payload, which the identity points into, and the
// nickname as the header has it.
func (s *liveSession) cost() int64 { return int64(2*len(s.token)+3*len(s.Nickname)) + sessionCost }

func newSessionCache(size int64) (*sessionCache, error) {
	if size == 0 {
		size = defaultCache
	}
	seed := maphash.MakeSeed()
	c, err := ristretto.NewCache(&ristretto.Config[string, *liveSession]{
		// One seeded hash instead of ristretto's two, in a third of their time: get compares the whole token.
		KeyToHash:          func(token string) (uint64, uint64) { return maphash.String(seed, token), 0 },
		NumCounters:        10 * max(size/2048, 1000), // ten for each entry expected, says ristretto
		MaxCost:            size - size/cacheShare - cacheFixed,
		BufferItems:        64,
		IgnoreInternalCost: true, // it is in cost
	})
	if err != nil {
		return nil, fmt.Errorf("making the session cache: %w", err)
	}
	return &sessionCache{cache: c}, nil
}

// get returns the session that was verified from exactly this token for audience and has not ended.
func (c *sessionCache) get(token, audience, appID string, now time.Time) *liveSession {
	c.mu.RLock()
	s, ok := c.cache.Get(token)
	c.mu.RUnlock()
	if !ok || s.token != token || s.audience != audience || s.AppID != appID || !s.Expires.After(now) {
		return nil
	}
	return s
}

func (c *sessionCache) put(s *liveSession) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	c.cache.Set(s.token, s, s.cost())
}

func (c *sessionCache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cache.Close()
	c.cache = nil // Caddy may hold on to the configuration for as long as an old connection lives
}
