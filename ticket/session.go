package ticket

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Session is a signed-in user at one site: what the session cookie says.
type Session struct {
	Identity
	ID       string    // the same over renewals; what a logout revokes
	IssuedAt time.Time // of this token
	Expires  time.Time // of this token
	AuthTime time.Time // when the login ended, to the millisecond
}

// Sessions signs and verifies the sessions of one site at one origin. It does not change once it is used.
type Sessions struct {
	Keys     *Keyring
	Issuer   string        // `iss`: who vouches, the account's first domain as an origin
	Audience string        // `aud`: the site's origin
	AppID    string        // the account's app id
	Idle     time.Duration // unused that long, a session ends
	Max      time.Duration // a session's longest life, from its login

	once      sync.Once
	validator *jwt.Validator // of iss, aud and exp; once, or each token would pay for making it
}

var (
	// ErrToken says that a token is not a session of this site, or no longer.
	ErrToken = errors.New("not a session of this site")
	// ErrEnded says that a session has reached its longest life.
	ErrEnded = errors.New("session has ended")
)

const (
	// maxToken bounds what is verified. Browsers drop a cookie over 4,096 bytes, its name included.
	maxToken = 4000
	// skew is how far ahead the clock of another gateway may be.
	skew = 2 * time.Minute
)

// SessionID derives a session's id from the id of its login: a callback delivered twice leads to one
// session, and one that was ended stays so.
func SessionID(login string) string {
	sum := hashParts("session", login)
	return hex.EncodeToString(sum[:16])
}

// Sign returns s as a token issued now, and s as that token says it.
func (ss *Sessions) Sign(ctx context.Context, s Session) (string, Session, error) {
	now := ss.Keys.now()
	s.IssuedAt, s.AuthTime = now.Truncate(time.Second), s.AuthTime.Truncate(time.Millisecond)
	s.Expires = earlier(s.IssuedAt.Add(ss.Idle), s.AuthTime.Add(ss.Max)).Truncate(time.Second)
	if !s.Expires.After(now) {
		return "", Session{}, ErrEnded
	}
	token, err := ss.Keys.sign(ctx, typSession, ss.claims(s))
	if err != nil {
		return "", Session{}, fmt.Errorf("signing a session: %w", err)
	}
	return token, s, nil
}

// Verify returns the session that token stands for, or ErrToken. It does not know of revocations.
func (ss *Sessions) Verify(ctx context.Context, token string) (Session, error) {
	var c sessionClaims
	if err := ss.Keys.verify(ctx, typSession, token, &c, ss.valid()); err != nil {
		return Session{}, err
	}
	s := c.session()
	if c.AppID != ss.AppID || !isHex(s.ID, 32) || !s.Identity.Valid() {
		return Session{}, fmt.Errorf("%w: foreign claims", ErrToken)
	}
	// The site's limits may have been lowered since the token was signed.
	s.Expires = earlier(s.Expires, earlier(s.IssuedAt.Add(ss.Idle), s.AuthTime.Add(ss.Max)))
	if !s.Expires.After(ss.Keys.now()) {
		return Session{}, fmt.Errorf("%w: ended", ErrToken)
	}
	return s, nil
}

func (ss *Sessions) valid() *jwt.Validator {
	ss.once.Do(func() {
		ss.validator = jwt.NewValidator(
			jwt.WithIssuer(ss.Issuer), jwt.WithAudience(ss.Audience), jwt.WithExpirationRequired(), jwt.WithTimeFunc(ss.Keys.now),
		)
	})
	return ss.validator
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// sessionClaims is the payload of a session token; its fields stand in it in this order.
type sessionClaims struct {
	registered
	Subject    string `json:"sub"`
	AuthTime   int64  `json:"auth_time"` // Unix milliseconds
	ID         string `json:"jti"`
	AppID      string `json:"appid"`
	Scope      string `json:"scope"`
	UnionID    string `json:"unionid,omitempty"`
	Nickname   string `json:"nickname,omitempty"`
	HeadImgURL string `json:"headimgurl,omitempty"`
}

func (c *sessionClaims) scan(s *claimsScanner) {
	c.registered.scan(s)
	s.text(`,"sub":`, &c.Subject)
	s.number(`,"auth_time":`, &c.AuthTime)
	s.text(`,"jti":`, &c.ID)
	s.text(`,"appid":`, &c.AppID)
	s.text(`,"scope":`, &c.Scope)
	s.optional(`,"unionid":`, &c.UnionID)
	s.optional(`,"nickname":`, &c.Nickname)
	s.optional(`,"headimgurl":`, &c.HeadImgURL)
}

func (ss *Sessions) claims(s Session) *sessionClaims {
	return &sessionClaims{
		registered: registered{ss.Issuer, ss.Audience, s.IssuedAt.Unix(), s.Expires.Unix()},
		Subject:    s.OpenID, AuthTime: s.AuthTime.UnixMilli(), ID: s.ID,
		AppID: s.AppID, Scope: s.Scope, UnionID: s.UnionID, Nickname: s.Nickname, HeadImgURL: s.HeadImgURL,
	}
}

func (c *sessionClaims) session() Session {
	return Session{
		Identity: Identity{c.Subject, c.UnionID, c.AppID, c.Scope, c.Nickname, c.HeadImgURL},
		ID:       c.ID,
		IssuedAt: time.Unix(c.IssuedAt, 0), Expires: time.Unix(c.Expires, 0), AuthTime: time.UnixMilli(c.AuthTime),
	}
}
