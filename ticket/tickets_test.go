package ticket

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const minute = time.Minute

var (
	someone = Owner{"default", "https://shop.example.org", "owner"}
	thief   = Owner{"default", "https://shop.example.org", "thief"}
)

func newVoucher() Voucher { return Voucher{Identity: newIdentity(), At: 1700000000123} }

func issue(t *testing.T, ts Tickets, owner Owner, ttl time.Duration) string {
	t.Helper()
	tkt, err := ts.Issue(t.Context(), owner, newVoucher(), ttl)
	if err != nil {
		t.Fatalf("Issue: %v", err)
	}
	return tkt
}

func wantVoucher(t *testing.T, ts Tickets, tkt string, owner Owner) {
	t.Helper()
	if v, err := ts.Redeem(t.Context(), tkt, owner); err != nil || v != newVoucher() {
		t.Errorf("Redeem: %+v, %v, want the voucher", v, err)
	}
}

func wantNoVoucher(t *testing.T, ts Tickets, tkt string, owner Owner) {
	t.Helper()
	if v, err := ts.Redeem(t.Context(), tkt, owner); !errors.Is(err, ErrNotFound) || v != (Voucher{}) {
		t.Errorf("Redeem: %+v, %v, want nothing and ErrNotFound", v, err)
	}
}

func TestTicketIsRedeemedByItsOwner(t *testing.T) {
	ts := Tickets{newStore()}
	owner := Owner{"default", "https://shop.example.org", "login"}
	tkt := issue(t, ts, owner, minute)
	if len(tkt) != 32 || strings.Trim(tkt, "0123456789abcdef") != "" || !IsTicket(tkt) {
		t.Errorf("%q is not 32 lower-case hex digits", tkt)
	}
	if other := issue(t, ts, owner, minute); other == tkt {
		t.Error("two tickets are the same")
	}
	wantVoucher(t, ts, tkt, owner)
	wantVoucher(t, ts, tkt, owner) // a callback that is delivered twice
}

// A browser delivers one callback many times at once, and all of them must end signed in.
func TestTicketIsRedeemedByManyRequestsOfItsOwner(t *testing.T) {
	ts := Tickets{newStore()}
	owner := Owner{"default", "https://shop.example.org", "login"}
	for range 20 {
		tkt := issue(t, ts, owner, minute)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { wantVoucher(t, ts, tkt, owner) })
		}
		wg.Wait()
	}
}

// interrupted is a store in which something else happens just before a Put or a Take.
type interrupted struct {
	Store
	put, take func()
}

func (s *interrupted) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	run(&s.put)
	return s.Store.Put(ctx, key, value, ttl)
}

func (s *interrupted) Take(ctx context.Context, key string, prefix []byte) ([]byte, error) {
	run(&s.take)
	return s.Store.Take(ctx, key, prefix)
}

// run calls f once.
func run(f *func()) {
	if g := *f; g != nil {
		*f = nil
		g()
	}
}

func TestTicketIsRedeemedWhileItIsRedeemed(t *testing.T) {
	for name, between := range map[string]func(*interrupted, func()){
		"before what it brought is kept": func(s *interrupted, f func()) { s.put = f },
		"before it is taken":             func(s *interrupted, f func()) { s.take = f },
	} {
		t.Run(name, func(t *testing.T) {
			s := &interrupted{Store: newStore()}
			ts := Tickets{s}
			tkt := issue(t, ts, someone, minute)
			between(s, func() { wantVoucher(t, Tickets{s.Store}, tkt, someone) })
			wantVoucher(t, ts, tkt, someone)
			wantVoucher(t, ts, tkt, someone)
		})
	}
}

// attack: a ticket from a log, a Referer or a shared link, tried in another browser or at another site. It is
// worth nothing there, and trying it takes nothing from its owner.
func TestTicketIsWorthNothingToOthers(t *testing.T) {
	const origin = "https://shop.example.org"
	owner := Owner{"default", origin, "login"}
	others := []Owner{
		{"default", origin, "another login"},
		{"default", "https://blog.example.org", "login"},
		{"other", origin, "login"},
		{"default", origin, ""},
		{"", origin, "login"},
		{"default" + origin, "", "login"},
		{"default", origin, "Login"},
		{"default", "", "login"},
		{},
	}
	ts := Tickets{newStore()}
	tkt := issue(t, ts, owner, minute)
	for _, other := range others {
		wantNoVoucher(t, ts, tkt, other)
	}
	wantVoucher(t, ts, tkt, owner)
	for _, other := range others {
		wantNoVoucher(t, ts, tkt, other)
	}
	wantVoucher(t, ts, tkt, owner)
	t.Run("all at once", func(t *testing.T) {
		tkt := issue(t, ts, owner, minute)
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() { wantNoVoucher(t, ts, tkt, others[i%len(others)]) })
			wg.Go(func() { wantVoucher(t, ts, tkt, owner) })
		}
		wg.Wait()
	})
}

func TestMalformedTicketsAreNotLookedFor(t *testing.T) {
	s := &flaky{Store: newStore(), after: 0}
	ts := Tickets{s}
	good := newID()
	for _, tkt := range []string{
		"", "x", good[1:], good + "0", strings.ToUpper("abcdef") + good[6:], good[:31] + "g", good[:31] + "\n", " " + good[1:], good[:30] + "%0",
		strings.Repeat("é", 16), "../" + good[3:], strings.Repeat("0", 1<<20), good + "\x00", good[:31] + "\x00",
	} {
		if IsTicket(tkt) {
			t.Errorf("%.40q has a ticket's shape", tkt)
		}
		wantNoVoucher(t, ts, tkt, someone) // the store is away: it was not asked
	}
	s.heal(100)
	wantNoVoucher(t, ts, good, someone)
}

func TestTicketExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory()
		ts := Tickets{m.Limited(1 << 20)}
		owner := Owner{"default", "https://shop.example.org", "login"}
		unused, used := issue(t, ts, owner, minute), issue(t, ts, owner, minute)
		time.Sleep(minute - time.Second) // the bubble's clock
		wantVoucher(t, ts, used, owner)
		time.Sleep(time.Second)
		wantNoVoucher(t, ts, unused, owner)
		wantVoucher(t, ts, used, owner) // for its owner, who has it
		time.Sleep(keepOutcome - 2*time.Second)
		wantVoucher(t, ts, used, owner)
		time.Sleep(time.Second)
		wantNoVoucher(t, ts, used, owner)
		if n := m.Bytes(); n != 0 {
			t.Errorf("%d bytes are kept", n)
		}
	})
}

// attack: one callback repeated without end fills the store with tickets, and nobody else can log in.
func TestLoginGetsAtMostMaxTickets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := Tickets{newStore()}
		allow := func(login string, want error) {
			t.Helper()
			if err := ts.Allow(t.Context(), login); !errors.Is(err, want) {
				t.Errorf("%v, want %v", err, want)
			}
		}
		for range MaxTickets {
			allow("login", nil)
		}
		for range 3 {
			allow("login", ErrTooMany)
		}
		allow("another login", nil)
		time.Sleep(keepOutcome) // the bubble's clock
		allow("login", nil)
	})
}

// hashedKey is a key as the store sees it: the group in braces, by which a cluster keeps a login together.
var hashedKey = regexp.MustCompile(`^\{[0-9a-f]{16}\}[0-9a-f]{64}$`)

// attack: whoever reads the store finds tickets to redeem.
func TestStoreHoldsNoTickets(t *testing.T) {
	m := NewMemory()
	ts := Tickets{m.Limited(1 << 20)}
	owner := Owner{"default", "https://shop.example.org", "the-login-as-it-came"}
	kept, spent := issue(t, ts, owner, minute), issue(t, ts, owner, minute)
	wantNotIn(t, m, kept, spent, "the-login-as-it-came")
	wantVoucher(t, ts, spent, owner)
	wantNotIn(t, m, kept, spent, "the-login-as-it-came")
	for _, e := range m.entries {
		if !hashedKey.MatchString(e.key) {
			t.Errorf("key %q is no hash", e.key)
		}
	}
}

// A ticket is spent: what is left of it after redeeming serves its owner alone.
func TestRedeemedTicketIsGone(t *testing.T) {
	s := newStore()
	ts := Tickets{s}
	tkt := issue(t, ts, someone, minute)
	wantVoucher(t, ts, tkt, someone)
	if v, err := s.Get(t.Context(), ticketKey(someone, tkt)); !errors.Is(err, ErrNotFound) {
		t.Errorf("the ticket is still there: %q, %v", v, err)
	}
}

func TestTicketsFailClosed(t *testing.T) {
	away := Tickets{&flaky{Store: newStore(), after: 0}}
	if tkt, err := away.Issue(t.Context(), someone, newVoucher(), minute); !errors.Is(err, errAway) || tkt != "" {
		t.Errorf("Issue: %q, %v, want nothing and the reason", tkt, err)
	}
	if err := away.Allow(t.Context(), "login"); !errors.Is(err, errAway) {
		t.Errorf("Allow: %v, want the reason", err)
	}
	for n := range 3 { // Get, Put, Take
		t.Run(fmt.Sprintf("redeeming after %d calls", n), func(t *testing.T) {
			s := &flaky{Store: newStore(), after: 1 << 20}
			ts := Tickets{s}
			tkt := issue(t, ts, someone, minute)
			s.heal(n)
			if v, err := ts.Redeem(t.Context(), tkt, someone); !errors.Is(err, errAway) || errors.Is(err, ErrNotFound) || v != (Voucher{}) {
				t.Errorf("%+v, %v, want nothing and the reason", v, err)
			}
			s.heal(1 << 20)
			wantNoVoucher(t, ts, tkt, thief)
			wantVoucher(t, ts, tkt, someone) // nothing was lost
		})
	}
	t.Run("redeeming again while the store is away", func(t *testing.T) {
		s := &flaky{Store: newStore(), after: 1 << 20}
		ts := Tickets{s}
		tkt := issue(t, ts, someone, minute)
		wantVoucher(t, ts, tkt, someone)
		s.heal(1)
		if v, err := ts.Redeem(t.Context(), tkt, someone); !errors.Is(err, errAway) || v != (Voucher{}) {
			t.Errorf("%+v, %v", v, err)
		}
	})
	t.Run("a full store issues nothing", func(t *testing.T) {
		if tkt, err := (Tickets{NewMemory().Limited(300)}).Issue(t.Context(), someone, newVoucher(), minute); !errors.Is(err, ErrFull) || tkt != "" {
			t.Errorf("%q, %v", tkt, err)
		}
	})
	t.Run("a value that is too short for an owner", func(t *testing.T) {
		s := newStore()
		tkt := newID()
		if err := s.Put(t.Context(), ticketKey(someone, tkt), []byte("x"), minute); err != nil {
			t.Fatal(err)
		}
		wantNoVoucher(t, Tickets{s}, tkt, someone)
	})
	t.Run("a voucher that is no JSON", func(t *testing.T) {
		s := newStore()
		tkt := newID()
		if err := s.Put(t.Context(), ticketKey(someone, tkt), []byte(someone.mark()+"{"), minute); err != nil {
			t.Fatal(err)
		}
		if v, err := (Tickets{s}).Redeem(t.Context(), tkt, someone); err == nil || v != (Voucher{}) {
			t.Errorf("%+v, %v", v, err)
		}
	})
}
