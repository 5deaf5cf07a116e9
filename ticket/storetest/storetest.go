// Package storetest is the suite that every ticket.Store passes.
package storetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/ticket"
)

const (
	long  = time.Minute            // outlives every test
	short = 200 * time.Millisecond // is waited for
	late  = 10 * time.Second       // an entry that is still there then does not end
	crowd = 50                     // callers at once
)

// Run tests the store that open returns. open is called once for each test and may return the same store
// again, or another view of a shared one: keys are random. Time is real, since a store may run elsewhere.
// That a store is bounded (ErrFull) is for its own tests.
func Run(t *testing.T, open func(t *testing.T) ticket.Store) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, ticket.Store){
		"what was put is there":                                testPut,
		"a key that is taken is not written again":             testPutExists,
		"nothing is found under a key that nobody used":        testNotFound,
		"every byte of a value comes back":                     testBytes,
		"values are copies":                                    testCopies,
		"take returns a value once":                            testTake,
		"take with another prefix changes nothing":             testTakePrefix,
		"of many puts at once one wins":                        testPutCrowd,
		"of many takes at once one wins":                       testTakeCrowd,
		"of many takes only one with the right prefix wins":    testTakeCrowdPrefix,
		"a counter counts from one, each key for itself":       testCount,
		"a counter is exact however many count at once":        testCountCrowd,
		"a value ends after its ttl and its key is free again": testValueEnds,
		"a failed put does not lengthen a value's life":        testPutDoesNotProlong,
		"a counter ends after the ttl of its first count":      testCounterEnds,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
	if _, ok := open(t).(ticket.Mover); ok {
		t.Run("what is moved is spent once and stays where it was moved to", func(t *testing.T) { testMove(t, open(t)) })
		t.Run("of many moves at once all get the value", func(t *testing.T) { testMoveCrowd(t, open(t)) })
	}
}

func testMove(t *testing.T, s ticket.Store) {
	m := s.(ticket.Mover)
	from, to := keys(t)
	put(t, s, from, "owner:value", long)
	if v, err := m.Move(t.Context(), from, to, []byte("thief:"), long); !errors.Is(err, ticket.ErrNotFound) {
		t.Fatalf("Move with another prefix: %q, %v, want ErrNotFound", v, err)
	}
	for range 2 {
		if v, err := m.Move(t.Context(), from, to, []byte("owner:"), short); err != nil || string(v) != "owner:value" {
			t.Fatalf("Move: %q, %v", v, err)
		}
		wantNone(t, s, from)
	}
	begun := time.Now()
	await(t, func() bool {
		_, err := m.Move(t.Context(), from, to, []byte("owner:"), long)
		if except(err, ticket.ErrNotFound) != nil {
			t.Fatal(err)
		}
		if err == nil && time.Since(begun) > late/2 {
			t.Fatal("what was moved does not end")
		}
		return err != nil
	})
}

func testMoveCrowd(t *testing.T, s ticket.Store) {
	m := s.(ticket.Mover)
	from, to := keys(t)
	put(t, s, from, "owner:value", long)
	won := inCrowd(t, func(int) (bool, error) {
		v, err := m.Move(t.Context(), from, to, []byte("owner:"), long)
		return string(v) == "owner:value", err
	})
	if len(won) != crowd {
		t.Fatalf("%d callers got it, want all", len(won))
	}
	wantNone(t, s, from)
	wantGet(t, s, to, "owner:value")
}

// keys returns two keys of one group.
func keys(t *testing.T) (from, to string) {
	t.Helper()
	group := "{" + key(t)[:16] + "}"
	return group + key(t), group + key(t)
}

func testPut(t *testing.T, s ticket.Store) {
	a, b := key(t), key(t)
	put(t, s, a, "one", long)
	put(t, s, b, "two", long)
	wantGet(t, s, a, "one")
	wantGet(t, s, b, "two")
	wantGet(t, s, a, "one")
}

func testPutExists(t *testing.T, s ticket.Store) {
	k := key(t)
	put(t, s, k, "first", long)
	if err := s.Put(t.Context(), k, []byte("second"), long); !errors.Is(err, ticket.ErrExists) {
		t.Fatalf("second Put: %v, want ErrExists", err)
	}
	wantGet(t, s, k, "first")
}

func testNotFound(t *testing.T, s ticket.Store) {
	wantNone(t, s, key(t))
	if v, err := s.Take(t.Context(), key(t), nil); !errors.Is(err, ticket.ErrNotFound) {
		t.Fatalf("Take: %q, %v, want ErrNotFound", v, err)
	}
}

func testBytes(t *testing.T, s ticket.Store) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for _, v := range [][]byte{{}, {0}, all, []byte("\r\n*?[]{}%s"), bytes.Repeat([]byte{0xff}, 8<<10)} {
		k := key(t)
		put(t, s, k, string(v), long)
		wantGet(t, s, k, string(v))
		wantTake(t, s, k, string(v[:len(v)/2]), string(v))
	}
}

// A caller that reuses its buffer must not change what another one reads.
func testCopies(t *testing.T, s ticket.Store) {
	k := key(t)
	in := []byte("value")
	if err := s.Put(t.Context(), k, in, long); err != nil {
		t.Fatal(err)
	}
	copy(in, "XXXXX")
	wantGet(t, s, k, "value")
	out, err := s.Get(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	copy(out, "YYYYY")
	wantGet(t, s, k, "value")
	wantTake(t, s, k, "", "value")
}

func testTake(t *testing.T, s ticket.Store) {
	for _, prefix := range []string{"", "o", "owner", "owner:value"} {
		k := key(t)
		put(t, s, k, "owner:value", long)
		wantTake(t, s, k, prefix, "owner:value")
		wantNone(t, s, k)
		if v, err := s.Take(t.Context(), k, []byte(prefix)); !errors.Is(err, ticket.ErrNotFound) {
			t.Fatalf("second Take: %q, %v, want ErrNotFound", v, err)
		}
		put(t, s, k, "again", long) // the key is free
	}
}

// Whoever tries a ticket that is not his must not spend it for its owner.
func testTakePrefix(t *testing.T, s ticket.Store) {
	k := key(t)
	put(t, s, k, "owner:value", long)
	for _, prefix := range []string{"other", "Owner", "wner", "*", ".", "owner:value and more", "\x00", strings.Repeat("owner", 100)} {
		if v, err := s.Take(t.Context(), k, []byte(prefix)); !errors.Is(err, ticket.ErrNotFound) {
			t.Fatalf("Take with prefix %q: %q, %v, want ErrNotFound", prefix, v, err)
		}
	}
	wantTake(t, s, k, "owner:", "owner:value")
}

func testPutCrowd(t *testing.T, s ticket.Store) {
	k := key(t)
	won := inCrowd(t, func(i int) (bool, error) {
		err := s.Put(t.Context(), k, fmt.Appendf(nil, "caller %d", i), long)
		return err == nil, except(err, ticket.ErrExists)
	})
	if len(won) != 1 {
		t.Fatalf("%d callers won, want 1", len(won))
	}
	wantGet(t, s, k, fmt.Sprintf("caller %d", won[0]))
}

func testTakeCrowd(t *testing.T, s ticket.Store) {
	k := key(t)
	put(t, s, k, "value", long)
	won := inCrowd(t, func(int) (bool, error) {
		v, err := s.Take(t.Context(), k, []byte("val"))
		if err == nil && string(v) != "value" {
			return false, fmt.Errorf("took %q", v)
		}
		return err == nil, except(err, ticket.ErrNotFound)
	})
	if len(won) != 1 {
		t.Fatalf("%d callers won, want 1", len(won))
	}
}

func testTakeCrowdPrefix(t *testing.T, s ticket.Store) {
	k := key(t)
	put(t, s, k, "owner:value", long)
	won := inCrowd(t, func(i int) (bool, error) {
		prefix := "thief:"
		if i == crowd/2 {
			prefix = "owner:"
		}
		_, err := s.Take(t.Context(), k, []byte(prefix))
		return err == nil, except(err, ticket.ErrNotFound)
	})
	if !slices.Equal(won, []int{crowd / 2}) {
		t.Fatalf("callers %v won, want the owner alone", won)
	}
}

func testCount(t *testing.T, s ticket.Store) {
	a, b := key(t), key(t)
	for want := int64(1); want <= 3; want++ {
		wantCount(t, s, a, want, long)
	}
	wantCount(t, s, b, 1, long)
	wantCount(t, s, a, 4, long)
}

func testCountCrowd(t *testing.T, s ticket.Store) {
	k := key(t)
	var mu sync.Mutex
	var got []int64
	inCrowd(t, func(int) (bool, error) {
		n, err := s.Count(t.Context(), k, long)
		mu.Lock()
		defer mu.Unlock()
		got = append(got, n)
		return true, err
	})
	slices.Sort(got)
	for i, n := range got {
		if n != int64(i+1) {
			t.Fatalf("counts %v, want 1 to %d, each once", got, crowd)
		}
	}
}

func testValueEnds(t *testing.T, s ticket.Store) {
	k, taken, stays := key(t), key(t), key(t)
	put(t, s, stays, "stays", long)
	put(t, s, taken, "taken", short)
	begun := time.Now()
	put(t, s, k, "ends", short)
	await(t, func() bool {
		v, err := s.Get(t.Context(), k)
		if err == nil && string(v) != "ends" {
			t.Fatalf("Get: %q", v)
		}
		return ended(t, begun, err)
	})
	if v, err := s.Take(t.Context(), taken, nil); !errors.Is(err, ticket.ErrNotFound) {
		t.Fatalf("Take of what has ended: %q, %v, want ErrNotFound", v, err)
	}
	put(t, s, k, "new", long)
	wantGet(t, s, k, "new")
	wantGet(t, s, stays, "stays")
}

func testPutDoesNotProlong(t *testing.T, s ticket.Store) {
	k := key(t)
	begun := time.Now()
	put(t, s, k, "first", short)
	await(t, func() bool {
		err := s.Put(t.Context(), k, []byte("second"), long)
		if err == nil && time.Since(begun) < short {
			t.Fatalf("free again after %v, want %v", time.Since(begun), short)
		}
		if except(err, ticket.ErrExists) != nil {
			t.Fatal(err)
		}
		return err == nil
	})
	wantGet(t, s, k, "second")
}

// A counter that every count prolongs would lock out for good who keeps trying.
func testCounterEnds(t *testing.T, s ticket.Store) {
	k := key(t)
	begun := time.Now()
	wantCount(t, s, k, 1, short)
	last := int64(1)
	await(t, func() bool {
		n, err := s.Count(t.Context(), k, short)
		if err != nil {
			t.Fatal(err)
		}
		if n != last+1 && n != 1 {
			t.Fatalf("counted %d after %d", n, last)
		}
		if n == 1 && time.Since(begun) < short {
			t.Fatalf("ended after %v, want %v", time.Since(begun), short)
		}
		last = n
		return n == 1
	})
}

// key returns a key as this project's are, new each time.
func key(t *testing.T) string {
	t.Helper()
	var b [32]byte
	if _, err := rand.Read(b[:]); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", b)
}

func put(t *testing.T, s ticket.Store, key, value string, ttl time.Duration) {
	t.Helper()
	if err := s.Put(t.Context(), key, []byte(value), ttl); err != nil {
		t.Fatalf("Put: %v", err)
	}
}

func wantGet(t *testing.T, s ticket.Store, key, want string) {
	t.Helper()
	if v, err := s.Get(t.Context(), key); err != nil || string(v) != want {
		t.Fatalf("Get: %q, %v, want %q", v, err, want)
	}
}

func wantNone(t *testing.T, s ticket.Store, key string) {
	t.Helper()
	if v, err := s.Get(t.Context(), key); !errors.Is(err, ticket.ErrNotFound) {
		t.Fatalf("Get: %q, %v, want ErrNotFound", v, err)
	}
}

func wantTake(t *testing.T, s ticket.Store, key, prefix, want string) {
	t.Helper()
	if v, err := s.Take(t.Context(), key, []byte(prefix)); err != nil || string(v) != want {
		t.Fatalf("Take with prefix %q: %q, %v, want %q", prefix, v, err, want)
	}
}

func wantCount(t *testing.T, s ticket.Store, key string, want int64, ttl time.Duration) {
	t.Helper()
	if n, err := s.Count(t.Context(), key, ttl); err != nil || n != want {
		t.Fatalf("Count: %d, %v, want %d", n, err, want)
	}
}

// inCrowd calls f from many goroutines at once and returns those, in order, for which it was true.
func inCrowd(t *testing.T, f func(i int) (bool, error)) (won []int) {
	t.Helper()
	start := make(chan struct{})
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range crowd {
		wg.Go(func() {
			<-start
			ok, err := f(i)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("caller %d: %v", i, err)
			}
			if ok {
				won = append(won, i)
			}
		})
	}
	close(start)
	wg.Wait()
	slices.Sort(won)
	return won
}

// except returns err, or nil where it is the one that is allowed.
func except(err, allowed error) error {
	if errors.Is(err, allowed) {
		return nil
	}
	return err
}

// ended reports whether err says that an entry put at begun for the short ttl is gone, and not too early.
func ended(t *testing.T, begun time.Time, err error) bool {
	t.Helper()
	if except(err, ticket.ErrNotFound) != nil {
		t.Fatal(err)
	}
	if err != nil && time.Since(begun) < short {
		t.Fatalf("gone after %v, want %v", time.Since(begun), short)
	}
	return err != nil
}

// await asks done again and again until it is true.
func await(t *testing.T, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), late)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("still there after %v", late)
		}
	}
}
