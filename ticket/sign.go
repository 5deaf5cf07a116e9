package ticket

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// registered is the part of the payload that every token has.
type registered struct {
	Issuer   string `json:"iss"`
	Audience string `json:"aud"`
	IssuedAt int64  `json:"iat"` // Unix seconds
	Expires  int64  `json:"exp"` // Unix seconds
}

// registered is a jwt.Claims: these six are what golang-jwt's validator asks for.

func (c *registered) GetIssuer() (string, error)  { return c.Issuer, nil }
func (c *registered) GetSubject() (string, error) { return "", nil }
func (c *registered) GetAudience() (jwt.ClaimStrings, error) {
	return jwt.ClaimStrings{c.Audience}, nil
}
func (c *registered) GetNotBefore() (*jwt.NumericDate, error)      { return nil, nil }
func (c *registered) GetIssuedAt() (*jwt.NumericDate, error)       { return date(c.IssuedAt), nil }
func (c *registered) GetExpirationTime() (*jwt.NumericDate, error) { return date(c.Expires), nil }

func (c *registered) issued() time.Time { return time.Unix(c.IssuedAt, 0) }

func date(unix int64) *jwt.NumericDate {
	if unix <= 0 {
		return nil
	}
	return jwt.NewNumericDate(time.Unix(unix, 0))
}

type tokenClaims interface {
	jwt.Claims
	issued() time.Time
	scan(*claimsScanner)
}

func (c *registered) scan(s *claimsScanner) {
	s.text(`{"iss":`, &c.Issuer)
	s.text(`,"aud":`, &c.Audience)
	s.number(`,"iat":`, &c.IssuedAt)
	s.number(`,"exp":`, &c.Expires)
}

// sign returns claims as a token of that typ.
func (k *Keyring) sign(ctx context.Context, typ string, claims tokenClaims) (string, error) {
	key := k.keys().sign(k.now())
	if key == nil {
		s, err := k.make(ctx, useSign, k.Algorithm)
		if err != nil {
			return "", err
		}
		key = s.sign(k.now())
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	encode := base64.RawURLEncoding.EncodeToString
	signing := key.headers[typ] + "." + encode(payload) // jwt.Token makes the header anew, which takes as long as HS256 and all else
	signature, err := key.method.Sign(signing, key.private)
	if err != nil {
		return "", err
	}
	return signing + "." + encode(signature), nil
}

// verify reads token into claims if it is one of ours, of this typ and not ended, else it returns
// ErrToken. golang-jwt decides about the signature, iss, aud and exp. What it would let through is
// refused here: another header than the one our key writes (alg none, another HMAC size, a public key
// taken for a secret, crit), a time of issue ahead of the clock, and any payload but the one we would
// write for these claims (duplicate and case-variant names, null, odd numbers, nbf, line breaks).
//
// Its parser is not used: it reads the header, which is known by then, and the payload, which has one spelling,
// as any JSON. That takes two thirds of its time, and nine tenths of its allocations.
func (k *Keyring) verify(ctx context.Context, typ, token string, claims tokenClaims, validator *jwt.Validator) error {
	as, ok := k.signer(ctx, token)
	if !ok || as.typ != typ {
		return ErrToken
	}
	var room [usualPayload]byte // off the heap: a fifth of what a verification leaves to collect
	signed, payload, err := k.checkSignature(as.key, token, room[:0])
	if err != nil {
		return err
	}
	if !signed || !readClaims(string(payload), claims) {
		return fmt.Errorf("%w: not as we write it", ErrToken)
	}
	if err := validator.Validate(claims); err != nil {
		return fmt.Errorf("%w: %w", ErrToken, err)
	}
	if claims.issued().After(k.now().Add(skew)) {
		return fmt.Errorf("%w: issued in the future", ErrToken)
	}
	return nil
}

// usualPayload is as long as most payloads are at most, in bytes.
const usualPayload = 768

// checkSignature returns the payload of a token that key signed, in room where there is enough. A token that is none
// of three segments, each in its one spelling, is not signed.
func (k *Keyring) checkSignature(key *signKey, token string, room []byte) (signed bool, payload []byte, err error) {
	dot := strings.LastIndexByte(token, '.')
	_, encoded, ok := strings.Cut(token[:dot], ".")
	if !ok || strings.IndexByte(encoded, '.') >= 0 {
		return false, nil, nil
	}
	signature, err := base64.RawURLEncoding.Strict().DecodeString(token[dot+1:])
	if err != nil {
		return false, nil, nil
	}
	if err := key.method.Verify(token[:dot], signature, key.public); err != nil {
		return false, nil, fmt.Errorf("%w: %w", ErrToken, err)
	}
	payload, err = base64.RawURLEncoding.Strict().AppendDecode(room, []byte(encoded))
	return err == nil, payload, nil
}

// signer tells by its first segment, before any cryptography, which key and typ a token claims.
func (k *Keyring) signer(ctx context.Context, token string) (signedAs, bool) {
	header, _, ok := strings.Cut(token, ".")
	if !ok || len(token) > maxToken || strings.IndexByte(token, '\r') >= 0 || strings.IndexByte(token, '\n') >= 0 {
		return signedAs{}, false
	}
	if as, ok := k.keys().headers[header]; ok {
		return as, true
	}
	if !plausible(header) {
		return signedAs{}, false
	}
	as, ok := k.refresh(ctx).headers[header]
	return as, ok
}

// plausible reports whether header could be another gateway's new key: only then is the storage asked.
func plausible(header string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(header)
	if err != nil || len(b) > 128 {
		return false
	}
	var h struct{ Typ, Kid string }
	return json.Unmarshal(b, &h) == nil && isHex(h.Kid, 8) && (h.Typ == typSession || h.Typ == typGuest)
}

// MakeSigning makes the key that sessions are signed with, where there is none yet.
func (k *Keyring) MakeSigning(ctx context.Context) error {
	if k.keys().sign(k.now()) != nil {
		return nil
	}
	_, err := k.make(ctx, useSign, k.Algorithm)
	return err
}

// JWKS returns the public keys that session tokens verify with, as a JSON Web Key Set, or nil for
// HS256, which has no public half.
func (k *Keyring) JWKS() []byte {
	if k.Algorithm == algHS256 {
		return nil
	}
	keys := []map[string]string{}
	for _, s := range k.keys().signs {
		if j := s.jwk(); j != nil {
			keys = append(keys, j)
		}
	}
	b, _ := json.Marshal(map[string]any{"keys": keys}) // maps of strings always marshal
	return b
}
