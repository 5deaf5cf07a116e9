package ticket

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Types of token, the `typ` of its header. One never passes for the other.
const (
	typSession = "wechat-session+jwt"
	typGuest   = "wechat-guest+jwt"
)

// keyset is the keys in use, ready to work. It never changes.
type keyset struct {
	seals     []*sealKey
	signs     []*signKey
	algorithm string               // to sign with
	headers   map[string]signedAs  // by a token's first segment: what the token claims to be
	bySealID  map[[4]byte]*sealKey // by what a sealed text begins with
}

type sealKey struct {
	id   [4]byte
	aead cipher.AEAD
	from int64
}

type signKey struct {
	id      string
	method  jwt.SigningMethod
	private any // []byte, ed25519.PrivateKey or *ecdsa.PrivateKey
	public  any // what verifies: []byte, ed25519.PublicKey or *ecdsa.PublicKey
	from    int64
	headers map[string]string // by typ: the first segment of every token that it signs
}

type signedAs struct {
	key *signKey
	typ string
}

func newKeyset(f keyFile, algorithm string, secrets [][]byte) (*keyset, error) {
	s := &keyset{algorithm: algorithm, headers: map[string]signedAs{}, bySealID: map[[4]byte]*sealKey{}}
	for _, k := range f.Keys {
		if err := s.add(k, len(secrets) > 0); err != nil {
			return nil, fmt.Errorf("key %s in storage: %w", k.ID, err)
		}
	}
	for i, secret := range secrets {
		sum := sha256.Sum256(append([]byte("wechat kid "), secret...))
		id := "s" + hex.EncodeToString(sum[:4])
		s.addSign(&signKey{id: id, method: jwt.SigningMethodHS256, private: secret, public: secret, from: int64(len(secrets) - i)})
	}
	return s, nil
}

// add takes a key of the file. Where the operator gives the secrets, they alone sign and verify.
func (s *keyset) add(k fileKey, given bool) error {
	switch {
	case k.Use == useSeal && k.Algorithm == algGCM:
		return s.addSeal(k)
	case k.Use == useSign && !given:
		key, err := newSignKey(k)
		if err != nil {
			return err
		}
		s.addSign(key)
	}
	return nil
}

func (s *keyset) addSeal(k fileKey) error {
	id, err := hex.DecodeString(k.ID)
	if err != nil || len(id) != 4 || len(k.Secret) != 32 {
		return fmt.Errorf("not a sealing key")
	}
	block, err := aes.NewCipher(k.Secret)
	if err != nil {
		return err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return err
	}
	key := &sealKey{[4]byte(id), aead, k.From}
	s.seals = append(s.seals, key)
	s.bySealID[key.id] = key
	return nil
}

func (s *keyset) addSign(key *signKey) {
	s.signs = append(s.signs, key)
	key.headers = map[string]string{}
	for _, typ := range []string{typSession, typGuest} {
		header := key.header(typ)
		key.headers[typ], s.headers[header] = header, signedAs{key, typ}
	}
}

func newSignKey(k fileKey) (*signKey, error) {
	if k.Algorithm == algHS256 {
		if len(k.Secret) < 32 {
			return nil, fmt.Errorf("shorter than 32 bytes")
		}
		return &signKey{id: k.ID, method: jwt.SigningMethodHS256, private: k.Secret, public: k.Secret, from: k.From}, nil
	}
	private, err := x509.ParsePKCS8PrivateKey(k.Secret)
	if err != nil {
		return nil, err
	}
	switch p := private.(type) {
	case ed25519.PrivateKey:
		return &signKey{id: k.ID, method: jwt.SigningMethodEdDSA, private: p, public: p.Public(), from: k.From}, nil
	case *ecdsa.PrivateKey:
		return &signKey{id: k.ID, method: jwt.SigningMethodES256, private: p, public: &p.PublicKey, from: k.From}, nil
	}
	return nil, fmt.Errorf("unknown kind of key %T", private)
}

// current returns what signs, or seals, at now, or nil.
func (s *keyset) current(use string, now time.Time) any {
	if use == useSeal {
		if k := s.seal(now); k != nil {
			return k
		}
		return nil
	}
	if k := s.sign(now); k != nil {
		return k
	}
	return nil
}

func (s *keyset) seal(now time.Time) (best *sealKey) {
	for _, k := range s.seals {
		if k.from <= now.Unix() && (best == nil || k.from >= best.from) {
			best = k
		}
	}
	return best
}

func (s *keyset) sign(now time.Time) (best *signKey) {
	for _, k := range s.signs {
		if k.method.Alg() == s.algorithm && k.from <= now.Unix() && (best == nil || k.from >= best.from) {
			best = k
		}
	}
	return best
}

// header is what headers has; golang-jwt would write the keys in this order.
func (k *signKey) header(typ string) string {
	b, _ := json.Marshal(map[string]string{"alg": k.method.Alg(), "kid": k.id, "typ": typ})
	return base64.RawURLEncoding.EncodeToString(b)
}

// jwk returns k's public half as a JSON Web Key (RFC 7517), or nil for HS256.
func (k *signKey) jwk() map[string]string {
	b64 := base64.RawURLEncoding.EncodeToString
	switch p := k.public.(type) {
	case ed25519.PublicKey:
		return map[string]string{"kty": "OKP", "crv": "Ed25519", "x": b64(p), "kid": k.id, "alg": algEdDSA, "use": "sig"}
	case *ecdsa.PublicKey:
		point, err := p.Bytes()
		if err != nil {
			return nil
		}
		return map[string]string{"kty": "EC", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:65]), "kid": k.id, "alg": algES256, "use": "sig"}
	}
	return nil
}
