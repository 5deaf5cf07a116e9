package ticket

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// weChat is a scripted exchange: it takes a while, and each code is good once.
type weChat struct {
	mu    sync.Mutex
	takes time.Duration
	asked map[string]int // by code
}

func (w *weChat) exchange(code string) func(context.Context) Outcome {
	return func(ctx context.Context) Outcome {
		w.mu.Lock()
		if w.asked == nil {
			w.asked = map[string]int{}
		}
		w.asked[code]++
		w.mu.Unlock()
		if w.takes > 0 {
			select {
			case <-time.After(w.takes):
			case <-ctx.Done():
				return Outcome{Status: StatusUnavailable, Ref: "gave up"}
			}
		}
		if strings.HasPrefix(code, "junk") {
			return Outcome{Status: StatusExpired, Ref: "40029"}
		}
		return Outcome{Status: StatusOK, Identity: &Identity{OpenID: "o" + code, AppID: "wx", Scope: ScopeBase}, At: 1, Ref: "ref"}
	}
}

func (w *weChat) total() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, asked := range w.asked {
		n += asked
	}
	return n
}

// flaky is a store whose calls fail from the nth on.
type flaky struct {
	Store
	mu    sync.Mutex
	after int // calls that succeed
}

func (f *flaky) step() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.after--; f.after < 0 {
		return errAway
	}
	return nil
}

func (f *flaky) heal(calls int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.after = calls
}

func (f *flaky) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if err := f.step(); err != nil {
		return err
	}
	return f.Store.Put(ctx, key, value, ttl)
}

func (f *flaky) Get(ctx context.Context, key string) ([]byte, error) {
	if err := f.step(); err != nil {
		return nil, err
	}
	return f.Store.Get(ctx, key)
}

func (f *flaky) Take(ctx context.Context, key string, prefix []byte) ([]byte, error) {
	if err := f.step(); err != nil {
		return nil, err
	}
	return f.Store.Take(ctx, key, prefix)
}

func (f *flaky) Count(ctx context.Context, key string, ttl time.Duration) (int64, error) {
	if err := f.step(); err != nil {
		return 0, err
	}
	return f.Store.Count(ctx, key, ttl)
}

func newCodes(s Store) *Codes { return &Codes{Store: s, Timeout: 20 * time.Second} }

func newStore() Store { return NewMemory().Limited(1 << 20) }

func once(t *testing.T, c *Codes, w *weChat, code, login string) Outcome {
	t.Helper()
	out, err := c.Once(t.Context(), "default", code, login, w.exchange(code))
	if err != nil {
		t.Fatalf("Once: %v", err)
	}
	return out
}

func wantUser(t *testing.T, out Outcome, openid string) {
	t.Helper()
	if out.Status != StatusOK || out.Identity == nil || out.Identity.OpenID != openid || out.At != 1 || out.Ref != "ref" {
		t.Errorf("got %+v (%+v), want %s", out, out.Identity, openid)
	}
}

func wantNobody(t *testing.T, out Outcome, status Status) {
	t.Helper()
	if out.Status != status || out.Identity != nil {
		t.Errorf("got %+v (%+v), want %s and nobody", out, out.Identity, status)
	}
}

// WeChat delivers a callback twice at once; a user taps until something happens.
func TestOneCodeIsExchangedOnce(t *testing.T) {
	for name, gateways := range map[string]int{"by one gateway": 1, "by two gateways": 2} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, w := newStore(), &weChat{takes: 3 * time.Second}
				all := []*Codes{newCodes(s), newCodes(s)}[:gateways]
				var wg sync.WaitGroup
				for i := range 20 {
					wg.Go(func() {
						out, err := all[i%gateways].Once(t.Context(), "default", "code", "login", w.exchange("code"))
						if err != nil {
							t.Error(err)
						}
						wantUser(t, out, "ocode")
					})
				}
				wg.Wait()
				time.Sleep(50 * time.Millisecond) // the bubble's clock
				for _, c := range all {
					wantUser(t, once(t, c, w, "code", "login"), "ocode")
				}
				if n := w.total(); n != 1 {
					t.Errorf("%d exchanges, want 1", n)
				}
			})
		})
	}
}

// attack: a code that was exchanged is brought to the thief's own login.
func TestCodeOfAnotherLoginIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w := newStore(), &weChat{takes: time.Second}
		a, b := newCodes(s), newCodes(s)
		var wg sync.WaitGroup
		wg.Go(func() { wantUser(t, once(t, a, w, "code", "victim"), "ocode") })
		synctest.Wait()
		for _, c := range []*Codes{a, b} {
			wantNobody(t, once(t, c, w, "code", "thief"), StatusExpired) // under way
		}
		wg.Wait()
		for _, c := range []*Codes{a, b} {
			wantNobody(t, once(t, c, w, "code", "thief"), StatusExpired) // done
			wantUser(t, once(t, c, w, "code", "victim"), "ocode")        // nothing is spent
		}
		if n := w.total(); n != 1 {
			t.Errorf("%d exchanges, want 1", n)
		}
	})
}

// The accounts' codes are each account's own.
func TestCodeOfAnotherAccountIsAnotherCode(t *testing.T) {
	c, w := newCodes(newStore()), &weChat{}
	wantUser(t, once(t, c, w, "code", "login"), "ocode")
	out, err := c.Once(t.Context(), "other", "code", "login", func(context.Context) Outcome { return Outcome{Status: StatusDenied} })
	if err != nil {
		t.Fatal(err)
	}
	wantNobody(t, out, StatusDenied)
}

// attack: keys joined from parts, so that account "a", code "b:c" is account "a:b", code "c".
func TestPartsOfAKeyAreNotJoined(t *testing.T) {
	seen := map[string][]string{}
	for _, parts := range [][]string{
		{"a", "b", "c"},
		{"ab", "", "c"},
		{"a", "bc", ""},
		{"", "ab", "c"},
		{"abc"},
		{"a", "b:c"},
		{"a:b", "c"},
		{"a", "b", "c", ""},
		{"", "a", "b", "c"},
		{"a\x00b", "c"},
		{"a", "b\x00c"},
		{"", "", ""},
		{"", ""},
		{""},
	} {
		key := storeKey(parts[0], parts[1:]...)
		if seen[key] != nil || !hashedKey.MatchString(key) {
			t.Errorf("%q and %q: %s", seen[key], parts, key)
		}
		seen[key] = append(parts, "")
	}
}

// attack: Mallory begins a login, a victim's silent callback fills it, Mallory asks again with a code of her
// own or with junk. The broker sees no cookie: each code answers for itself.
func TestTwoCodesOfOneLoginAreTwoAnswers(t *testing.T) {
	c, w := newCodes(newStore()), &weChat{}
	wantUser(t, once(t, c, w, "victim", "login"), "ovictim")
	wantNobody(t, once(t, c, w, "junk", "login"), StatusExpired)
	wantUser(t, once(t, c, w, "mallory", "login"), "omallory")
	wantUser(t, once(t, c, w, "victim", "login"), "ovictim")
}

func TestTwoCodesAtOnceAreTwoAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, w := newCodes(newStore()), &weChat{takes: time.Second}
		var wg sync.WaitGroup
		for i := range 20 {
			code := []string{"one", "two"}[i%2]
			wg.Go(func() { wantUser(t, once(t, c, w, code, "login"), "o"+code) })
		}
		wg.Wait()
		if w.asked["one"] != 1 || w.asked["two"] != 1 {
			t.Errorf("asked %v, want each once", w.asked)
		}
	})
}

// attack: codes guessed at the price of WeChat's quota.
func TestLoginBringsAtMostFiveCodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w := newStore(), &weChat{}
		all := []*Codes{newCodes(s), newCodes(s)}
		for i := range MaxCodes {
			code := fmt.Sprint(i)
			wantUser(t, once(t, all[i%2], w, code, "login"), "o"+code)
			wantUser(t, once(t, all[i%2], w, code, "login"), "o"+code) // a repetition is no new code
		}
		for i := range 10 {
			wantNobody(t, once(t, all[i%2], w, fmt.Sprintf("more %d", i), "login"), StatusExpired)
		}
		if n := w.total(); n != MaxCodes {
			t.Errorf("%d exchanges, want %d", n, MaxCodes)
		}
		wantUser(t, once(t, all[0], w, "0", "login"), "o0")
		wantUser(t, once(t, all[0], w, "fresh", "another login"), "ofresh")
		wantUser(t, once(t, all[0], w, "more 0", "a third login"), "omore 0") // the guess claimed nothing
	})
}

// The back button after nine minutes finds the same; after ten the code is gone, at WeChat too.
func TestOutcomeIsKeptTenMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory()
		c, w := newCodes(m.Limited(1<<20)), &weChat{}
		wantUser(t, once(t, c, w, "code", "login"), "ocode")
		time.Sleep(keepOutcome - time.Second) // the bubble's clock
		wantUser(t, once(t, c, w, "code", "login"), "ocode")
		wantNobody(t, once(t, c, w, "code", "thief"), StatusExpired)
		if n := w.total(); n != 1 {
			t.Errorf("%d exchanges, want 1", n)
		}
		time.Sleep(time.Second)
		time.Sleep(keepOutcome)
		if n := m.Bytes(); n != 0 {
			t.Errorf("%d bytes are kept", n)
		}
		wantUser(t, once(t, c, w, "code", "login"), "ocode")
		if n := w.total(); n != 2 {
			t.Errorf("%d exchanges, want 2", n)
		}
	})
}

// attack: a flood of junk codes that fills the store, after which nobody can log in. That a code was none
// is remembered as long as a callback arrives twice; what stays is a login's counter.
func TestJunkCodesLeaveLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory()
		c, w := newCodes(m.Limited(1<<20)), &weChat{}
		wantNobody(t, once(t, c, w, "junk", "login"), StatusExpired)
		out, err := c.Once(t.Context(), "default", "junk", "login", w.exchange("another answer"))
		if err != nil {
			t.Fatal(err)
		}
		wantNobody(t, out, StatusExpired) // the same callback twice asks once
		if n := w.total(); n != 1 {
			t.Errorf("%d exchanges, want 1", n)
		}
		time.Sleep(keepJunk)
		if n := m.Bytes(); n > 300 {
			t.Errorf("a junk code keeps %d bytes", n)
		}
	})
}

// WeChat aborts the first of two callbacks: the second needs what the first one's code brought.
func TestExchangeOutlivesItsRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, w := newCodes(newStore()), &weChat{takes: 3 * time.Second}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			out, err := c.Once(ctx, "default", "code", "login", w.exchange("code"))
			if err != nil {
				t.Error(err)
			}
			wantUser(t, out, "ocode")
		})
		synctest.Wait()
		cancel()
		wantUser(t, once(t, c, w, "code", "login"), "ocode")
		wg.Wait()
		if n := w.total(); n != 1 {
			t.Errorf("%d exchanges, want 1", n)
		}
	})
	t.Run("a request that had ended before is served all the same", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		w := &weChat{}
		if out, err := newCodes(newStore()).Once(ctx, "default", "code", "login", w.exchange("code")); err != nil {
			t.Error(err)
		} else {
			wantUser(t, out, "ocode")
		}
	})
}

func TestExchangeHasADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w := newStore(), &weChat{takes: time.Hour}
		a, b := newCodes(s), newCodes(s)
		begun := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() { wantNobody(t, once(t, a, w, "code", "login"), StatusUnavailable) })
		synctest.Wait()
		wantNobody(t, once(t, b, w, "code", "login"), StatusUnavailable)
		wg.Wait()
		if took := time.Since(begun); took > a.Timeout+time.Second {
			t.Errorf("took %v, want %v", took, a.Timeout)
		}
		if n := w.total(); n != 1 {
			t.Errorf("%d exchanges, want 1", n)
		}
		// What it brought is kept although the deadline has passed.
		if out := once(t, a, w, "code", "login"); out.Ref != "gave up" {
			t.Errorf("got %+v", out)
		}
	})
}

// A gateway that died in the middle of an exchange leaves a claim without an outcome.
func TestClaimWithoutAnOutcomeIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w := hasty{newStore()}, &weChat{}
		owner := hashParts("claim", "login")
		if err := s.Put(t.Context(), claimKey("default", "code"), owner[:], keepOutcome); err != nil {
			t.Fatal(err)
		}
		wantNobody(t, once(t, newCodes(s), w, "code", "login"), StatusLost)
		wantNobody(t, once(t, newCodes(s), w, "code", "thief"), StatusExpired)
		if n := w.total(); n != 0 {
			t.Errorf("%d exchanges, want 0", n)
		}
	})
}

// hasty is a store that does nothing for a context that has ended, as one on a network.
type hasty struct{ Store }

func (h hasty) Get(ctx context.Context, key string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return h.Store.Get(ctx, key)
}

// Where the store is away nothing is concluded, nobody is signed in, and no code is exchanged twice.
func TestCodesFailClosed(t *testing.T) {
	const calls = 4 // Get, Count, Put the claim, Put the outcome
	for n := range calls {
		t.Run(fmt.Sprintf("after %d calls", n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, w := &flaky{Store: newStore(), after: n}, &weChat{}
				c := newCodes(s)
				out, err := c.Once(t.Context(), "default", "code", "login", w.exchange("code"))
				if !errors.Is(err, errAway) || out != (Outcome{}) {
					t.Fatalf("%+v, %v, want nothing and the reason", out, err)
				}
				want := 0
				if n == calls-1 {
					want = 1
				}
				if got := w.total(); got != want {
					t.Errorf("%d exchanges, want %d", got, want)
				}
				s.heal(1 << 20)
				out = once(t, c, w, "code", "login")
				if n == calls-1 {
					wantNobody(t, out, StatusLost) // what it brought is lost, and it is not asked again
				} else {
					wantUser(t, out, "ocode")
				}
				if got := w.total(); got != 1 {
					t.Errorf("%d exchanges, want 1", got)
				}
			})
		})
	}
	t.Run("while another gateway exchanges", func(t *testing.T) {
		for n := 3; n < 6; n++ { // Get, Count, Put, then: Get the claim, Get the outcome, again
			synctest.Test(t, func(t *testing.T) {
				s, w := newStore(), &weChat{takes: time.Second}
				a, b := newCodes(s), newCodes(&flaky{Store: s, after: n})
				var wg sync.WaitGroup
				wg.Go(func() { wantUser(t, once(t, a, w, "code", "login"), "ocode") })
				synctest.Wait()
				if out, err := b.Once(t.Context(), "default", "code", "login", w.exchange("code")); !errors.Is(err, errAway) || out != (Outcome{}) {
					t.Errorf("%+v, %v, want nothing and the reason", out, err)
				}
				wg.Wait()
			})
		}
	})
	t.Run("when the store is full", func(t *testing.T) {
		w := &weChat{}
		if _, err := newCodes(NewMemory().Limited(0)).Once(t.Context(), "default", "code", "login", w.exchange("code")); !errors.Is(err, ErrFull) || w.total() != 0 {
			t.Errorf("%v, %d exchanges", err, w.total())
		}
	})
	t.Run("when the outcome is no JSON", func(t *testing.T) {
		s, w := newStore(), &weChat{}
		if err := s.Put(t.Context(), storeKey("login", "outcome", "default", "code"), []byte("junk"), time.Minute); err != nil {
			t.Fatal(err)
		}
		if out, err := newCodes(s).Once(t.Context(), "default", "code", "login", w.exchange("code")); err == nil || out != (Outcome{}) || w.total() != 0 {
			t.Errorf("%+v, %v, %d exchanges", out, err, w.total())
		}
	})
}

// attack: whoever reads the store finds codes that may be good, and logins.
func TestStoreHoldsNoCodes(t *testing.T) {
	m := NewMemory()
	once(t, newCodes(m.Limited(1<<20)), &weChat{}, "the-code-as-it-came", "the-login-as-it-came")
	wantNotIn(t, m, "the-code-as-it-came", "the-login-as-it-came")
}

func wantNotIn(t *testing.T, m *Memory, texts ...string) {
	t.Helper()
	if len(m.entries) == 0 {
		t.Fatal("nothing is stored: this test tests nothing")
	}
	for _, e := range m.entries {
		for _, text := range texts {
			// An outcome holds its openid, which the scripted exchange makes of the code.
			value := strings.ReplaceAll(string(e.value), `"openid":"o`+text, "")
			if strings.Contains(e.key, text) || strings.Contains(value, text) {
				t.Errorf("%q stands in %q: %q", text, e.key, e.value)
			}
		}
	}
}
