package caddymodule

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/ticket"
	"github.com/caddy-wechat/caddy-wechat/wechat"
)

// WeChat's own interface, for SDKs: a client's id stands in the app id's place, its secret in the app
// secret's. The account's own secret and WeChat's own tokens never leave the gateway.
//
// A refresh token is sealed and carries all that is known of the user, so that it costs nothing to keep. An
// access token is sealed, too, but stays as short as WeChat's: the profile lies in the store meanwhile.

const (
	accessLife  = 2 * time.Hour
	refreshLife = 30 * 24 * time.Hour
)

// snsToken is what an access or refresh token of ours says.
type snsToken struct {
	ID       string          `json:"i"` // under which the profile lies in the store: one for all of a login's tokens
	Identity ticket.Identity `json:"u"` // an access token's is without nickname, picture and unionid
	Profile  *ticket.Profile `json:"p,omitempty"`
	Snapshot bool            `json:"v,omitempty"`
	Expires  int64           `json:"x"` // Unix seconds
}

// snsErrors are the errcodes that clients see, with WeChat's own words.
var snsErrors = map[int]string{
	-1: "system error", 40001: "invalid credential, access_token is invalid or not latest", 40002: "invalid grant_type",
	40003: "invalid openid", 40013: "invalid appid", 40029: "invalid code", 40030: "invalid refresh_token",
	40125: "invalid appsecret", 40163: "code been used", 40164: "invalid ip, not in whitelist",
	41001: "access_token missing", 41002: "appid missing", 41003: "refresh_token missing", 41004: "appsecret missing",
	41008: "missing code", 41009: "missing openid", 42001: "access_token expired", 42002: "refresh_token expired",
	43001: "require GET method", 43003: "require https", 48001: "api unauthorized",
}

// refusal is an errcode on its way to the client.
type refusal int

func (e refusal) Error() string { return fmt.Sprintf("errcode %d", int(e)) }

// serveSNS is /sns/…, as api.weixin.qq.com answers it: always 200, JSON as text/plain.
func (b *Broker) serveSNS(w http.ResponseWriter, r *http.Request, at string) {
	serve := map[string]func(context.Context, *http.Request, url.Values) (any, error){
		"/sns/oauth2/access_token":  b.snsAccessToken,
		"/sns/oauth2/refresh_token": b.snsRefreshToken,
		"/sns/userinfo":             b.snsUserInfo,
		"/sns/auth":                 b.snsAuth,
	}[at]
	if serve == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if isEarlyData(r) {
		w.WriteHeader(http.StatusTooEarly)
		return
	}
	var answer any
	var err error
	switch {
	case b.isPlain(r):
		err = refusal(43003)
	case r.Method != http.MethodGet:
		err = refusal(43001)
	default:
		answer, err = serve(r.Context(), r, original(r).URL.Query())
	}
	b.writeSNS(w, answer, err)
}

func (b *Broker) writeSNS(w http.ResponseWriter, answer any, err error) {
	if err != nil {
		code := -1
		if e := refusal(0); errors.As(err, &e) {
			code = int(e)
		} else {
			b.logger.Error("a client's call cannot be answered", zap.Error(err))
		}
		answer = struct {
			Errcode int    `json:"errcode"`
			Errmsg  string `json:"errmsg"`
		}{code, snsErrors[code] + ", rid: " + newRequestID()}
	}
	h := w.Header()
	h.Set("Content-Type", "text/plain")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(answer)                        // only structs of ours come here
	_, _ = w.Write(bytes.TrimSpace(body.Bytes())) // the client has gone away; nobody is left to tell
}

// newRequestID is shaped as WeChat's: Unix seconds in hex, and two random numbers.
func newRequestID() string {
	var random [8]byte
	_, _ = rand.Read(random[:])
	s := hex.EncodeToString(random[:])
	return fmt.Sprintf("%08x-%s-%s", now().Unix(), s[:8], s[8:])
}

// snsMissing are the errcodes of parameters that are not there.
var snsMissing = map[string]refusal{
	"appid": 41002, "secret": 41004, "code": 41008, "refresh_token": 41003, "access_token": 41001, "openid": 41009,
}

// snsNeeds is the refusal of the first parameter that is missing: WeChat looks for all of them first.
func snsNeeds(q url.Values, names ...string) error {
	for _, name := range names {
		if q.Get(name) == "" {
			return snsMissing[name]
		}
	}
	return nil
}

// snsClient returns the client that q names in the app id's place, or nil. A public one proves nothing.
func (b *Broker) snsClient(q url.Values) *client {
	if c := b.clients[q.Get("appid")]; c != nil && !c.Public {
		return c
	}
	return nil
}

// snsAccessToken is GET /sns/oauth2/access_token?appid=&secret=&code=&grant_type=authorization_code.
func (b *Broker) snsAccessToken(ctx context.Context, r *http.Request, q url.Values) (any, error) {
	if err := snsNeeds(q, "appid", "secret", "code"); err != nil {
		return nil, err
	}
	c := b.snsClient(q)
	switch secret := q.Get("secret"); {
	case q.Get("grant_type") != "authorization_code":
		return nil, refusal(40002)
	case b.proves(r, c, secret):
	case c == nil:
		return nil, refusal(40013)
	case c.knows(secret):
		return nil, refusal(40164)
	default:
		return nil, refusal(40125)
	}
	v, err := b.app.gateway.tickets.RedeemCode(ctx, q.Get("code"), c.id)
	switch {
	case errors.Is(err, ticket.ErrUsed):
		return nil, refusal(40163)
	case errors.Is(err, ticket.ErrNotFound), err == nil && !c.hears(v.Identity):
		return nil, refusal(40029)
	case err != nil:
		return nil, err
	}
	b.app.gateway.codes.NoteEnd(ctx, v.Login, attemptWindow)
	refresh := snsToken{
		ID: ticket.NewLoginID(), Identity: v.Identity, Profile: v.Profile, Snapshot: v.Snapshot,
		Expires: now().Add(refreshLife).Unix(),
	}
	sealed, err := b.sealSNS(ctx, c, "refresh", refresh)
	if err != nil {
		return nil, err
	}
	answer, err := b.snsGrant(ctx, c, refresh, sealed)
	answer.UnionID = v.Identity.UnionID
	if v.Snapshot {
		answer.IsSnapshotUser = 1
	}
	return answer, err
}

// snsRefreshToken is GET /sns/oauth2/refresh_token?appid=&grant_type=refresh_token&refresh_token=. The refresh
// token stays what it is: WeChat's cannot be renewed either.
func (b *Broker) snsRefreshToken(ctx context.Context, _ *http.Request, q url.Values) (any, error) {
	if err := snsNeeds(q, "appid", "refresh_token"); err != nil {
		return nil, err
	}
	c, sealed := b.snsClient(q), q.Get("refresh_token")
	switch {
	case q.Get("grant_type") != "refresh_token":
		return nil, refusal(40002)
	case c == nil:
		return nil, refusal(40013)
	}
	refresh, err := b.openSNS(ctx, c, "refresh", sealed)
	switch {
	case err != nil:
		return nil, refusal(40030)
	case refresh.Expires <= now().Unix():
		return nil, refusal(42002)
	}
	return b.snsGrant(ctx, c, refresh, sealed)
}

// snsGrant answers with a new access token. However often a client refreshes, one login keeps one profile.
func (b *Broker) snsGrant(ctx context.Context, c *client, refresh snsToken, sealed string) (snsAnswer, error) {
	access := snsToken{ID: refresh.ID, Identity: refresh.Identity, Snapshot: refresh.Snapshot, Expires: now().Add(accessLife).Unix()}
	access.Identity.Nickname, access.Identity.HeadImgURL, access.Identity.UnionID = "", "", ""
	if refresh.hasProfile(c) {
		v := ticket.Voucher{Identity: refresh.Identity, Profile: refresh.Profile}
		if err := b.profiles().Keep(ctx, snsProfile(access.ID), v, accessLife); err != nil {
			return snsAnswer{}, err
		}
	}
	token, err := b.sealSNS(ctx, c, "access", access)
	if err != nil {
		return snsAnswer{}, err
	}
	return snsAnswer{
		AccessToken: token, ExpiresIn: int(accessLife / time.Second), RefreshToken: sealed,
		OpenID: access.Identity.OpenID, Scope: access.Identity.Scope,
	}, nil
}

// snsAnswer is WeChat's answer with a token. The last two are a code's alone, and is_snapshotuser is there only
// where it is 1.
type snsAnswer struct {
	AccessToken    string `json:"access_token"`
	ExpiresIn      int    `json:"expires_in"` // seconds
	RefreshToken   string `json:"refresh_token"`
	OpenID         string `json:"openid"`
	Scope          string `json:"scope"`
	IsSnapshotUser int    `json:"is_snapshotuser,omitempty"`
	UnionID        string `json:"unionid,omitempty"`
}

// hasProfile reports whether userinfo answers its client for the token.
func (t snsToken) hasProfile(c *client) bool {
	return !t.Snapshot && ticket.ScopeCovers(t.Identity.Scope, wechat.ScopeUserInfo) && ticket.ScopeCovers(c.Scope, wechat.ScopeUserInfo)
}

// snsUserInfo is GET /sns/userinfo?access_token=&openid=&lang=. The profile is what WeChat said at the login,
// in the account's language.
func (b *Broker) snsUserInfo(ctx context.Context, _ *http.Request, q url.Values) (any, error) {
	c, access, err := b.snsAccess(ctx, q)
	switch {
	case err != nil:
		return nil, err
	case !access.hasProfile(c):
		return nil, refusal(48001)
	}
	v, err := b.profiles().Read(ctx, snsProfile(access.ID))
	if errors.Is(err, ticket.ErrNotFound) {
		return nil, refusal(42001) // lost with the store: the client refreshes, and has it again
	}
	if err != nil {
		return nil, err
	}
	p := ticket.Profile{}
	if v.Profile != nil {
		p = *v.Profile
	}
	return snsUser{
		v.Identity.OpenID, v.Identity.Nickname, p.Sex, p.Language, p.City, p.Province, p.Country,
		v.Identity.HeadImgURL, append([]string{}, p.Privilege...), v.Identity.UnionID,
	}, nil
}

// snsUser is WeChat's answer with a profile.
type snsUser struct {
	OpenID     string   `json:"openid"`
	Nickname   string   `json:"nickname"`
	Sex        int      `json:"sex"`
	Language   string   `json:"language"`
	City       string   `json:"city"`
	Province   string   `json:"province"`
	Country    string   `json:"country"`
	HeadImgURL string   `json:"headimgurl"`
	Privilege  []string `json:"privilege"`
	UnionID    string   `json:"unionid,omitempty"`
}

// snsAuth is GET /sns/auth?access_token=&openid=.
func (b *Broker) snsAuth(ctx context.Context, _ *http.Request, q url.Values) (any, error) {
	if _, _, err := b.snsAccess(ctx, q); err != nil {
		return nil, err
	}
	return struct {
		Errcode int    `json:"errcode"`
		Errmsg  string `json:"errmsg"`
	}{0, "ok"}, nil
}

// snsAccess reads the access token of q, whose openid must be its own. These calls do not say which client
// makes them: the token does.
func (b *Broker) snsAccess(ctx context.Context, q url.Values) (*client, snsToken, error) {
	if err := snsNeeds(q, "access_token", "openid"); err != nil {
		return nil, snsToken{}, err
	}
	sealed := q.Get("access_token")
	id, _, _ := strings.Cut(sealed, ".")
	name, err := hex.DecodeString(id)
	c := b.clients[string(name)]
	if err != nil || c == nil || c.Public {
		return nil, snsToken{}, refusal(40001)
	}
	access, err := b.openSNS(ctx, c, "access", sealed)
	switch {
	case err != nil:
		return nil, snsToken{}, refusal(40001)
	case access.Expires <= now().Unix():
		return nil, snsToken{}, refusal(42001)
	case access.Identity.OpenID != q.Get("openid"):
		return nil, snsToken{}, refusal(40003)
	}
	return c, access, nil
}

func snsProfile(id string) []string { return []string{"access token", id} }

// sealSNS returns a token: the client's id in hex, which finds its key's purpose again, and the seal.
func (b *Broker) sealSNS(ctx context.Context, c *client, kind string, t snsToken) (string, error) {
	plain, err := json.Marshal(t)
	if err != nil {
		return "", fmt.Errorf("sealing a client's token: %w", err)
	}
	sealed, err := b.app.gateway.keys.Seal(ctx, snsPurpose(c, kind), plain)
	return hex.EncodeToString([]byte(c.id)) + "." + sealed, err
}

// errLostAccount says that a token is of an account that its client may no longer use.
var errLostAccount = errors.New("the client may not use the token's account")

func (b *Broker) openSNS(ctx context.Context, c *client, kind, token string) (t snsToken, err error) {
	_, sealed, _ := strings.Cut(token, ".")
	plain, err := b.app.gateway.keys.Open(ctx, snsPurpose(c, kind), sealed)
	if err != nil {
		return t, err
	}
	if err = json.Unmarshal(plain, &t); err == nil && !c.hears(t.Identity) {
		err = errLostAccount
	}
	return t, err
}

// snsPurpose binds a token to its client and to the client's secret: a new secret ends the tokens of the old.
func snsPurpose(c *client, kind string) string {
	return kind + " token of client " + c.id + " " + hex.EncodeToString(c.secret[:])
}
