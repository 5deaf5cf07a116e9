package ticket

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"time"
)

// Store keeps small values for a short time, for all gateways that share it. It is exact: what was put
// is there until it ends, and of many callers at once exactly one succeeds. Keys come hashed from this
// package, so a store never sees a ticket or a code; all keys of one login begin with the same {16 hex
// digits}, by which a cluster keeps them on one node. An implementation passes storetest.Run; any error
// but the three below means that the store is away, and nothing may be concluded from it.
type Store interface {
	// Put stores value under key for ttl, or returns ErrExists and changes nothing. ErrFull: no room.
	Put(ctx context.Context, key string, value []byte, ttl time.Duration) error
	// Get returns the value under key, or ErrNotFound.
	Get(ctx context.Context, key string) ([]byte, error)
	// Take removes the value under key and returns it, if it begins with prefix, in one step. Else it
	// changes nothing and returns ErrNotFound.
	Take(ctx context.Context, key string, prefix []byte) ([]byte, error)
	// Count adds one to the counter under key, which ends ttl after its first count, and returns it.
	// ErrFull: no room. Counters and values share no keys.
	Count(ctx context.Context, key string, ttl time.Duration) (int64, error)
}

// Mover is a Store that spends and keeps in one step: a store that is elsewhere saves whoever redeems two trips.
type Mover interface {
	// Move puts the value under from, if it begins with prefix, under to for ttl, removes it from where it was and
	// returns it, in one step. Where there is none it returns what is under to, or ErrNotFound. Both keys are of
	// one login.
	Move(ctx context.Context, from, to string, prefix []byte, ttl time.Duration) ([]byte, error)
}

var (
	// ErrExists says that the key is taken.
	ErrExists = errors.New("already stored")
	// ErrNotFound says that nothing is there: never stored, ended, or taken.
	ErrNotFound = errors.New("not found")
	// ErrFull says that the store has reached its bound.
	ErrFull = errors.New("store is full")
)

// storeKey hashes parts into one key of a group: a login, or what stands for one.
func storeKey(group string, parts ...string) string {
	g, k := hashParts("group", group), hashParts(append(parts, group)...)
	var room [96]byte // a key has 82
	key := hex.AppendEncode(append(room[:0], '{'), g[:8])
	return string(hex.AppendEncode(append(key, '}'), k[:]))
}

// hashParts hashes parts. Each goes in with its length, so that no two lists of parts can be joined into
// the same one.
func hashParts(parts ...string) [sha256.Size]byte {
	var room [256]byte // enough for most, without an allocation
	all := room[:0]
	for _, p := range parts {
		all = binary.BigEndian.AppendUint64(all, uint64(len(p)))
		all = append(all, p...)
	}
	return sha256.Sum256(all)
}
