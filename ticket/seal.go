package ticket

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
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
	room := sealRooms.Get().(*sealRoom)
	defer sealRooms.Put(room)
	room.plain = append(room.plain[:0], plain...)
	return k.sealIn(ctx, room, purpose)
}

// sealRoom is where texts are sealed: a login's start seals two, and would need nine allocations for them in place of
// two, and a microsecond more.
type sealRoom struct{ plain, purpose, sealed, text []byte }

var sealRooms = sync.Pool{New: func() any { return new(sealRoom) }}

// sealIn seals what is in room.plain.
func (k *Keyring) sealIn(ctx context.Context, room *sealRoom, purpose ...string) (string, error) {
	key := k.keys().seal(k.now())
	if key == nil {
		s, err := k.make(ctx, useSeal, algGCM)
		if err != nil {
			return "", fmt.Errorf("sealing: %w", err)
		}
		key = s.seal(k.now())
	}
	room.purpose = room.purpose[:0]
	for _, part := range purpose {
		room.purpose = append(room.purpose, part...)
	}
	room.sealed = slices.Grow(append(room.sealed[:0], key.id[:]...), len(room.plain)+key.aead.Overhead())
	room.sealed = key.aead.Seal(room.sealed, nil, room.plain, room.purpose)
	room.text = sealed64.AppendEncode(room.text[:0], room.sealed)
	return string(room.text), nil
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
