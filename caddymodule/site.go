package caddymodule

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/ticket"
)

// site is what all wechat_auth handlers of one site share. The first of them makes it: its account,
// cookie, path, origins and headers are the site's.
type site struct {
	app     *App
	account *account
	auths   []*Auth

	address  *siteAddress
	exact    map[string]bool // origins of the option `origin`
	wildcard []string        // those with *, without it: "https" and ".example.org" as "https://.example.org"
	open     bool            // any host will do: a test account on a catch-all address

	cookie   string
	visitKey string // where a request's visit is kept
	path     string
	headers  *identityHeaders
	idle     time.Duration
	longest  time.Duration
	renew    time.Duration
	logger   *zap.Logger

	mu      sync.Mutex     // held while origins change
	origins [2]originTable // of http and https
}

// originTable is the origins by the Host of requests. It is copied when it changes, which it does a few times in a
// site's life: so that reading it takes no lock. Making an origin for each request would take 900 ns and ten
// allocations more.
type originTable struct {
	table atomic.Pointer[map[string]*origin]
}

func (t *originTable) get(host string) *origin {
	if m := t.table.Load(); m != nil {
		return (*m)[host]
	}
	return nil
}

// add adds to the table unless it is full.
func (t *originTable) add(host string, o *origin) {
	next := map[string]*origin{}
	if m := t.table.Load(); m != nil {
		next = maps.Clone(*m)
	}
	if len(next) < maxOrigins {
		next[host] = o
		t.table.Store(&next)
	}
}

// origin is a site at one of its origins.
type origin struct {
	site     *site
	name     string // https://shop.example.org
	port     string // in name
	secure   bool
	bound    bool   // the account's bound domain is this
	callback string // where WeChat sends the user back to, up to the sealed login
	sessions ticket.Sessions
	cookies  cookieNames
}

// maxOrigins bounds what is remembered of wildcard origins: strangers choose the names.
const maxOrigins = 1024

// join returns the site that a handler belongs to. The first handler makes it, later ones must agree.
func (a *Auth) join(ctx caddy.Context, app *App, addr *siteAddress) (*site, error) {
	key := addr.key()
	if !addr.inSite {
		key += " " + strings.Join(a.Origins, " ") // a named route is the site that its origins say
	}
	if s := app.sites[key]; s != nil {
		return s, a.agree(s)
	}
	s, err := a.found(app, addr, ctx.Logger())
	if err != nil {
		return nil, err
	}
	app.sites[key] = s
	return s, nil
}

// found makes the site of its first handler.
func (a *Auth) found(app *App, addr *siteAddress, logger *zap.Logger) (*site, error) {
	acc, err := app.account(a.Account)
	if err != nil {
		return nil, fmt.Errorf("option account: %w", err)
	}
	s := &site{
		app: app, account: acc, address: addr, logger: logger,
		cookie: a.Cookie, path: a.Path,
		exact: map[string]bool{},
	}
	s.idle, s.longest, s.renew = a.times()
	if s.cookie == "" {
		s.cookie = defaultCookie
	}
	if s.path == "" {
		s.path = defaultPath
	}
	s.visitKey = fmt.Sprintf("wechat_visit_%p", s)
	prefix := a.HeaderPrefix
	if prefix == "" {
		prefix = defaultPrefix
	}
	s.headers = newIdentityHeaders(prefix, a.TokenHeader)
	if err := s.takeOrigins(a.Origins); err != nil {
		return nil, err
	}
	app.gateway.keys.Live(s.idle)
	app.named = app.named || !addr.inSite
	return s, s.claimCookie()
}

// takeOrigins says where the site's sessions count.
func (s *site) takeOrigins(origins []string) error {
	for _, o := range origins {
		name, err := normalOrigin(o)
		if err != nil {
			return err
		}
		if scheme, host, ok := strings.Cut(name, "://*"); ok {
			s.wildcard = append(s.wildcard, scheme+"://"+host)
			continue
		}
		s.exact[name] = true
	}
	if len(origins) > 0 || !s.address.open {
		return nil
	}
	if s.account.test {
		s.open = true
		return nil
	}
	return errors.New("option origin is missing: this site's address takes any host, and a login signed for whatever host a visitor names could be handed to somebody else; write: origin https://shop.example.org")
}

// claimCookie refuses two accounts with one cookie on one host: each would take the other's sessions away.
func (s *site) claimCookie() error {
	s.app.cookieBases.add(s.cookie)
	hosts := slices.Clone(s.address.hosts)
	if s.open {
		hosts = append(hosts, "any host")
	}
	for o := range s.exact {
		_, host, _ := strings.Cut(o, "://")
		name, _, _ := splitHost(host)
		hosts = append(hosts, name)
	}
	for _, host := range hosts {
		key := host + " " + s.cookie
		if other := s.app.cookies[key]; other != "" && other != s.account.name {
			return fmt.Errorf("option cookie: accounts %s and %s both use the cookie %s on %s; give one of them a name of its own: cookie <name>", other, s.account.name, s.cookie, host)
		}
		s.app.cookies[key] = s.account.name
	}
	return nil
}

// agree says whether a later handler contradicts the site's first one.
func (a *Auth) agree(s *site) error {
	first := s.auths[0]
	same := []struct {
		option string
		ok     bool
	}{
		{"account", a.Account == "" || a.Account == s.account.name},
		{"cookie", a.Cookie == "" || a.Cookie == s.cookie},
		{"path", a.Path == "" || a.Path == s.path},
		{"origin", len(a.Origins) == 0 || strings.Join(a.Origins, " ") == strings.Join(first.Origins, " ")},
		{"header_prefix", a.HeaderPrefix == "" || a.HeaderPrefix == first.HeaderPrefix},
		{"token_header", a.TokenHeader == "" || a.TokenHeader == first.TokenHeader},
		{"session", (a.Idle == 0 || a.Idle == first.Idle) && (a.Max == 0 || a.Max == first.Max)},
		{"renew", a.Renew == 0 || a.Renew == first.Renew},
	}
	for _, x := range same {
		if !x.ok {
			return fmt.Errorf("option %s: the first wechat_auth of this site says otherwise, and it decides for all of them; remove the option here, or move it there", x.option)
		}
	}
	return nil
}

// originOf returns the site at the origin that r names, or nil where that is none of the site's.
func (s *site) originOf(r *http.Request) *origin {
	secure := 0
	scheme := requestScheme(r)
	if scheme == "https" {
		secure = 1
	}
	if o := s.origins[secure].get(r.Host); o != nil && o.isAt(r) {
		return o
	}
	host, port, ok := splitHost(r.Host)
	if port == defaultPort(scheme) {
		port = ""
	}
	name := joinOrigin(scheme, host, port)
	if !ok || !s.mine(r, name, scheme, host, port) {
		return nil
	}
	o := s.newOrigin(name, port, secure == 1)
	if scheme+"://"+r.Host == name && o.isAt(r) { // as browsers write it
		s.mu.Lock()
		defer s.mu.Unlock()
		s.origins[secure].add(r.Host, o)
	}
	return o
}

// isAt reports whether r's connection came in on the origin's own port. What a mapped port means is decided each time.
func (o *origin) isAt(r *http.Request) bool { return o.port == "" || localPort(r, o.port) }

// mine reports whether the origin is one of the site's: one that the option `origin` lists, else an
// exact host of its address, without a port or with the connection's own.
func (s *site) mine(r *http.Request, name, scheme, host, port string) bool {
	switch {
	case s.exact[name] || s.open:
		return true
	case len(s.wildcard) > 0 && s.inWildcard(scheme, host, port):
		return true
	case len(s.exact)+len(s.wildcard) > 0:
		return false
	}
	for _, h := range s.address.hosts {
		if h == host {
			return port == "" || localPort(r, port)
		}
	}
	return false
}

// inWildcard reports whether an option `origin` with * takes the origin: * is one whole label.
func (s *site) inWildcard(scheme, host, port string) bool {
	label, rest, ok := strings.Cut(host, ".")
	if !ok || label == "" {
		return false
	}
	for _, w := range s.wildcard {
		if w == joinOrigin(scheme, "."+rest, port) {
			return true
		}
	}
	return false
}

func (s *site) newOrigin(name, port string, secure bool) *origin {
	o := &origin{site: s, name: name, port: port, secure: secure, bound: s.account.bound(name)}
	o.sessions = ticket.Sessions{
		Keys: s.app.gateway.keys, Issuer: s.account.issuer(name), Audience: name, AppID: s.account.appID,
		Idle: s.idle, Max: s.longest,
	}
	o.cookies = newCookieNames(s.cookie, port, secure)
	o.callback = o.redirectURI() + "?login="
	return o
}

// bound reports whether WeChat sends the account's users back to this origin itself. It asks for the
// host alone, so a site on the bound domain may be http as well as https.
func (acc *account) bound(name string) bool {
	_, host, _ := strings.Cut(name, "://")
	return len(acc.domains) == 0 || slices.ContainsFunc(acc.domains, func(domain string) bool {
		_, bound, _ := strings.Cut(domain, "://")
		return bound == host
	})
}

// issuer is the `iss` of the account's sessions at an origin.
func (acc *account) issuer(name string) string {
	if len(acc.domains) == 0 {
		return cmp.Or(acc.broker, name)
	}
	return acc.domains[0]
}

// redirectURI is where WeChat sends the user back to: the site itself on the bound domain, else the
// broker there. Never with a port, which WeChat answers with 10003, unless the account is for tests.
// Another gateway's broker sends the user back to the site, wherever that is.
func (o *origin) redirectURI() string {
	acc := o.site.account
	if !o.bound {
		return acc.domains[0] + o.site.app.brokerPath(acc.name) + "/callback"
	}
	name := o.name
	if !acc.test && acc.broker == "" {
		scheme, host, _ := strings.Cut(name, "://")
		host, _, _ = splitHost(host)
		name = joinOrigin(scheme, host, "")
	}
	return name + o.site.path + "/callback"
}

// brokerPath is the prefix of the broker of an account: in this configuration, else where it would be.
func (a *App) brokerPath(account string) string {
	if b := a.brokers[account]; b != nil && b.Path != "" {
		return b.Path
	}
	return defaultPath
}
