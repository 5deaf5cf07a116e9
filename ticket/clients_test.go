package ticket

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func newClientTickets() Tickets { return Tickets{Store: NewMemory().Limited(1 << 20)} }

// voucherOf is what a ticket of a client's stands for.
func voucherOf(client string) Voucher {
	return Voucher{Identity: Identity{OpenID: "oLina", AppID: "wx0123456789abcdef", Scope: ScopeBase}, Client: client, State: "s", Login: NewLoginID()}
}

// TestClientTickets is who gets what a ticket stands for, and what becomes of it.
func TestClientTickets(t *testing.T) {
	const own, other, nobody = "shop", "blog", ""
	cases := []struct {
		name  string
		terms Terms
		tries []string // by whom
		want  string   // + where it is found
	}{
		{"its client has it once", Terms{}, []string{own, own}, "+-"},
		{"nobody in particular neither has nor spends it", Terms{}, []string{nobody, nobody, own}, "--+"},
		{"another client spends it", Terms{}, []string{other, own}, "--"},
		{"with reuse its client has it again", Terms{Reuse: true}, []string{own, own, nobody, own}, "++-+"},
		{"another client spends it with reuse, too", Terms{Reuse: true}, []string{own, other, own}, "+--"},
		{"whoever holds a public one has it once", Terms{Public: true}, []string{nobody, nobody, own}, "+--"},
		{"a client has a public one, too", Terms{Public: true}, []string{other, own, nobody}, "+--"},
		{"a public one with reuse stays", Terms{Public: true, Reuse: true}, []string{nobody, other, own}, "+++"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			tickets := newClientTickets()
			tkt, err := tickets.IssueTo(t.Context(), c.terms, voucherOf(own), time.Minute)
			if err != nil || !IsTicket(tkt) {
				t.Fatalf("%q, %v", tkt, err)
			}
			got := ""
			for _, client := range c.tries {
				v, err := tickets.RedeemBy(t.Context(), tkt, client)
				switch {
				case err == nil && v.Client == own && v.State == "s":
					got += "+"
				case errors.Is(err, ErrNotFound) && v.Client == "" && v.Identity == (Identity{}):
					got += "-"
				default:
					t.Errorf("%v, %v", v, err)
				}
			}
			if got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// TestClientTicketsEnd: a ticket, a code and that a code was used last as long as they should.
func TestClientTicketsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tickets := newClientTickets()
		for _, terms := range []Terms{{}, {Reuse: true}, {Public: true}, {Public: true, Reuse: true}} {
			tkt, err := tickets.IssueTo(t.Context(), terms, voucherOf("shop"), time.Minute)
			time.Sleep(time.Minute)
			if _, late := tickets.RedeemBy(t.Context(), tkt, "shop"); err != nil || !errors.Is(late, ErrNotFound) {
				t.Errorf("%v: %v, %v", terms, err, late)
			}
		}
		code, _ := tickets.IssueCode(t.Context(), voucherOf("shop"))
		time.Sleep(CodeLife - time.Second)
		if _, err := tickets.RedeemCode(t.Context(), code, "shop"); err != nil {
			t.Errorf("a code before its end: %v", err)
		}
		if _, err := tickets.RedeemCode(t.Context(), code, "shop"); !errors.Is(err, ErrUsed) {
			t.Errorf("a code that was used: %v", err)
		}
		if _, err := tickets.RedeemCode(t.Context(), code, "blog"); !errors.Is(err, ErrNotFound) {
			t.Errorf("another's code that was used: %v", err)
		}
		code, _ = tickets.IssueCode(t.Context(), voucherOf("shop"))
		time.Sleep(CodeLife)
		if _, err := tickets.RedeemCode(t.Context(), code, "shop"); !errors.Is(err, ErrNotFound) {
			t.Errorf("a code after its end: %v", err)
		}
	})
}

// TestKindsOfTicketsAreNotMixed: no way of redeeming finds what was issued for another.
func TestKindsOfTicketsAreNotMixed(t *testing.T) {
	tickets := newClientTickets()
	owner := Owner{Account: "default", Origin: "https://shop.example.org", Login: NewLoginID()}
	site, _ := tickets.Issue(t.Context(), owner, voucherOf("shop"), time.Minute)
	client, _ := tickets.IssueTo(t.Context(), Terms{}, voucherOf("shop"), time.Minute)
	public, _ := tickets.IssueTo(t.Context(), Terms{Public: true}, voucherOf("shop"), time.Minute)
	code, _ := tickets.IssueCode(t.Context(), voucherOf("shop"))
	for name, try := range map[string]func(tkt string) error{
		"a site":   func(tkt string) error { _, err := tickets.Redeem(t.Context(), tkt, owner); return err },
		"a client": func(tkt string) error { _, err := tickets.RedeemBy(t.Context(), tkt, "shop"); return err },
		"another":  func(tkt string) error { _, err := tickets.RedeemBy(t.Context(), tkt, "blog"); return err },
		"anybody":  func(tkt string) error { _, err := tickets.RedeemBy(t.Context(), tkt, ""); return err },
		"a code":   func(tkt string) error { _, err := tickets.RedeemCode(t.Context(), tkt, "shop"); return err },
	} {
		for kind, tkt := range map[string]string{"a site": site, "a client": client, "a code": code} {
			if kind == name || kind == "a client" && name == "another" { // its own, and a theft that spends it
				continue
			}
			if err := try(tkt); !errors.Is(err, ErrNotFound) {
				t.Errorf("%s of %s: %v", name, kind, err)
			}
		}
		for _, junk := range []string{"", "0", strings.ToUpper(client), client + "0", client[:31] + "g", "../" + client[3:]} {
			if err := try(junk); !errors.Is(err, ErrNotFound) {
				t.Errorf("%s of %q: %v", name, junk, err)
			}
		}
	}
	if id, err := tickets.PublicClient(t.Context(), public); id != "shop" || err != nil {
		t.Errorf("the public ticket is of %q, %v", id, err)
	}
	for _, tkt := range []string{site, client, code, "junk"} {
		if id, err := tickets.PublicClient(t.Context(), tkt); id != "" || !errors.Is(err, ErrNotFound) {
			t.Errorf("a ticket that is not public is of %q, %v", id, err)
		}
	}
	_, err1 := tickets.Redeem(t.Context(), site, owner)
	_, err2 := tickets.RedeemBy(t.Context(), client, "shop")
	_, err3 := tickets.RedeemCode(t.Context(), code, "shop")
	_, err4 := tickets.RedeemBy(t.Context(), public, "")
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Errorf("and then their owners: %v", err)
	}
}

// TestClientTicketsRaced: of fifty at once one has the user; with a thief among them at most one, never the thief.
func TestClientTicketsRaced(t *testing.T) {
	for _, thief := range []bool{false, true} {
		tickets := newClientTickets()
		for range 100 {
			tkt, _ := tickets.IssueTo(t.Context(), Terms{}, voucherOf("shop"), time.Minute)
			code, _ := tickets.IssueCode(t.Context(), voucherOf("shop"))
			var won, codes atomic.Int64
			var wg sync.WaitGroup
			for i := range 50 {
				client := "shop"
				if thief && i%7 == 3 {
					client = "blog"
				}
				wg.Go(func() {
					if _, err := tickets.RedeemBy(t.Context(), tkt, client); err == nil {
						won.Add(1)
						if client == "blog" {
							t.Error("the thief has the user")
						}
					}
					if _, err := tickets.RedeemCode(t.Context(), code, client); err == nil {
						codes.Add(1)
					}
				})
			}
			wg.Wait()
			if n, m := won.Load(), codes.Load(); n > 1 || m > 1 || !thief && (n != 1 || m != 1) {
				t.Fatalf("%d have the ticket's user, %d the code's", n, m)
			}
		}
	}
}

// A stranger who guesses leaves nothing behind.
func TestGuessedTicketsAreNotRemembered(t *testing.T) {
	memory := NewMemory()
	tickets := Tickets{Store: memory.Limited(1 << 20)}
	for i := range 20_000 {
		guess := fmt.Sprintf("%032x", i)
		for _, client := range []string{"", "shop"} {
			if _, err := tickets.RedeemBy(t.Context(), guess, client); !errors.Is(err, ErrNotFound) {
				t.Fatal(err)
			}
		}
		if _, err := tickets.RedeemCode(t.Context(), guess, "shop"); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		_, _ = tickets.PublicClient(t.Context(), guess)
	}
	if n := memory.Bytes(); n != 0 {
		t.Errorf("%d bytes are left", n)
	}
}

// TestCodesThatAreNone: where nobody's login bounds them, they are bounded by where they come from, for a while; each
// is remembered for as long as a callback arrives twice, and no longer.
func TestCodesThatAreNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := NewMemory()
		c := &Codes{Store: memory.Limited(1 << 20), Timeout: time.Second}
		none := func(context.Context) Outcome { return Outcome{Status: StatusExpired} }
		for i := range MaxJunk {
			if err := c.AllowFrom(t.Context(), "here"); err != nil {
				t.Fatalf("after %d: %v", i, err)
			}
			code := fmt.Sprint("junk", i)
			if out, err := c.OnceAlone(t.Context(), "default", code, "target "+code, none); out.Status != StatusExpired || err != nil {
				t.Fatalf("%v, %v", out, err)
			}
			c.NoteJunk(t.Context(), "here")
		}
		if err := c.AllowFrom(t.Context(), "here"); !errors.Is(err, ErrTooMany) {
			t.Errorf("after %d: %v", MaxJunk, err)
		}
		if err := c.AllowFrom(t.Context(), "there"); err != nil {
			t.Errorf("elsewhere: %v", err)
		}
		time.Sleep(keepJunk)
		if n := memory.Bytes(); n > 2*1024 {
			t.Errorf("%d bytes are left of the codes", n)
		}
		time.Sleep(JunkWindow)
		if err := c.AllowFrom(t.Context(), "here"); err != nil {
			t.Errorf("a while later: %v", err)
		}
		if n := memory.Bytes(); n != 0 {
			t.Errorf("%d bytes are left", n)
		}
	})
}

// An arrival's code is exchanged once, whoever brings it how often, and no login has it as well.
func TestCodesAlone(t *testing.T) {
	c := &Codes{Store: NewMemory().Limited(1 << 20), Timeout: time.Second}
	asked := 0
	exchange := func(context.Context) Outcome {
		asked++
		return Outcome{Status: StatusOK, Identity: &Identity{OpenID: "oLina"}}
	}
	for range 10 {
		if out, err := c.OnceAlone(t.Context(), "default", "code", "target code", exchange); out.Status != StatusOK || err != nil {
			t.Errorf("%v, %v", out, err)
		}
	}
	if out, err := c.Once(t.Context(), "default", "code", NewLoginID(), exchange); out.Status != StatusExpired || err != nil {
		t.Errorf("with a login: %v, %v", out, err)
	}
	if out, err := c.OnceAlone(t.Context(), "default", "code", "other code", exchange); out.Status != StatusExpired || err != nil {
		t.Errorf("with another target: %v, %v", out, err)
	}
	if mine, err := c.Pass(t.Context(), "default", "code", NewLoginID()); mine || err != nil {
		t.Errorf("passed on: %t, %v", mine, err)
	}
	if asked != 1 {
		t.Errorf("WeChat was asked %d times", asked)
	}
}
