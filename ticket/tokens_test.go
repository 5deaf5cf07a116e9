package ticket

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// The header's text says which key a token is of, and so its algorithm. If that table were ever wrong, a
// key must still verify by its own algorithm alone.
func TestAKeyVerifiesByItsOwnAlgorithmAlone(t *testing.T) {
	k := newKeyring(t, newFakeStorage(), newClock(), algHS256)
	ss := newSessions(k)
	header, payload := parts(t, mustSign(t, ss, newSession(k)))
	key := k.keys().sign(k.now())
	for _, m := range []*jwt.SigningMethodHMAC{jwt.SigningMethodHS256, jwt.SigningMethodHS384, jwt.SigningMethodHS512} {
		as := strings.Replace(header, algHS256, m.Alg(), 1)
		k.keys().headers[b64(as)] = signedAs{key, typSession}
		text := b64(as) + "." + b64(payload)
		sig, err := m.Sign(text, key.private)
		if err != nil {
			t.Fatal(err)
		}
		token := text + "." + base64.RawURLEncoding.EncodeToString(sig)
		if got, want := verifies(t, ss, token), m.Alg() == algHS256; got != want {
			t.Errorf("%s: taken %v, want %v", m.Alg(), got, want)
		}
	}
}
