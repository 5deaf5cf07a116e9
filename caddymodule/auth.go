package caddymodule

import (
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Auth is the handler `wechat_auth`: it asks for a WeChat login where one is needed, and tells the next
// handler who the user is.
type Auth struct {
	// Which requests need a login; several sets are alternatives. Default: every request.
	MatcherSetsRaw caddyhttp.RawMatcherSets `json:"match,omitempty" caddy:"namespace=http.matchers"`

	// Paths that need no login, as Caddy path patterns. They see the path as the next handler does.
	Public caddyhttp.MatchPath `json:"public,omitempty"`

	// The account's name. Default: the only account.
	Account string `json:"account,omitempty"`

	// The origins at which browsers reach this site, such as https://shop.example.org; the first label of
	// a host may be *. Default: each host of the site's address.
	Origins []string `json:"origins,omitempty"`

	// What is asked of WeChat: snsapi_base or snsapi_userinfo. A session of lesser scope steps up.
	// Default: the account's.
	Scope string `json:"scope,omitempty"`

	// What a browser outside WeChat gets where a login is needed: `deny`, a page that says to open the
	// address in WeChat; `pass`, the next handler, without identity; `redirect`, WeChat's own answer;
	// `scan`, not available yet. Default: deny.
	OutsideWeChat string `json:"outside_wechat,omitempty"`

	// The account for desktop browsers. Not available yet.
	Website string `json:"website,omitempty"`

	// What WeChat's snapshot visitors get: `page`, `guest` or `deny`. Default: page.
	Snapshot string `json:"snapshot,omitempty"`

	// Unused that long, a session ends. Default: 168h.
	Idle caddy.Duration `json:"session_idle,omitempty"`

	// A session's longest life, counted from its login. Default: 720h.
	Max caddy.Duration `json:"session_max,omitempty"`

	// A session's token that is older is renewed on the next page load. Default: half of session_idle.
	Renew caddy.Duration `json:"renew,omitempty"`

	// A page load on a session whose login is older passes through a silent login; `off` or a duration.
	// Not available yet.
	Recheck string `json:"recheck,omitempty"`

	// The session cookie's name, without the prefix that it gets on https. Default: wechat_session.
	Cookie string `json:"cookie,omitempty"`

	// The prefix of this handler's endpoints, as in the browser's address bar. Default: /_wechat.
	Path string `json:"path,omitempty"`

	// The prefix of the identity headers. Default: X-Wechat-.
	HeaderPrefix string `json:"header_prefix,omitempty"`

	// The header in which the upstream gets the session's JWT. Default: none.
	TokenHeader string `json:"token_header,omitempty"`

	// A folder with pages of your own. Not available yet.
	Templates string `json:"templates,omitempty"`

	// Shows each redirect of a login as a page. Not available yet.
	SlowMotion bool `json:"slow_motion,omitempty"`

	matchers caddyhttp.MatcherSets
	site     *site
	scope    string
	notices  *once // a minute: the warning about a payment notice that was refused
}

func init() {
	caddy.RegisterModule(new(Auth))
}

// CaddyModule returns the Caddy module information.
func (*Auth) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.wechat_auth", New: func() caddy.Module { return new(Auth) }}
}

// Provision joins the handler to its site. It writes nothing outside the configuration.
func (a *Auth) Provision(ctx caddy.Context) error {
	if err := firstError(a.check, a.available); err != nil {
		return err
	}
	app, err := appOf(ctx)
	if err != nil {
		return err
	}
	sets, err := ctx.LoadModule(a, "MatcherSetsRaw")
	if err != nil {
		return fmt.Errorf("loading matchers: %w", err)
	}
	if err := a.matchers.FromInterface(sets); err != nil {
		return err
	}
	if err := a.Public.Provision(ctx); err != nil {
		return fmt.Errorf("option public: %w", err)
	}
	if err := resolveAll(a.placeholders()...); err != nil {
		return fmt.Errorf("wechat_auth: %w", err)
	}
	if a.site, err = a.join(ctx, app, addressOf(ctx)); err != nil {
		return fmt.Errorf("wechat_auth: %w", err)
	}
	a.site.auths = append(a.site.auths, a)
	a.setDefaults()
	return a.check()
}

// placeholders are the options whose placeholders are resolved when the configuration is loaded.
func (a *Auth) placeholders() []value {
	values := []value{{"account", &a.Account}, {"scope", &a.Scope}, {"outside_wechat", &a.OutsideWeChat}, {"snapshot", &a.Snapshot}}
	return append(values, each("origin", a.Origins)...)
}

func (a *Auth) setDefaults() {
	a.scope, a.notices = a.Scope, new(once)
	if a.scope == "" {
		a.scope = a.site.account.scope
	}
	if a.OutsideWeChat == "" {
		a.OutsideWeChat = outsideDeny
	}
	if a.Snapshot == "" {
		a.Snapshot = snapshotPage
	}
}

// ServeHTTP is the way of every request of the site: what a client sent under our names goes, who the
// user is is added, and whoever needs a login gets one instead of the next handler.
func (a *Auth) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if isTunnel(r) {
		refuseTunnel(w, r)
		return nil
	}
	v := a.site.visit(r)
	switch {
	case failed(r): // in handle_errors nobody is asked to log in
	case a.serveOwn(w, r, v):
		return nil
	case !a.passes(r, &v):
		a.refuse(w, r, v.kept())
		return nil
	case v.owesCookies(r):
		w = v.kept().renewing(w, r)
	}
	return next.ServeHTTP(w, r)
}

// passes is the line that decides whether a request goes on to the next handler. Who is signed in passes first: Caddy's
// matchers take 100 ns, and ten times that where others have used the processor's caches meanwhile.
func (a *Auth) passes(r *http.Request, v *visit) bool {
	return v.has(a.scope) || !a.needsLogin(r) || a.passesOutside(r) || a.passesGuest(r, v)
}

// needsLogin reports whether the matcher takes r, as it is now or as the browser sent it, and no public
// path exempts it. A rewrite before us must not open a path that the matcher protects.
func (a *Auth) needsLogin(r *http.Request) bool {
	if isPublic(a.Public, r) {
		return false
	}
	return len(a.matchers) == 0 || a.matches(r) || a.matchesOriginal(r)
}

func (a *Auth) matches(r *http.Request) bool {
	yes, err := a.matchers.AnyMatchWithError(r)
	return yes || err != nil // a matcher that fails protects
}

// matchesOriginal asks the matcher about r as the browser sent it. The URL is swapped in place, because
// placeholders read it through the request that Caddy began with.
func (a *Auth) matchesOriginal(r *http.Request) bool {
	orig := original(r)
	if orig.RequestURI == r.RequestURI && orig.URL.Path == r.URL.Path && orig.Method == r.Method {
		return false
	}
	url, uri, method := *r.URL, r.RequestURI, r.Method
	*r.URL, r.RequestURI, r.Method = *orig.URL, orig.RequestURI, orig.Method
	yes := a.matches(r)
	*r.URL, r.RequestURI, r.Method = url, uri, method
	return yes
}

// passesOutside: with `outside_wechat pass` the upstream alone protects against browsers outside WeChat.
func (a *Auth) passesOutside(r *http.Request) bool {
	return a.OutsideWeChat == outsidePass && !inWeChat(r)
}

// passesGuest: with `snapshot guest` a snapshot visitor may read, without a name.
func (a *Auth) passesGuest(r *http.Request, v *visit) bool {
	return a.Snapshot == snapshotGuest && v.session == nil && (r.Method == http.MethodGet || r.Method == http.MethodHead) && v.isGuest(r)
}

// failed reports whether r is in an error route.
func failed(r *http.Request) bool {
	err, _ := r.Context().Value(caddyhttp.ErrorCtxKey).(error)
	return err != nil
}

// Interface guards.
var (
	_ caddy.Provisioner           = (*Auth)(nil)
	_ caddyhttp.MiddlewareHandler = (*Auth)(nil)
)
