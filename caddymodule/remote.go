package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/caddy-wechat/caddy-wechat/ticket"
	"github.com/caddy-wechat/caddy-wechat/wechat"
)

// remote asks another gateway's broker, as one of its clients: the browser goes to /auth/<appid> there and
// comes back with a ticket, which /ticket/<ticket> answers with who it is.
type remote struct {
	origin   string // the broker's
	clientID string
	secret   string
	appID    string
	timeout  time.Duration
}

const (
	wordDenied   = "access_denied" // what a broker says instead of a ticket
	wordSnapshot = "snapshot"

	maxRemoteAnswer = 64 << 10 // bytes; a user takes one or two kilobytes
)

var (
	errTicketRefused = errors.New("the broker refused the ticket")
	errOtherLogin    = errors.New("the ticket belongs to another login")
	errOtherAccount  = errors.New("the broker named a user of another account")
)

// remoteError is why a broker gave no user, and what the operator does about it.
type remoteError struct {
	error
	advice string
}

func (e remoteError) Unwrap() error  { return e.error }
func (e remoteError) Advice() string { return e.advice }

// remoteAnswer is a redeemed ticket; of the keys that are always there, those that we read.
type remoteAnswer struct {
	OpenID     string `json:"openid"`
	UnionID    string `json:"unionid"`
	Nickname   string `json:"nickname"`
	HeadImgURL string `json:"headimgurl"`
	App        string `json:"app"`
	AppID      string `json:"appid"`
	Scope      string `json:"scope"`
	State      string `json:"state"`
}

var remoteKeys = []string{"openid", "unionid", "nickname", "headimgurl", "app", "appid", "scope", "state"}

// remoteClient calls brokers. A connection that was kept could break under a request, and net/http would
// then send it again, with a ticket that is spent; a redirect would carry the secret elsewhere.
var remoteClient = &http.Client{
	Transport: &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
		TLSHandshakeTimeout:    3 * time.Second,
		DisableKeepAlives:      true,
		MaxConnsPerHost:        128,
		MaxResponseHeaderBytes: 64 << 10,
	},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func (b *remote) loginURL(returnTo, scope, state string, _ ...string) string {
	return b.origin + "/auth/" + b.appID +
		"?redirect_uri=" + url.QueryEscape(returnTo) + "&params=" + state + "&scope=" + scope
}

// longest is one call of the broker.
func (b *remote) longest() time.Duration { return b.timeout }

func (b *remote) identify(ctx context.Context, login, tkt string, wanted want) (ticket.Outcome, error) {
	user, err := b.redeem(ctx, tkt)
	switch {
	case err != nil:
	case user.AppID != b.appID || user.App != b.appID:
		err = remoteError{errOtherAccount, "compare app_id with the broker's account"}
	case user.State != login:
		err = errOtherLogin
	case !ticket.ScopeCovers(user.Scope, wanted.scope):
		err = remoteError{fmt.Errorf("%w: asked for %s", errLesserScope, wanted.scope), "compare scope with that of this client at the broker"}
	}
	if err != nil {
		return ticket.Outcome{}, fmt.Errorf("redeeming a ticket: %w", err)
	}
	id := &ticket.Identity{OpenID: user.OpenID, AppID: user.AppID, Scope: wechat.ScopeBase}
	if wanted.scope == wechat.ScopeUserInfo { // more than was asked for is not taken
		id.Scope, id.UnionID, id.Nickname, id.HeadImgURL = user.Scope, user.UnionID, user.Nickname, user.HeadImgURL
	}
	return ticket.Outcome{Status: ticket.StatusOK, Identity: id}, nil
}

// redeem spends a ticket. No error of it shows the ticket or the secret, nor what the other side sent.
func (b *remote) redeem(ctx context.Context, tkt string) (user remoteAnswer, err error) {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.origin+"/ticket/"+tkt, nil)
	if err != nil {
		return user, errors.New("the broker's address is not a URL")
	}
	req.SetBasicAuth(b.clientID, b.secret)
	resp, err := remoteClient.Do(req)
	if err != nil {
		return user, b.unreachable(err)
	}
	defer resp.Body.Close()
	if err := b.checkStatus(resp.StatusCode); err != nil {
		return user, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxRemoteAnswer+1))
	switch {
	case err != nil:
		return user, b.unreachable(err)
	case len(body) > maxRemoteAnswer:
		return user, b.odd("its answer is too large")
	}
	if err := wechat.CheckObject(body, remoteKeys...); err != nil {
		return user, b.odd(err.Error())
	}
	if json.Unmarshal(body, &user) != nil {
		return remoteAnswer{}, b.odd("a value in its answer is of another type")
	}
	return user, nil
}

// checkStatus takes 200 alone. A broker says 404 to whatever it refuses, a wrong secret too.
func (b *remote) checkStatus(status int) error {
	const compare = "compare client id, secret and redeem_from with the broker's configuration"
	switch status {
	case http.StatusOK:
		return nil
	case http.StatusNotFound:
		return remoteError{errTicketRefused, "it may have been too late; if every login ends so, " + compare}
	case http.StatusUnauthorized, http.StatusForbidden:
		return remoteError{errors.New("HTTP status " + strconv.Itoa(status)), compare + ", and see what stands in front of it"}
	}
	return b.odd("HTTP status " + strconv.Itoa(status))
}

func (b *remote) unreachable(err error) error {
	return remoteError{errors.New(wechat.Reason(err)), "see that the gateway at " + b.origin + " runs, and that this machine reaches it and trusts its certificate"}
}

func (b *remote) odd(why string) error {
	return remoteError{errors.New("no usable answer: " + why), "see that " + b.origin + " is a gateway whose wechat_broker has this client"}
}

// remoteOutcome tells how a login through another gateway's broker ended. Nothing seals the word `error`:
// it only chooses the page for the browser that began the login.
func (v *visit) remoteOutcome(ctx context.Context, cb callback) (ticket.Outcome, error) {
	switch {
	case cb.word == wordDenied:
		return ticket.Outcome{Status: ticket.StatusDenied}, nil
	case cb.word == wordSnapshot:
		return ticket.Outcome{Status: ticket.StatusSnapshot}, nil
	case cb.word != "":
		return ticket.Outcome{Status: ticket.StatusUnavailable}, nil
	case !ticket.IsTicket(cb.tkt):
		return ticket.Outcome{Status: ticket.StatusExpired}, nil
	}
	out, err := v.site.app.exchange(ctx, v.site.account, cb.login.ID, cb.tkt, want{scope: cb.login.Scope})
	if out.Status == ticket.StatusExpired {
		out.Status = ticket.StatusLost // perhaps with the broker's memory
	}
	return out, err
}

// Interface guards.
var (
	_ way = direct{}
	_ way = (*remote)(nil)
)
