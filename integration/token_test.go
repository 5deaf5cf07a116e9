package integration

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// claims reads a token's payload without checking anything.
func claims(t *testing.T, token string) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("not a token: %q", token)
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var c map[string]any
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func jti(t *testing.T, token string) string      { return claims(t, token)["jti"].(string) }
func openIDOf(t *testing.T, token string) string { return claims(t, token)["sub"].(string) }

// verifyWithJWK checks a token as an upstream would that knows the key set alone.
func verifyWithJWK(t *testing.T, token string, jwk map[string]string) {
	t.Helper()
	b64 := func(name string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(jwk[name])
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var key any = ed25519.PublicKey(b64("x"))
	if jwk["kty"] == "EC" {
		key = &ecdsa.PublicKey{Curve: elliptic.P256(), X: new(big.Int).SetBytes(b64("x")), Y: new(big.Int).SetBytes(b64("y"))}
	}
	parsed, err := jwt.Parse(token, func(*jwt.Token) (any, error) { return key, nil }, jwt.WithValidMethods([]string{jwk["alg"]}))
	if err != nil || parsed.Header["kid"] != jwk["kid"] {
		t.Errorf("the published key does not verify the session: %v", err)
	}
}
