package caddymodule

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-wechat/caddy-wechat/ticket"
	"github.com/caddy-wechat/caddy-wechat/wechat"
)

// errand is a login that a client asked for: who comes back where, and with what.
type errand struct {
	Client  string `json:"c"`
	Account string `json:"a"`
	Way     string `json:"w"`
	To      string `json:"r"` // the return address, as it was rebuilt
	State   string `json:"s"` // the client's, handed back
	Scope   string `json:"p"`
	Posted  bool   `json:"o,omitempty"` // begun by a form: if another site sent it, no cookie came along

	Force []string `json:"f,omitempty"` // what WeChat's link forces: wechat.ForcePopup and its like

	client  *client
	account *account
	address returnAddress
}

// The ways in which users go back to clients.
const (
	wayTicket = "ticket" // wxauth V2: with a ticket
	wayCode   = "code"   // WeChat's own interface: with a code of the gateway's
	wayPass   = "pass"   // pass_code: with WeChat's own code
)

// appendedNames are the parameters that each way appends to a return address.
var appendedNames = map[string][]string{
	wayTicket: {nameTicket, nameState, nameError},
	wayCode:   {nameCode, nameState},
	wayPass:   {nameCode, nameState},
}

var (
	errNoClient   = errors.New("no client has it")
	errNotClients = errors.New("it is another client's, whose return_to says more")
	errNotPassing = errors.New("its client has no pass_code")
	errAccount    = errors.New("its client may not use this account; see its option account")
	errPublic     = errors.New("a public client has no secret, and this interface needs one")
	errOddState   = errors.New("its state is too long, or cannot stand in an address unencoded")
	errScope      = errors.New("it asks for more than its client's option scope allows, or for an unknown scope")
	errOddForm    = errors.New("its form is too large, or its query cannot be read")
)

// maxState bounds what a client gives along, in bytes. WeChat's own bound is 128.
const maxState = 1024

// check finds the errand's client and account, and says what is wrong with it. It is asked at the start and
// again when the user comes back: the configuration may be another by then.
func (b *Broker) check(e *errand) error {
	var err error
	if e.address, err = parseReturn(e.To, appendedNames[e.Way]...); err != nil {
		return err
	}
	e.To = e.address.String()
	owner := b.clientOf(e.address)
	if e.Client == "" && owner != nil {
		e.Client = owner.id
	}
	e.client, e.account = b.clients[e.Client], b.accounts[e.Account]
	switch c := e.client; {
	case owner == nil || c == nil:
		return errNoClient
	case owner != c: // even where a wider pattern of c's takes it, too
		return errNotClients
	case c.FragmentAppend && e.address.hasNameBehind(appendedNames[e.Way]):
		return errAppendedNames
	case e.account == nil || !c.uses(e.account):
		return errAccount
	case e.Way == wayPass && !c.PassCode:
		return errNotPassing
	case e.Way == wayCode && c.Public:
		return errPublic
	case !ticket.ScopeCovers(c.Scope, e.Scope):
		return errScope
	case len(e.State) > maxState || c.RawState && !isRawState(e.State):
		return errOddState
	}
	return nil
}

// isRawState reports whether a state can stand behind "state=" unencoded and stay alone there: a second
// ticket behind it would sign the user in as somebody else.
func isRawState(state string) bool {
	return !strings.ContainsFunc(state, func(r rune) bool { return r < ' ' || r == 0x7f || strings.ContainsRune(`#\`, r) }) &&
		!hasName("state="+state, []string{nameTicket, nameError, nameCode, nameOpenID})
}

// back returns where the user goes back to: with what is brought, the state, and more behind it.
func (e *errand) back(brought, more []string) string {
	state := encodeComponent(e.State)
	if e.client.RawState {
		state = encodeHigh(strings.ReplaceAll(e.State, " ", "%20"))
	}
	pairs := slices.Concat(brought, []string{nameState + "=" + state}, more)
	return e.address.with(strings.Join(pairs, "&"), e.client.FragmentAppend)
}

// start is the path at the broker that starts the errand again: for a page's button.
func (e *errand) start() string {
	if e.Way == wayTicket {
		return "/auth/" + e.account.appID + "?redirect_uri=" + url.QueryEscape(e.To) + "&params=" + url.QueryEscape(e.State) + "&scope=" + e.Scope
	}
	appID := e.account.appID
	if e.Way == wayCode {
		appID = e.client.id
	}
	forced := ""
	for _, name := range e.Force {
		forced += "&" + name + "=true"
	}
	return pathAuthorize + "?appid=" + appID + "&redirect_uri=" + url.QueryEscape(e.To) + "&response_type=code&scope=" + e.Scope + "&state=" + url.QueryEscape(e.State) + forced
}

// run starts the errand: a page that asks for a press first, or that says it was tried too often, or WeChat.
func (b *Broker) run(w http.ResponseWriter, r *http.Request, e *errand, restarts int) {
	jar := b.jar(r, e.account)
	kept := jar.open(r.Context())
	mark, held := b.markOf(r, jar, e, kept)
	switch {
	case mark != "" && !held:
		failWith(b.logger, w, r, zapcore.WarnLevel, "a button's cookie is gone", // or another browser's button was passed on
			page{Name: "cookies", Status: http.StatusBadRequest, Code: codeParameter, Action: e.start()}, zap.String("client", e.Client))
	case e.client.Ask && e.Scope == wechat.ScopeUserInfo && mark == "": // after a restart as well: a link may lead to one
		page{Name: "login", Status: http.StatusOK, Action: b.marked(w, r, jar, e, kept, markPressed)}.
			logged(b.logger, zapcore.InfoLevel, "asking for a press before a profile is asked for", zap.String("client", e.Client)).write(w, r)
	case mark != markRetry && b.starts(r, e, kept) >= maxAttempts:
		b.tooManyStarts(w, r, jar, e, kept)
	default:
		b.begin(w, r, e, jar, kept, restarts)
	}
}

func (b *Broker) tooManyStarts(w http.ResponseWriter, r *http.Request, jar loginJar, e *errand, kept []loginCookie) {
	failWith(b.logger, w, r, zapcore.WarnLevel, "too many attempts: a client's logins begin, and no ticket of theirs is redeemed", page{
		Name: "attempts", Status: http.StatusTooManyRequests, Code: codeParameter,
		Action: b.marked(w, r, jar, e, kept, markRetry), RetryAfter: int(attemptWindow / time.Second),
	}, zap.String("client", e.Client))
}

// jar is the broker's login cookies that the request carries.
func (b *Broker) jar(r *http.Request, acc *account) loginJar {
	origin := b.originOf(r, acc)
	scheme, host, _ := strings.Cut(origin, "://")
	_, port, _ := splitHost(host)
	names := newCookieNames(brokerCookie, port, scheme == "https")
	return loginJar{b.app.gateway.keys, origin, &names, names.readCookies(r.Header["Cookie"]).logins}
}

// starts counts the client's logins that this browser began in the last minute, after the last one whose
// ticket was redeemed.
func (b *Broker) starts(r *http.Request, e *errand, kept []loginCookie) (n int) {
	var mine []loginCookie
	for _, c := range kept {
		var other errand
		if now().Sub(time.Unix(c.Started, 0)) < attemptWindow && json.Unmarshal(c.Return, &other) == nil && other.Client == e.Client {
			mine = append(mine, c)
		}
	}
	if len(mine) < maxAttempts {
		return len(mine) // the store is not asked
	}
	for i := len(mine) - 1; i >= 0 && !b.app.gateway.codes.CameBack(r.Context(), mine[i].ID); i-- {
		n++
	}
	return n
}

// maxSealedErrand bounds what of an errand travels in the login, in bytes: as a whole or not at all.
const maxSealedErrand = 120

func (b *Broker) begin(w http.ResponseWriter, r *http.Request, e *errand, jar loginJar, kept []loginCookie, restarts int) {
	login := ticket.Login{
		ID: ticket.NewLoginID(), Account: e.Account, Origin: jar.origin, Scope: e.Scope, Started: now().Unix(),
		Restarts: restarts, Client: e.Client, Way: e.Way,
	}
	e.Posted = r.Method == http.MethodPost
	if len(e.To)+len(e.State) <= maxSealedErrand {
		login.Return, login.State = e.To, e.State
	}
	sealed, err := b.app.gateway.keys.SealLogin(r.Context(), login)
	if err == nil {
		var record []byte
		record, err = json.Marshal(e)
		if err == nil {
			err = jar.keep(r.Context(), w, kept, ticket.Pending{ID: login.ID, Return: record, Started: login.Started})
		}
	}
	if errors.Is(err, errLongCookie) {
		b.refuse(w, r, e, errLongAddress)
		return
	}
	if err != nil {
		b.cannot(w, r, e, err)
		return
	}
	status := http.StatusFound
	if r.Method == http.MethodPost {
		status = http.StatusSeeOther
	}
	redirect(w, status, e.account.way.loginURL(jar.origin+b.Path+"/callback?login="+sealed, e.Scope, login.ID, e.Force...))
}

// Marks are what the buttons of our own pages say.
const (
	markPressed = "pressed" // the person wants to log in
	markRetry   = "retry"   // once more, after too many attempts
)

// marked returns the errand's start with a mark that only a page of ours has, in this browser alone: no loop and
// no link finds it. A cookie beside the login cookies goes with it.
func (b *Broker) marked(w http.ResponseWriter, r *http.Request, jar loginJar, e *errand, kept []loginCookie, mark string) string {
	p := ticket.Pending{ID: ticket.NewLoginID(), Return: []byte(mark), Started: now().Unix()}
	i := slices.IndexFunc(kept, func(c loginCookie) bool {
		return string(c.Return) == mark && now().Sub(time.Unix(c.Started, 0)) < ticket.LoginLife/2
	})
	var err error
	if i >= 0 {
		p = kept[i].Pending
	} else {
		err = jar.keep(r.Context(), w, kept, p)
	}
	plain, err2 := json.Marshal(p)
	sealed, err3 := b.app.gateway.keys.Seal(r.Context(), b.markPurpose(jar, e, mark), plain)
	if errors.Join(err, err2, err3) != nil {
		return e.start()
	}
	return e.start() + "&" + mark + "=" + sealed
}

// markOf returns the mark with which r comes from a button that marked made, not long ago, and whether this
// browser holds its cookie.
func (b *Broker) markOf(r *http.Request, jar loginJar, e *errand, kept []loginCookie) (mark string, held bool) {
	q := original(r).URL.Query()
	for _, mark := range []string{markPressed, markRetry} {
		plain, err := b.app.gateway.keys.Open(r.Context(), b.markPurpose(jar, e, mark), q.Get(mark))
		var p ticket.Pending
		if err != nil || json.Unmarshal(plain, &p) != nil || p.ExpiredAt(now()) {
			continue
		}
		mine, ok := pendingOf(kept, p.ID)
		return mark, ok && string(mine.Return) == mark
	}
	return "", false
}

func (b *Broker) markPurpose(jar loginJar, e *errand, mark string) string {
	return mark + " for " + e.Client + " at " + jar.origin
}

// refuse answers an errand that nobody may have: the visitor is told nothing to exploit, the operator which
// line would allow it.
func (b *Broker) refuse(w http.ResponseWriter, r *http.Request, e *errand, why error) {
	fields := []zap.Field{zap.Error(why)}
	if e.Client != "" {
		fields = append(fields, zap.String("client", e.Client))
	}
	address := ""
	if a, err := parseReturn(e.To, appendedNames[e.Way]...); err == nil {
		address = a.origin + a.path
		address = address[:min(len(address), maxLogged)]
		fields = append(fields, zap.String("return_address", address))
	}
	if line := e.missingLine(why, address); line != "" {
		fields = append(fields, zap.String("line", line))
	}
	failWith(b.logger, w, r, zapcore.WarnLevel, "a client's login was refused; if it is one of yours, mend its block in wechat_broker",
		page{Name: "error", Reason: "address", Status: http.StatusBadRequest, Code: codeParameter}, fields...)
}

// missingLine is the line in the client's block that would allow the errand.
func (e *errand) missingLine(why error, address string) string {
	switch {
	case (errors.Is(why, errNoClient) || errors.Is(why, errNotClients)) && address != "":
		return "return_to " + address
	case errors.Is(why, errNotPassing):
		return "pass_code"
	case errors.Is(why, errAccount):
		return "account " + e.Account
	case errors.Is(why, errScope):
		return "scope " + wechat.ScopeUserInfo
	case errors.Is(why, errPublic):
		return "secret {env.CLIENT_SECRET}"
	}
	return ""
}

// maxLogged bounds what a stranger can write into the log with one address, in bytes.
const maxLogged = 300

// cannot answers when a client's login cannot go on for a reason of the gateway's own. The page tries again by
// itself, unless WeChat wants a person's press for what the login asks.
func (b *Broker) cannot(w http.ResponseWriter, r *http.Request, e *errand, err error) {
	p := page{Name: "error", Reason: "storage", Status: http.StatusBadGateway, Code: codeUnavailable, RetryAfter: retrySeconds}
	if e != nil {
		p.Action = e.start()
		if e.Scope == wechat.ScopeBase {
			p.Reason, p.Refresh = "waiting", retrySeconds
		}
	}
	failWith(b.logger, w, r, zapcore.ErrorLevel, "clients' logins do not work", p, zap.Error(err))
}
