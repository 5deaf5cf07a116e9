package caddymodule

import (
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"
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

// arguments returns the values behind d. The usage is the option's syntax; values are never told, they may be secret.
func arguments(d *caddyfile.Dispenser, usage string, least, most int) ([]string, error) {
	args := d.RemainingArgs()
	name, _, _ := strings.Cut(usage, " ")
	switch {
	case len(args) < least:
		return nil, fmt.Errorf("%s: value missing; write: %s", name, usage)
	case len(args) > most && most == 0:
		return nil, fmt.Errorf("%s takes no value; write: %s", name, usage)
	case len(args) > most:
		return nil, fmt.Errorf("%s: %d values, and at most %d can be; write: %s", name, len(args), most, usage)
	case slices.Contains(args, ""):
		return nil, fmt.Errorf("%s: empty value; write: %s", name, usage)
	}
	return args, nil
}

type readOption = func(d *caddyfile.Dispenser) error

// setText reads one value. A nil check takes all.
func setText(usage string, target *string, check func(string) error) readOption {
	return func(d *caddyfile.Dispenser) error {
		args, err := arguments(d, usage, 1, 1)
		if err != nil {
			return err
		}
		*target = args[0]
		if check == nil {
			return nil
		}
		return check(args[0])
	}
}

// setWord reads one of a few words.
func setWord(name string, target *string, words ...string) readOption {
	return setText(name+" "+strings.Join(words, "|"), target, func(s string) error { return oneOf(name, s, words...) })
}

// setList reads one value or more, on top of those of the lines before. A nil check takes all.
func setList(usage string, target *[]string, most int, check func(string) error) readOption {
	return func(d *caddyfile.Dispenser) error {
		args, err := arguments(d, usage, 1, most)
		if err != nil {
			return err
		}
		*target = append(*target, args...)
		if check == nil {
			return nil
		}
		return eachError(args, check)
	}
}

// setFlag reads an option that has no value.
func setFlag(name string, target *bool) readOption {
	return func(d *caddyfile.Dispenser) error {
		*target = true
		_, err := arguments(d, name, 0, 0)
		return err
	}
}

func setDuration(usage string, target *caddy.Duration) readOption {
	return func(d *caddyfile.Dispenser) error {
		var value string
		if err := setText(usage, &value, nil)(d); err != nil {
			return err
		}
		name, _, _ := strings.Cut(usage, " ")
		var err error
		*target, err = parseDuration(name, value)
		return err
	}
}

// parseDuration refuses zero: to the configuration it is the default, which nobody means who writes 0.
func parseDuration(option, value string) (caddy.Duration, error) {
	d, err := caddy.ParseDuration(value)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%s %q is not a duration above 0; write it like 90s, 12h or 7d", option, value)
	}
	return caddy.Duration(d), nil
}

func setSize(usage string, target *int64, least uint64) readOption {
	return func(d *caddyfile.Dispenser) error {
		var value string
		if err := setText(usage, &value, nil)(d); err != nil {
			return err
		}
		name, _, _ := strings.Cut(usage, " ")
		var err error
		*target, err = parseSize(name, value, least)
		return err
	}
}

func parseSize(option, value string, least uint64) (int64, error) {
	n, err := humanize.ParseBytes(value)
	switch {
	case err != nil || n > math.MaxInt64:
		return 0, fmt.Errorf("%s %q is not a size; write it like 64MiB", option, value)
	case n < least:
		return 0, fmt.Errorf("%s %s is too small; use %dMiB or more", option, value, least>>20)
	}
	return int64(n), nil //nolint:gosec // compared above
}

// Interface guard.
var _ caddyfile.Unmarshaler = (*MemoryStore)(nil)
