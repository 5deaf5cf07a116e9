package caddymodule

import (
	"context"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/ticket"
)

// churn is a gateway on which people come and go, its storage and its store.
type churn struct {
	auth    *Auth
	broker  *Broker
	gateway *gateway
	storage string
	store   *ticket.Memory
	ended   []string // the ids of the sessions that were ended
}

func newChurn(t *testing.T) *churn {
	t.Helper()
	c := &churn{storage: t.TempDir(), store: ticket.NewMemory()}
	app := provision(t, `{
		log default {
			output discard
		}
		storage file_system `+c.storage+`
		wechat {
			account {
				app_id wx0123456789abcdef
				app_secret 0123456789abcdef0123456789abcdef
				domain auth.example.com
			}
			session_key {
				rotate 6h
			}
		}
	}
	http://auth.example.com {
		wechat_broker {
			client shop {
				secret shop-secret-0123456789
				return_to https://client.example/*
			}
		}
	}
	http://shop.example.org {
		wechat_auth
	}`)
	for _, s := range app.sites {
		c.auth = s.auths[0]
	}
	c.broker, c.gateway = app.brokers[defaultAccount], app.gateway
	c.gateway.cache.close()
	var err error
	if c.gateway.cache, err = newSessionCache(minCache); err != nil { // a day fills it
		t.Fatal(err)
	}
	store := c.store.Limited(defaultMemory)
	c.gateway.tickets.Store, c.gateway.codes.Store, c.gateway.profiles.Store = store, store, store
	return c
}

// hours lets so many pass, each with what the gateway does of itself, and with people where there are some.
func (c *churn) hours(t *testing.T, n, people int) {
	t.Helper()
	for range n {
		for i := range people {
			c.person(t, i)
		}
		time.Sleep(time.Hour) // the bubble's clock
		for _, do := range []func(context.Context) error{c.gateway.keys.Maintain, c.gateway.revoked.Look, c.gateway.prune} {
			if err := do(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// person does all that one can do: what ends well, what is given up half-way, and what is junk.
func (c *churn) person(t *testing.T, i int) {
	t.Helper()
	w, login, from := httptest.NewRecorder(), ticket.NewLoginID(), fmt.Sprintf("192.0.2.%d", i)
	newBenchRequest(t, "").serve(t, c.auth, w, done)
	if w.Code != 302 {
		t.Fatalf("a login did not begin: %d", w.Code)
	}
	c.codes(t, login, from)
	c.tickets(t, login, i%2 == 0)
	c.session(t, login)
	tokens := snsLogin(t, c.broker)
	for _, call := range []string{tokens.refresh(), tokens.userInfo()} {
		if got := snsCall(t, c.broker, call); got.Errcode != 0 {
			t.Fatalf("%+v", got)
		}
	}
}

func (c *churn) codes(t *testing.T, login, from string) {
	t.Helper()
	id, codes := person("小明"), c.gateway.codes
	good := func(context.Context) ticket.Outcome { return ticket.Outcome{Status: ticket.StatusOK, Identity: &id} }
	junk := func(context.Context) ticket.Outcome { return ticket.Outcome{Status: ticket.StatusExpired} }
	var errs [7]error
	_, errs[0] = codes.Once(t.Context(), defaultAccount, "good "+login, login, good)
	_, errs[1] = codes.Once(t.Context(), defaultAccount, "good "+login, login, good) // again
	_, errs[2] = codes.Once(t.Context(), defaultAccount, "junk "+login, login, junk)
	_, errs[3] = codes.OnceAlone(t.Context(), defaultAccount, "alone "+login, "target "+login, junk)
	_, errs[4] = codes.Stranger(t.Context(), defaultAccount, "good "+login, login)
	_, errs[5] = codes.Pass(t.Context(), defaultAccount, "passed "+login, login)
	errs[6] = codes.AllowFrom(t.Context(), from)
	codes.NoteJunk(t.Context(), from)
	codes.NoteEnd(t.Context(), login, attemptWindow)
	for i, err := range errs {
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
	}
}

// tickets are redeemed, or left.
func (c *churn) tickets(t *testing.T, login string, redeemed bool) {
	t.Helper()
	tickets, v := c.gateway.tickets, ticket.Voucher{Identity: person("小明"), Client: "shop", Login: login}
	owner := ticket.Owner{Account: defaultAccount, Origin: "http://shop.example.org", Login: login}
	var errs [7]error
	mine, err := tickets.Issue(t.Context(), owner, v, defaultTicketTTL)
	errs[0] = err
	theirs, err := tickets.IssueTo(t.Context(), ticket.Terms{}, v, defaultTicketTTL)
	errs[1] = err
	code, err := tickets.IssueCode(t.Context(), v)
	errs[2] = err
	errs[3] = c.gateway.profiles.Keep(t.Context(), []string{login}, v, time.Duration(defaultProfileTTL))
	if redeemed {
		_, errs[4] = tickets.Redeem(t.Context(), mine, owner)
		_, errs[5] = tickets.RedeemBy(t.Context(), theirs, "shop")
		_, errs[6] = tickets.RedeemCode(t.Context(), code, "shop")
	}
	for i, err := range errs {
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
	}
}

// session is somebody who signs in, looks at a page and logs out, and a guest.
func (c *churn) session(t *testing.T, login string) {
	t.Helper()
	o := c.auth.site.newOrigin("http://shop.example.org", "", false)
	token := newToken(t, o, person("小明"))
	b := newBenchRequest(t, token)
	live := o.session(b.r, token, time.Now())
	guest, err := o.sessions.SignGuest(t.Context())
	if err != nil || live == nil || o.sessions.VerifyGuest(t.Context(), guest) != nil {
		t.Fatalf("login %s: %v", login, err)
	}
	if err := c.gateway.revoked.Revoke(t.Context(), live.ID, time.Now().Add(defaultMax)); err != nil {
		t.Fatal(err)
	}
	c.ended = append(c.ended, strings.Clone(live.ID))
}

// known is how many of the ended sessions are known to be.
func (c *churn) known() (n int) {
	for _, id := range c.ended {
		if c.gateway.revoked.Known.Has(id) {
			n++
		}
	}
	return n
}

// left is what there is of all that may pile up.
func (c *churn) left(t *testing.T) (files int, bytes, heap int64) {
	t.Helper()
	err := filepath.WalkDir(c.storage, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if files++; err == nil && !d.IsDir() {
			bytes += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files, bytes, heapInUse()
}

// A day on which a thousand people come and go leaves the gateway as the day before did.
func TestADayLeavesNothing(t *testing.T) {
	withoutRace(t)
	const day, month, people = 24, 31 * 24, 40 // hours, hours, an hour
	c := newChurn(t)
	synctest.Test(t, func(t *testing.T) {
		c.hours(t, day, people)
		night := c.store.Bytes()
		c.hours(t, month, 0)
		c.ended = nil
		files, bytes, heap := c.left(t)

		c.hours(t, day, people)
		if got := c.store.Bytes(); got > night+night/100 {
			t.Errorf("%d bytes in the store, the other night there were %d", got, night)
		}
		if known := c.known(); known != day*people {
			t.Errorf("%d sessions are known to have ended, want the %d of the last 30 days", known, day*people)
		}
		c.hours(t, month, 0)
		if known := c.known(); known != 0 {
			t.Errorf("%d sessions are known to have ended when they would have ended anyway", known)
		}
		c.ended = nil
		filesAfter, bytesAfter, heapAfter := c.left(t)
		t.Logf("in the store: %d bytes at night; files: %d with %d bytes before, %d with %d after; heap: %d KiB before, %d after",
			night, files, bytes, filesAfter, bytesAfter, heap>>10, heapAfter>>10)
		if got := c.store.Bytes(); got != 0 {
			t.Errorf("%d bytes in the store", got)
		}
		if filesAfter > files || bytesAfter > bytes+bytes/50 {
			t.Errorf("%d files and folders with %d bytes in the storage, there were %d with %d", filesAfter, bytesAfter, files, bytes)
		}
		if heapAfter > heap+heap/20 {
			t.Errorf("%d bytes live on the heap, there were %d", heapAfter, heap)
		}
		time.Sleep(time.Minute) // who keeps the storage's lock fresh looks every five seconds whether it is over
	})
}
