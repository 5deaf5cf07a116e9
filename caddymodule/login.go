package caddymodule

import (
	"bytes"
	"context"
	"net/http"
	"net/url"
	"slices"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-wechat/caddy-wechat/ticket"
	"github.com/caddy-wechat/caddy-wechat/wechat"
)

// loginWish is a login that is wanted.
type loginWish struct {
	to       string // the return path
	scope    string
	pressed  bool // by a button or link of ours: WeChat wants a person's press before it asks for a profile
	retry    bool // by the button of the page "too many attempts"
	restarts int  // how often it was begun anew without its cookie
}

// attemptPatience is how long the store is asked about attempts: a store that is away must not make every login slow.
const attemptPatience = time.Second

const (
	maxAttempts   = 3           // logins that came back within attemptWindow and led to nothing
	attemptWindow = time.Minute //
	maxReturnSeal = 60          // bytes of a return path that travels in the URL
	retrySeconds  = 5           // before a login that the store failed is tried again
)

// serveLogin is GET <path>/login.
func (a *Auth) serveLogin(w http.ResponseWriter, r *http.Request, v *visit) {
	rawQuery := original(r).URL.RawQuery
	q, _ := url.ParseQuery(rawQuery)
	wish := loginWish{to: a.site.returnPath(wantedReturn(rawQuery)), scope: a.scope, pressed: true}
	switch s := q.Get("scope"); s {
	case wechat.ScopeBase, wechat.ScopeUserInfo:
		wish.scope = s
	}
	if v.origin != nil {
		wish.retry = v.origin.isRetry(r, q.Get("retry"))
		if v.has(wish.scope) {
			v.origin.go303(w, wish.to)
			return
		}
	}
	a.beginFromPage(w, r, v, wish)
}

// beginFromPage answers a page load that leads to a login, or says why it does not.
func (a *Auth) beginFromPage(w http.ResponseWriter, r *http.Request, v *visit, wish loginWish) {
	switch {
	case v.origin == nil:
		a.wrongHost(w, r)
	case a.OutsideWeChat == outsideDeny && !inWeChat(r):
		a.openInWeChat(w, r, v, wish.address(a.site))
	case wish.scope == wechat.ScopeUserInfo && !wish.pressed:
		page{Name: "login", Status: http.StatusOK, Action: a.site.loginURL(wish.to, wish.scope)}.
			logged(a.site.logger, zapcore.InfoLevel, "asking for a press before a profile is asked for").write(w, r)
	default:
		v.begin(w, r, wish)
	}
}

// address is what to open in WeChat: the page itself, or the login that leads to it.
func (l loginWish) address(s *site) string {
	if l.pressed {
		return s.loginURL(l.to, l.scope)
	}
	return l.to
}

// begin starts a login: it seals what must come back, keeps the rest in the browser's login cookie, and
// sends the browser to WeChat, or to the broker that leads there. The server remembers nothing.
func (v *visit) begin(w http.ResponseWriter, r *http.Request, wish loginWish) {
	o, keys := v.origin, v.site.app.gateway.keys
	kept, attempts := v.pending(r)
	if attempts+v.unrecorded(r, kept) >= maxAttempts && !wish.retry {
		v.tooManyAttempts(w, r, wish)
		return
	}
	if wish.retry {
		kept = v.forgetAttempts(w, kept)
	}
	login := ticket.Login{
		ID: ticket.NewLoginID(), Account: v.site.account.name, Origin: o.name, Path: v.site.path,
		Scope: wish.scope, Started: now().Unix(), Restarts: wish.restarts,
	}
	if to := encodeHigh(wish.to); len(to) <= maxReturnSeal { // JSON takes UTF-8 alone
		login.Return = to
	}
	sealed, err := keys.SealLogin(r.Context(), login)
	if err == nil {
		err = v.keep(w, r, kept, ticket.Pending{ID: login.ID, Return: []byte(wish.to), Started: login.Started})
	}
	if err != nil {
		v.cannot(w, r, wish.to, wish.scope, err)
		return
	}
	redirect(w, http.StatusFound, v.site.account.way.loginURL(o.callback+sealed, wish.scope, login.ID))
}

// tooManyAttempts answers instead of another trip to WeChat: the last ones led to nothing.
func (v *visit) tooManyAttempts(w http.ResponseWriter, r *http.Request, wish loginWish) {
	v.site.fail(w, r, zapcore.WarnLevel, "too many attempts: logins come back, and no signed-in request follows", page{
		Name: "attempts", Status: http.StatusTooManyRequests, Code: codeParameter,
		Action: v.origin.retryURL(r, wish.to, wish.scope), RetryAfter: int(attemptWindow / time.Second),
	}, zap.String("origin", v.origin.name))
}

// cannot answers when a login cannot be begun or ended for a reason of the gateway's own. The page tries again by
// itself, unless WeChat wants a person's press for what the login asks.
func (v *visit) cannot(w http.ResponseWriter, r *http.Request, to, scope string, err error) {
	p := page{
		Name: "error", Reason: "storage", Status: http.StatusBadGateway, Code: codeUnavailable,
		Action: v.site.loginURL(to, scope), RetryAfter: retrySeconds,
	}
	if scope == wechat.ScopeBase {
		p.Reason, p.Refresh = "waiting", retrySeconds
	}
	v.site.fail(w, r, zapcore.ErrorLevel, "logins do not work", p, zap.Error(err))
}

// pending opens the login cookies, the oldest first, and counts the attempts among them: logins whose
// callback came back in the last minute.
func (v *visit) pending(r *http.Request) (open []loginCookie, attempts int) {
	open = v.jar().open(r.Context())
	for _, c := range open {
		if c.Ended > 0 && now().Sub(time.Unix(c.Ended, 0)) < attemptWindow {
			attempts++
		}
	}
	return open, attempts
}

// jar is the site's login cookies that the request carries.
func (v *visit) jar() loginJar {
	return loginJar{v.site.app.gateway.keys, v.origin.name, &v.origin.cookies, v.own.logins}
}

// unrecorded counts the attempts among the newest logins whose cookies do not say so: something drops what
// a callback sets. It marks them as ended. Fewer than make a loop are not asked about.
func (v *visit) unrecorded(r *http.Request, kept []loginCookie) (attempts int) {
	if len(kept) < maxAttempts {
		return 0
	}
	ctx, cancel := context.WithTimeout(r.Context(), attemptPatience)
	defer cancel()
	newest := kept[max(0, len(kept)-keepLogins):]
	for i := range newest {
		c := &newest[i]
		if c.Ended == 0 && now().Sub(time.Unix(c.Started, 0)) < attemptWindow && v.site.app.gateway.codes.CameBack(ctx, c.ID) {
			c.Ended = c.Started
			attempts++
		}
	}
	return attempts
}

// forgetAttempts removes the cookies of logins that have ended.
func (v *visit) forgetAttempts(w http.ResponseWriter, kept []loginCookie) []loginCookie {
	return slices.DeleteFunc(kept, func(c loginCookie) bool {
		if c.Ended > 0 {
			v.origin.cookies.clear(w, c.name)
		}
		return c.Ended > 0
	})
}

// keep sets the login cookie of p: where its return path makes it longer than browsers keep, that is cut to
// its path, then to "/".
func (v *visit) keep(w http.ResponseWriter, r *http.Request, others []loginCookie, p ticket.Pending) error {
	path, _, _ := bytes.Cut(p.Return, []byte("?"))
	return v.jar().keep(r.Context(), w, others, p, path, []byte("/"))
}
