package ticket

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// keyFile is what stands in storage. Gateways that share the storage share it.
type keyFile struct {
	Life int64     `json:"life"` // the longest life of any token that any gateway signs, seconds
	Keys []fileKey `json:"keys"`
}

type fileKey struct {
	ID        string `json:"kid"`
	Use       string `json:"use"` // "seal" or "sign"
	Algorithm string `json:"alg"` // A256GCM; HS256, EdDSA, ES256
	Secret    []byte `json:"key"` // 32 random bytes, or PKCS #8
	From      int64  `json:"from"`
}

const (
	useSeal = "seal"
	useSign = "sign"

	algGCM   = "A256GCM"
	algHS256 = "HS256"
	algEdDSA = "EdDSA"
	algES256 = "ES256"
)

func newFileKey(use, alg string, from time.Time) (fileKey, error) {
	secret, err := newSecret(alg)
	if err != nil {
		return fileKey{}, fmt.Errorf("making a key: %w", err)
	}
	var id [4]byte
	_, _ = rand.Read(id[:])
	return fileKey{hex.EncodeToString(id[:]), use, alg, secret, from.Unix()}, nil
}

func newSecret(alg string) ([]byte, error) {
	switch alg {
	case algEdDSA:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		return x509.MarshalPKCS8PrivateKey(private)
	case algES256:
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		return x509.MarshalPKCS8PrivateKey(private)
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	return secret, nil
}

func readKeyFile(b []byte) (keyFile, error) {
	var f keyFile
	if err := json.Unmarshal(b, &f); err != nil {
		return keyFile{}, fmt.Errorf("reading %s: %w", keysPath, err)
	}
	if len(f.Keys) == 0 {
		// No such file is ever written. New keys over it would sign everybody out.
		return keyFile{}, fmt.Errorf("reading %s: no keys in it", keysPath)
	}
	return f, nil
}

// current returns the key to use at now: the latest that has begun.
func (f keyFile) current(use, alg string, now time.Time) (fileKey, bool) {
	var best fileKey
	for _, k := range f.Keys {
		if k.Use == use && k.Algorithm == alg && k.From <= now.Unix() && k.From >= best.From {
			best = k
		}
	}
	return best, best.ID != ""
}

// latest returns the newest key of its kind, begun or not.
func (f keyFile) latest(use, alg string) (fileKey, bool) {
	return f.current(use, alg, time.Unix(1<<40, 0))
}

// pruned returns f without the keys of which no token can be alive: those that a successor relieved
// longer ago than a token lives, and those of an algorithm that nobody has renewed for as long. mine is
// the algorithm in use here; its newest key always stays.
func (f keyFile) pruned(mine string, now time.Time, rotate time.Duration) keyFile {
	grace := f.Life + int64(keepOutcome.Seconds())
	keys := slices.DeleteFunc(slices.Clone(f.Keys), func(k fileKey) bool {
		relieved := slices.ContainsFunc(f.Keys, func(n fileKey) bool {
			return n.Use == k.Use && n.Algorithm == k.Algorithm && n.From > k.From && n.From+grace < now.Unix()
		})
		abandoned := k.Use == useSign && k.Algorithm != mine && k.From+int64(rotate.Seconds())+grace < now.Unix()
		return relieved || abandoned
	})
	return keyFile{f.Life, keys}
}
