package caddymodule

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
)

const (
	outsideDeny     = "deny"
	outsidePass     = "pass"
	outsideRedirect = "redirect"
	outsideScan     = "scan"

	snapshotPage  = "page"
	snapshotGuest = "guest"
	snapshotDeny  = "deny"

	defaultCookie = "wechat_session"
	defaultPrefix = "X-Wechat-"
	defaultIdle   = 168 * time.Hour
	defaultMax    = 720 * time.Hour
)

var (
	tokenPattern = regexp.MustCompile(`^[0-9A-Za-z_-]+$`)
	pathPattern  = regexp.MustCompile(`^(/[0-9A-Za-z_.~-]+)+$`)
)

// check says what is wrong with the handler as far as it can be told without the rest.
func (a *Auth) check() error {
	return firstError(
		func() error { return eachError(a.Public, checkPublic) },
		func() error { return eachError(a.Origins, checkOrigin) },
		func() error { return checkScope(a.Scope) },
		func() error {
			return oneOf("outside_wechat", a.OutsideWeChat, outsideDeny, outsidePass, outsideRedirect, outsideScan)
		},
		func() error { return oneOf("snapshot", a.Snapshot, snapshotPage, snapshotGuest, snapshotDeny) },
		a.checkTimes,
		a.checkRecheck,
		func() error { return checkCookie(a.Cookie) },
		func() error { return checkPath(a.Path) },
		a.checkHeaders,
	)
}

// available says which part of a correct handler comes with a later version.
func (a *Auth) available() error {
	later := []struct {
		set  bool
		name string
	}{
		{a.OutsideWeChat == outsideScan, "outside_wechat scan"},
		{a.Website != "", "website"},
		{a.Recheck != "" && a.Recheck != "off", "recheck"},
		{a.Templates != "", "templates"},
		{a.SlowMotion, "slow_motion"},
	}
	for _, l := range later {
		if l.set {
			return notYet(l.name)
		}
	}
	return nil
}

func (a *Auth) checkTimes() error {
	idle, longest, renew := a.times()
	switch {
	case idle < time.Second:
		return fmt.Errorf("session %s is too short; use 1s or more", idle)
	case longest < idle:
		return fmt.Errorf("session %s %s: the second, counted from the login, must not be shorter than the first", idle, longest)
	case renew <= 0 || renew >= idle:
		return fmt.Errorf("renew %s must lie between 0 and session's first value, %s", renew, idle)
	}
	return nil
}

// times returns idle, max and renew with their defaults.
func (a *Auth) times() (idle, longest, renew time.Duration) {
	idle, longest, renew = time.Duration(a.Idle), time.Duration(a.Max), time.Duration(a.Renew)
	if idle == 0 {
		idle = defaultIdle
	}
	if longest == 0 {
		longest = max(defaultMax, idle)
	}
	if renew == 0 {
		renew = idle / 2
	}
	return idle, longest, renew
}

func (a *Auth) checkRecheck() error {
	if a.Recheck == "" || a.Recheck == "off" {
		return nil
	}
	d, err := caddy.ParseDuration(a.Recheck)
	if err != nil || d <= 0 {
		return fmt.Errorf("recheck %q is neither a duration nor off", a.Recheck)
	}
	return nil
}

func (a *Auth) checkHeaders() error {
	if err := checkToken("token_header", a.TokenHeader); err != nil {
		return err
	}
	return checkHeaderPrefix(a.HeaderPrefix)
}

func checkCookie(name string) error {
	if strings.HasPrefix(name, "__") {
		return fmt.Errorf("cookie %q: leave the prefix away; on https it gets __Host- by itself", name)
	}
	if brokerCookies.has(name) {
		return fmt.Errorf("cookie %q is what wechat_broker calls its own; choose another name", name)
	}
	return checkToken("cookie", name)
}

func checkHeaderPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	if err := checkToken("header_prefix", prefix); err != nil {
		return err
	}
	folded := fold(prefix)
	if slices.ContainsFunc(standardFamilies, func(family string) bool { return strings.HasPrefix(family, folded) }) {
		return fmt.Errorf("header_prefix %q would remove standard headers from requests; use one of your own, such as X-Wechat-", prefix)
	}
	if len(folded) < 4 {
		return fmt.Errorf("header_prefix %q is too short: everything under it is removed from requests; use four letters or digits at least", prefix)
	}
	return nil
}

// standardFamilies are prefixes, folded, under which headers stand that are not ours to remove.
var standardFamilies = []string{
	"x", "xforwarded", "xforward", "xreal", "xrequest", "xrequested", "xhttp", "xcsrf", "sec", "secfetch", "secch", "secwebsocket",
	"accept", "authorization", "cookie", "content", "host", "user", "useragent", "cache", "connection", "transfer", "upgrade", "forwarded", "origin", "referer", "proxy", "http", "access", "accesscontrol", "range", "date", "expect", "via", "trailer", "keep",
}

func checkPublic(pattern string) error {
	if placeholder(pattern) || strings.HasPrefix(pattern, "/") || strings.HasPrefix(pattern, "*") {
		return nil
	}
	return fmt.Errorf("public path %q does not begin with /", pattern)
}

func checkToken(option, value string) error {
	if value == "" || tokenPattern.MatchString(value) {
		return nil
	}
	return fmt.Errorf("%s %q may hold letters, digits, - and _ only", option, value)
}

func checkPath(path string) error {
	if path == "" || pathPattern.MatchString(path) && !strings.Contains(path, "/.") {
		return nil
	}
	return fmt.Errorf("path %q is not a prefix; write it like /_wechat, without a slash at its end", path)
}

var errNoApp = errors.New("there is no wechat option; add to the global options block: wechat { account { app_id … app_secret … } }")
