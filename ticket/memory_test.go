package ticket_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/ticket"
	"github.com/caddy-wechat/caddy-wechat/ticket/storetest"
)

const roomy = 1 << 20

func TestMemory(t *testing.T) {
	storetest.Run(t, func(*testing.T) ticket.Store { return ticket.NewMemory().Limited(roomy) })
}

func TestMemorySharedByTwoViews(t *testing.T) {
	m := ticket.NewMemory()
	views := []ticket.Store{m.Limited(roomy), m.Limited(2 * roomy)}
	next := 0
	storetest.Run(t, func(*testing.T) ticket.Store {
		next++
		return views[next%2]
	})
}

// 10,000 begun logins, or guessed codes, must not take the machine's memory.
func TestMemoryTurnsAwayWhatExceedsItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 64 << 10
		m := ticket.NewMemory()
		s := m.Limited(limit)
		put := func(i int) error {
			return s.Put(t.Context(), fmt.Sprintf("value %d", i), make([]byte, 500), time.Minute)
		}
		n := fill(t, m, limit, put)
		if n < limit/1000 || n > limit/500 {
			t.Errorf("%d values of 500 bytes in %d bytes", n, limit)
		}
		if err := s.Put(t.Context(), "big", make([]byte, limit), time.Minute); !errors.Is(err, ticket.ErrFull) {
			t.Errorf("a value larger than what is left: %v, want ErrFull", err)
		}
		if _, err := s.Count(t.Context(), strings.Repeat("counter", 100), time.Minute); !errors.Is(err, ticket.ErrFull) {
			t.Errorf("a new counter: %v, want ErrFull", err)
		}
		if err := put(0); !errors.Is(err, ticket.ErrExists) {
			t.Errorf("a key that is taken: %v, want ErrExists", err)
		}

		time.Sleep(time.Minute) // the bubble's clock
		if got := m.Bytes(); got != 0 {
			t.Errorf("%d bytes after all have ended, want 0", got)
		}
		if again := fill(t, m, limit, put); again != n {
			t.Errorf("%d values fit after the others have ended, want %d", again, n)
		}
	})
}

func TestMemoryTurnsAwayCountersThatExceedItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 64 << 10
		m := ticket.NewMemory()
		s := m.Limited(limit)
		count := func(i int) error {
			_, err := s.Count(t.Context(), fmt.Sprintf("counter %d", i), time.Minute)
			return err
		}
		n := fill(t, m, limit, count)
		if got, err := s.Count(t.Context(), "counter 0", time.Minute); err != nil || got != 2 {
			t.Errorf("a counter that is there: %d, %v, want 2", got, err)
		}
		time.Sleep(time.Minute)
		if got := m.Bytes(); got != 0 {
			t.Errorf("%d bytes after all have ended, want 0", got)
		}
		if again := fill(t, m, limit, count); again != n {
			t.Errorf("%d counters fit after the others have ended, want %d", again, n)
		}
	})
}

// fill calls add until the store is full and returns how often it was not.
func fill(t *testing.T, m *ticket.Memory, limit int64, add func(i int) error) (n int) {
	t.Helper()
	for {
		err := add(n)
		if got := m.Bytes(); got > limit {
			t.Fatalf("%d bytes, limit %d", got, limit)
		}
		if errors.Is(err, ticket.ErrFull) {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
}

func TestMemoryGivesBackWhatWasTaken(t *testing.T) {
	m := ticket.NewMemory()
	s := m.Limited(1000)
	for i := range 100 {
		k := fmt.Sprint(i)
		if err := s.Put(t.Context(), k, make([]byte, 700), time.Minute); err != nil {
			t.Fatalf("put %d: %v", i, err)
		}
		if _, err := s.Take(t.Context(), k, []byte("x")); !errors.Is(err, ticket.ErrNotFound) {
			t.Fatal(err)
		}
		if m.Bytes() == 0 {
			t.Fatal("a take with another prefix gave the memory back")
		}
		if _, err := s.Take(t.Context(), k, nil); err != nil {
			t.Fatal(err)
		}
		if got := m.Bytes(); got != 0 {
			t.Fatalf("%d bytes after the take, want 0", got)
		}
	}
}

// Entries end in the order of their ends, whatever the order of their puts, and each at its own time.
func TestMemoryEndsEachEntryInItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := ticket.NewMemory()
		s := m.Limited(roomy)
		const n = 100
		for i := range n {
			if err := s.Put(t.Context(), fmt.Sprint(i), nil, time.Duration(1+(i*37)%n)*time.Second); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Take(t.Context(), "50", nil); err != nil { // out of the middle
			t.Fatal(err)
		}
		for second := range n {
			for i := range n {
				_, err := s.Get(t.Context(), fmt.Sprint(i))
				if want := i != 50 && 1+(i*37)%n > second; (err == nil) != want {
					t.Fatalf("after %d s entry %d: %v, there: want %v", second, i, err, want)
				}
			}
			time.Sleep(time.Second)
		}
		if got := m.Bytes(); got != 0 {
			t.Errorf("%d bytes in the end", got)
		}
	})
}

// A reload that changes the limit must lose no login that is under way.
func TestMemoryViewsShareTheirEntries(t *testing.T) {
	m := ticket.NewMemory()
	before, after := m.Limited(1000), m.Limited(500)
	if err := before.Put(t.Context(), "ticket", make([]byte, 400), time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, err := before.Count(t.Context(), "tries", time.Minute); err != nil {
		t.Fatal(err)
	}
	if n, err := after.Count(t.Context(), "tries", time.Minute); err != nil || n != 2 {
		t.Errorf("the new view counts %d, %v, want 2", n, err)
	}
	if err := after.Put(t.Context(), "ticket", nil, time.Minute); !errors.Is(err, ticket.ErrExists) {
		t.Errorf("the new view puts over the old one's value: %v", err)
	}
	if err := after.Put(t.Context(), "more", nil, time.Minute); !errors.Is(err, ticket.ErrFull) {
		t.Errorf("the new view is over its lower limit and takes more: %v", err)
	}
	if v, err := after.Take(t.Context(), "ticket", nil); err != nil || len(v) != 400 {
		t.Errorf("the new view takes %d bytes, %v", len(v), err)
	}
	if _, err := before.Get(t.Context(), "ticket"); !errors.Is(err, ticket.ErrNotFound) {
		t.Errorf("the old view still has what was taken: %v", err)
	}
}

// The limit is worth as much as the count of bytes is true.
func TestMemoryTakesNoMoreThanItSays(t *testing.T) {
	const n = 100_000
	m := ticket.NewMemory()
	s := m.Limited(1 << 30)
	before := heap()
	for i := range n {
		if err := s.Put(t.Context(), fmt.Sprintf("%064d", i), make([]byte, 96), time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	taken, said := int64(heap()-before), m.Bytes()
	t.Logf("%d bytes an entry, %d said", taken/n, said/n)
	if taken > said+said/10 {
		t.Errorf("%d entries take %d bytes, the store says %d", n, taken, said)
	}
	runtime.KeepAlive(s)
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}
