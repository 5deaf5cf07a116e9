package caddymodule

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// Client is a backend that is not a site of this Caddy: its users log in at the broker, and come back to it.
type Client struct {
	// At least 16 characters; required to redeem tickets, unless public.
	Secret string `json:"secret,omitempty"`
	// Whoever holds a ticket may redeem it.
	Public bool `json:"public,omitempty"`
	// Where logins may return to: scheme, host and port exact, the path may end in *.
	ReturnTo []string `json:"return_to,omitempty"`
	// The accounts it may use. Default: the broker's.
	Accounts []string `json:"accounts,omitempty"`
	// The most it may ask for. Default: snsapi_userinfo.
	Scope string `json:"scope,omitempty"`
	// The broker shows its login button before a profile request.
	Ask bool `json:"ask,omitempty"`
	// Request targets by their 8 hex digits.
	Tokens map[string]string `json:"tokens,omitempty"`
	// Hands the openid back to request targets as well.
	OpenID bool `json:"openid,omitempty"`
	// How long profiles can be read. Default: 24h.
	ProfileTTL caddy.Duration `json:"profile_ttl,omitempty"`
	// A ticket may be redeemed again until it ends.
	Reuse bool `json:"reuse,omitempty"`
	// State goes back unencoded.
	RawState bool `json:"raw_state,omitempty"`
	// With # in the return address, the pair goes behind it.
	FragmentAppend bool `json:"fragment_append,omitempty"`
	// Networks that tickets may be redeemed from.
	RedeemFrom []string `json:"redeem_from,omitempty"`
	// May receive WeChat's own code.
	PassCode bool `json:"pass_code,omitempty"`
}

const (
	defaultTicketTTL = time.Minute
	minClientSecret  = 16
)

var clientToken = regexp.MustCompile(`^[0-9a-fA-F]{8}$`)

func (b *Broker) checkOptions() error {
	return firstError(
		b.checkAccounts,
		b.checkTicketTTL,
		func() error { return checkPath(b.Path) },
		func() error {
			return eachError(b.clientIDs(), func(id string) error {
				if err := checkClientID(id); err != nil {
					return err
				}
				if err := b.Clients[id].check(); err != nil {
					return fmt.Errorf("client %s: %w", id, err)
				}
				return nil
			})
		},
		b.checkShared,
	)
}

// clientID keeps access tokens, which begin with it, as short as WeChat's.
var clientID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// checkClientID: an id stands in addresses, and before the colon of Basic.
func checkClientID(id string) error {
	if !clientID.MatchString(id) {
		return fmt.Errorf("client id %q must be 1 to 64 letters, digits, dots, dashes and underscores", id)
	}
	return nil
}

func (b *Broker) checkAccounts() error {
	for i, name := range b.Accounts {
		if slices.Contains(b.Accounts[:i], name) {
			return fmt.Errorf("wechat_broker: account %s is there twice; keep one", name)
		}
	}
	return nil
}

func (b *Broker) checkTicketTTL() error {
	if ttl := time.Duration(b.TicketTTL); ttl != 0 && (ttl < time.Second || ttl > 10*time.Minute) {
		return fmt.Errorf("ticket_ttl %s: use 1s to 10m", ttl)
	}
	return nil
}

func (b *Broker) clientIDs() []string { return slices.Sorted(maps.Keys(b.Clients)) }

// checkShared refuses what two clients have in common by which a login's client is found.
func (b *Broker) checkShared() error {
	owners := map[string]string{}
	claim := func(option, value, id string) error {
		key := option + " " + value
		if other, ok := owners[key]; ok && other == id {
			return fmt.Errorf("%s %s is there twice; keep one", option, value)
		} else if ok {
			return fmt.Errorf("clients %s and %s have the same %s %s; which of them a login is for must be certain", other, id, option, value)
		}
		owners[key] = id
		return nil
	}
	for _, id := range b.clientIDs() {
		for _, pattern := range b.Clients[id].ReturnTo {
			if err := claim("return_to", normalReturnTo(pattern), id); err != nil {
				return err
			}
		}
		for _, token := range slices.Sorted(maps.Keys(b.Clients[id].Tokens)) {
			if err := claim("token", strings.ToLower(token), id); err != nil {
				return err
			}
		}
	}
	return nil
}

// errAppID refuses an id by which a client and an account would be one where WeChat's app id stands.
func errAppID(id string) error {
	return fmt.Errorf("client id %q is an account's app id; choose another, as it stands where SDKs send the app id", id)
}

func (c *Client) check() error {
	return firstError(
		func() error { return checkClientSecret(c.Secret) },
		func() error {
			if c.Secret == "" && !c.Public {
				return errors.New("neither secret nor public is there; write: secret {env.CLIENT_SECRET}")
			}
			return nil
		},
		func() error { return eachError(c.ReturnTo, checkReturnTo) },
		func() error { return checkScope(c.Scope) },
		func() error {
			return eachError(slices.Sorted(maps.Keys(c.Tokens)), func(token string) error { return checkTarget(token, c.Tokens[token]) })
		},
		func() error { return notNegative("profile_ttl", time.Duration(c.ProfileTTL)) },
		func() error { return eachError(c.RedeemFrom, checkNetwork) },
	)
}

func checkClientSecret(secret string) error {
	if secret != "" && !placeholder(secret) && len(secret) < minClientSecret {
		return fmt.Errorf("secret has %d characters, and %d are the least (make one with: openssl rand -hex 16)", len(secret), minClientSecret)
	}
	return nil
}

func checkReturnTo(pattern string) error {
	if placeholder(pattern) {
		return nil
	}
	u, err := url.Parse(pattern)
	switch {
	case !strings.Contains(pattern, "://"):
		return fmt.Errorf("return_to %q has no scheme; write: return_to https://shop.example.org/*", pattern)
	case err != nil || u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("return_to %q is not an address; write: return_to https://shop.example.org/*", pattern)
	case u.User != nil:
		return fmt.Errorf("return_to %q has user info; take it out", pattern)
	case strings.Contains(u.Host, "*"):
		return fmt.Errorf("return_to %q has a wildcard in its host; name each host", pattern)
	case u.Host == "" || !isHost(asciiHost(u)):
		return fmt.Errorf("return_to %q has no host name; write: return_to https://shop.example.org/*", pattern)
	case !isOneOrigin(joinOrigin(u.Scheme, asciiHost(u), u.Port())):
		return fmt.Errorf("return_to %q: no browser writes such a host or port, so that no address matches; write it as browsers do", pattern)
	case hasDotSegment(u.EscapedPath()):
		return fmt.Errorf("return_to %q has a dot segment or a control character, so that no address matches; write its path without", pattern)
	case strings.Contains(strings.TrimSuffix(u.Path, "*"), "*"):
		return fmt.Errorf("return_to %q: only the end of the path may be *", pattern)
	case strings.ContainsAny(pattern, "?#"):
		return fmt.Errorf("return_to %q has a query or a fragment; take it out", pattern)
	}
	return nil
}

// asciiHost returns an address's host as isHost takes it.
func asciiHost(u *url.URL) string {
	if strings.HasPrefix(u.Host, "[") {
		return "[" + u.Hostname() + "]"
	}
	return strings.ToLower(toASCII(u.Hostname()))
}

// normalReturnTo returns a correct pattern as patterns are compared: equal ones have one spelling.
func normalReturnTo(pattern string) string {
	u, err := url.Parse(pattern)
	if err != nil || u.Host == "" {
		return pattern // behind a placeholder
	}
	port := u.Port()
	if port == defaultPort(u.Scheme) {
		port = ""
	}
	return joinOrigin(u.Scheme, asciiHost(u), port) + onePath(u.EscapedPath())
}

// checkTarget checks a request target of wxauth V1, whose address may have a query.
func checkTarget(token, target string) error {
	if !clientToken.MatchString(token) {
		return fmt.Errorf("token %q is not 8 hex digits", token)
	}
	if placeholder(target) {
		return nil
	}
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || !isHost(asciiHost(u)) {
		return fmt.Errorf("token %s: %q is not an address; write: token %s https://old.example.org/login", token, target, token)
	}
	if _, err := parseReturn(target, nameTicket, nameState, nameOpenID); err != nil {
		return fmt.Errorf("token %s: mend its address, to which ticket, state and openid are appended: %w", token, err)
	}
	return nil
}

func checkNetwork(cidr string) error {
	if placeholder(cidr) {
		return nil
	}
	if _, err := netip.ParsePrefix(cidr); err == nil {
		return nil
	}
	if _, err := netip.ParseAddr(cidr); err == nil {
		return nil
	}
	return fmt.Errorf("redeem_from %q is not a network such as 10.0.0.0/8", cidr)
}
