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

	// Of a client's ticket alone.
	Client   string   `json:"client,omitempty"`   // whose it is
	Login    string   `json:"login,omitempty"`    // the login's id
	State    string   `json:"state,omitempty"`    // what the client gave along
	Profile  *Profile `json:"profile,omitempty"`  // with ScopeUserInfo alone
	Snapshot bool     `json:"snapshot,omitempty"` // the identity is virtual
}

// Tickets hands vouchers from a broker to sites and clients (clients.go).
type Tickets struct {
	Store Store
}

// Owner is who may redeem a site's ticket: one login, of one account, at one origin.
type Owner struct{ Account, Origin, Login string }

// mark is what a stored ticket begins with: of one length, so that no owner is the beginning of another.
func (o Owner) mark() string {
	sum := hashParts("owner", o.Account, o.Origin, o.Login)
	return hex.EncodeToString(sum[:])
}

// MaxTickets is how many tickets one login gets in ten minutes: a callback repeated without end must
// not fill the store.
const MaxTickets = 40

// ErrTooMany says that a login has had MaxTickets, or an address MaxJunk.
var ErrTooMany = errors.New("too many in a short time")

// Issue stores v for owner and returns its ticket: 128 random bits as 32 lower-case hex digits, good
// for ttl.
func (t Tickets) Issue(ctx context.Context, owner Owner, v Voucher, ttl time.Duration) (string, error) {
	tkt := newID()
	if err := t.put(ctx, ticketKey(owner, tkt), owner.mark(), v, ttl); err != nil {
		return "", err
	}
	return tkt, nil
}

// Allow counts a login's tickets: it returns ErrTooMany where there were MaxTickets. The first one of an
// Outcome that is Fresh needs no counting.
func (t Tickets) Allow(ctx context.Context, login string) error {
	n, err := t.Store.Count(ctx, storeKey(login, "tickets"), keepOutcome)
	if err != nil {
		return fmt.Errorf("counting tickets: %w", err)
	}
	if n > MaxTickets {
		return ErrTooMany
	}
	return nil
}

func (t Tickets) put(ctx context.Context, key, mark string, v Voucher, ttl time.Duration) error {
	value, err := json.Marshal(v)
	if err == nil {
		err = t.Store.Put(ctx, key, append([]byte(mark), value...), ttl)
	}
	if err != nil {
		return fmt.Errorf("issuing a ticket: %w", err)
	}
	return nil
}

// Redeem spends tkt, if it is owner's, and returns its voucher, else ErrNotFound. Where it is another's
// nothing is spent. The same owner gets the same voucher again for ten minutes: a browser may deliver
// one callback several times at once, and all of them must end signed in.
func (t Tickets) Redeem(ctx context.Context, tkt string, owner Owner) (Voucher, error) {
	if !IsTicket(tkt) {
		return Voucher{}, ErrNotFound
	}
	mark := owner.mark()
	value, err := t.spend(ctx, ticketKey(owner, tkt), storeKey(owner.Login, "redeemed", tkt, mark), mark)
	if err != nil {
		return Voucher{}, fmt.Errorf("redeeming a ticket: %w", err)
	}
	return readVoucher(value, mark)
}

// spend takes a ticket and keeps what it brought under done, or finds that there. Without a Mover the outcome is
// written before the ticket is taken, so that whoever finds the ticket gone finds that.
func (t Tickets) spend(ctx context.Context, key, done, mark string) ([]byte, error) {
	if m, ok := t.Store.(Mover); ok {
		return m.Move(ctx, key, done, []byte(mark), keepOutcome)
	}
	value, err := t.Store.Get(ctx, key)
	switch {
	case errors.Is(err, ErrNotFound):
		return t.Store.Get(ctx, done)
	case err != nil:
		return nil, err
	case len(value) < len(mark) || string(value[:len(mark)]) != mark:
		return nil, ErrNotFound
	}
	if err := t.Store.Put(ctx, done, value, keepOutcome); err != nil && !errors.Is(err, ErrExists) {
		return nil, err
	}
	if _, err := t.Store.Take(ctx, key, []byte(mark)); err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	return value, nil
}

func readVoucher(value []byte, mark string) (Voucher, error) {
	var v Voucher
	if err := json.Unmarshal(value[len(mark):], &v); err != nil {
		return Voucher{}, fmt.Errorf("reading a voucher: %w", err)
	}
	return v, nil
}

// IsTicket reports whether s has a ticket's shape: 32 lower-case hex digits.
func IsTicket(s string) bool { return isHex(s, 32) }

func ticketKey(owner Owner, tkt string) string { return storeKey(owner.Login, "ticket", tkt) }

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
