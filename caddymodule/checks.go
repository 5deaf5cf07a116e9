package caddymodule

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-wechat/caddy-wechat/wechat"
)

// placeholder reports whether s is only known once the configuration is loaded.
func placeholder(s string) bool { return strings.Contains(s, "{") }

// value is an option's value that may hold placeholders.
type value struct {
	option string
	at     *string
}

// resolveAll replaces the placeholders in values, in place. Placeholders that are unknown or empty are
// errors: an empty secret would let anyone in.
func resolveAll(values ...value) error {
	repl := caddy.NewReplacer()
	for _, v := range values {
		s, err := repl.ReplaceOrErr(*v.at, true, true)
		if err != nil {
			return fmt.Errorf("option %s: %w", v.option, err)
		}
		*v.at = strings.TrimRight(s, "\r\n") // a secret's file ends with a line break
	}
	return nil
}

// each returns the values of an option that takes several.
func each(option string, list []string) (values []value) {
	for i := range list {
		values = append(values, value{option, &list[i]})
	}
	return values
}

func checkScope(scope string) error {
	return oneOf("scope", scope, wechat.ScopeBase, wechat.ScopeUserInfo)
}

// oneOf accepts nothing, a placeholder, or one of the words.
func oneOf(option, value string, words ...string) error {
	if value == "" || placeholder(value) || slices.Contains(words, value) {
		return nil
	}
	return fmt.Errorf("unknown %s %q; use one of: %s", option, value, strings.Join(words, ", "))
}

func checkURL(option, value string) error {
	if value == "" || placeholder(value) {
		return nil
	}
	u, err := url.Parse(value)
	if err == nil && u.User != nil {
		return fmt.Errorf("%s has user info; take it out", option) // and do not show it
	}
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("%s %q is not an address; write it as https://host", option, value)
	}
	return nil
}

func notNegative(option string, d time.Duration) error {
	if d < 0 {
		return fmt.Errorf("%s %s is negative", option, d)
	}
	return nil
}

func notYet(what string) error {
	return fmt.Errorf("%s is not available yet in this version", what)
}

// firstError returns the first error of checks.
func firstError(checks ...func() error) error {
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// eachError returns the first error of check over list.
func eachError[T any](list []T, check func(T) error) error {
	for _, x := range list {
		if err := check(x); err != nil {
			return err
		}
	}
	return nil
}
