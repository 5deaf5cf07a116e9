package ticket

import (
	"context"
	"path"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// lossyStorage is a storage that can lose everything.
type lossyStorage struct {
	*fakeStorage
	life string
}

func newLossyStorage() *lossyStorage { return &lossyStorage{newFakeStorage(), newID()} }

func (s *lossyStorage) Life(ctx context.Context) (string, error) {
	err := s.begin(ctx, "Life")
	return s.life, err
}

// lose is a restart without persistence.
func (s *lossyStorage) lose() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.life = newID()
	clear(s.files)
}

// What every gateway knows is written back to a storage that lost it, under the hour of now: that is where those
// look that came in between.
func TestRevocationsComeBackToALossyStorage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLossyStorage()
		a := newRevocations(s)
		must(t, a.Load(t.Context()))
		id, over := newID(), newID()
		revoke(t, a, id, 100*time.Hour)
		revoke(t, a, over, time.Hour)
		time.Sleep(50 * time.Hour)
		must(t, a.Look(t.Context()))
		s.lose()
		between := newRevocations(s)
		must(t, between.Load(t.Context()))
		wantRevoked(t, between, id, false)
		must(t, a.Look(t.Context()))
		must(t, between.Look(t.Context()))
		wantRevoked(t, between, id, true)
		wantRevoked(t, between, over, false)
		writes := s.called("Store")
		for range 3 {
			must(t, a.Look(t.Context()))
			must(t, between.Look(t.Context()))
		}
		if n := s.called("Store") - writes; n > 0 {
			t.Errorf("written %d times more", n)
		}
	})
}

// A storage that was away may have come back with an older state, which its mark does not tell.
func TestRevocationsDoubtALossyStorageThatWasAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLossyStorage()
		a := newRevocations(s)
		must(t, a.Load(t.Context()))
		id := newID()
		revoke(t, a, id, 100*time.Hour)
		time.Sleep(50 * time.Hour)
		must(t, a.Look(t.Context()))
		s.set("List", errAway)
		if a.Look(t.Context()) == nil {
			t.Fatal("no error")
		}
		s.set("List", nil)
		clear(s.files)
		must(t, a.Look(t.Context()))
		b := newRevocations(s)
		must(t, b.Load(t.Context()))
		wantRevoked(t, b, id, true)
	})
}

// Nobody may be let in before the storage was read once: all who ask wait for one load, a moment, and it is tried
// again within it.
func TestRevocationsAreAwaited(t *testing.T) {
	ask := func(t *testing.T, r *Revocations) (loaded []bool, took time.Duration) {
		t.Helper()
		begun := time.Now()
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				ok := r.Loaded(t.Context())
				mu.Lock()
				defer mu.Unlock()
				loaded = append(loaded, ok)
			})
		}
		wg.Wait()
		return loaded, time.Since(begun)
	}
	count := func(list []bool) (n int) {
		for _, ok := range list {
			if ok {
				n++
			}
		}
		return n
	}
	for name, begin := range map[string]func(*fakeStorage, bool){
		"fails": func(s *fakeStorage, on bool) {
			if s.set("List", nil); on {
				s.set("List", errAway)
			}
		},
		"hangs": func(s *fakeStorage, on bool) { s.hangs("List", on) },
	} {
		t.Run("the storage "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newLossyStorage()
				r := newRevocations(s)
				begin(s.fakeStorage, true)
				loaded, took := ask(t, r)
				if count(loaded) != 0 || took > firstPatience+firstPause {
					t.Errorf("%d were told yes after %v", count(loaded), took)
				}
				if n := s.called("Life"); n > int(firstPatience/firstPause)+1 {
					t.Errorf("the storage was asked %d times", n)
				}
				go func() {
					time.Sleep(firstPatience / 2)
					begin(s.fakeStorage, false)
				}()
				if loaded, _ = ask(t, r); name == "fails" && count(loaded) != len(loaded) {
					t.Errorf("%d of %d were told yes once the storage was back", count(loaded), len(loaded))
				}
				synctest.Wait()
				must(t, r.Look(t.Context()))
				begin(s.fakeStorage, true)
				if loaded, took = ask(t, r); count(loaded) != len(loaded) || took > 0 {
					t.Errorf("what was read once is not asked again: %d, %v", count(loaded), took)
				}
			})
		})
	}
}

// A look that comes before any load reads everything, not the newest hours alone.
func TestTheFirstLookReadsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLossyStorage()
		a := newRevocations(s)
		id := newID()
		revoke(t, a, id, 100*time.Hour)
		time.Sleep(50 * time.Hour)
		b := newRevocations(s)
		must(t, b.Look(t.Context()))
		wantRevoked(t, b, id, true)
	})
}

// Sessions that were ended elsewhere are adopted, and written where they are kept from now on.
func TestRevocationsAreAdopted(t *testing.T) {
	former, s := newRevocations(newFakeStorage()), newLossyStorage()
	id := newID()
	revoke(t, former, id, time.Hour)
	r := newRevocations(s)
	r.Known.Adopt(former.Known)
	wantRevoked(t, r, id, true)
	must(t, r.Load(t.Context()))
	must(t, r.Look(t.Context()))
	names := s.names()
	if len(names) != 1 || path.Base(names[0])[11:] != id {
		t.Errorf("the storage has %q", names)
	}
	r.Known.Adopt(former.Known) // the next configuration
	must(t, r.Look(t.Context()))
	if again := s.names(); len(again) != 1 {
		t.Errorf("the storage has %q", again)
	}
}
