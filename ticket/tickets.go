package ticket

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Voucher is what a ticket stands for.
type Voucher struct {
	Identity Identity `json:"identity"`
	At       int64    `json:"at"` // when WeChat vouched for it, Unix milliseconds
}

// Tickets hands vouchers from a broker to sites.
type Tickets struct {
	Store Store
}

// Owner names who may redeem a ticket: one login, of one account, at one origin.
func Owner(account, origin, login string) string { return storeKey("owner", account, origin, login) }

// MaxTickets is how many tickets one owner gets in ten minutes: a callback repeated without end must
// not fill the store.
const MaxTickets = 40

// ErrTooMany says that an owner has had MaxTickets.
var ErrTooMany = errors.New("too many tickets for one login")

// Issue stores v for owner and returns its ticket: 128 random bits as 32 lower-case hex digits, good
// for ttl.
func (t Tickets) Issue(ctx context.Context, owner string, v Voucher, ttl time.Duration) (string, error) {
	owner = ownerMark(owner)
	value, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("issuing a ticket: %w", err)
	}
	n, err := t.Store.Count(ctx, storeKey("tickets", owner), keepOutcome)
	if err != nil {
		return "", fmt.Errorf("counting tickets: %w", err)
	}
	if n > MaxTickets {
		return "", ErrTooMany
	}
	tkt := newID()
	if err := t.Store.Put(ctx, ticketKey(tkt), append([]byte(owner), value...), ttl); err != nil {
		return "", fmt.Errorf("issuing a ticket: %w", err)
	}
	return tkt, nil
}

// Redeem spends tkt, if it is owner's, and returns its voucher, else ErrNotFound. Where it is another's
// nothing is spent. The same owner gets the same voucher again for ten minutes: a browser may deliver
// one callback several times at once, and all of them must end signed in.
func (t Tickets) Redeem(ctx context.Context, tkt, owner string) (Voucher, error) {
	if !IsTicket(tkt) {
		return Voucher{}, ErrNotFound
	}
	owner = ownerMark(owner)
	done := storeKey("redeemed", tkt, owner)
	value, err := t.Store.Get(ctx, ticketKey(tkt))
	switch {
	case errors.Is(err, ErrNotFound):
		value, err = t.Store.Get(ctx, done)
	case err == nil:
		err = t.spend(ctx, tkt, owner, done, value)
	}
	if err != nil {
		return Voucher{}, fmt.Errorf("redeeming a ticket: %w", err)
	}
	return readVoucher(value, owner)
}

// spend writes the outcome before it takes the ticket, so that whoever finds the ticket gone finds that.
func (t Tickets) spend(ctx context.Context, tkt, owner, done string, value []byte) error {
	if len(value) < len(owner) || string(value[:len(owner)]) != owner {
		return ErrNotFound
	}
	if err := t.Store.Put(ctx, done, value, keepOutcome); err != nil && !errors.Is(err, ErrExists) {
		return err
	}
	if _, err := t.Store.Take(ctx, ticketKey(tkt), []byte(owner)); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return nil
}

func readVoucher(value []byte, owner string) (Voucher, error) {
	var v Voucher
	if err := json.Unmarshal(value[len(owner):], &v); err != nil {
		return Voucher{}, fmt.Errorf("reading a voucher: %w", err)
	}
	return v, nil
}

// IsTicket reports whether s has a ticket's shape: 32 lower-case hex digits.
func IsTicket(s string) bool { return isHex(s, 32) }

// ownerMark is what a stored ticket begins with: of one length, so that no owner is the beginning of another.
func ownerMark(owner string) string { return storeKey("ticket of", owner) }

func ticketKey(tkt string) string { return storeKey("ticket", tkt) }

// newID returns 128 random bits as 32 lower-case hex digits.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, says crypto/rand
	return hex.EncodeToString(b[:])
}

func isHex(s string, n int) bool {
	if len(s) != n {
		return false
	}
	for i := range n {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
