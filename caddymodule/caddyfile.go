package caddymodule

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"
)

// options are the options of a block by their names. Each reads its values and its own block; d stands on its name.
type options map[string]readOption

// block is a block of the Caddyfile while it is read.
type block struct {
	name  string
	at    caddyfile.Dispenser            // where the block's own name stands
	many  []string                       // the options that may repeat
	seen  map[string]caddyfile.Dispenser // where the others stand, the last of those that repeat
	last  string                         // the option that was read last
	later error                          // the first part that is not available yet
}

// newBlock begins the block whose name d stands on.
func newBlock(d *caddyfile.Dispenser, name string, many ...string) *block {
	return &block{name: name, at: *d, many: many, seen: map[string]caddyfile.Dispenser{}}
}

// read reads the block that begins behind d. After each option, available says whether it can be had yet.
func (b *block) read(d *caddyfile.Dispenser, known options, available func() error) error {
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name, at := d.Val(), *d
		if err := b.accept(name, known); err != nil {
			return placeAt(at, err)
		}
		b.seen[name], b.last = at, name
		if err := known[name](d); err != nil {
			return placeAt(at, err)
		}
		if available != nil && b.later == nil {
			b.later = placeAt(at, available())
		}
	}
	return nil
}

func (b *block) accept(name string, known options) error {
	_, ok := known[name]
	_, doubled := b.seen[name]
	switch {
	case name == "{" || name == "}":
		return fmt.Errorf("%s takes no block; remove it and its braces", b.last)
	case !ok:
		return fmt.Errorf("unknown option %q; %s has: %s", name, b.name, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
	case doubled && !slices.Contains(b.many, name):
		return fmt.Errorf("doubled option %s; keep one", name)
	}
	return nil
}

// finish checks the block as a whole. Only a block without a mistake is refused for what is not available yet.
func (b *block) finish(check func() error) error {
	if err := b.place(check()); err != nil {
		return err
	}
	return b.later
}

// place adds to err the file and line of the option that it is about, or of the block.
func (b *block) place(err error, option ...string) error {
	for _, name := range option {
		if at, ok := b.seen[name]; ok {
			return placeAt(at, err)
		}
	}
	return placeAt(b.at, err)
}

// placed is an error that says its file and line.
type placed struct{ error }

func placeAt(at caddyfile.Dispenser, err error) error {
	if _, ok := errors.AsType[placed](err); ok || err == nil {
		return err
	}
	return placed{at.WrapErr(err)}
}

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
	return int64(n), nil
}

// Interface guard.
var _ caddyfile.Unmarshaler = (*MemoryStore)(nil)
