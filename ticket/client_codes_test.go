package ticket

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// drawn redeems a code as its client.
func drawn(t *testing.T, tickets Tickets, code, client string) error {
	t.Helper()
	v, err := tickets.RedeemCode(t.Context(), code, client)
	if err == nil && v.Client != client {
		t.Errorf("%s got what is %s's", client, v.Client)
	}
	return err
}

func TestClientsCodes(t *testing.T) {
	cases := []struct {
		name string
		play func(t *testing.T, tickets Tickets, code string)
	}{
		{"are shaped as WeChat's", func(t *testing.T, tickets Tickets, code string) {
			if len(code) != 32 {
				t.Errorf("a code has %d characters", len(code))
			}
		}},
		{"are good once, and known as used for as long as they were good", func(t *testing.T, tickets Tickets, code string) {
			time.Sleep(CodeLife - time.Second)
			if err := drawn(t, tickets, code, "shop"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(CodeLife - time.Second)
			if err := drawn(t, tickets, code, "shop"); !errors.Is(err, ErrUsed) {
				t.Errorf("a used code: %v", err)
			}
			time.Sleep(2 * time.Second)
			if err := drawn(t, tickets, code, "shop"); !errors.Is(err, ErrNotFound) {
				t.Errorf("a code used long ago: %v", err)
			}
		}},
		{"end after five minutes", func(t *testing.T, tickets Tickets, code string) {
			time.Sleep(CodeLife + time.Second)
			if err := drawn(t, tickets, code, "shop"); !errors.Is(err, ErrNotFound) {
				t.Errorf("an expired code: %v", err)
			}
		}},
		{"are nobody else's, who spends them", func(t *testing.T, tickets Tickets, code string) {
			for range 2 {
				if err := drawn(t, tickets, code, "blog"); !errors.Is(err, ErrNotFound) {
					t.Errorf("another client's code: %v", err)
				}
			}
			if err := drawn(t, tickets, code, "shop"); !errors.Is(err, ErrUsed) {
				t.Errorf("a code that another client tried: %v", err)
			}
		}},
		{"are no tickets, and tickets are no codes", func(t *testing.T, tickets Tickets, code string) {
			if _, err := tickets.RedeemBy(t.Context(), code, "shop"); !errors.Is(err, ErrNotFound) {
				t.Errorf("a code as a ticket: %v", err)
			}
			tkt, err := tickets.IssueTo(t.Context(), Terms{}, Voucher{Client: "shop"}, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			if err := drawn(t, tickets, tkt, "shop"); !errors.Is(err, ErrNotFound) {
				t.Errorf("a ticket as a code: %v", err)
			}
			if _, err := tickets.RedeemBy(t.Context(), tkt, "shop"); err != nil {
				t.Errorf("a ticket after it was tried as a code: %v", err)
			}
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tickets := Tickets{Store: NewMemory().Limited(1 << 20)}
				code, err := tickets.IssueCode(t.Context(), Voucher{Client: "shop", Identity: newIdentity()})
				if err != nil {
					t.Fatal(err)
				}
				c.play(t, tickets, code)
			})
		})
	}
}
