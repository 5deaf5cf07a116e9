package caddymodule

import (
	"errors"
	"fmt"
	"math"
	"net"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// store parses the option store: the name of a guest module, then what that module reads.
func (p *appParser) store(d *caddyfile.Dispenser) error {
	b := newBlock(d, "store redis")
	if !d.NextArg() {
		return errors.New("store: value missing; write: store memory [<size>]")
	}
	name := d.Val()
	if name == "redis" {
		return p.storeRedis(d, b)
	}
	id := "wechat.stores." + name
	if _, err := caddy.GetModule(id); err != nil {
		return fmt.Errorf("unknown store %q; use one of: memory", name)
	}
	store, err := caddyfile.UnmarshalModule(d, id)
	if err != nil {
		return err
	}
	p.StoreRaw = caddyconfig.JSONModuleObject(store, "store", name, nil)
	return nil
}

// UnmarshalCaddyfile parses the store. Syntax:
//
//	store memory [<size>]
func (m *MemoryStore) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the store's name
	at := newBlock(d, "store memory")
	args, err := arguments(d, "store memory [<size>]", 0, 1)
	if err == nil && len(args) > 0 {
		m.Size, err = parseSize("store memory", args[0], minMemory)
	}
	if err == nil && d.Next() {
		err = errors.New("store memory takes no block; remove it and its braces")
	}
	return at.place(err)
}

// redisStore is what `store redis` will hold; until there is one it is read and checked only.
type redisStore struct {
	addresses                                 []string
	username, password, db, keyPrefix, master string
	tls                                       bool
}

// storeRedis parses many gateways' shared store. Syntax:
//
//	store redis <address>... {
//		username    <name>
//		password    <secret>
//		db          <n>
//		tls
//		key_prefix  <text>
//		master_name <name>
//	}
func (p *appParser) storeRedis(d *caddyfile.Dispenser, b *block) error {
	var s redisStore
	addresses := setList("store redis <address>...", &s.addresses, unlimited, checkAddress)
	if err := addresses(d); err != nil {
		return err
	}
	err := b.read(d, options{
		"username":    setText("username <name>", &s.username, nil),
		"password":    setText("password <secret>", &s.password, nil),
		"db":          setText("db <n>", &s.db, checkDB),
		"tls":         setFlag("tls", &s.tls),
		"key_prefix":  setText("key_prefix <text>", &s.keyPrefix, nil),
		"master_name": setText("master_name <name>", &s.master, nil),
	}, nil)
	if err == nil && p.later == nil {
		p.later = b.place(notYet("store redis"))
	}
	return err
}

func checkAddress(address string) error {
	if placeholder(address) {
		return nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" || !isPort(port) {
		return fmt.Errorf("store redis %q is not an address; write it as host:port, such as redis.internal:6379", address)
	}
	return nil
}

func checkDB(db string) error {
	if _, err := strconv.ParseUint(db, 10, 31); err != nil && !placeholder(db) {
		return fmt.Errorf("db %q is not a number, such as 0", db)
	}
	return nil
}

// unlimited is the most values of an option that may have any number.
const unlimited = math.MaxInt
