package integration

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tokensKeys signs and seals with the gateway's own keys, by code that shares nothing with the gateway's:
// an attacker could do no better, and what is wrong with a token is then one thing alone.
type tokensKeys struct {
	alg, kid string
	sign     func(text string) []byte
	sealID   []byte
	aead     cipher.AEAD
}

// tokensKey is an entry of keys.json in Caddy's storage.
type tokensKey struct {
	Kid, Use, Alg string
	Key           []byte
}

func tokensStored(t *testing.T, g *gateway) []tokensKey {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(g.dir, "storage", "wechat", "keys.json"))
	if err != nil {
		t.Fatal(err)
	}
	var f struct{ Keys []tokensKey }
	if err := json.Unmarshal(b, &f); err != nil {
		t.Fatal(err)
	}
	return f.Keys
}

// tokensKeysOf returns the keys that made token, from the gateway's storage or the operator's secret.
func tokensKeysOf(t *testing.T, g *gateway, token string) *tokensKeys {
	t.Helper()
	header := tokensHeader(t, token)
	k := &tokensKeys{alg: header["alg"], kid: header["kid"]}
	if strings.HasPrefix(k.kid, "s") {
		k.sign = tokensHMAC([]byte(tokensSecret))
	}
	for _, stored := range tokensStored(t, g) {
		switch {
		case stored.Use == "seal":
			k.sealID, _ = hex.DecodeString(stored.Kid)
			block, err := aes.NewCipher(stored.Key)
			if err != nil {
				t.Fatal(err)
			}
			k.aead, _ = cipher.NewGCM(block)
		case stored.Kid == k.kid:
			k.sign = tokensSigner(t, stored)
		}
	}
	if k.sign == nil || k.aead == nil {
		t.Fatalf("no key %s in storage", k.kid)
	}
	return k
}

// tokensOtherKeys are the other signing keys that stand in storage: a reload that changed the algorithm
// leaves the old ones there until their last token has ended.
func tokensOtherKeys(t *testing.T, g *gateway, k *tokensKeys) (others []*tokensKeys) {
	t.Helper()
	for _, stored := range tokensStored(t, g) {
		if stored.Use == "sign" && stored.Kid != k.kid {
			others = append(others, &tokensKeys{alg: stored.Alg, kid: stored.Kid, sign: tokensSigner(t, stored)})
		}
	}
	return others
}

func tokensHeader(t *testing.T, token string) (h map[string]string) {
	t.Helper()
	first, _, _ := strings.Cut(token, ".")
	if err := json.Unmarshal([]byte(tokensUnb64(t, first)), &h); err != nil {
		t.Fatal(err)
	}
	return h
}

func tokensHMAC(secret []byte) func(string) []byte {
	return func(text string) []byte {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(text))
		return mac.Sum(nil)
	}
}

func tokensSigner(t *testing.T, k tokensKey) func(string) []byte {
	t.Helper()
	if k.Alg == "HS256" {
		return tokensHMAC(k.Key)
	}
	private, err := x509.ParsePKCS8PrivateKey(k.Key)
	if err != nil {
		t.Fatal(err)
	}
	return func(text string) []byte {
		if p, ok := private.(ed25519.PrivateKey); ok {
			return ed25519.Sign(p, []byte(text))
		}
		digest := sha256.Sum256([]byte(text))
		r, s, err := ecdsa.Sign(rand.Reader, private.(*ecdsa.PrivateKey), digest[:])
		if err != nil {
			t.Fatal(err)
		}
		sig := make([]byte, 64)
		r.FillBytes(sig[:32])
		s.FillBytes(sig[32:])
		return sig
	}
}

func tokensB64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func tokensUnb64(t *testing.T, s string) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// header is what a session of these keys begins with; typ is "session" or "guest".
func (k *tokensKeys) header(typ string) string {
	return `{"alg":"` + k.alg + `","kid":"` + k.kid + `","typ":"wechat-` + typ + `+jwt"}`
}

// forge signs header and payload, which are JSON or what a test takes for it.
func (k *tokensKeys) forge(header, payload string) string {
	return k.forgeRaw(tokensB64(header), tokensB64(payload))
}

func (k *tokensKeys) forgeRaw(header, payload string) string {
	text := header + "." + payload
	return text + "." + tokensB64(string(k.sign(text)))
}

// session is a token of a user who has just logged in.
func (k *tokensKeys) session(t *testing.T, s tokensSession) string {
	t.Helper()
	return k.forge(k.header("session"), s.payload(t))
}

// tokensSession is a session's claims, in their order.
type tokensSession struct {
	Iss      string `json:"iss"`
	Aud      string `json:"aud"`
	Iat      int64  `json:"iat"`
	Exp      int64  `json:"exp"`
	Sub      string `json:"sub"`
	AuthTime int64  `json:"auth_time"`
	Jti      string `json:"jti"`
	AppID    string `json:"appid"`
	Scope    string `json:"scope"`
}

func newTokensSession(origin, openID string) tokensSession {
	now := time.Now()
	return tokensSession{"https://auth.example.com", origin, now.Unix(), now.Add(time.Hour).Unix(), openID, now.UnixMilli(), tokensID(), appID, "snsapi_base"}
}

func (s tokensSession) payload(t *testing.T) string {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func tokensID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// seal is a login's parameter, a login cookie or a retry, whatever purpose says.
func (k *tokensKeys) seal(t *testing.T, purpose, plain string) string {
	t.Helper()
	nonce := make([]byte, 12)
	_, _ = rand.Read(nonce)
	return tokensB64(string(k.sealID) + string(nonce) + string(k.aead.Seal(nil, nonce, []byte(plain), []byte(purpose))))
}

// open reads what the gateway sealed.
func (k *tokensKeys) open(t *testing.T, purpose, sealed string) []byte {
	t.Helper()
	b := []byte(tokensUnb64(t, sealed))
	plain, err := k.aead.Open(nil, b[4:16], b[16:], []byte(purpose))
	if err != nil {
		t.Fatalf("not sealed for %q: %v", purpose, err)
	}
	return plain
}

// tokensLogin is what a login says, before it is sealed: its id, numbers as varints, texts behind their lengths.
type tokensLogin struct {
	id      string
	numbers [3]int64
	texts   [10]string
}

// Places in a tokensLogin.
const (
	tokensStarted = 0
	tokensAccount = 0
	tokensOrigin  = 1
)

func readTokensLogin(t *testing.T, b []byte) (l tokensLogin) {
	t.Helper()
	l.id = hex.EncodeToString(b[:16])
	r := bytes.NewReader(b[16:])
	for i := range l.numbers {
		l.numbers[i], _ = binary.ReadVarint(r)
	}
	for i := range l.texts {
		n, _ := binary.ReadUvarint(r)
		text := make([]byte, n)
		_, _ = r.Read(text)
		l.texts[i] = string(text)
	}
	if l.String() != string(b) {
		t.Fatalf("a login says %q", b)
	}
	return l
}

func (l tokensLogin) String() string {
	b, _ := hex.DecodeString(l.id)
	for _, n := range l.numbers {
		b = binary.AppendVarint(b, n)
	}
	for _, text := range l.texts {
		b = append(binary.AppendUvarint(b, uint64(len(text))), text...)
	}
	return string(b)
}

// tokensPending is what a login cookie says, before it is sealed: the login's id, the times, the way back.
func tokensPending(t *testing.T, id string, started, ended time.Time, to string) string {
	t.Helper()
	b, err := hex.DecodeString(id)
	if err != nil {
		t.Fatal(err)
	}
	b = binary.AppendVarint(b, started.Unix())
	if ended.IsZero() {
		b = binary.AppendVarint(b, 0)
	} else {
		b = binary.AppendVarint(b, ended.Unix())
	}
	return string(b) + to
}
