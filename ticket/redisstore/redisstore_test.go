package redisstore

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-wechat/caddy-wechat/ticket"
	"github.com/caddy-wechat/caddy-wechat/ticket/storetest"
	"github.com/caddy-wechat/caddy-wechat/ticket/storetest/redistest"
)

const (
	testPassword = "correct-horse-battery-staple"
	testPrefix   = "caddy_wechat:"
)

// opened returns the store of cfg, closed with the test.
func opened(t *testing.T, cfg Config) *Store {
	t.Helper()
	if cfg.KeyPrefix == "" {
		cfg.KeyPrefix = testPrefix
	}
	s := New(cfg)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// places are the Redis set-ups that the store is for.
func places(t *testing.T) map[string]Config {
	t.Helper()
	ca := redistest.NewCA(t)
	secure := &tls.Config{RootCAs: ca.Pool, MinVersion: tls.VersionTLS12}
	acl := redistest.New(t, "user default off", "user gateway on >"+testPassword+" ~"+testPrefix+"* "+aclCommands)
	watched, guarded := redistest.NewSentinels(t, testPassword), redistest.NewSentinels(t, testPassword, "requirepass "+testPassword)
	return map[string]Config{
		"one server":                           {Addresses: []string{redistest.New(t).Addr}},
		"a server with a password, another db": {Addresses: []string{redistest.New(t, "requirepass "+testPassword).Addr}, Password: testPassword, DB: 3},
		"an ACL user with the least rights":    {Addresses: []string{acl.Addr}, Username: "gateway", Password: testPassword},
		"TLS":                                  {Addresses: []string{redistest.NewTLS(t, ca).Addr}, TLS: secure},
		"a Cluster":                            {Addresses: redistest.Addresses(redistest.Cluster(t))[:2]},
		"a Cluster with a password":            {Addresses: redistest.Addresses(redistest.Cluster(t, "requirepass "+testPassword)), Password: testPassword},
		"Sentinels without a password":         {Addresses: watched.Addresses(), MasterName: watched.Name, Password: testPassword},
		"Sentinels with the same password":     {Addresses: guarded.Addresses(), MasterName: guarded.Name, Password: testPassword},
	}
}

// aclCommands are all that the store uses, as README says.
const aclCommands = "-@all +hello +auth +select +ping +set +get +getdel +getex +eval +del +incr +pexpire +sadd +srem +smembers +ttl +expire +zadd +zrange +zremrangebyscore +cluster|slots"

func TestStore(t *testing.T) {
	for name, cfg := range places(t) {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) ticket.Store { return opened(t, cfg) })
			testRevocations(t, cfg)
		})
	}
}

// testRevocations: what one gateway ends, another one knows at its next look, and one that starts at once.
func testRevocations(t *testing.T, cfg Config) {
	t.Helper()
	gateway := func() *ticket.Revocations {
		return &ticket.Revocations{Storage: opened(t, cfg).Revocations(), Known: new(ticket.Revoked)}
	}
	a, b := gateway(), gateway()
	if !a.Loaded(t.Context()) || !b.Loaded(t.Context()) {
		t.Fatal("revocations could not be read")
	}
	ended := []string{ticket.NewLoginID(), ticket.NewLoginID()}
	for _, id := range ended {
		must(t, a.Revoke(t.Context(), id, time.Now().Add(time.Hour)))
	}
	must(t, b.Look(t.Context()))
	c := gateway()
	must(t, c.Load(t.Context()))
	for _, id := range ended {
		if !b.Known.Has(id) || !c.Known.Has(id) || b.Known.Has(ticket.NewLoginID()) {
			t.Errorf("a revocation is known to the second gateway: %v, to one that starts: %v", b.Known.Has(id), c.Known.Has(id))
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Every key is under the prefix and ends; the braces of a key's tag come through, so that a login's keys are in
// one slot.
func TestKeys(t *testing.T) {
	nodes := redistest.Cluster(t)
	s := opened(t, Config{Addresses: redistest.Addresses(nodes), KeyPrefix: "shop wechat:"})
	tag := ticket.NewLoginID()
	for _, rest := range []string{"a", "b", "c"} {
		must(t, s.Put(t.Context(), "{"+tag+"}"+rest, []byte("v"), time.Minute))
		_, err := s.Count(t.Context(), "{"+tag+"}n"+rest, time.Minute)
		must(t, err)
	}
	r := &ticket.Revocations{Storage: s.Revocations(), Known: new(ticket.Revoked)}
	must(t, r.Load(t.Context()))
	must(t, r.Revoke(t.Context(), ticket.NewLoginID(), time.Now().Add(time.Hour)))
	slots := map[string]map[any]bool{"{" + tag + "}": {}, "{revoked}": {}}
	seen := 0
	for _, node := range nodes {
		for _, key := range node.Client().Keys(t.Context(), "*").Val() {
			seen++
			if !strings.HasPrefix(key, "shop wechat:{") {
				t.Errorf("a key without the prefix: %s", key)
			}
			for tag, slots := range slots {
				if strings.Contains(key, tag) {
					slots[node.Do("CLUSTER", "KEYSLOT", key)] = true
				}
			}
			if ttl := node.Client().PTTL(t.Context(), key).Val(); ttl <= 0 {
				t.Errorf("%s never ends", key)
			}
		}
	}
	if seen != 9 { // three values, three counters; an hour, the index, the mark
		t.Errorf("%d keys", seen)
	}
	for tag, slots := range slots {
		if len(slots) != 1 {
			t.Errorf("the keys of %s are in slots %v", tag, slots)
		}
	}
}

// A Redis that reached its bound says so as a full store does; what is there can be read and taken all the same.
func TestFull(t *testing.T) {
	server := redistest.New(t, "maxmemory-policy noeviction")
	s := opened(t, Config{Addresses: []string{server.Addr}})
	must(t, s.Put(t.Context(), "k", []byte("v"), time.Minute))
	_, err := s.Count(t.Context(), "n", time.Minute)
	must(t, err)
	server.Do("CONFIG", "SET", "maxmemory", "1")
	if err := s.Put(t.Context(), "other", []byte("v"), time.Minute); !errors.Is(err, ticket.ErrFull) {
		t.Errorf("Put: %v", err)
	}
	if _, err := s.Count(t.Context(), "other", time.Minute); !errors.Is(err, ticket.ErrFull) {
		t.Errorf("Count: %v", err)
	}
	if v, err := s.Get(t.Context(), "k"); err != nil || string(v) != "v" {
		t.Errorf("Get: %q %v", v, err)
	}
	server.Do("CONFIG", "SET", "maxmemory", "0")
	must(t, s.Put(t.Context(), "other", []byte("v"), time.Minute))
}

// calls are all that the store can be asked.
func calls(s *Store) map[string]func(*testing.T) error {
	r := s.Revocations()
	file := fmt.Sprintf("wechat/revoked/%d/%d-%s", time.Now().Unix()/3600, time.Now().Add(time.Hour).Unix(), secretKey)
	return map[string]func(*testing.T) error{
		"put":    func(t *testing.T) error { return s.Put(t.Context(), secretKey, []byte(secretValue), time.Minute) },
		"get":    func(t *testing.T) error { _, err := s.Get(t.Context(), secretKey); return err },
		"take":   func(t *testing.T) error { _, err := s.Take(t.Context(), secretKey, nil); return err },
		"take p": func(t *testing.T) error { _, err := s.Take(t.Context(), secretKey, []byte(secretValue)); return err },
		"count":  func(t *testing.T) error { _, err := s.Count(t.Context(), secretKey, time.Minute); return err },
		"store":  func(t *testing.T) error { return r.Store(t.Context(), file, nil) },
		"delete": func(t *testing.T) error { return r.Delete(t.Context(), file) },
		"list":   func(t *testing.T) error { _, err := r.List(t.Context(), "wechat/revoked", true); return err },
		"life":   func(t *testing.T) error { _, err := r.Life(t.Context()); return err },
	}
}

const (
	secretKey   = "0123456789abcdef0123456789abcdef"
	secretValue = "a-voucher-for-somebody"
)

// wantAway asks everything: each call must fail within twice the deadline, conclude nothing, and say nothing
// that is secret.
func wantAway(t *testing.T, s *Store, says string) {
	t.Helper()
	var wg sync.WaitGroup
	for name, call := range calls(s) {
		wg.Go(func() {
			begun := time.Now()
			err := call(t)
			if took := time.Since(begun); took > 2*patience {
				t.Errorf("%s took %v", name, took)
			}
			if err == nil || errors.Is(err, ticket.ErrNotFound) || errors.Is(err, ticket.ErrExists) || errors.Is(err, ticket.ErrFull) {
				t.Errorf("%s: %v, want an error that says the store is away", name, err)
				return
			}
			for _, secret := range []string{secretKey, secretKey[:16], secretValue, testPassword} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("%s: the error shows a secret: %v", name, err)
				}
			}
			if !strings.Contains(err.Error(), says) {
				t.Errorf("%s: %v, want it to say %q", name, err, says)
			}
		})
	}
	wg.Wait()
}

// wantBack waits until everything can be asked again, and no answer is another call's.
func wantBack(t *testing.T, s *Store) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		k := ticket.NewLoginID()
		err := s.Put(t.Context(), k, []byte(k), time.Minute)
		if err == nil {
			if v, err := s.Get(t.Context(), k); err != nil || string(v) != k {
				t.Fatalf("Get: %q %v", v, err)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func TestRedisIsAway(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  func(*testing.T) Config
		says string
	}{
		"nothing listens": {func(t *testing.T) Config { return Config{Addresses: []string{redistest.Prepare(t).Addr}} }, "refused"},
		"no Cluster node listens": {func(t *testing.T) Config {
			return Config{Addresses: []string{redistest.Prepare(t).Addr, redistest.Prepare(t).Addr}}
		}, "refused"},
		"no Sentinel listens": {func(t *testing.T) Config {
			return Config{Addresses: []string{redistest.Prepare(t).Addr, redistest.Prepare(t).Addr}, MasterName: "main"}
		}, "in redis"},
		"the password is wrong": {func(t *testing.T) Config {
			return Config{Addresses: []string{redistest.New(t, "requirepass other").Addr}, Password: testPassword}
		}, "username and password"},
		"the password is missing": {func(t *testing.T) Config {
			return Config{Addresses: []string{redistest.New(t, "requirepass other").Addr}}
		}, "username and password"},
		"the ACL user may not": {func(t *testing.T) Config {
			acl := redistest.New(t, "user default off", "user gateway on >"+testPassword+" ~other:* +@all")
			return Config{Addresses: []string{acl.Addr}, Username: "gateway", Password: testPassword}
		}, "key_prefix"},
		"its certificate is nobody's": {func(t *testing.T) Config {
			return Config{Addresses: []string{redistest.NewTLS(t, redistest.NewCA(t)).Addr}, TLS: &tls.Config{RootCAs: redistest.NewCA(t).Pool, MinVersion: tls.VersionTLS12}}
		}, "certificate"},
		"Redis is too old": {func(t *testing.T) Config {
			return Config{Addresses: []string{redistest.New(t, "rename-command GETDEL \"\"", "rename-command SET \"\"", "rename-command GET \"\"", "rename-command EVAL \"\"",
				"rename-command SREM \"\"", "rename-command ZRANGE \"\"", "rename-command GETEX \"\"").Addr}}
		}, "Redis 6.2"},
		"one address of a Cluster": {func(t *testing.T) Config {
			return Config{Addresses: redistest.Addresses(oneSlotElsewhere(t))}
		}, "two of its nodes"},
	} {
		t.Run(name, func(t *testing.T) { wantAway(t, opened(t, c.cfg(t)), c.says) })
	}
}

// oneSlotElsewhere returns a Cluster's node that has none of the slots that calls needs.
func oneSlotElsewhere(t *testing.T) []*redistest.Server {
	t.Helper()
	nodes := redistest.Cluster(t)
	for i, s := range nodes {
		none := true
		for _, key := range []string{testPrefix + secretKey, testPrefix + "{revoked}"} {
			slot := s.Do("CLUSTER", "KEYSLOT", key).(int64)
			none = none && slot*3/16384 != int64(i)
		}
		if none {
			return nodes[i : i+1]
		}
	}
	t.Fatal("no such node")
	return nil
}

// A Redis that was restarted is used at once: dead connections are noticed before they are used.
func TestRestart(t *testing.T) {
	server := redistest.New(t)
	s := opened(t, Config{Addresses: []string{server.Addr}})
	for range 3 {
		inParallel(t, 10, func() error { _, err := s.Count(t.Context(), ticket.NewLoginID(), time.Minute); return err })
		server.Kill()
		wantAway(t, s, "refused")
		server.Start()
		wantBack(t, s)
	}
	// And while nobody asked anything: of several connections none may be handed out dead.
	inParallel(t, 10, func() error { _, err := s.Count(t.Context(), ticket.NewLoginID(), time.Minute); return err })
	server.Kill()
	server.Start()
	inParallel(t, 10, func() error { _, err := s.Count(t.Context(), ticket.NewLoginID(), time.Minute); return err })
}

func inParallel(t *testing.T, n int, f func() error) {
	t.Helper()
	errs := make(chan error, n)
	for range n {
		go func() { errs <- f() }()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// A Redis that hangs costs a call its deadline, and a late answer reaches nobody.
func TestHangingRedis(t *testing.T) {
	for name, start := range map[string]func(*testing.T) ([]*redistest.Server, Config){
		"one server": func(t *testing.T) ([]*redistest.Server, Config) {
			s := redistest.New(t)
			return []*redistest.Server{s}, Config{Addresses: []string{s.Addr}}
		},
		"a Cluster": func(t *testing.T) ([]*redistest.Server, Config) {
			nodes := redistest.Cluster(t)
			return nodes, Config{Addresses: redistest.Addresses(nodes)}
		},
		"Sentinels and all": func(t *testing.T) ([]*redistest.Server, Config) {
			s := redistest.NewSentinels(t, testPassword)
			return append(s.Watchers, s.Master, s.Replica), Config{Addresses: s.Addresses(), MasterName: s.Name, Password: testPassword}
		},
	} {
		t.Run(name, func(t *testing.T) {
			servers, cfg := start(t)
			s, cold := opened(t, cfg), opened(t, cfg)
			wantBack(t, s)
			for _, server := range servers {
				server.Freeze()
			}
			wantAway(t, s, "no answer within")
			wantAway(t, cold, "no answer within")
			for _, server := range servers {
				server.Thaw()
			}
			wantBack(t, s)
			wantBack(t, cold)
		})
	}
}

// What has no answer is not sent again: Redis may have done it.
func TestLostAnswers(t *testing.T) {
	for name, cfg := range map[string]func(*testing.T) (*redistest.Server, Config){
		"one server": func(t *testing.T) (*redistest.Server, Config) {
			s := redistest.New(t)
			return s, Config{Addresses: []string{s.Addr}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			server, cfg := cfg(t)
			wire := newWire(t, server.Addr)
			cfg.Addresses = []string{wire.addr}
			s := opened(t, cfg)
			wantBack(t, s)
			for what, call := range map[string]func(key string) error{
				"incr": func(k string) error { _, err := s.Count(t.Context(), k, time.Minute); return err },
				"set":  func(k string) error { return s.Put(t.Context(), k, []byte("v"), time.Minute) },
				"getdel": func(k string) error {
					_, err := s.Take(t.Context(), k, nil)
					return err
				},
			} {
				key := ticket.NewLoginID()
				before := wire.requests()
				wire.cutAnswers(true)
				if err := call(key); err == nil || errors.Is(err, ticket.ErrExists) || errors.Is(err, ticket.ErrNotFound) {
					t.Errorf("%s: %v", what, err)
				}
				wire.cutAnswers(false)
				if n := wire.requests() - before; n != 1 {
					t.Errorf("%s was sent %d times", what, n)
				}
			}
		})
	}
}

// A master that goes is followed by its replica, without anybody's help.
func TestFailover(t *testing.T) {
	watched := redistest.NewSentinels(t, testPassword)
	s := opened(t, Config{Addresses: watched.Addresses(), MasterName: watched.Name, Password: testPassword})
	must(t, s.Put(t.Context(), "k", []byte("v"), time.Minute))
	watched.Replica.Await("the replica has it", func(c *redis.Client) bool { return c.Exists(t.Context(), testPrefix+"k").Val() == 1 })
	watched.Master.Kill()
	watched.Watchers[0].Kill() // the one that the store may be listening to
	wantBack(t, s)
	if v, err := s.Get(t.Context(), "k"); err != nil || string(v) != "v" {
		t.Errorf("what was stored before: %q %v", v, err)
	}
}

// A Redis that lost everything gets it back from those who know it, and so does one that starts after.
func TestRevocationsComeBack(t *testing.T) {
	server := redistest.New(t)
	cfg := Config{Addresses: []string{server.Addr}}
	storage := opened(t, cfg).Revocations()
	a := &ticket.Revocations{Storage: storage, Known: new(ticket.Revoked)}
	must(t, a.Load(t.Context()))
	// One of some hours ago, that a look at the newest hours does not find missing.
	old, fresh := ticket.NewLoginID(), ticket.NewLoginID()
	hours := time.Now().Unix()/3600 - 30
	must(t, storage.Store(t.Context(), fmt.Sprintf("wechat/revoked/%d/%d-%s", hours, time.Now().Add(time.Hour).Unix(), old), nil))
	must(t, a.Load(t.Context()))
	must(t, a.Revoke(t.Context(), fresh, time.Now().Add(time.Hour)))
	for name, lose := range map[string]func(){
		"it was restarted without a file": func() { server.Kill(); server.Start() },
		"it was restarted with an old file": func() {
			life := server.Do("GET", testPrefix+"{revoked}life")
			server.Kill()
			if a.Look(t.Context()) == nil {
				t.Error("a look at a Redis that is away went well")
			}
			server.Start()
			server.Do("SET", testPrefix+"{revoked}life", life)
		},
		"it was emptied": func() { server.Do("FLUSHALL") },
	} {
		t.Run(name, func(t *testing.T) {
			lose()
			must(t, a.Look(t.Context()))
			b := &ticket.Revocations{Storage: opened(t, cfg).Revocations(), Known: new(ticket.Revoked)}
			must(t, b.Load(t.Context()))
			if !b.Known.Has(old) || !b.Known.Has(fresh) {
				t.Errorf("an old one came back: %v, a fresh one: %v", b.Known.Has(old), b.Known.Has(fresh))
			}
		})
	}
}
