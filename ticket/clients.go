package ticket

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Terms say how a client's ticket is redeemed.
type Terms struct {
	Public bool // by whoever holds it, not by its client alone
	Reuse  bool // again and again until it ends, not once
}

// kinds of what clients redeem. Each has keys of its own: no kind passes for another, and that a ticket may be
// redeemed in one step follows from where it is found.
const (
	kindTicket = "client ticket"
	kindCode   = "code" // in WeChat's own shape of an interface
	kindUsed   = "used code"
)

func clientKey(kind string, terms Terms, tkt string) string {
	return storeKey(tkt, kind, strconv.FormatBool(terms.Public)+" "+strconv.FormatBool(terms.Reuse))
}

// IssueTo stores v for its client and returns the ticket, shaped as Issue's.
func (t Tickets) IssueTo(ctx context.Context, terms Terms, v Voucher, ttl time.Duration) (string, error) {
	tkt := newID()
	if err := t.put(ctx, clientKey(kindTicket, terms, tkt), "", v, ttl); err != nil {
		return "", err
	}
	return tkt, nil
}

// RedeemBy returns what tkt stands for to a client that has proved who it is, or to nobody in particular
// (client is ""), else ErrNotFound. It is spent, unless its terms say otherwise; so it is where another
// client tries it, which only who stole it does. A site's ticket is never found.
func (t Tickets) RedeemBy(ctx context.Context, tkt, client string) (Voucher, error) {
	if !IsTicket(tkt) {
		return Voucher{}, ErrNotFound
	}
	for _, terms := range []Terms{{}, {Reuse: true}, {Public: true}, {Public: true, Reuse: true}} {
		if client == "" && !terms.Public {
			continue
		}
		v, err := t.draw(ctx, clientKey(kindTicket, terms, tkt), terms.Reuse)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err == nil && !terms.Public && v.Client != client {
			_, err = t.draw(ctx, clientKey(kindTicket, terms, tkt), false)
			return Voucher{}, notFound(err)
		}
		return v, err
	}
	return Voucher{}, ErrNotFound
}

// PublicClient returns whose the public ticket is, and spends nothing.
func (t Tickets) PublicClient(ctx context.Context, tkt string) (string, error) {
	if !IsTicket(tkt) {
		return "", ErrNotFound
	}
	for _, reuse := range []bool{false, true} {
		v, err := t.draw(ctx, clientKey(kindTicket, Terms{Public: true, Reuse: reuse}, tkt), true)
		if !errors.Is(err, ErrNotFound) {
			return v.Client, err
		}
	}
	return "", ErrNotFound
}

// draw returns the voucher under key, and takes it away unless it is to stay.
func (t Tickets) draw(ctx context.Context, key string, stays bool) (Voucher, error) {
	read := t.Store.Get
	if !stays {
		read = func(ctx context.Context, key string) ([]byte, error) { return t.Store.Take(ctx, key, nil) }
	}
	value, err := read(ctx, key)
	if err != nil {
		return Voucher{}, fmt.Errorf("redeeming a ticket: %w", err)
	}
	return readVoucher(value, "")
}

func notFound(err error) error {
	if err == nil {
		return ErrNotFound
	}
	return err
}

// CodeLife is how long a code of IssueCode's is good, and how long that it was used is remembered.
const CodeLife = 5 * time.Minute

// ErrUsed says that a code was redeemed before.
var ErrUsed = errors.New("already redeemed")

// IssueCode stores v for its client as a one-time code, shaped as WeChat's.
func (t Tickets) IssueCode(ctx context.Context, v Voucher) (string, error) {
	code := newID()
	if err := t.put(ctx, clientKey(kindCode, Terms{}, code), "", v, CodeLife); err != nil {
		return "", err
	}
	return code, nil
}

// RedeemCode returns what the code stands for to its client, once; then it is ErrUsed. Another client's code is
// ErrNotFound, and spent.
func (t Tickets) RedeemCode(ctx context.Context, code, client string) (Voucher, error) {
	if !IsTicket(code) {
		return Voucher{}, ErrNotFound
	}
	used := clientKey(kindUsed, Terms{}, code)
	v, err := t.draw(ctx, clientKey(kindCode, Terms{}, code), false)
	switch {
	case errors.Is(err, ErrNotFound):
		owner, err := t.Store.Get(ctx, used)
		if err == nil && string(owner) == client {
			return Voucher{}, ErrUsed
		}
		return Voucher{}, notFound(err)
	case err != nil:
		return Voucher{}, err
	}
	if err := t.Store.Put(ctx, used, []byte(v.Client), CodeLife); err != nil {
		return Voucher{}, fmt.Errorf("remembering a used code: %w", err)
	}
	if v.Client != client {
		return Voucher{}, ErrNotFound
	}
	return v, nil
}
