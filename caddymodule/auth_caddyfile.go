package caddymodule

import (
	"encoding/json"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	httpcaddyfile.RegisterDirective("wechat_auth", parseAuth)
	// Behind basic_auth: of two directives that are ordered before the same one, the order stays.
	httpcaddyfile.RegisterDirectiveOrder("wechat_auth", httpcaddyfile.Before, "forward_auth")
}

// authParser is the directive while it is read.
type authParser struct {
	*Auth
	app *App
}

// parseAuth parses the directive wechat_auth. Syntax:
//
//	wechat_auth [<matcher>] {
//		public         <path>...                # these need no login; Caddy path patterns, may repeat
//		account        <name>                   # default: the only account
//		origin         <origin>...              # default: each host in the site's address, with the scheme as told below
//		scope          <scope>                  # default: the account's; a session of lesser scope steps up
//		outside_wechat deny|pass|redirect|scan  # default deny; what a browser outside WeChat gets; scan (later)
//		website        <account>                # (later) desktop browsers log in on the open platform's QR page
//		snapshot       page|guest|deny          # default page; what WeChat's snapshot visitors get
//		session        <idle> [<max>]           # default 168h 720h: unused that long it ends; max counts from the login
//		renew          <duration>               # default: half of <idle>; an older token is renewed on the next page load
//		recheck        <duration>|off           # (later) default off: a page load on an older session passes through one silent login
//		cookie         <name>                   # default wechat_session
//		path           <prefix>                 # default /_wechat, as in the browser's address bar
//		header_prefix  <prefix>                 # default X-Wechat-
//		token_header   <name>                   # default none: hand the session's JWT to the upstream in this header
//		templates      <dir>                    # (later) pages of your own
//		slow_motion                             # (later) each redirect of a login becomes a page with a "go on" link
//	}
//
// The matcher goes into the handler, not into its route: the handler must see every request, so that forged
// headers are removed and known users recognised wherever they go.
func parseAuth(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	h.Next() // the directive's name
	b := newBlock(h.Dispenser, "wechat_auth", "public")
	matcher, err := h.ExtractMatcherSet()
	if err != nil {
		return nil, b.place(err)
	}
	h.Next()
	if h.NextArg() {
		return nil, h.Errf("unexpected %q: wechat_auth takes one matcher at most, a path such as /members/* or a named one such as @members", h.Val())
	}
	app, err := configuredApp(h)
	if err != nil {
		return nil, err
	}
	p := &authParser{Auth: new(Auth), app: app}
	if matcher != nil {
		p.MatcherSetsRaw = caddyhttp.RawMatcherSets{matcher}
	}
	if err := b.read(h.Dispenser, p.options(), p.available); err != nil {
		return nil, err
	}
	if err := b.place(p.checkTimes(), "renew"); err != nil {
		return nil, err
	}
	if err := b.finish(p.check); err != nil {
		return nil, err
	}
	return h.NewRoute(nil, p.Auth), nil
}

func (p *authParser) options() options {
	a := p.Auth
	return options{
		"public":         setList("public <path>...", (*[]string)(&a.Public), unlimited, checkPublic),
		"account":        setText("account <name>", &a.Account, p.app.checkAccount),
		"origin":         setList("origin <origin>...", &a.Origins, unlimited, checkOrigin),
		"scope":          setText("scope <scope>", &a.Scope, checkScope),
		"outside_wechat": setWord("outside_wechat", &a.OutsideWeChat, outsideDeny, outsidePass, outsideRedirect, outsideScan),
		"website":        setText("website <account>", &a.Website, p.app.checkAccount),
		"snapshot":       setWord("snapshot", &a.Snapshot, snapshotPage, snapshotGuest, snapshotDeny),
		"session":        a.readSession,
		"renew":          setDuration("renew <duration>", &a.Renew),
		"recheck":        setText("recheck <duration>|off", &a.Recheck, func(string) error { return a.checkRecheck() }),
		"cookie":         setText("cookie <name>", &a.Cookie, checkCookie),
		"path":           setText("path <prefix>", &a.Path, checkPath),
		"header_prefix":  setText("header_prefix <prefix>", &a.HeaderPrefix, checkHeaderPrefix),
		"token_header":   setText("token_header <name>", &a.TokenHeader, func(s string) error { return checkToken("token_header", s) }),
		"templates":      setText("templates <dir>", &a.Templates, nil),
		"slow_motion":    setFlag("slow_motion", &a.SlowMotion),
	}
}

// check adds to the handler's own check what the accounts say.
func (p *authParser) check() error {
	if err := p.Auth.check(); err != nil {
		return err
	}
	return p.app.checkAccount(p.Account)
}

func (a *Auth) readSession(d *caddyfile.Dispenser) error {
	args, err := arguments(d, "session <idle> [<max>]", 1, 2)
	if err != nil {
		return err
	}
	for i, target := range []*caddy.Duration{&a.Idle, &a.Max}[:len(args)] {
		if *target, err = parseDuration("session", args[i]); err != nil {
			return err
		}
	}
	return (&Auth{Idle: a.Idle, Max: a.Max}).checkTimes() // renew may stand further down
}

// configuredApp returns the global option, for directives that name its accounts. What stands behind the
// names exists only once the configuration is loaded.
func configuredApp(h httpcaddyfile.Helper) (*App, error) {
	option, ok := h.Option("wechat").(httpcaddyfile.App)
	if !ok {
		return nil, h.WrapErr(errNoApp)
	}
	app := &App{accounts: map[string]*account{}}
	if err := json.Unmarshal(option.Value, app); err != nil {
		return nil, h.WrapErr(err)
	}
	for name := range app.Accounts {
		app.accounts[name] = nil
	}
	return app, nil
}

// checkAccount says whether name is an account's; one behind a placeholder may be.
func (a *App) checkAccount(name string) error {
	if placeholder(name) {
		return nil
	}
	_, err := a.account(name)
	return err
}
