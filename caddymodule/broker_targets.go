package caddymodule

import (
	"net/http"
	"net/url"
	"strings"

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
func (b *Broker) arrivalOf(r *http.Request) (a arrival, ok bool) {
	if len(b.targets) == 0 || r.Method != http.MethodGet {
		return a, false
	}
	q, err := url.ParseQuery(original(r).URL.RawQuery)
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
	out, err := b.app.exchange(r.Context(), acc, a.key, a.code, want{most: a.client.Scope})
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
