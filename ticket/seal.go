package ticket

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// ErrSeal says that a text was not sealed here for this purpose, or was changed since.
var ErrSeal = errors.New("bad seal")

// maxSealed bounds what is opened: a login cookie with the longest return path stays under it.
const maxSealed = 4096

var sealed64 = base64.RawURLEncoding.Strict()

// Seal encrypts and authenticates plain for purpose, as URL-safe text: the key's id (4 bytes), a random
// nonce (12), the AES-256-GCM ciphertext and its tag (16), in base64. Only Open with the same purpose
// reads it.
func (k *Keyring) Seal(ctx context.Context, purpose string, plain []byte) (string, error) {
	key := k.keys().seal(k.now())
	if key == nil {
		s, err := k.make(ctx, useSeal, algGCM)
		if err != nil {
			return "", fmt.Errorf("sealing: %w", err)
		}
		key = s.seal(k.now())
	}
	b := append(make([]byte, 0, len(key.id)+len(plain)+key.aead.Overhead()), key.id[:]...)
	return sealed64.EncodeToString(key.aead.Seal(b, nil, plain, []byte(purpose))), nil
}

// Open returns what was sealed for purpose, or ErrSeal.
func (k *Keyring) Open(ctx context.Context, purpose, sealed string) ([]byte, error) {
	// Go's decoder skips line breaks; a sealed text has one spelling.
	if len(sealed) > maxSealed || strings.ContainsAny(sealed, "\r\n") {
		return nil, ErrSeal
	}
	b, err := sealed64.DecodeString(sealed)
	if err != nil || len(b) < 4+12+16 {
		return nil, ErrSeal
	}
	id := [4]byte(b[:4])
	key := k.keys().bySealID[id]
	if key == nil {
		if key = k.refresh(ctx).bySealID[id]; key == nil {
			return nil, ErrSeal
		}
	}
	plain, err := key.aead.Open(nil, nil, b[4:], []byte(purpose))
	if err != nil {
		return nil, ErrSeal
	}
	return plain, nil
}
