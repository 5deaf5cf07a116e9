// Package redisstore keeps tickets, and revocations, in Redis: one state for many gateways. It needs Redis
// 6.2 or newer, alone, with Sentinels or as a Cluster.
//
// The client is go-redis v9, Redis' own (BSD licence). It connects when it is first used, so that a Redis that is
// away blocks no start and no reload, where rueidis connects before it returns a client; each of its calls has a
// connection of its own, that was looked at before it is used, and one that answers late is closed, where
// rueidis' calls share connections, and one answer that hangs holds up all of them. What go-redis does on its own
// is bounded here: it would send again whatever had no answer, a GETDEL and an INCR as well (see once).
package redisstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/caddy-wechat/caddy-wechat/ticket"
)

// Config says where Redis is. One address is a single Redis, several are nodes of a Cluster, any number
// with MasterName are Sentinels.
type Config struct {
	// As host:port.
	Addresses []string
	// Of an ACL user; empty means Redis' default user.
	Username string
	// Sentinels are asked with it as their default user, whatever Username says. Those that have no password
	// take any.
	Password string
	// The database's number; a Cluster has 0 alone.
	DB int
	// For Redis and for Sentinels; nil means no TLS.
	TLS *tls.Config
	// What every key begins with. No braces: a Cluster reads what stands in them (see ticket.Store).
	KeyPrefix string
	// The name by which Sentinels know the master.
	MasterName string
}

// patience is how long one call may take, whatever Redis and the network do: a person waits for it.
const patience = time.Second

// Store is a ticket.Store in Redis. Its errors hold neither keys nor values nor passwords.
type Store struct {
	client redis.UniversalClient
	prefix string
}

// New returns the store that cfg describes. It does not connect yet.
func New(cfg Config) *Store {
	opts := &redis.UniversalOptions{
		Addrs: cfg.Addresses, DB: cfg.DB, TLSConfig: cfg.TLS,
		Username: cfg.Username, Password: cfg.Password,
		MasterName: cfg.MasterName, SentinelPassword: cfg.Password,
		DialTimeout: patience, ReadTimeout: patience, WriteTimeout: patience, PoolTimeout: patience,
		ContextTimeoutEnabled: true,
		DialerRetries:         dialTries, DialerRetryTimeout: dialPause,
		MaxRetries:      1, // of what may be repeated; see once
		MinRetryBackoff: -1, MaxRetryBackoff: -1,
		ConnMaxIdleTime: maxIdle,
		ReadBufferSize:  bufferSize, WriteBufferSize: bufferSize,
		PipelineReadBufferSize: bufferSize, PipelineWriteBufferSize: bufferSize,
		// No push messages and no naming of the library: neither is needed, and an ACL user may not be allowed to.
		Protocol: 2, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	return &Store{client: newClient(opts), prefix: cfg.KeyPrefix}
}

const (
	dialTries  = 2 // a connection that was refused changed nothing
	dialPause  = 100 * time.Millisecond
	maxIdle    = 5 * time.Minute // shorter than what firewalls and `timeout` of redis.conf are set to
	bufferSize = 4 << 10         // values are small
)

func newClient(opts *redis.UniversalOptions) redis.UniversalClient {
	if opts.MasterName != "" || len(opts.Addrs) < 2 {
		return redis.NewUniversalClient(opts)
	}
	cluster := opts.Cluster()
	// A Cluster's retries are its redirects: those of a node of its own would come on top.
	cluster.MaxRetries = -1
	// Each command here has one key. To look up how others are routed takes a call with a deadline of its own.
	cluster.DisableRoutingPolicies = true
	return redis.NewClusterClient(cluster)
}

// Close closes the connections.
func (s *Store) Close() error { return s.client.Close() }

// once is a command that must not be sent again when its answer was lost: Redis may have done it. A second SET NX
// would find its own first, a second GETDEL nothing, a second INCR would count twice. That a Cluster says where
// the key is instead, or a replica that it is none to write to, is no answer lost.
type once struct{ *redis.Cmd }

// NoRetry is what go-redis asks.
func (once) NoRetry() bool { return true }

func (s *Store) do(ctx context.Context, args ...any) *redis.Cmd {
	cmd := redis.NewCmd(ctx, args...)
	_ = s.client.Process(ctx, once{cmd}) // cmd says it, too
	return cmd
}

// Put implements ticket.Store.
func (s *Store) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := s.do(ctx, "set", s.prefix+key, value, "px", milliseconds(ttl), "nx").Err()
	if errors.Is(err, redis.Nil) {
		return ticket.ErrExists
	}
	return failed("storing", err)
}

// Get implements ticket.Store. It alone changes nothing, and may be sent again.
func (s *Store) Get(ctx context.Context, key string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	value, err := s.client.Get(ctx, s.prefix+key).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, ticket.ErrNotFound
	}
	return value, failed("reading", err)
}

// takeScript removes a value that begins with ARGV[1] and returns it, in one step.
const takeScript = `local v = redis.call('GET', KEYS[1])
if v and string.sub(v, 1, #ARGV[1]) == ARGV[1] then
	redis.call('DEL', KEYS[1])
	return v
end
return false`

// Take implements ticket.Store.
func (s *Store) Take(ctx context.Context, key string, prefix []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := []any{"getdel", s.prefix + key}
	if len(prefix) > 0 {
		cmd = []any{"eval", takeScript, 1, s.prefix + key, prefix}
	}
	value, err := s.do(ctx, cmd...).Text()
	if errors.Is(err, redis.Nil) {
		return nil, ticket.ErrNotFound
	}
	if err != nil {
		return nil, failed("taking", err)
	}
	return []byte(value), nil
}

// moveScript moves a value that begins with ARGV[1] from one key to another, and returns it, or what is there.
const moveScript = `local v = redis.call('GET', KEYS[1])
if v and string.sub(v, 1, #ARGV[1]) == ARGV[1] then
	redis.call('SET', KEYS[2], v, 'PX', ARGV[2], 'NX')
	redis.call('DEL', KEYS[1])
	return v
end
return redis.call('GET', KEYS[2])`

// Move implements ticket.Mover.
func (s *Store) Move(ctx context.Context, from, to string, prefix []byte, ttl time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	value, err := s.do(ctx, "eval", moveScript, 2, s.prefix+from, s.prefix+to, prefix, milliseconds(ttl)).Text()
	if errors.Is(err, redis.Nil) {
		return nil, ticket.ErrNotFound
	}
	return []byte(value), failed("taking", err)
}

// countScript counts, and sets when the counter ends in the same step: one that never ends would lock out for
// good.
const countScript = `local n = redis.call('INCR', KEYS[1])
if n == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return n`

// Count implements ticket.Store.
func (s *Store) Count(ctx context.Context, key string, ttl time.Duration) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	n, err := s.do(ctx, "eval", countScript, 1, s.prefix+key, milliseconds(ttl)).Int64()
	return n, failed("counting", err)
}

// milliseconds is what Redis counts in; 0 would be refused.
func milliseconds(ttl time.Duration) int64 { return max(1, ttl.Milliseconds()) }

// failed turns an error of go-redis or Redis into ours.
func failed(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case redis.IsOOMError(err):
		return fmt.Errorf("%s in redis: %w (its maxmemory is reached)", what, ticket.ErrFull)
	}
	return fmt.Errorf("%s in redis: %w", what, plain(err))
}

// Interface guards.
var (
	_ ticket.Store = (*Store)(nil)
	_ ticket.Mover = (*Store)(nil)
)
