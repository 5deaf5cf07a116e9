package caddymodule

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/ticket"
	"github.com/caddy-wechat/caddy-wechat/ticket/redisstore"
)

// RedisStore keeps tickets, what else is short-lived, and ended sessions in Redis, for all gateways that share
// it. They share Caddy's storage as well: it has the keys. Redis may be away when the configuration is loaded.
type RedisStore struct {
	// Where Redis is, each as host:port. One address is a single Redis; several are nodes of a Cluster, whose
	// other nodes are found by themselves (name two at least); with `master_name` they are Sentinels.
	Addresses []string `json:"addresses,omitempty"`

	// The ACL user. Default: Redis' default user. Sentinels are always asked as their default user.
	Username string `json:"username,omitempty"`

	// The password. Sentinels are told the same one; those that have none take it as well. Keep it out of the
	// configuration: {env.REDIS_PASSWORD} or {file./path} stays symbolic in Caddy's /config/ and autosave.
	// Default: none.
	Password string `json:"password,omitempty"`

	// The number of the database, as text so that it may be a placeholder. A Cluster has 0 alone. Default: 0.
	DB string `json:"db,omitempty"`

	// Speaks TLS, with Redis and with Sentinels. Their certificates must be valid for the addresses they are
	// named by, here and by Sentinels and Clusters, and of an authority that this machine trusts. Default: false.
	TLS bool `json:"tls,omitempty"`

	// What every key begins with: gateways that share it share logins and ended sessions. No braces.
	// Default: caddy_wechat:.
	KeyPrefix string `json:"key_prefix,omitempty"`

	// The name by which the Sentinels know the master. Default: none, the addresses are Redis' own.
	MasterName string `json:"master_name,omitempty"`

	key   string // in redisPool
	kept  string // names what is kept there, whoever asks for it
	store *redisstore.Store
}

const defaultKeyPrefix = "caddy_wechat:"

func init() {
	caddy.RegisterModule(new(RedisStore))
	redisstore.LogTo(func(line string) { caddy.Log().Named("wechat.stores.redis").Debug(line) })
}

// CaddyModule returns the Caddy module information.
func (*RedisStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "wechat.stores.redis", New: func() caddy.Module { return new(RedisStore) }}
}

// redisPool holds the process's clients, by all that they were made of: a reload in the middle of a login goes
// on with its connections.
var redisPool = caddy.NewUsagePool()

type pooledRedis struct{ *redisstore.Store }

// Destruct closes the connections, when the last configuration that used them has ended.
func (p pooledRedis) Destruct() error { return p.Close() }

// Provision makes the client, which connects later: a Redis that is away must not block a reload.
func (r *RedisStore) Provision(ctx caddy.Context) error {
	if r.Password != "" && !placeholder(r.Password) {
		ctx.Logger().Warn("store redis: password stands literally in the configuration, and so in Caddy's /config/ and autosave; write {env.NAME} or {file./path}")
	}
	resolved := *r
	resolved.Addresses = slices.Clone(r.Addresses)
	if err := firstError(resolved.resolve, resolved.check, resolved.checkResolvedPrefix); err != nil {
		return err
	}
	cfg, err := resolved.config()
	if err != nil {
		return err
	}
	key, kept := redisKeys(cfg)
	pooled, _, err := redisPool.LoadOrNew(key, func() (caddy.Destructor, error) { return pooledRedis{redisstore.New(cfg)}, nil })
	if err != nil {
		return err
	}
	r.key, r.kept, r.store = key, kept, pooled.(pooledRedis).Store
	ctx.Logger().Debug("tickets and ended sessions are kept in redis", zap.Strings("addresses", cfg.Addresses))
	return nil
}

// Cleanup gives the client back.
func (r *RedisStore) Cleanup() error {
	if r.key == "" {
		return nil
	}
	_, err := redisPool.Delete(r.key)
	return err
}

// TicketStore implements StoreProvider.
func (r *RedisStore) TicketStore() ticket.Store { return r.store }

// Revocations implements RevocationKeeper.
func (r *RedisStore) Revocations() (storage ticket.RevocationStorage, place string) {
	return r.store.Revocations(), r.kept
}

func (r *RedisStore) resolve() error {
	return resolveAll(append(each("address", r.Addresses),
		value{"username", &r.Username}, value{"password", &r.Password}, value{"db", &r.DB},
		value{"key_prefix", &r.KeyPrefix}, value{"master_name", &r.MasterName})...)
}

// config returns what resolved and checked options mean.
func (r *RedisStore) config() (redisstore.Config, error) {
	cfg := redisstore.Config{
		Addresses: r.Addresses, Username: r.Username, Password: r.Password, KeyPrefix: r.KeyPrefix, MasterName: r.MasterName,
	}
	if cfg.KeyPrefix == "" {
		cfg.KeyPrefix = defaultKeyPrefix
	}
	if r.TLS {
		cfg.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if r.DB == "" {
		return cfg, nil
	}
	db, err := strconv.ParseUint(r.DB, 10, 31)
	cfg.DB = int(db)
	return cfg, err
}

// redisKeys returns what a client is pooled by, and what names the data that it reaches: that stays over a
// change of the password. Neither holds a secret.
func redisKeys(cfg redisstore.Config) (client, kept string) {
	addresses := slices.Sorted(slices.Values(cfg.Addresses))
	data, _ := json.Marshal([]any{addresses, cfg.DB, cfg.KeyPrefix, cfg.MasterName}) // strings and numbers always marshal
	access, _ := json.Marshal([]any{cfg.Addresses, cfg.Username, cfg.Password, cfg.TLS != nil})
	sum := sha256.Sum256(access)
	kept = "redis " + string(data)
	return kept + " " + hex.EncodeToString(sum[:]), kept
}

// check says what is wrong as far as it can be told. Values behind placeholders are checked once they are resolved.
func (r *RedisStore) check() error {
	switch {
	case len(r.Addresses) == 0:
		return errors.New("store redis has no address; write: store redis <host>:6379")
	case r.Username != "" && r.Password == "":
		return errors.New("store redis has a username and no password; write: password {env.REDIS_PASSWORD}")
	}
	return firstError(
		func() error { return eachError(r.Addresses, checkRedisAddress) },
		r.checkTwice,
		func() error { return checkDB(r.DB) },
		r.checkDB,
		func() error { return checkKeyPrefix(r.KeyPrefix) },
	)
}

func checkRedisAddress(address string) error {
	if placeholder(address) {
		return nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" || !isPort(port) {
		return fmt.Errorf("store redis %q is not an address; write it as host:port, such as redis.internal:6379", address)
	}
	return nil
}

// checkTwice finds an address that is there twice: one Redis alone would be taken for a Cluster.
func (r *RedisStore) checkTwice() error {
	for i, address := range r.Addresses {
		if slices.Contains(r.Addresses[:i], address) {
			return fmt.Errorf("store redis has the address %s twice; remove one", address)
		}
	}
	return nil
}

func checkDB(db string) error {
	if _, err := strconv.ParseUint(db, 10, 31); err != nil && db != "" && !placeholder(db) {
		return fmt.Errorf("db %q is not a number, such as 0", db)
	}
	return nil
}

// checkDB keeps a database's number off a Cluster.
func (r *RedisStore) checkDB() error {
	if len(r.Addresses) > 1 && r.MasterName == "" && r.DB != "" && r.DB != "0" && !placeholder(r.DB) {
		return fmt.Errorf("db %s: several addresses are a Cluster, and a Cluster has database 0 alone; remove the option, or add master_name if they are Sentinels", r.DB)
	}
	return nil
}

// prefixPlaceholder is what may stand in a key_prefix until it is resolved.
var prefixPlaceholder = regexp.MustCompile(`\{(env|file|system)\.[^{}]+\}`)

// checkKeyPrefix keeps braces out: what stands in them says where a Cluster keeps a key.
func checkKeyPrefix(prefix string) error {
	if strings.ContainsAny(prefixPlaceholder.ReplaceAllString(prefix, ""), "{}") {
		return fmt.Errorf("key_prefix %q has braces, by which a Redis Cluster tells where a key is; leave them out", prefix)
	}
	return nil
}

// checkResolvedPrefix does so again once no placeholder is left.
func (r *RedisStore) checkResolvedPrefix() error {
	if strings.ContainsAny(r.KeyPrefix, "{}") {
		return errors.New("key_prefix has braces behind its placeholder, by which a Redis Cluster tells where a key is; leave them out")
	}
	return nil
}

// Interface guards.
var (
	_ caddy.Provisioner  = (*RedisStore)(nil)
	_ caddy.CleanerUpper = (*RedisStore)(nil)
	_ StoreProvider      = (*RedisStore)(nil)
	_ RevocationKeeper   = (*RedisStore)(nil)
)
