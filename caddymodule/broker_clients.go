package caddymodule

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/ticket"
	"github.com/caddy-wechat/caddy-wechat/wechat"
)

// client is a Client at work.
type client struct {
	*Client
	id       string
	secret   [sha256.Size]byte // hashed: comparing it tells nothing, not even its length
	patterns []returnPattern
	accounts []*account
	networks []netip.Prefix // none: redeems from anywhere
	targets  map[string]returnAddress
}

// pattern is a client's return pattern, in the list of all.
type pattern struct {
	returnPattern
	client *client
}

// newClient makes a broker's client of its configuration, which it resolves.
func (b *Broker) newClient(id string, cfg *Client) (*client, error) {
	if cfg.Secret != "" && !placeholder(cfg.Secret) {
		b.logger.Warn("a client's secret stands literally in the configuration, and so in Caddy's /config/ and autosave; write {env.NAME} or {file./path}", zap.String("client", id))
	}
	if err := firstError(cfg.resolve, cfg.check); err != nil {
		return nil, err
	}
	if cfg.Scope == "" {
		cfg.Scope = wechat.ScopeUserInfo
	}
	if cfg.ProfileTTL == 0 {
		cfg.ProfileTTL = defaultProfileTTL
	}
	c := &client{Client: cfg, id: id, secret: sha256.Sum256([]byte(cfg.Secret)), targets: map[string]returnAddress{}}
	for _, p := range cfg.ReturnTo {
		c.patterns = append(c.patterns, newReturnPattern(p))
	}
	for _, n := range cfg.RedeemFrom {
		c.networks = append(c.networks, parseNetwork(n))
	}
	for token, target := range cfg.Tokens {
		c.targets[strings.ToLower(token)], _ = parseReturn(target) // it was checked
	}
	return c, c.takeAccounts(b)
}

// resolve replaces placeholders.
func (c *Client) resolve() error {
	values := []value{{"secret", &c.Secret}, {"scope", &c.Scope}}
	values = append(values, each("return_to", c.ReturnTo)...)
	values = append(values, each("account", c.Accounts)...)
	values = append(values, each("redeem_from", c.RedeemFrom)...)
	for token, target := range c.Tokens {
		if err := resolveAll(value{"token", &target}); err != nil {
			return err
		}
		c.Tokens[token] = target
	}
	return resolveAll(values...)
}

// takeAccounts takes the accounts that the option names, else the broker's.
func (c *client) takeAccounts(b *Broker) error {
	for name, acc := range b.accounts {
		if len(c.Accounts) == 0 || slices.Contains(c.Accounts, name) {
			c.accounts = append(c.accounts, acc)
		}
	}
	for _, name := range c.Accounts {
		if b.accounts[name] == nil {
			return fmt.Errorf("option account: %q is not one of this wechat_broker's", name)
		}
	}
	if len(c.Tokens) > 0 && len(c.accounts) != 1 {
		return errors.New("option token: what WeChat brings to a token does not say which account it is of; name one: account <name>")
	}
	return nil
}

// takeClients makes the broker's clients.
func (b *Broker) takeClients() error {
	b.clients, b.targets = map[string]*client{}, map[string]*client{}
	for _, id := range b.clientIDs() {
		c, err := b.newClient(id, b.Clients[id])
		if err == nil {
			err = b.app.claimClient(c)
		}
		if err != nil {
			return fmt.Errorf("client %s: %w", id, err)
		}
		b.clients[id] = c
		for _, p := range c.patterns {
			b.patterns = append(b.patterns, pattern{p, c})
		}
		for token := range c.targets {
			b.targets[token] = c
		}
	}
	slices.SortStableFunc(b.patterns, func(p, q pattern) int { return p.compare(q.returnPattern) })
	if len(b.clients) > 0 {
		b.app.gateway.keys.Live(refreshLife)
		b.app.cookieBases.add(brokerCookie)
	}
	return b.checkShared() // what stood behind placeholders is known now
}

// claimClient keeps one id from standing for two clients: their tickets lie in one store, under that id.
func (a *App) claimClient(c *client) error {
	if slices.ContainsFunc(slices.Collect(maps.Values(a.accounts)), func(acc *account) bool { return acc.appID == c.id }) {
		return errAppID(c.id)
	}
	other := a.clients[c.id]
	if other != nil && (other.secret != c.secret || other.Public != c.Public) {
		return errors.New("another wechat_broker has a client of this id with another secret; give each an id of its own, or both the same secret")
	}
	a.clients[c.id] = c
	return nil
}

// terms say how the client's tickets are redeemed.
func (c *client) terms() ticket.Terms { return ticket.Terms{Public: c.Public, Reuse: c.Reuse} }

// uses reports whether the client may log in with the account.
func (c *client) uses(acc *account) bool { return slices.Contains(c.accounts, acc) }

// hears reports whether the client may be told of the user: its accounts may be others since the login.
func (c *client) hears(u ticket.Identity) bool {
	return slices.ContainsFunc(c.accounts, func(acc *account) bool { return acc.appID == u.AppID })
}

// isOrigin reports whether origin is one that the client returns to.
func (c *client) isOrigin(origin string) bool {
	return slices.ContainsFunc(c.patterns, func(p returnPattern) bool { return p.origin == origin })
}

// knows reports whether secret is the client's.
func (c *client) knows(secret string) bool {
	sum := sha256.Sum256([]byte(secret))
	return c.Secret != "" && subtle.ConstantTimeCompare(sum[:], c.secret[:]) == 1
}

// redeemsFrom reports whether the client may redeem from where r comes from.
func (c *client) redeemsFrom(r *http.Request) bool {
	if len(c.networks) == 0 {
		return true
	}
	ip, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	ip, _, _ = strings.Cut(ip, "%") // an IPv6 zone
	addr, err := netip.ParseAddr(ip)
	return err == nil && slices.ContainsFunc(c.networks, func(n netip.Prefix) bool { return n.Contains(addr.Unmap()) })
}

// parseNetwork reads what checkNetwork has let through.
func parseNetwork(s string) netip.Prefix {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked()
	}
	addr, _ := netip.ParseAddr(s)
	return netip.PrefixFrom(addr, addr.BitLen())
}

// clientOf returns the client that the address belongs to: the longest pattern counts.
func (b *Broker) clientOf(a returnAddress) *client {
	for _, p := range b.patterns {
		if p.matches(a) {
			return p.client
		}
	}
	return nil
}

// redeemer tells who sends r: a client that proves it by its secret, or nobody in particular (nil). It is not
// ok where something is claimed that is not so: then nothing may be spent.
func (b *Broker) redeemer(r *http.Request) (c *client, ok bool) {
	if r.Header.Get("Authorization") == "" {
		if !b.hasPublic() {
			b.sayRefused(r, "", "it sent no secret (HTTP Basic), and no client is public")
		}
		return nil, true
	}
	id, secret, _ := r.BasicAuth()
	c = b.clients[id]
	switch {
	case c != nil && c.Public && secret == "":
		return nil, true
	case b.proves(r, c, secret):
		return c, true
	}
	return nil, false
}

// proves reports whether r comes from the client: by its secret, and from its networks. What does not is
// logged, as whoever runs the client looks for it here.
func (b *Broker) proves(r *http.Request, c *client, secret string) bool {
	why := ""
	switch {
	case c == nil:
		why = "there is no client of this id"
	case !c.knows(secret):
		why = "its secret is another"
	case !c.redeemsFrom(r):
		why = "its address is not in redeem_from"
	default:
		return true
	}
	id := ""
	if c != nil {
		id = c.id // a stranger chose any other
	}
	b.sayRefused(r, id, why)
	return false
}

// showsSecret reports whether the client's secret came over plain http, where anybody on the way can read it.
func (b *Broker) showsSecret(r *http.Request, c *client) bool {
	if !b.isPlain(r) {
		return false
	}
	b.sayRefused(r, c.id, "its secret came over plain http; it must ask at https://, and get a new secret")
	return true
}

func (b *Broker) sayRefused(r *http.Request, id, why string) {
	if b.refusals.aMinute() {
		ip, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
		b.logger.Warn("a client was refused (this is said once a minute)", zap.String("client", id), zap.String("why", why), zap.String("address", ip))
	}
}

// hasPublic reports whether anybody may redeem without a secret.
func (b *Broker) hasPublic() bool {
	for _, c := range b.clients {
		if c.Public {
			return true
		}
	}
	return false
}

// brokerCookies is the broker's name for its cookies alone.
var brokerCookies = newCookieBases(brokerCookie)

const (
	brokerCookie      = "wechat_broker" // its login cookies are wechat_broker_login_<id>
	defaultProfileTTL = caddy.Duration(24 * time.Hour)

	nameTicket = "ticket"
	nameState  = "state"
	nameError  = "error"
	nameOpenID = "openid"
	nameCode   = "code"
)

func (c *client) profileTTL() time.Duration { return time.Duration(c.ProfileTTL) }
