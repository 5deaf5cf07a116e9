package caddymodule

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-wechat/caddy-wechat/ticket"
	"github.com/caddy-wechat/caddy-wechat/wechat"
)

// account is an Account at work.
type account struct {
	name    string
	appID   string
	scope   string
	test    bool
	domains []string // as origins: https://auth.example.com; the first is where other sites' logins go
	files   verifyFiles
	broker  string // the origin of another gateway's broker, where logins go through that
	way     way
	refused once // a broker's refusals that are logged at Error
	logKey  []byte
	logger  *zap.Logger
}

// way is how an account's logins reach WeChat: by its app secret (direct), or through another gateway's
// broker (remote).
type way interface {
	// loginURL is where the browser is sent. It comes back to returnTo, with state and a code or ticket. Force is
	// what WeChat's link forces.
	loginURL(returnTo, scope, state string, force ...string) string
	// identify asks once who the code, or ticket, of the login with this id stands for. Its errors hold no
	// secret.
	identify(ctx context.Context, login, code string, wanted want) (ticket.Outcome, error)
	// longest is how long identify may take.
	longest() time.Duration
}

// direct asks WeChat itself.
type direct struct{ *wechat.Client }

func newAccount(name string, cfg *Account, logger *zap.Logger) (*account, error) {
	if option := cfg.literalSecret(); option != "" {
		logger.Warn(option+" stands literally in the configuration, and so in Caddy's /config/ and autosave; write {env.NAME} or {file./path}", zap.String("account", name))
	}
	if err := cfg.resolve(); err != nil {
		return nil, err
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	acc := &account{name: name, appID: cfg.AppID, scope: cfg.Scope, test: cfg.Test, files: verifyFiles{}, logger: logger.With(zap.String("account", name))}
	if acc.scope == "" {
		acc.scope = wechat.ScopeBase
	}
	for _, d := range cfg.Domains {
		origin, err := domainOrigin(d)
		if err != nil {
			return nil, fmt.Errorf("domain %s: %w", d, err)
		}
		acc.domains = append(acc.domains, origin)
		if strings.HasPrefix(d, "http://") && !cfg.Test {
			acc.logger.Warn("logins come back over plain http, where anybody on the way can read them; WeChat allows it, https is better", zap.String("domain", d))
		}
	}
	for _, f := range cfg.VerifyFiles {
		acc.files[f.Name] = f.text()
	}
	sum := sha256.Sum256([]byte("wechat log key " + cfg.AppID + " " + cfg.secret()))
	acc.logKey = sum[:]
	return acc, acc.findWay(cfg)
}

func (acc *account) findWay(cfg *Account) (err error) {
	timeout := cmp.Or(time.Duration(cfg.Timeout), wechat.DefaultTimeout)
	if b := cfg.Broker; b != nil {
		acc.broker, err = normalOrigin(b.URL)
		acc.way = &remote{origin: acc.broker, clientID: b.ClientID, secret: b.ClientSecret, appID: cfg.AppID, timeout: timeout}
		return err
	}
	acc.way = direct{&wechat.Client{
		AppID: cfg.AppID, Secret: cfg.AppSecret,
		OpenURL: cfg.OpenURL, APIURL: cfg.APIURL,
		Lang: cfg.Lang, Timeout: timeout,
	}}
	return nil
}

// domainOrigin returns the origin of a checked domain: https unless it says otherwise.
func domainOrigin(domain string) (string, error) {
	if !strings.Contains(domain, "://") {
		domain = "https://" + domain
	}
	return normalOrigin(domain)
}

// longestExchange is how long a code's exchange may take.
func longestExchange(accounts map[string]*account) time.Duration {
	longest := 2 * wechat.DefaultTimeout
	for _, acc := range accounts {
		longest = max(longest, acc.way.longest())
	}
	return longest + time.Second
}

// isCode reports whether s can be one of WeChat's codes. What cannot is not asked about.
func isCode(s string) bool {
	return s != "" && len(s) <= 256 && tokenPattern.MatchString(s)
}

// want is what the exchange of a code is to bring.
type want struct {
	scope    string // what WeChat was asked for; none: a client asked, and what was granted counts
	most     string // without scope: the most that the client may read
	snapshot bool   // a snapshot visitor's virtual ids as well
}

// exchange asks who the code, or ticket, of a login stands for. It is the one place that turns WeChat's and
// a broker's errors into an outcome, and the one that logs them.
func (acc *account) exchange(ctx context.Context, login, code string, wanted want) ticket.Outcome {
	out, err := acc.way.identify(ctx, login, code, wanted)
	if out.Identity != nil {
		*out.Identity = out.Identity.Clean()
		if !out.Identity.Valid() {
			err = errOddIdentity
		}
	}
	if err == nil {
		out.At = time.Now().UnixMilli()
		return out
	}
	out = ticket.Outcome{Status: statusOf(err), Ref: newRef()}
	if e := new(wechat.Error); errors.As(err, &e) {
		out.Errcode = e.Code
	}
	acc.logFailure(err, out)
	return out
}

func (d direct) loginURL(returnTo, scope, state string, force ...string) string {
	return d.AuthorizeURL(returnTo, scope, state, force...)
}

// longest is two calls of WeChat's API.
func (d direct) longest() time.Duration { return 2 * d.Timeout }

func (d direct) identify(ctx context.Context, _, code string, wanted want) (ticket.Outcome, error) {
	token, err := d.Exchange(ctx, code)
	if err != nil {
		return ticket.Outcome{}, fmt.Errorf("exchanging code: %w", err)
	}
	id := ticket.Identity{OpenID: token.OpenID, AppID: d.AppID, Scope: strongest(token.Scope)}
	if token.Snapshot {
		id.UnionID = token.UnionID
		out := ticket.Outcome{Status: ticket.StatusSnapshot}
		if wanted.snapshot {
			out.Identity = &id
		}
		return out, nil
	}
	if wanted.scope == "" {
		wanted.scope = lesser(id.Scope, wanted.most)
	}
	if !ticket.ScopeCovers(id.Scope, wanted.scope) {
		return ticket.Outcome{}, fmt.Errorf("%w: asked for %s, got %q", errLesserScope, wanted.scope, id.Scope)
	}
	if wanted.scope != wechat.ScopeUserInfo {
		id.Scope = wechat.ScopeBase // WeChat may name more, but no profile was read
		return ticket.Outcome{Status: ticket.StatusOK, Identity: &id}, nil
	}
	return d.readProfile(ctx, token, id)
}

func (d direct) readProfile(ctx context.Context, token wechat.Token, id ticket.Identity) (ticket.Outcome, error) {
	user, err := d.UserInfo(ctx, token.AccessToken, token.OpenID)
	if err != nil {
		return ticket.Outcome{}, fmt.Errorf("reading profile: %w", err)
	}
	id.UnionID, id.Nickname, id.HeadImgURL = cmp.Or(user.UnionID, token.UnionID), user.Nickname, user.HeadImgURL
	profile := &ticket.Profile{
		Sex: user.Sex, City: user.City, Province: user.Province, Country: user.Country, Privilege: user.Privilege,
	}
	return ticket.Outcome{Status: ticket.StatusOK, Identity: &id, Profile: profile}, nil
}

// lesser returns the lesser of two scopes.
func lesser(a, b string) string {
	if ticket.ScopeCovers(a, wechat.ScopeUserInfo) && ticket.ScopeCovers(b, wechat.ScopeUserInfo) {
		return wechat.ScopeUserInfo
	}
	return wechat.ScopeBase
}

var (
	errLesserScope = errors.New("WeChat granted a lesser scope")
	errOddIdentity = errors.New("the identity is not shaped like one of WeChat's")
)

// strongest returns the strongest of the scopes that WeChat names, comma-separated.
func strongest(scopes string) string {
	best := ""
	for s := range strings.SplitSeq(scopes, ",") {
		switch s {
		case wechat.ScopeUserInfo, wechat.ScopeLogin:
			return s
		case wechat.ScopeBase:
			best = s
		}
	}
	return best
}

// statusOf tells what a failed exchange means for the login: a code or ticket that is too old or used asks for a new
// login, all else is WeChat's trouble, the broker's or the operator's.
func statusOf(err error) ticket.Status {
	for _, expired := range []error{wechat.ErrInvalidCode, wechat.ErrCodeUsed, wechat.ErrCodeExpired, errTicketRefused, errOtherLogin} {
		if errors.Is(err, expired) {
			return ticket.StatusExpired
		}
	}
	return ticket.StatusUnavailable
}

func (acc *account) logFailure(err error, out ticket.Outcome) {
	level, message := zapcore.ErrorLevel, "login failed at WeChat"
	alarm := errors.Is(err, errTicketRefused) && acc.refused.aMinute() // strangers can make tickets up
	if out.Status == ticket.StatusExpired && !alarm {
		level = zapcore.InfoLevel
	}
	fields := []zap.Field{zap.Error(err), zap.String("outcome", string(out.Status)), zap.String("ref", out.Ref)}
	if acc.broker != "" {
		message = "login failed at the broker"
		fields = append(fields, zap.String("broker", acc.broker))
	}
	if e, ok := errors.AsType[advised](err); ok && e.Advice() != "" {
		fields = append(fields, zap.String("advice", e.Advice()))
	}
	if c := acc.logger.Check(level, message); c != nil {
		c.Write(fields...)
	}
}

// advised is an error that says what the operator does about it.
type advised interface {
	error
	Advice() string
}

// user returns how the log names an openid: whole at DEBUG, else as a short keyed hash.
func (acc *account) user(openID string) zap.Field {
	if acc.logger.Core().Enabled(zapcore.DebugLevel) {
		return zap.String("openid", openID)
	}
	mac := hmac.New(sha256.New, acc.logKey)
	mac.Write([]byte(openID))
	return zap.String("user", hex.EncodeToString(mac.Sum(nil)[:6]))
}

// newRef returns a reference id: what a person reads to the operator, who finds it in the log.
func newRef() string {
	var b [4]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
