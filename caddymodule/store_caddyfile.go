package caddymodule

import (
	"errors"
	"fmt"
	"math"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// store parses the option store: the name of a guest module, then what that module reads.
func (p *appParser) store(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return errors.New("store: value missing; write: store redis <address>..., or: store memory [<size>]")
	}
	name := d.Val()
	id := "wechat.stores." + name
	if _, err := caddy.GetModule(id); err != nil {
		return fmt.Errorf("unknown store %q; use one of: memory, redis", name)
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

// unlimited is the most values of an option that may have any number.
const unlimited = math.MaxInt
