package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-wechat/caddy-wechat/ticket"
)

// Broker is the handler `wechat_broker`: it runs on a bound domain and completes WeChat's logins for
// sites on any other.
type Broker struct {
	// The names of the accounts it serves. Default: every account whose domain this site is.
	Accounts []string `json:"accounts,omitempty"`

	// How long a ticket is good. Default: 60s.
	TicketTTL caddy.Duration `json:"ticket_ttl,omitempty"`

	// The prefix of its endpoints. Default: /_wechat.
	Path string `json:"path,omitempty"`

	// Backends that are not sites of this Caddy, by their ids.
	Clients map[string]*Client `json:"clients,omitempty"`

	app      *App
	address  *siteAddress
	siteKey  string // of the site it stands in, in App.sites
	accounts map[string]*account
	appIDs   map[string]*account // the same by their app ids
	files    verifyFiles         // of all of them
	ttl      time.Duration
	logger   *zap.Logger

	clients  map[string]*client // by id
	targets  map[string]*client // by token, lower-case
	patterns []pattern          // the longest first
	asked    chan struct{}      // full where WeChat is asked about as many arrivals as may be at once
	refusals *once              // a minute: the warning about a client that proves nothing
}

func init() {
	caddy.RegisterModule(new(Broker))
}

// CaddyModule returns the Caddy module information.
func (*Broker) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.wechat_broker", New: func() caddy.Module { return new(Broker) }}
}

// Provision finds the accounts whose logins end here.
func (b *Broker) Provision(ctx caddy.Context) (err error) {
	if err := b.checkOptions(); err != nil {
		return err
	}
	if b.app, err = appOf(ctx); err != nil {
		return err
	}
	b.logger, b.address, b.ttl, b.refusals = ctx.Logger(), addressOf(ctx), time.Duration(b.TicketTTL), new(once)
	b.siteKey = b.address.key()
	b.asked = make(chan struct{}, maxAsked)
	if b.ttl == 0 {
		b.ttl = defaultTicketTTL
	}
	if b.Path == "" {
		b.Path = defaultPath
	}
	if err := firstError(b.takeAccounts, b.takeClients); err != nil {
		return fmt.Errorf("wechat_broker: %w", err)
	}
	return nil
}

// takeAccounts takes the accounts that the option names, else those whose domain this site is.
func (b *Broker) takeAccounts() error {
	b.accounts, b.appIDs, b.files = map[string]*account{}, map[string]*account{}, verifyFiles{}
	names := slices.Clone(b.Accounts)
	if err := resolveAll(each("account", names)...); err != nil {
		return err
	}
	if len(names) == 0 {
		for name, acc := range b.app.accounts {
			if b.isDomainOf(acc) {
				names = append(names, name)
			}
		}
		slices.Sort(names)
	}
	for _, name := range names {
		acc, err := b.app.account(name)
		if err != nil {
			return err
		}
		if acc.broker != "" {
			return fmt.Errorf("account %s logs in through the broker at %s, and has no app secret to serve others with; name it in that gateway's wechat_broker, or give it its app_secret here", name, acc.broker)
		}
		if !b.isDomainOf(acc) {
			return fmt.Errorf("account %s does not name this site as its domain; add to it: domain <this site's host>", name)
		}
		if other := b.app.brokers[name]; other != nil && other.Path != b.Path {
			return fmt.Errorf("option path: account %s has another broker with the path %s; give both the same", name, other.Path)
		}
		b.accounts[name], b.appIDs[acc.appID], b.app.brokers[name] = acc, acc, b
		if err := b.files.take(acc); err != nil {
			return err
		}
	}
	if len(b.accounts) == 0 {
		return errors.New("no account names this site as its domain; add to the account: domain <this site's host>")
	}
	return nil
}

// isDomainOf reports whether the account's logins come back to this site.
func (b *Broker) isDomainOf(acc *account) bool {
	if b.address.open && len(acc.domains) > 0 && (acc.test || len(b.Accounts) > 0) {
		return true // which hosts come here cannot be told; the operator says so
	}
	return slices.ContainsFunc(acc.domains, func(domain string) bool {
		_, hostport, _ := strings.Cut(domain, "://")
		host, _, _ := splitHost(hostport)
		return slices.Contains(b.address.hosts, host)
	})
}

// ServeHTTP answers what is certainly the broker's, and passes the rest on to the site.
func (b *Broker) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	at := original(r).URL.Path
	if b.files.serve(w, r, at, b.Path) || b.serveClients(w, r, at) || at == b.Path+"/callback" && b.serveOwnCallback(w, r) {
		return nil
	}
	b.hideCookies(r)
	return next.ServeHTTP(w, r)
}

// hideCookies keeps the gateway's cookies from the site behind the broker. A wechat_auth there hides its own,
// once it has read them, and may stand before a part of the site only.
func (b *Broker) hideCookies(r *http.Request) {
	switch {
	case len(b.clients) == 0:
	case b.siteHasAuth():
		brokerCookies.hide(r.Header)
	default:
		b.app.hideCookies(r.Header)
	}
}

// serveClients answers what is the clients'. It reports whether it did.
func (b *Broker) serveClients(w http.ResponseWriter, r *http.Request, at string) bool {
	if len(b.clients) == 0 {
		return false
	}
	if m := ticketPath.FindStringSubmatch(at); m != nil {
		b.serveTicket(w, r, m[1])
	} else if m := startPath.FindStringSubmatch(at); m != nil && b.isAppID(m[1]) {
		b.serveStart(w, r, m[1])
	} else if m := userPath.FindStringSubmatch(at); m != nil && b.isAppID(m[1]) {
		b.serveUser(w, r, m[1], m[2])
	} else if at == pathAuthorize || at == pathGetCode && b.passesCode(r) {
		b.serveAuthorize(w, r)
	} else if strings.HasPrefix(at, "/sns/") {
		b.serveSNS(w, r, at)
	} else if a, ok := b.arrivalOf(r, at); ok {
		b.serveArrival(w, r, a)
	} else {
		return false
	}
	return true
}

// isAppID reports whether a path's segment is an app id rather than a page's name of the site.
func (b *Broker) isAppID(s string) bool { return strings.HasPrefix(s, "wx") || b.accountOf(s) != nil }

// passesCode reports whether GetWeixinCode's address is asked for an account of the broker's, and a client may
// have WeChat's own code.
func (b *Broker) passesCode(r *http.Request) bool {
	for _, c := range b.clients {
		if c.PassCode && b.accountOf(original(r).URL.Query().Get("appid")) != nil {
			return true
		}
	}
	return false
}

// serveOwnCallback answers a callback of a login that is not the site's own.
func (b *Broker) serveOwnCallback(w http.ResponseWriter, r *http.Request) bool {
	login, ok := b.readLogin(r)
	if !ok && b.siteHasAuth() || ok && b.isOwn(r, login) {
		return false
	}
	b.serveCallback(w, r, login, ok)
	return true
}

// siteHasAuth reports whether a wechat_auth of this site answers what is not the broker's.
func (b *Broker) siteHasAuth() bool { return b.app.sites[b.siteKey] != nil }

// isOwn reports whether the login was begun by this very site.
func (b *Broker) isOwn(r *http.Request, login ticket.Login) bool {
	s := b.app.sites[b.siteKey]
	if s == nil || login.Client != "" {
		return false
	}
	o := s.originOf(r)
	return o != nil && o.name == login.Origin
}

func (b *Broker) readLogin(r *http.Request) (ticket.Login, bool) {
	q, ok := singles(original(r).URL.RawQuery, "login")
	if !ok {
		return ticket.Login{}, false
	}
	login, err := b.app.gateway.keys.OpenLogin(r.Context(), q["login"])
	return login, err == nil
}

// serveCallback takes what WeChat brought and sends the browser back to the site that began the login:
// with a ticket, or with the outcome in the login's seal. It sees no cookie of the browser, so it never
// answers with what another code brought.
func (b *Broker) serveCallback(w http.ResponseWriter, r *http.Request, login ticket.Login, ok bool) {
	switch {
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", http.MethodGet)
		writeJSON(w, r, http.StatusMethodNotAllowed, codeParameter, "")
	case isEarlyData(r):
		failWith(b.logger, w, r, zapcore.InfoLevel, "callback came as early data",
			page{Name: "error", Reason: "toosoon", Status: http.StatusTooEarly, Code: codeParameter})
	case !ok || b.accounts[login.Account] == nil:
		failWith(b.logger, w, r, zapcore.WarnLevel, "callback refused: its login is missing, malformed or not of this broker's accounts",
			page{Name: "error", Reason: "malformed", Status: http.StatusBadRequest, Code: codeParameter})
	case login.Client != "":
		b.endErrand(w, r, login)
	default:
		b.sendBack(w, r, login)
	}
}

func (b *Broker) sendBack(w http.ResponseWriter, r *http.Request, login ticket.Login) {
	tkt, out, err := b.settle(r.Context(), login, original(r).URL.RawQuery)
	if err != nil {
		out = ticket.Outcome{Status: ticket.StatusAway, Ref: newRef()}
		b.logger.Error("logins do not work: the store is away or full", zap.Error(err), zap.String("ref", out.Ref))
	}
	pair := "ticket=" + tkt
	login.Outcome, login.Errcode, login.Ref = "", 0, ""
	if out.Status != ticket.StatusOK {
		login.Outcome, login.Errcode, login.Ref = out.Status, out.Errcode, out.Ref
		pair = "error=" + errorWord(out.Status)
	}
	sealed, err := b.app.gateway.keys.SealLogin(r.Context(), login)
	if err != nil {
		failWith(b.logger, w, r, zapcore.ErrorLevel, "logins do not work",
			page{Name: "error", Reason: "storage", Status: http.StatusBadGateway, Code: codeUnavailable, RetryAfter: 5}, zap.Error(err))
		return
	}
	redirect(w, http.StatusFound, login.Origin+login.Path+"/callback?"+pair+"&state="+login.ID+"&login="+sealed)
}

// errorWord is how a URL calls an outcome. The seal beside it says more, and it is what counts.
func errorWord(s ticket.Status) string {
	if s == ticket.StatusAway || s == ticket.StatusLost {
		s = ticket.StatusUnavailable
	}
	return string(s)
}

// settle tells how the login ended, and issues a ticket if it ended well.
func (b *Broker) settle(ctx context.Context, login ticket.Login, rawQuery string) (string, ticket.Outcome, error) {
	q, ok := singles(rawQuery, "code", "state")
	switch {
	case !ok || ticket.LoginID(q["state"]) != login.ID || login.ExpiredAt(now()):
		return "", ticket.Outcome{Status: ticket.StatusExpired}, nil
	case q["code"] == "":
		return "", ticket.Outcome{Status: ticket.StatusDenied}, nil
	}
	out, err := b.app.exchange(ctx, b.accounts[login.Account], login.ID, q["code"], want{scope: login.Scope})
	if err != nil || out.Status != ticket.StatusOK {
		return "", out, err
	}
	if err := b.allow(ctx, login.ID, out); err != nil {
		return "", ticket.Outcome{Status: ticket.StatusExpired}, notTooMany(err)
	}
	owner := ticket.Owner{Account: login.Account, Origin: login.Origin, Login: login.ID}
	tkt, err := b.app.gateway.tickets.Issue(ctx, owner, ticket.Voucher{Identity: *out.Identity, At: out.At}, b.ttl)
	return tkt, out, err
}

// allow bounds the tickets of one login: a callback repeated without end must not fill the store.
func (b *Broker) allow(ctx context.Context, login string, out ticket.Outcome) error {
	if out.Fresh {
		return nil
	}
	return b.app.gateway.tickets.Allow(ctx, login)
}

// notTooMany returns err unless it is that there were too many tickets, which is the login's trouble alone.
func notTooMany(err error) error {
	if errors.Is(err, ticket.ErrTooMany) {
		return nil
	}
	return err
}

// Interface guards.
var (
	_ caddy.Provisioner           = (*Broker)(nil)
	_ caddyhttp.MiddlewareHandler = (*Broker)(nil)
)
