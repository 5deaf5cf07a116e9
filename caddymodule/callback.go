package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-wechat/caddy-wechat/ticket"
)

// callback is what came back from WeChat or a broker.
type callback struct {
	login ticket.Login
	code  string // from WeChat
	tkt   string // from a broker
	word  string // error=… from another gateway's broker
}

// serveCallback is GET <path>/callback: it ends a login. Only the browser that holds the login's cookie
// is signed in, and nothing is spent for any other.
func (a *Auth) serveCallback(w http.ResponseWriter, r *http.Request, v *visit) {
	w.Header().Set("Referrer-Policy", "no-referrer")
	if v.origin == nil {
		a.wrongHost(w, r)
		return
	}
	if isEarlyData(r) {
		a.site.fail(w, r, zapcore.InfoLevel, "callback came as early data",
			page{Name: "error", Reason: "toosoon", Status: http.StatusTooEarly, Code: codeParameter, Action: v.site.loginURL("/", "")})
		return
	}
	cb, reason := v.readCallback(r)
	if reason != "" {
		v.endBadly(w, r, "/", reason)
		return
	}
	others, _ := v.pending(r)
	pending, mine := pendingOf(others, cb.login.ID)
	if !mine {
		a.endForStranger(w, r, v, cb)
		return
	}
	out, err := v.outcome(r.Context(), cb)
	if err == nil {
		err = v.site.app.gateway.ready(r.Context())
	}
	if err == nil {
		pending.Ended = now().Unix()
		v.noteEnd(r.Context(), pending.ID, out)
		err = v.keep(w, r, without(others, pending.ID), pending)
	}
	if err != nil {
		v.cannot(w, r, string(pending.Return), cb.login.Scope, err)
		return
	}
	a.end(w, r, v, cb.login, pending, out)
}

// isEarlyData reports whether r came before its handshake ended: such a request can be replayed, so it
// must not spend a code or a ticket.
func isEarlyData(r *http.Request) bool {
	return r.TLS != nil && !r.TLS.HandshakeComplete || r.Header.Get("Early-Data") == "1" // RFC 8470, by a proxy
}

// readCallback reads what must be right about a callback whoever brings it, or says what is wrong.
func (v *visit) readCallback(r *http.Request) (cb callback, reason string) {
	q, ok := singles(original(r).URL.RawQuery, "login", "state", "code", "ticket", "error")
	if !ok || q["login"] == "" {
		return cb, "malformed"
	}
	login, err := v.site.app.gateway.keys.OpenLogin(r.Context(), q["login"])
	if err != nil {
		return cb, "malformed"
	}
	if login.Client != "" || login.Origin != v.origin.name || login.Account != v.site.account.name || ticket.LoginID(q["state"]) != login.ID {
		return cb, "foreign"
	}
	return callback{login, q["code"], q["ticket"], q["error"]}, ""
}

// singles returns the named parameters of a query, or false where one stands there twice or cannot be
// read: which of them counts must not be a matter of taste. Whatever else stands there, some browsers
// append junk, is not looked at.
func singles(rawQuery string, names ...string) (map[string]string, bool) {
	one := make(map[string]string, len(names))
	for pair := range strings.SplitSeq(rawQuery, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if !slices.Contains(names, name) {
			continue
		}
		if name == "state" {
			value = ticket.LoginID(value) // junk stands behind it, too
		}
		plain, err := url.QueryUnescape(value)
		if _, twice := one[name]; twice || err != nil {
			return nil, false
		}
		one[name] = plain
	}
	return one, true
}

// outcome tells how the login of this browser ended. The error says that the store is away.
func (v *visit) outcome(ctx context.Context, cb callback) (ticket.Outcome, error) {
	switch {
	case cb.login.ExpiredAt(now()):
		return ticket.Outcome{Status: ticket.StatusExpired}, nil
	case cb.login.Outcome == ticket.StatusAway:
		return ticket.Outcome{}, fmt.Errorf("%w (its ref: %s)", errBrokerAway, cb.login.Ref)
	case cb.login.Outcome != "":
		return ticket.Outcome{Status: cb.login.Outcome, Errcode: cb.login.Errcode, Ref: cb.login.Ref}, nil
	case v.site.account.broker != "":
		return v.remoteOutcome(ctx, cb)
	case cb.tkt != "":
		return v.redeem(ctx, cb)
	case cb.code == "":
		return ticket.Outcome{Status: ticket.StatusDenied}, nil
	case !v.origin.bound:
		return ticket.Outcome{Status: ticket.StatusExpired}, nil // a code is for the bound domain alone
	}
	return v.site.app.exchange(ctx, v.site.account, cb.login.ID, cb.code, want{scope: cb.login.Scope})
}

// errBrokerAway is the broker's store, not this site's.
var errBrokerAway = errors.New("the broker's store is away or full")

func (v *visit) redeem(ctx context.Context, cb callback) (ticket.Outcome, error) {
	owner := ticket.Owner{Account: v.site.account.name, Origin: v.origin.name, Login: cb.login.ID}
	voucher, err := v.site.app.gateway.tickets.Redeem(ctx, cb.tkt, owner)
	if errors.Is(err, ticket.ErrNotFound) {
		return ticket.Outcome{Status: ticket.StatusLost}, nil
	}
	return ticket.Outcome{Status: ticket.StatusOK, Identity: &voucher.Identity, At: voucher.At}, err
}

// exchange asks about the login's code, or another gateway's ticket, once, whoever asks how often.
func (a *App) exchange(ctx context.Context, acc *account, login, code string, wanted want) (ticket.Outcome, error) {
	if !isCode(code) {
		return ticket.Outcome{Status: ticket.StatusExpired}, nil
	}
	return a.gateway.codes.Once(ctx, acc.name, code, login, func(ctx context.Context) ticket.Outcome {
		return acc.exchange(ctx, login, code, wanted)
	})
}

// end answers the browser that began the login. One whose ticket or outcome was lost begins anew by itself, once.
func (a *Auth) end(w http.ResponseWriter, r *http.Request, v *visit, login ticket.Login, pending ticket.Pending, out ticket.Outcome) {
	to := string(pending.Return)
	switch {
	case out.Status == ticket.StatusOK:
		v.signIn(w, r, pending, out)
	case v.session != nil:
		v.origin.go303(w, to)
	case out.Status == ticket.StatusSnapshot:
		a.endSnapshot(w, r, v, to, a.snapshotMode(v.site.account.broker == ""))
	case out.Status == ticket.StatusLost && login.Restarts == 0:
		a.beginFromPage(w, r, v, loginWish{to: to, scope: login.Scope, pressed: true, restarts: 1})
	default:
		v.endPage(w, r, v.site.loginURL(to, login.Scope), out)
	}
}

// endPage says how a login ended without a session; action is the button's address.
func (v *visit) endPage(w http.ResponseWriter, r *http.Request, action string, out ticket.Outcome) {
	v.site.fail(w, r, zapcore.InfoLevel, "login ended without a session", endPage(action, out), zap.String("outcome", string(out.Status)))
}

func endPage(action string, out ticket.Outcome) page {
	p := page{Name: "error", Action: action, Errcode: out.Errcode, Ref: out.Ref}
	switch out.Status {
	case ticket.StatusDenied:
		p.Name, p.Status = "declined", http.StatusOK
	case ticket.StatusUnavailable:
		p.Reason, p.Status, p.Code, p.RetryAfter = "unavailable", http.StatusBadGateway, codeUnavailable, 5
	default:
		p.Reason, p.Status, p.Code = "expired", http.StatusBadRequest, codeParameter
	}
	return p
}

// endBadly answers a callback that is none of ours. Whoever is signed in is sent on instead.
func (v *visit) endBadly(w http.ResponseWriter, r *http.Request, to, reason string) {
	if v.session != nil {
		v.origin.go303(w, to)
		return
	}
	v.site.fail(w, r, zapcore.WarnLevel, "callback refused",
		page{Name: "error", Reason: reason, Status: http.StatusBadRequest, Code: codeParameter, Action: v.site.loginURL(to, "")},
		zap.String("reason", reason))
}

// endForStranger answers a browser that does not hold the login's cookie: it was lost, it is switched
// off, or this is somebody else. It signs nobody in, and spends no ticket. A code may be exchanged: only
// that tells a snapshot visitor from switched-off cookies.
func (a *Auth) endForStranger(w http.ResponseWriter, r *http.Request, v *visit, cb callback) {
	to := v.site.returnPath(cb.login.Return)
	if v.session != nil {
		v.origin.go303(w, to)
		return
	}
	out, err := v.outcomeForStranger(r.Context(), cb)
	if err != nil {
		v.cannot(w, r, to, cb.login.Scope, err)
		return
	}
	snapshot := out.Status == ticket.StatusSnapshot
	left := snapshot && v.site.app.gateway.codes.CameBack(r.Context(), cb.login.ID)
	if snapshot {
		v.noteEnd(r.Context(), cb.login.ID, out)
	}
	switch {
	case out.Status != ticket.StatusOK && !snapshot:
		v.endPage(w, r, v.site.loginURL(to, cb.login.Scope), out)
	case cb.login.Restarts == 0 && (left || !snapshot):
		a.beginFromPage(w, r, v, loginWish{to: to, scope: cb.login.Scope, pressed: true, restarts: 1})
	case snapshot:
		a.endSnapshot(w, r, v, to, a.snapshotMode(false)) // a guest's cookie would not come back either
	default:
		v.cookiesOff(w, r, v.site.loginURL(to, cb.login.Scope))
	}
}

// noteEnd notes that the login came back with what WeChat says alone, or a broker about a ticket: strangers
// must not fill the store.
// A snapshot that is left drops its cookies and enters its last address, the callback's, again: that it was
// here before is how it is told.
func (v *visit) noteEnd(ctx context.Context, login string, out ticket.Outcome) {
	switch {
	case out.Status == ticket.StatusOK:
		v.site.app.gateway.codes.NoteEnd(ctx, login, attemptWindow)
	case out.Status == ticket.StatusSnapshot && v.site.account.broker == "":
		v.site.app.gateway.codes.NoteEnd(ctx, login, ticket.LoginLife)
	}
}

// outcomeForStranger is what may be told about a login without its cookie. StatusOK says nothing about it.
func (v *visit) outcomeForStranger(ctx context.Context, cb callback) (ticket.Outcome, error) {
	asks := cb.tkt == "" && v.site.account.broker == ""
	if asks && cb.code != "" && cb.login.Outcome == "" {
		var err error
		if asks, err = v.site.app.gateway.codes.Stranger(ctx, cb.login.Account, cb.code, cb.login.ID); err != nil {
			return ticket.Outcome{}, err
		}
	}
	if !asks && !cb.login.ExpiredAt(now()) {
		return ticket.Outcome{Status: ticket.StatusOK}, nil
	}
	return v.outcome(ctx, cb)
}

// cookiesOff answers a browser that came back twice without the login's cookie.
func (v *visit) cookiesOff(w http.ResponseWriter, r *http.Request, action string) {
	v.site.fail(w, r, zapcore.WarnLevel, "callback refused",
		page{Name: "cookies", Status: http.StatusBadRequest, Code: codeParameter, Action: action},
		zap.String("reason", "the browser keeps no cookies"))
}

// snapshotMode is the option snapshot, less guest where there must be none: anybody can write another
// gateway's word `error=snapshot`, and a guest reads what needs a login.
func (a *Auth) snapshotMode(guests bool) string {
	if a.Snapshot == snapshotGuest && !guests {
		return snapshotPage
	}
	return a.Snapshot
}

// endSnapshot answers a snapshot visitor: their ids are virtual and their page cannot be tapped.
func (a *Auth) endSnapshot(w http.ResponseWriter, r *http.Request, v *visit, to, mode string) {
	switch mode {
	case snapshotDeny:
		v.site.fail(w, r, zapcore.InfoLevel, "snapshot visitor", page{Name: "denied", Status: http.StatusForbidden, Code: codeNotAllowed})
	case snapshotGuest:
		token, err := v.origin.sessions.SignGuest(r.Context())
		if err != nil {
			v.cannot(w, r, to, "", err)
			return
		}
		v.origin.cookies.set(w, v.origin.cookies.guest, token, ticket.GuestLife)
		v.origin.go303(w, to)
	default:
		v.site.fail(w, r, zapcore.InfoLevel, "snapshot visitor", page{Name: "snapshot", Status: http.StatusOK, Code: codeNotAllowed})
	}
}

// signIn gives the browser its session and sends it where it was going. The session's id comes from the
// login's, so that a callback delivered twice leads to one session, and to none once that was ended.
func (v *visit) signIn(w http.ResponseWriter, r *http.Request, pending ticket.Pending, out ticket.Outcome) {
	o, g, acc := v.origin, v.site.app.gateway, v.site.account
	to, old := string(pending.Return), v.session
	s := ticket.Session{Identity: *out.Identity, ID: ticket.SessionID(pending.ID), AuthTime: time.UnixMilli(out.At)}
	ended := g.revoked.Known.Has(s.ID)
	switch {
	case old.covers(s), ended && old != nil:
		o.go303(w, to)
		return
	case ended:
		v.endPage(w, r, v.site.loginURL(to, ""), ticket.Outcome{Status: ticket.StatusExpired})
		return
	}
	token, s, err := o.sessions.Sign(r.Context(), s)
	if err != nil {
		v.cannot(w, r, to, s.Scope, err)
		return
	}
	if old != nil && old.ID != s.ID {
		if err := g.revoked.Revoke(r.Context(), old.ID, o.lastToken(old)); err != nil {
			v.site.logger.Error("the session that a new login replaced could not be revoked", zap.Error(err))
		}
	}
	o.cookies.set(w, o.cookies.session, token, s.Expires.Sub(s.IssuedAt))
	acc.logger.Info("signed in", acc.user(s.OpenID), zap.String("scope", s.Scope), zap.String("origin", o.name))
	o.go303(w, to)
}

// covers reports whether the session is the same user's and says as much: then it stays. Of several tabs
// that log in at once the later ones must not end the session that the earlier ones' requests carry, and
// a login for less must not take a profile away.
func (s *liveSession) covers(next ticket.Session) bool {
	return s != nil && s.OpenID == next.OpenID && s.AppID == next.AppID && ticket.ScopeCovers(s.Scope, next.Scope)
}

// lastToken is when no token of a session can be alive any more.
func (o *origin) lastToken(s *liveSession) time.Time { return s.AuthTime.Add(o.sessions.Max) }
