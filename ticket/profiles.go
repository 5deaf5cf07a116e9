package ticket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Profile is what WeChat says of a user beside the identity. Since October 2021 sex and region are empty.
type Profile struct {
	Sex       int      `json:"sex,omitempty"` // 0 unknown, 1 male, 2 female
	Language  string   `json:"language,omitempty"`
	City      string   `json:"city,omitempty"`
	Province  string   `json:"province,omitempty"`
	Country   string   `json:"country,omitempty"`
	Privilege []string `json:"privilege,omitempty"`
}

// Profiles keeps what clients may read of their users after a login.
type Profiles struct {
	Store Store
}

// maxReplace bounds how often Keep tries against others that keep the same profile at the same time.
const maxReplace = 3

// Keep stores v under a name for ttl, in place of what stood there.
func (p Profiles) Keep(ctx context.Context, name []string, v Voucher, ttl time.Duration) error {
	value, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("keeping a profile: %w", err)
	}
	key := profileKey(name)
	err = p.Store.Put(ctx, key, value, ttl)
	for tries := 0; errors.Is(err, ErrExists) && tries < maxReplace; tries++ {
		if _, err = p.Store.Take(ctx, key, nil); err == nil || errors.Is(err, ErrNotFound) {
			err = p.Store.Put(ctx, key, value, ttl) // whoever takes one away puts one there
		}
	}
	if err != nil && !errors.Is(err, ErrExists) {
		return fmt.Errorf("keeping a profile: %w", err)
	}
	return nil // of those who kept it at the same time one was the last
}

// Read returns what Keep stored under the name, or ErrNotFound.
func (p Profiles) Read(ctx context.Context, name []string) (Voucher, error) {
	value, err := p.Store.Get(ctx, profileKey(name))
	if err != nil {
		return Voucher{}, fmt.Errorf("reading a profile: %w", err)
	}
	return readVoucher(value, "")
}

func profileKey(name []string) string {
	sum := hashParts(name...)
	return storeKey(string(sum[:]), "profile")
}
