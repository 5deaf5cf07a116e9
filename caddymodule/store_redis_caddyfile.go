package caddymodule

import (
	"strconv"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// UnmarshalCaddyfile parses many gateways' shared store. Syntax:
//
//	store redis <address>... {
//		username    <name>
//		password    <secret>
//		db          <n>
//		tls
//		key_prefix  <text>
//		master_name <name>
//	}
func (r *RedisStore) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the store's name
	b := newBlock(d, "store redis")
	if err := setList("store redis <address>...", &r.Addresses, unlimited, checkRedisAddress)(d); err != nil {
		return b.place(err)
	}
	err := b.read(d, options{
		"username":    setText("username <name>", &r.Username, nil),
		"password":    setText("password <secret>", &r.Password, nil),
		"db":          r.readDB,
		"tls":         setFlag("tls", &r.TLS),
		"key_prefix":  setText("key_prefix <text>", &r.KeyPrefix, checkKeyPrefix),
		"master_name": setText("master_name <name>", &r.MasterName, nil),
	}, nil)
	if err != nil {
		return err
	}
	return firstError(
		func() error { return b.place(r.checkDB(), "db") },
		func() error { return b.place(r.check()) },
	)
}

// readDB keeps a placeholder as it is, and a number as one.
func (r *RedisStore) readDB(d *caddyfile.Dispenser) error {
	if err := setText("db <n>", &r.DB, checkDB)(d); err != nil {
		return err
	}
	if n, err := strconv.ParseUint(r.DB, 10, 31); err == nil {
		r.DB = strconv.FormatUint(n, 10)
	}
	return nil
}

// Interface guard.
var _ caddyfile.Unmarshaler = (*RedisStore)(nil)
