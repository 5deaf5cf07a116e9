package ticket

import (
	"context"
	"errors"
	"fmt"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/certmagic"
)

func newRevocations(s RevocationStorage) *Revocations {
	return &Revocations{Storage: s, Known: &Revoked{}}
}

func revoke(t *testing.T, r *Revocations, id string, life time.Duration) {
	t.Helper()
	if err := r.Revoke(t.Context(), id, time.Now().Add(life)); err != nil {
		t.Fatalf("Revoke: %v", err)
	}
}

// must fails the test where a Load, Look or Prune does.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantRevoked(t *testing.T, r *Revocations, id string, want bool) {
	t.Helper()
	if got := r.Known.Has(id); got != want {
		t.Errorf("revoked: %v, want %v", got, want)
	}
}

// A session that was ended stays so over a restart, and on every gateway.
func TestRevocations(t *testing.T) {
	for name, s := range map[string]RevocationStorage{"fake": newFakeStorage(), "files": &certmagic.FileStorage{Path: t.TempDir()}} {
		t.Run(name, func(t *testing.T) {
			a, b := newRevocations(s), newRevocations(s)
			must(t, a.Load(t.Context()))
			must(t, b.Look(t.Context())) // nothing is there: no error
			must(t, b.Prune(t.Context()))
			id, other := newID(), newID()
			revoke(t, a, id, time.Hour)
			revoke(t, a, id, time.Hour)
			wantRevoked(t, a, id, true)
			wantRevoked(t, a, other, false)

			wantRevoked(t, b, id, false)
			must(t, b.Look(t.Context()))
			wantRevoked(t, b, id, true)

			restarted := newRevocations(s)
			must(t, restarted.Load(t.Context()))
			wantRevoked(t, restarted, id, true)
			wantRevoked(t, restarted, other, false)
			must(t, restarted.Prune(t.Context()))
			wantRevoked(t, restarted, id, true)
		})
	}
}

func TestReloadSharesWhatIsKnown(t *testing.T) {
	s := newFakeStorage()
	before := newRevocations(s)
	after := &Revocations{Storage: s, Known: before.Known}
	id := newID()
	revoke(t, before, id, time.Hour)
	wantRevoked(t, after, id, true)
}

func TestRevokingWhatHasEndedWritesNothing(t *testing.T) {
	s := newFakeStorage()
	r := newRevocations(s)
	revoke(t, r, newID(), 0)
	revoke(t, r, newID(), -time.Hour)
	if len(s.names()) != 0 {
		t.Errorf("%v", s.names())
	}
}

func TestLoadAndLookWriteNothing(t *testing.T) {
	s := newFakeStorage()
	r := newRevocations(s)
	must(t, r.Load(t.Context()))
	must(t, r.Look(t.Context()))
	if s.called("Store")+s.called("Delete") != 0 {
		t.Errorf("%v", s.calls)
	}
}

// attack: a logout whose write failed looks done, and the stolen cookie lives on elsewhere.
func TestRevocationThatCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStorage()
		r, id := newRevocations(s), newID()
		s.set("Store", errAway)
		for range 2 {
			if err := r.Revoke(t.Context(), id, time.Now().Add(720*time.Hour)); !errors.Is(err, errAway) {
				t.Fatalf("%v, want the reason", err)
			}
			wantRevoked(t, r, id, true)
		}
		s.set("Store", nil)
		other := newRevocations(s)
		must(t, other.Look(t.Context()))
		wantRevoked(t, other, id, false)

		// Hours later it is written where the others look.
		time.Sleep(5 * time.Hour) // the bubble's clock
		must(t, other.Look(t.Context()))
		revoke(t, r, id, 715*time.Hour)
		must(t, other.Look(t.Context()))
		wantRevoked(t, other, id, true)
		writes := s.called("Store")
		revoke(t, r, id, 715*time.Hour)
		if s.called("Store") != writes {
			t.Error("what is stored is written again")
		}
	})
}

// attack: log out, close the page: the request has ended before the write.
func TestRevokeOutlivesItsRequest(t *testing.T) {
	s := newFakeStorage()
	r, id := newRevocations(s), newID()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	must(t, r.Revoke(ctx, id, time.Now().Add(time.Hour)))
	if len(s.names()) != 1 {
		t.Errorf("%v", s.names())
	}
}

func TestRevocationStorageThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStorage()
		r, id := newRevocations(s), newID()
		s.hangs("Store", true)
		var wg sync.WaitGroup
		begun := time.Now()
		wg.Go(func() {
			if err := r.Revoke(t.Context(), id, time.Now().Add(time.Hour)); err == nil {
				t.Error("no error")
			}
		})
		synctest.Wait()
		wantRevoked(t, r, id, true) // before the storage has answered
		wg.Wait()
		s.hangs("List", true)
		if r.Look(t.Context()) == nil || r.Load(t.Context()) == nil {
			t.Error("no error")
		}
		if took := time.Since(begun); took != 3*storagePatience {
			t.Errorf("took %v", took)
		}
	})
}

func TestLookFindsWhatOthersWrote(t *testing.T) {
	for name, away := range map[string]time.Duration{
		"in the same minute": 0, "in the last hour": 59 * time.Minute, "two hours ago, the storage was away": 2*time.Hour + time.Minute,
		"a night ago": 12 * time.Hour, "days ago": 100 * time.Hour,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFakeStorage()
				a, b := newRevocations(s), newRevocations(s)
				must(t, b.Look(t.Context()))
				id := newID()
				revoke(t, a, id, 720*time.Hour)
				s.set("List", errAway)
				time.Sleep(away) // the bubble's clock
				if err := b.Look(t.Context()); !errors.Is(err, errAway) {
					t.Fatalf("%v, want the reason", err)
				}
				wantRevoked(t, b, id, false)
				s.set("List", nil)
				must(t, b.Look(t.Context()))
				wantRevoked(t, b, id, true)
			})
		})
	}
	for name, ahead := range map[string]time.Duration{"ahead": time.Hour, "behind": -time.Hour} {
		t.Run("a gateway whose clock is "+name, func(t *testing.T) {
			s, id := newFakeStorage(), newID()
			file := path.Join(revokedPath, fmt.Sprint(time.Now().Add(ahead).Unix()/3600), fmt.Sprintf("%d-%s", time.Now().Add(time.Hour).Unix(), id))
			s.files[file] = nil
			r := newRevocations(s)
			must(t, r.Look(t.Context()))
			wantRevoked(t, r, id, true)
		})
	}
}

// A look every three seconds must not read a month of files.
func TestLookReadsTheLastHoursAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStorage()
		r := newRevocations(s)
		must(t, r.Load(t.Context()))
		for range 100 {
			time.Sleep(30 * time.Minute) // the bubble's clock
			before := s.called("List")
			must(t, r.Look(t.Context()))
			if n := s.called("List") - before; n > 4 {
				t.Fatalf("%d lists", n)
			}
		}
		time.Sleep(1000 * time.Hour)
		before := s.called("List")
		must(t, r.Look(t.Context()))
		if n := s.called("List") - before; n != 1 {
			t.Errorf("%d lists after a long time, want one of all", n)
		}
	})
}

// A file that another gateway prunes while the storage lists them must not hide the rest.
func TestListThatBreaksOffIsReadAgain(t *testing.T) {
	s := newFakeStorage()
	a := newRevocations(s)
	ids := []string{newID(), newID(), newID()}
	for _, id := range ids {
		revoke(t, a, id, time.Hour)
	}
	s.vanish = 2
	r := newRevocations(s)
	must(t, r.Load(t.Context()))
	for _, id := range ids {
		wantRevoked(t, r, id, true)
	}
	s.vanish = 1000
	if err := newRevocations(s).Load(t.Context()); err == nil {
		t.Error("a part of the list passes for the whole")
	}
}

func TestPrune(t *testing.T) {
	for name, s := range map[string]interface {
		RevocationStorage
		KeyStorage
	}{"fake": newFakeStorage(), "files": &certmagic.FileStorage{Path: t.TempDir()}} {
		t.Run(name, func(t *testing.T) {
			r := newRevocations(s)
			now := time.Now().Unix()
			ended, ending, alive := newID(), newID(), newID()
			file := func(until int64, id string) string {
				return path.Join(revokedPath, fmt.Sprint(now/3600), fmt.Sprintf("%d-%s", until, id))
			}
			must(t, s.Store(t.Context(), file(now-int64(skew.Seconds())-10, ended), nil))
			must(t, s.Store(t.Context(), file(now-int64(skew.Seconds())+60, ending), nil)) // alive where the clock is behind
			must(t, r.Load(t.Context()))
			revoke(t, r, alive, time.Hour)
			must(t, r.Prune(t.Context()))
			wantRevoked(t, r, ended, false)
			wantRevoked(t, r, ending, true)
			wantRevoked(t, r, alive, true)
			restarted := newRevocations(s)
			must(t, restarted.Load(t.Context()))
			wantRevoked(t, restarted, ended, false)
			wantRevoked(t, restarted, ending, true)
			wantRevoked(t, restarted, alive, true)
		})
	}
	t.Run("in the course of time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newFakeStorage()
			a, b := newRevocations(s), newRevocations(s)
			id := newID()
			revoke(t, a, id, 10*time.Hour)
			must(t, b.Look(t.Context()))
			for range 10 * 60 {
				must(t, a.Prune(t.Context()))
				wantRevoked(t, a, id, true)
				time.Sleep(time.Minute) // the bubble's clock
			}
			time.Sleep(skew + 2*time.Second)
			must(t, a.Prune(t.Context()))
			must(t, b.Prune(t.Context())) // its file is gone already
			wantRevoked(t, a, id, false)
			wantRevoked(t, b, id, false)
			if len(s.names()) != 0 || len(a.Known.until) != 0 {
				t.Errorf("kept: %v", s.names())
			}
		})
	})
	t.Run("says what it could not delete, and deletes the rest", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newFakeStorage()
			r := newRevocations(s)
			revoke(t, r, newID(), time.Minute)
			revoke(t, r, newID(), time.Minute)
			time.Sleep(time.Hour) // the bubble's clock
			s.set("Delete", errAway)
			if err := r.Prune(t.Context()); !errors.Is(err, errAway) || s.called("Delete") != 2 {
				t.Errorf("%v, %d tried", err, s.called("Delete"))
			}
		})
	})
}

// Two gateways, or two versions of a configuration, may reckon a session's last end differently.
func TestTheLaterEndCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, id := newFakeStorage(), newID()
		revoke(t, newRevocations(s), id, 100*time.Hour)
		time.Sleep(time.Hour)                         // the bubble's clock
		revoke(t, newRevocations(s), id, 2*time.Hour) // stands behind the other in a list
		r := newRevocations(s)
		must(t, r.Load(t.Context()))
		time.Sleep(3 * time.Hour)
		must(t, r.Prune(t.Context()))
		wantRevoked(t, r, id, true)
	})
}

func TestJunkInTheFolderIsIgnored(t *testing.T) {
	s := newFakeStorage()
	id := newID()
	until := time.Now().Add(time.Hour).Unix()
	dir := path.Join(revokedPath, fmt.Sprint(time.Now().Unix()/3600))
	for _, name := range []string{
		"README", "-", "-" + id, id, fmt.Sprint(until), fmt.Sprintf("%d-", until), "x-" + id, fmt.Sprintf("%d-%s", until, strings.ToUpper("abcdef"+id[6:])),
		fmt.Sprintf("%d-%s.tmp", until, id), fmt.Sprintf(".%d-%s", until, id), fmt.Sprintf("%d-%s0", until, id), fmt.Sprintf("99999999999999999999-%s", id),
		fmt.Sprintf("%d-%s/x", until, id[:31]), "keys.json", "1-2-3",
	} {
		s.files[path.Join(dir, name)] = []byte("junk")
	}
	s.files[path.Join(revokedPath, "junk")] = nil
	genuine := newID()
	s.files[path.Join(dir, fmt.Sprintf("%d-%s", until, genuine))] = nil
	before := s.names()
	r := newRevocations(s)
	must(t, r.Load(t.Context()))
	must(t, r.Look(t.Context()))
	must(t, r.Prune(t.Context()))
	wantRevoked(t, r, id, false)
	wantRevoked(t, r, genuine, true)
	if len(r.Known.until) != 1 {
		t.Errorf("known: %v", r.Known.until)
	}
	if !slices.Equal(s.names(), before) {
		t.Error("a file that is not ours was deleted")
	}
}

func TestRevocationsAtOnce(t *testing.T) {
	for name, s := range map[string]RevocationStorage{"fake": newFakeStorage(), "files": &certmagic.FileStorage{Path: t.TempDir()}} {
		t.Run(name, func(t *testing.T) {
			gateways := []*Revocations{newRevocations(s), newRevocations(s)}
			ids := make([]string, 10)
			for i := range ids {
				ids[i] = newID()
			}
			var wg sync.WaitGroup
			for i := range 60 {
				r, id := gateways[i%2], ids[i%len(ids)]
				wg.Go(func() {
					if err := r.Revoke(t.Context(), id, time.Now().Add(time.Hour)); err != nil {
						t.Error(err)
					}
					if !r.Known.Has(id) {
						t.Error("not revoked when Revoke returned")
					}
					if i%7 == 0 {
						_ = r.Look(t.Context()) // may break off while files are written
						_ = r.Prune(t.Context())
					}
				})
				wg.Go(func() { r.Known.Has(id) })
			}
			wg.Wait()
			for _, r := range append(gateways, newRevocations(s)) {
				must(t, r.Load(t.Context()))
				for _, id := range ids {
					wantRevoked(t, r, id, true)
				}
			}
		})
	}
}

// Of the hours' folders those go that are empty and old; into one of late another gateway may be writing.
func TestPruneRemovesEmptyFolders(t *testing.T) {
	s := &certmagic.FileStorage{Path: t.TempDir()}
	now := time.Now()
	file := func(made time.Duration, until time.Time) string {
		return path.Join(revokedPath, fmt.Sprint(now.Add(-made).Unix()/3600), fmt.Sprintf("%d-%s", until.Unix(), newID()))
	}
	over, late := file(48*time.Hour, now.Add(-time.Hour)), file(time.Hour, now.Add(-time.Hour))
	known, unknown := file(72*time.Hour, now.Add(time.Hour)), file(96*time.Hour, now.Add(time.Hour))
	for _, f := range []string{over, late, known} {
		must(t, s.Store(t.Context(), f, nil))
	}
	r := newRevocations(s)
	must(t, r.Load(t.Context()))
	must(t, s.Store(t.Context(), unknown, nil)) // by another gateway, and not seen here yet
	must(t, r.Prune(t.Context()))
	for f, want := range map[string]bool{path.Dir(over): false, late: false, path.Dir(late): true, known: true, unknown: true} {
		if got := s.Exists(t.Context(), f); got != want {
			t.Errorf("%s is there: %v, want %v", f, got, want)
		}
	}
}

// revocationBytes is what README says that an ended session takes.
const revocationBytes = 200

func TestRevocationsTakeWhatIsSaid(t *testing.T) {
	const n = 115_000 // their map has just grown
	r := newRevocations(discard{})
	until := time.Now().Add(720 * time.Hour)
	before := memoryInUse()
	for range n {
		must(t, r.Revoke(t.Context(), newID(), until))
	}
	each := (memoryInUse() - before) / n
	t.Logf("%d bytes each", each)
	if each > revocationBytes {
		t.Errorf("%d bytes each, want %d at most", each, revocationBytes)
	}
	runtime.KeepAlive(r)
}

// discard keeps nothing.
type discard struct{}

func (discard) Store(context.Context, string, []byte) error          { return nil }
func (discard) Delete(context.Context, string) error                 { return nil }
func (discard) List(context.Context, string, bool) ([]string, error) { return nil, nil }

func memoryInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}
