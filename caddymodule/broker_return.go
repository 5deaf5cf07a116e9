package caddymodule

import (
	"context"
	"encoding/json"
	"net/http"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-wechat/caddy-wechat/ticket"
)

// endErrand ends a client's login: only the browser that began it is sent back to the client.
func (b *Broker) endErrand(w http.ResponseWriter, r *http.Request, login ticket.Login) {
	w.Header().Set("Referrer-Policy", "no-referrer")
	if b.elsewhere(w, r, b.accounts[login.Account]) {
		return
	}
	jar := b.jar(r, b.accounts[login.Account])
	kept := jar.open(r.Context())
	pending, mine := pendingOf(kept, login.ID)
	e := &errand{Client: login.Client, Account: login.Account, Way: login.Way, To: login.Return, State: login.State, Scope: login.Scope}
	if mine {
		mine = json.Unmarshal(pending.Return, e) == nil
	}
	if mine && e.Posted { // its start could drop none
		jar.makeRoom(w, without(kept, login.ID), 0)
	}
	err := b.check(e)
	switch {
	case login.Origin != jar.origin || err != nil && (mine || login.Return != ""):
		failWith(b.logger, w, r, zapcore.WarnLevel, "a client's login came back, and its client is another by now",
			page{Name: "error", Reason: "expired", Status: http.StatusBadRequest, Code: codeParameter}, zap.String("client", login.Client), zap.Error(err))
	case mine && e.Posted && b.starts(r, e, kept) > maxAttempts: // the form's start could not count them
		b.tooManyStarts(w, r, jar, e, kept)
	case mine:
		b.sendErrandBack(w, r, login, e)
	default:
		b.endForStranger(w, r, login, e, err == nil)
	}
}

// sendErrandBack sends the browser back to the client with what its login brought. A login whose outcome was lost
// begins anew by itself, once.
func (b *Broker) sendErrandBack(w http.ResponseWriter, r *http.Request, login ticket.Login, e *errand) {
	name, value, out, err := b.bring(r.Context(), login, e, original(r).URL.RawQuery)
	if err != nil {
		b.cannot(w, r, e, err)
		return
	}
	if out.Status == ticket.StatusLost && login.Restarts == 0 {
		b.run(w, r, e, 1)
		return
	}
	if name == "" && out.Status != ticket.StatusDenied {
		b.endPage(w, r, e.start(), out)
		return
	}
	e.logEnd(b.logger, out)
	var brought []string
	if name != "" {
		brought = []string{name + "=" + value}
	}
	redirect(w, http.StatusFound, e.back(brought, nil))
}

// bring returns the parameter that the user brings back to the client; none where the login brought nothing
// that can be brought.
func (b *Broker) bring(ctx context.Context, login ticket.Login, e *errand, rawQuery string) (name, value string, out ticket.Outcome, err error) {
	if out, err = b.settleErrand(ctx, login, e.account, rawQuery); err != nil {
		return "", "", out, err
	}
	switch {
	case out.Status == ticket.StatusDenied && e.Way == wayTicket:
		return nameError, "access_denied", out, nil
	case out.Status == ticket.StatusSnapshot && e.Way == wayTicket:
		return nameError, "snapshot", out, nil
	case out.Status == ticket.StatusOK && e.Way == wayPass:
		q, _ := onlyOnes(rawQuery, nameCode)
		return nameCode, q[nameCode], out, nil
	case out.Identity == nil:
		return "", "", out, nil
	}
	if err := b.allow(ctx, login.ID, out); err != nil {
		return "", "", ticket.Outcome{Status: ticket.StatusExpired}, notTooMany(err)
	}
	v := e.voucher(login.ID, out)
	if e.Way == wayCode {
		value, err = b.app.gateway.tickets.IssueCode(ctx, v)
		return nameCode, value, out, err
	}
	value, err = b.app.gateway.tickets.IssueTo(ctx, e.client.terms(), v, b.ttl)
	return nameTicket, value, out, err
}

// settleErrand tells how a client's login ended at WeChat.
func (b *Broker) settleErrand(ctx context.Context, login ticket.Login, acc *account, rawQuery string) (ticket.Outcome, error) {
	q, ok := singles(rawQuery, nameCode, nameState)
	switch {
	case !ok || ticket.LoginID(q[nameState]) != login.ID || login.ExpiredAt(now()):
		return ticket.Outcome{Status: ticket.StatusExpired}, nil
	case q[nameCode] == "":
		return ticket.Outcome{Status: ticket.StatusDenied}, nil
	case !isCode(q[nameCode]):
		return ticket.Outcome{Status: ticket.StatusExpired}, nil
	case login.Way == wayPass:
		mine, err := b.app.gateway.codes.Pass(ctx, acc.name, q[nameCode], login.ID)
		if !mine {
			return ticket.Outcome{Status: ticket.StatusExpired}, err
		}
		return ticket.Outcome{Status: ticket.StatusOK}, err
	}
	return b.app.exchange(ctx, acc, login.ID, q[nameCode], want{scope: login.Scope, snapshot: login.Way == wayCode})
}

// voucher is what the client redeems.
func (e *errand) voucher(login string, out ticket.Outcome) ticket.Voucher {
	return ticket.Voucher{
		Identity: *out.Identity, Profile: out.Profile, Snapshot: out.Status == ticket.StatusSnapshot, At: out.At,
		Client: e.Client, Login: login, State: e.State,
	}
}

// endPage says at the broker how a login ended, where the client is told nothing; action is the button's.
func (b *Broker) endPage(w http.ResponseWriter, r *http.Request, action string, out ticket.Outcome) {
	p := endPage(action, out)
	failWith(b.logger, w, r, zapcore.InfoLevel, "a client's login ended without a ticket", p, zap.String("outcome", string(out.Status)))
}

// endForStranger answers a browser that does not hold the login's cookie: it was lost, it is switched off, or
// this is somebody else. Nobody is sent back to the client. A code may be exchanged: only that tells a
// snapshot visitor from switched-off cookies.
func (b *Broker) endForStranger(w http.ResponseWriter, r *http.Request, login ticket.Login, e *errand, known bool) {
	action := ""
	if known {
		action = e.start()
	}
	out, err := b.outcomeForStranger(r.Context(), login, original(r).URL.RawQuery)
	if err != nil && known {
		b.cannot(w, r, e, err)
		return
	}
	if err != nil {
		b.cannot(w, r, nil, err)
		return
	}
	switch {
	case out.Status == ticket.StatusSnapshot:
		failWith(b.logger, w, r, zapcore.InfoLevel, "snapshot visitor", page{Name: "snapshot", Status: http.StatusOK, Code: codeNotAllowed})
	case out.Status != ticket.StatusOK:
		b.endPage(w, r, action, out)
	case known && login.Restarts == 0:
		b.run(w, r, e, 1)
	default:
		failWith(b.logger, w, r, zapcore.WarnLevel, "a client's login came back without its cookie",
			page{Name: "cookies", Status: http.StatusBadRequest, Code: codeParameter, Action: action}, zap.String("client", login.Client))
	}
}

// outcomeForStranger is what may be told about a login without its cookie. StatusOK says nothing about it.
func (b *Broker) outcomeForStranger(ctx context.Context, login ticket.Login, rawQuery string) (ticket.Outcome, error) {
	ok := ticket.Outcome{Status: ticket.StatusOK}
	q, _ := singles(rawQuery, nameCode)
	if !login.ExpiredAt(now()) && q[nameCode] != "" {
		if login.Way == wayPass {
			return ok, nil
		}
		asks, err := b.app.gateway.codes.Stranger(ctx, login.Account, q[nameCode], login.ID)
		if !asks {
			return ok, err
		}
	}
	return b.settleErrand(ctx, login, b.accounts[login.Account], rawQuery)
}

// logEnd says that the client's user goes back to it.
func (e *errand) logEnd(logger *zap.Logger, out ticket.Outcome) {
	fields := []zap.Field{zap.String("client", e.Client), zap.String("outcome", string(out.Status)), zap.String("scope", e.Scope)}
	if out.Identity != nil && out.Status == ticket.StatusOK {
		fields = append(fields, e.account.user(out.Identity.OpenID))
	}
	logger.Info("a client's login ended", fields...)
}
