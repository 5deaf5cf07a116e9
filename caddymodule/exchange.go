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
	files   map[string]string
	broker  string // the origin of another gateway's broker, where logins go through that
	way     way
	refused once // a broker's refusals that are logged at Error
	logKey  []byte
	logger  *zap.Logger
}

// way is how an account's logins reach WeChat: by its app secret (direct), or through another gateway's
// broker (remote).
type way interface {
	// loginURL is where the browser is sent. It comes back to returnTo, with state and a code or ticket.
	loginURL(returnTo, scope, state string) string
	// identify asks once who the code, or ticket, of a login stands for. Its errors hold no secret.
	identify(ctx context.Context, login ticket.Login, code string) (ticket.Identity, ticket.Status, error)
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
	acc := &account{name: name, appID: cfg.AppID, scope: cfg.Scope, test: cfg.Test, files: map[string]string{}, logger: logger.With(zap.String("account", name))}
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

// exchange asks who the code, or ticket, of a login stands for. It is the one place that turns WeChat's and
// a broker's errors into an outcome, and the one that logs them.
func (acc *account) exchange(ctx context.Context, login ticket.Login, code string) ticket.Outcome {
	id, status, err := acc.way.identify(ctx, login, code)
	if id = id.Clean(); err == nil && status == ticket.StatusOK && !id.Valid() {
		err = errOddIdentity
	}
	if err == nil && status == ticket.StatusOK {
		return ticket.Outcome{Status: status, Identity: &id, At: time.Now().UnixMilli()}
	}
	out := ticket.Outcome{Status: status}
	if err != nil {
		out.Status, out.Ref = statusOf(err), newRef()
		if e := new(wechat.Error); errors.As(err, &e) {
			out.Errcode = e.Code
		}
		acc.logFailure(err, out)
	}
	return out
}

func (d direct) loginURL(returnTo, scope, state string) string {
	return d.AuthorizeURL(returnTo, scope, state)
}

// longest is two calls of WeChat's API.
func (d direct) longest() time.Duration { return 2 * d.Timeout }

func (d direct) identify(ctx context.Context, login ticket.Login, code string) (ticket.Identity, ticket.Status, error) {
	scope := login.Scope
	token, err := d.Exchange(ctx, code)
	if err != nil {
		return ticket.Identity{}, "", fmt.Errorf("exchanging code: %w", err)
	}
	if token.Snapshot {
		return ticket.Identity{}, ticket.StatusSnapshot, nil
	}
	id := ticket.Identity{OpenID: token.OpenID, AppID: d.AppID, Scope: strongest(token.Scope)}
	if !ticket.ScopeCovers(id.Scope, scope) {
		return ticket.Identity{}, "", fmt.Errorf("%w: asked for %s, got %q", errLesserScope, scope, id.Scope)
	}
	if scope != wechat.ScopeUserInfo {
		id.Scope = wechat.ScopeBase // WeChat may name more, but no profile was read
		return id, ticket.StatusOK, nil
	}
	user, err := d.UserInfo(ctx, token.AccessToken, token.OpenID)
	if err != nil {
		return ticket.Identity{}, "", fmt.Errorf("reading profile: %w", err)
	}
	id.UnionID, id.Nickname, id.HeadImgURL = user.UnionID, user.Nickname, user.HeadImgURL
	if id.UnionID == "" {
		id.UnionID = token.UnionID
	}
	return id, ticket.StatusOK, nil
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
	if out.Status == ticket.StatusExpired && !(errors.Is(err, errTicketRefused) && acc.refused.aMinute()) {
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
