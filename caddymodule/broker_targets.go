package caddymodule

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-wechat/caddy-wechat/ticket"
)

// arrival is what WeChat brings to the bound domain's root for a request target, of wxauth's V1: the client
// sent the user to WeChat itself, so no cookie tells whose browser this is.
type arrival struct {
	client *client
	to     returnAddress
	code   string
	state  string // behind the token
	key    string // stands in a login's place: every code is a login of its own
}

const tokenLength = 8

// arrivalOf reads GET /?code=…&state=<8 hex><free text>. Without a registered token it is the site's own.
func (b *Broker) arrivalOf(r *http.Request, at string) (a arrival, ok bool) {
	if len(b.targets) == 0 || at != "/" || r.Method != http.MethodGet {
		return a, false
	}
	query := original(r).URL.RawQuery
	if !strings.Contains(query, nameState+"=") { // WeChat spells it so; of a page's own query no map is made
		return a, false
	}
	q, err := url.ParseQuery(query)
	if err != nil || len(q[nameCode]) != 1 || len(q[nameState]) != 1 || len(q.Get(nameState)) < tokenLength {
		return a, false
	}
	state := q.Get(nameState)
	token := strings.ToLower(state[:tokenLength])
	c := b.targets[token]
	if c == nil {
		return a, false
	}
	code := q.Get(nameCode)
	return arrival{c, c.targets[token], code, state[tokenLength:], "target " + token + " " + code}, true
}

// serveArrival sends the user on to the request target with a ticket.
func (b *Broker) serveArrival(w http.ResponseWriter, r *http.Request, a arrival) {
	w.Header().Set("Referrer-Policy", "no-referrer")
	acc := a.client.accounts[0]
	switch {
	case b.elsewhere(w, r, acc):
		return
	case isEarlyData(r):
		failWith(b.logger, w, r, zapcore.InfoLevel, "callback came as early data",
			page{Name: "error", Reason: "toosoon", Status: http.StatusTooEarly, Code: codeParameter})
		return
	}
	e := &errand{Client: a.client.id, State: a.state, client: a.client, account: acc, address: a.to}
	if len(a.state) > maxState || a.client.RawState && !isRawState(a.state) {
		b.refuse(w, r, e, errOddState)
		return
	}
	out, err := b.askFor(r, a, acc)
	if errors.Is(err, ticket.ErrTooMany) {
		failWith(b.logger, w, r, zapcore.WarnLevel, "too many codes that were none came from one address; if that is a proxy's, name it in the global option trusted_proxies",
			page{Name: "attempts", Status: http.StatusTooManyRequests, Code: codeParameter, RetryAfter: int(ticket.JunkWindow / time.Second)})
		return
	}
	if err != nil {
		b.cannot(w, r, nil, err)
		return
	}
	switch out.Status {
	case ticket.StatusOK:
		b.sendArrivalOn(w, r, a, e, out)
	case ticket.StatusSnapshot:
		failWith(b.logger, w, r, zapcore.InfoLevel, "snapshot visitor", page{Name: "snapshot", Status: http.StatusOK, Code: codeNotAllowed})
	default:
		b.endPage(w, r, "", out)
	}
}

// maxAsked bounds how many arrivals WeChat is asked about at once. More wait for their turn.
const maxAsked = 64

// askFor exchanges the arrival's code. No login of ours is needed to bring one, so that a stranger could have
// WeChat asked without end: an address that brought too many codes that were none is told to wait.
func (b *Broker) askFor(r *http.Request, a arrival, acc *account) (ticket.Outcome, error) {
	codes, from := b.app.gateway.codes, networkOf(r)
	if !isCode(a.code) {
		return ticket.Outcome{Status: ticket.StatusExpired}, nil
	}
	if err := codes.AllowFrom(r.Context(), from); err != nil {
		return ticket.Outcome{}, err
	}
	return codes.OnceAlone(r.Context(), acc.name, a.code, a.key, func(ctx context.Context) ticket.Outcome {
		select {
		case b.asked <- struct{}{}:
			defer func() { <-b.asked }()
		case <-ctx.Done():
			return ticket.Outcome{Status: ticket.StatusUnavailable}
		}
		if codes.AllowFrom(ctx, from) != nil { // others came to that while this one waited
			return ticket.Outcome{Status: ticket.StatusExpired}
		}
		out := acc.exchange(ctx, a.key, a.code, want{most: a.client.Scope})
		if out.Status == ticket.StatusExpired {
			codes.NoteJunk(ctx, from)
		}
		return out
	})
}

// networkOf is where r comes from, as far as one person can choose: an IPv6 network of 64 bits.
func networkOf(r *http.Request) string {
	ip, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	ip, _, _ = strings.Cut(ip, "%") // an IPv6 zone
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return ip
	}
	bits := 32
	if addr = addr.Unmap(); addr.Is6() {
		bits = 64
	}
	return netip.PrefixFrom(addr, bits).Masked().String()
}

func (b *Broker) sendArrivalOn(w http.ResponseWriter, r *http.Request, a arrival, e *errand, out ticket.Outcome) {
	v := e.voucher("", out)
	err := b.allow(r.Context(), a.key, out)
	tkt := ""
	if err == nil {
		tkt, err = b.app.gateway.tickets.IssueTo(r.Context(), a.client.terms(), v, b.ttl)
	}
	switch {
	case err != nil && notTooMany(err) == nil:
		b.endPage(w, r, "", ticket.Outcome{Status: ticket.StatusExpired})
		return
	case err != nil:
		b.cannot(w, r, nil, err)
		return
	}
	b.keepProfile(r.Context(), e.account, a.client, v)
	var more []string
	if a.client.OpenID {
		more = []string{nameOpenID + "=" + v.Identity.OpenID}
	}
	e.Scope = v.Identity.Scope
	e.logEnd(b.logger, out)
	redirect(w, http.StatusFound, e.back([]string{nameTicket + "=" + tkt}, more))
}
