package integration

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"
)

// tokensMAC is an HMAC of text, of the size that its header asks for, else HS256.
func tokensMAC(header, text string, secret []byte) string {
	size := sha256.New
	switch {
	case strings.Contains(header, "HS384"):
		size = sha512.New384
	case strings.Contains(header, "HS512"):
		size = sha512.New
	}
	mac := hmac.New(size, secret)
	mac.Write([]byte(text))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// tokensGuesses is what an attacker may take for the secret: nothing, names, and the published key in
// every spelling. Libraries that take a public key for a secret take it in one of these.
func tokensGuesses(t *testing.T, w *tokensSites, k *tokensKeys) map[string][]byte {
	t.Helper()
	guesses := map[string][]byte{"nothing": {}, "the kid": []byte(k.kid), "null": []byte("null"), "the app id": []byte(appID), "a zero byte": {0}, "32 zero bytes": make([]byte, 32)}
	a := w.edge(t, tokensShop).get(t, tokensShop, "/_wechat/jwks.json", "")
	if k.alg == "HS256" {
		if a.status != 404 {
			t.Errorf("HS256 publishes a key set: %d %s", a.status, a.body)
		}
		return guesses
	}
	var set struct{ Keys []map[string]string }
	if err := json.Unmarshal([]byte(a.body), &set); err != nil || a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	guesses["the key set as served"] = []byte(a.body)
	found := false
	for _, jwk := range set.Keys {
		if jwk["kid"] == k.kid {
			found = true
			tokensGuessesOf(t, guesses, jwk)
		}
	}
	if !found {
		t.Fatalf("the key %s is not published in %s", k.kid, a.body)
	}
	return guesses
}

func tokensGuessesOf(t *testing.T, guesses map[string][]byte, jwk map[string]string) {
	t.Helper()
	x, y := []byte(tokensUnb64(t, jwk["x"])), []byte(tokensUnb64(t, jwk["y"]))
	guesses["x"], guesses["x in base64url"] = x, []byte(jwk["x"])
	guesses["x in base64"] = []byte(base64.StdEncoding.EncodeToString(x))
	var public any = ed25519.PublicKey(x)
	if jwk["kty"] == "EC" {
		point := []byte("\x04" + string(x) + string(y))
		key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
		if err != nil {
			t.Fatal(err)
		}
		public = key
		guesses["y"], guesses["x and y"], guesses["the point"] = y, point[1:], point
		guesses["the compressed point"] = append([]byte{2 + y[31]&1}, x...)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	block := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	entry, err := json.Marshal(jwk)
	if err != nil {
		t.Fatal(err)
	}
	guesses["DER"], guesses["DER in base64"] = der, []byte(base64.StdEncoding.EncodeToString(der))
	guesses["PEM"], guesses["PEM without its last line break"] = []byte(block), []byte(strings.TrimSpace(block))
	guesses["PEM with CR LF"] = []byte(strings.ReplaceAll(block, "\n", "\r\n"))
	guesses["the JWK"] = entry
}
