package caddymodule

import (
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
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
	openID   any       // for the placeholder, boxed once, and so is the function for the others: 40 ns and two allocations less
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
	seed maphash.Seed
	// hot holds what was found last under each hash: who comes again and again is found without ristretto, in 180 ns
	// less.
	hot []atomic.Pointer[liveSession]
	// seen has a bit for the hash of each token that came before. Who comes for the first time is remembered in hot
	// alone: most open one page and never come again, and would push the others out. Their requests cost 5 µs less
	// for it, too, and leave nothing to collect.
	seen      []atomic.Uint64
	newcomers atomic.Int64 // bits in seen

	// mu is held by close alone. Caddy cleans a configuration up while its last requests still run, and
	// ristretto panics where one of them asks it while it closes; afterwards all is a miss.
	mu    sync.RWMutex
	cache *ristretto.Cache[uint64, *liveSession] // by the token's hash; guarded by mu; nil once closed
}

const (
	// sessionCost is what a session takes beside what it says, in bytes: the struct, its placeholders, its places
	// in ristretto's two maps when these have just grown. Measured on amd64 and rounded up.
	sessionCost = 576
	// cacheFixed and a cacheShare-th of the size are what ristretto takes for an empty cache: its queue and shards,
	// and the counters by which it chooses, which it rounds up to a power of two.
	cacheFixed = 384 << 10
	cacheShare = 30
	// hotShare is how many bytes of the size there are for each place in hot, which may keep a session that
	// ristretto has dropped, of up to hotCost.
	hotShare = 32 << 10
	hotCost  = 2 << 10
	// seenShare is how many bytes of the size there are for each word of seen, which takes wordSize of them. It is
	// emptied when one in seenFull of its bits is set.
	seenShare = 1 << 10
	wordSize  = 8
	seenFull  = 32
)

// cost is what s takes of the cache's bound: the token, its payload, which the identity points into, and the
// nickname as the header has it.
func (s *liveSession) cost() int64 { return int64(2*len(s.token)+3*len(s.Nickname)) + sessionCost }

func newSessionCache(size int64) (*sessionCache, error) {
	if size == 0 {
		size = defaultCache
	}
	places, words := size/hotShare, size/seenShare
	c, err := ristretto.NewCache(&ristretto.Config[uint64, *liveSession]{
		NumCounters:        10 * max(size/2048, 1000), // ten for each entry expected, says ristretto
		MaxCost:            size - size/cacheShare - cacheFixed - places*hotCost - words*wordSize,
		BufferItems:        64,
		IgnoreInternalCost: true, // it is in cost
	})
	if err != nil {
		return nil, fmt.Errorf("making the session cache: %w", err)
	}
	return &sessionCache{
		seed: maphash.MakeSeed(), hot: make([]atomic.Pointer[liveSession], places), seen: make([]atomic.Uint64, words), cache: c,
	}, nil
}

// get returns the session that was verified from exactly this token for audience and has not ended. Hashes are
// seeded, and only lead to the token that is compared.
func (c *sessionCache) get(token, audience, appID string, now time.Time) *liveSession {
	hash := maphash.String(c.seed, token)
	place := c.place(hash)
	s := place.Load()
	if s == nil || s.token != token {
		if s = c.find(hash); s == nil || s.token != token {
			return nil
		}
		place.Store(s)
	}
	if s.audience != audience || s.AppID != appID || !s.Expires.After(now) {
		return nil
	}
	return s
}

func (c *sessionCache) find(hash uint64) *liveSession {
	c.mu.RLock()
	defer c.mu.RUnlock()
	s, _ := c.cache.Get(hash)
	return s
}

func (c *sessionCache) place(hash uint64) *atomic.Pointer[liveSession] {
	return &c.hot[hash%uint64(len(c.hot))]
}

// put remembers a session that get did not find.
func (c *sessionCache) put(s *liveSession) {
	hash := maphash.String(c.seed, s.token)
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.cache == nil {
		return // what closed must not keep it
	}
	c.place(hash).Store(s)
	if c.cameBefore(hash) {
		c.cache.Set(hash, s, s.cost())
	}
}

func (c *sessionCache) cameBefore(hash uint64) bool {
	const bits = 64
	word, bit := &c.seen[hash/bits%uint64(len(c.seen))], uint64(1)<<(hash%bits)
	if word.Or(bit)&bit != 0 {
		return true
	}
	if c.newcomers.Add(1) == int64(len(c.seen))*bits/seenFull {
		for i := range c.seen {
			c.seen[i].Store(0)
		}
		c.newcomers.Store(0)
	}
	return false
}

func (c *sessionCache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cache.Close()
	for i := range c.hot {
		c.hot[i].Store(nil)
	}
	c.cache = nil // Caddy may hold on to the configuration for as long as an old connection lives
}
