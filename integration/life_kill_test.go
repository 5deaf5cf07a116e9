package integration

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// lifeLedger is what the gateway has answered: it must hold over its death.
type lifeLedger struct {
	mu    sync.Mutex
	kept  map[string]string // sessions, and their people; guarded by mu
	ended map[string]bool   // sessions whose logout was answered; guarded by mu
}

func (l *lifeLedger) keep(p *lifePhone) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept[p.token()] = p.openID
}

func (l *lifeLedger) end(token string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended[token] = true
}

func (l *lifeLedger) answered() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.kept) + len(l.ended)
}

// SIGKILL at twenty random moments, while people log in and out, and in every other round while the keys are
// being made: what was answered holds, and the keys in storage are whole or not there.
func TestKillsAtRandomMomentsLoseNothing(t *testing.T) {
	lifeTellSeed(t)
	w := &world{gateway: newGateway(t), sim: newSimulator(t, boundDomain), up: newUpstream(t)}
	rnd := rand.New(rand.NewPCG(lifeSeed(), 20))
	ledger := &lifeLedger{kept: map[string]string{}, ended: map[string]bool{}}
	caddyfile := w.single("")
	kept, ended := 0, 0
	for round := range 20 {
		fresh := round%2 == 0
		if fresh {
			ledger = &lifeLedger{kept: map[string]string{}, ended: map[string]bool{}}
			lifeRemove(t, filepath.Join(w.dir, "storage", "wechat"))
		}
		// Where the killed one held the lock, the next waits until it is stale; TestLockOfTheDead has that.
		lifeRemove(t, filepath.Join(w.dir, "storage", "locks", "wechat_keys.lock"))
		w.start(caddyfile)
		w.lifeAnswers(t, ledger)
		w.lifeKillUnderLoad(t, ledger, func() {
			if fresh && round%4 == 0 { // in the middle of making keys
				time.Sleep(time.Duration(rnd.IntN(30_000)) * time.Microsecond)
				return
			}
			already := ledger.answered()
			lifeUntil(t, 60*time.Second, "something is answered", func() bool { return t.Failed() || ledger.answered() > already })
			time.Sleep(time.Duration(rnd.IntN(100_000)) * time.Microsecond)
		})
		w.lifeWholeKeys(t)
		if !fresh {
			kept, ended = kept+len(ledger.kept), ended+len(ledger.ended)
		}
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	w.start(caddyfile)
	w.lifeAnswers(t, ledger)
	t.Logf("%d sessions and %d logouts", kept, ended)
	if kept == 0 || ended == 0 {
		t.Error("nothing was answered")
	}
}

// lifeKillUnderLoad kills the gateway while people log in, page and log out, when wait returns.
func (w *world) lifeKillUnderLoad(t *testing.T, ledger *lifeLedger, wait func()) {
	t.Helper()
	var dying atomic.Bool
	var wg sync.WaitGroup
	for i := range 4 {
		p := w.lifePhone(i, authPage, lifeAgain(w.client()))
		wg.Go(func() {
			for !dying.Load() {
				if err := lifeInAndOut(p, i%2 == 0, ledger); err != nil && !dying.Load() {
					t.Errorf("before the kill: %v", err)
					return
				}
			}
		})
	}
	wait()
	dying.Store(true)
	w.kill()
	wg.Wait()
}

func lifeInAndOut(p *lifePhone, out bool, ledger *lifeLedger) error {
	if err := p.login(); err != nil {
		return err
	}
	if !out {
		ledger.keep(p)
		return p.stays()
	}
	token := p.token()
	status, err := p.logout()
	if err != nil || status != 303 {
		return fmt.Errorf("a logout got %d: %w", status, err)
	}
	ledger.end(token)
	return nil
}

// lifeAnswers checks the ledger against a gateway that has just started.
func (w *world) lifeAnswers(t *testing.T, ledger *lifeLedger) {
	t.Helper()
	c := w.client()
	for token, openID := range ledger.kept {
		resp, body := get(t, c, authPage, pageHeader(holding(token)))
		if resp.StatusCode != 200 || readSeen(t, []byte(body)).Header.Get("X-Wechat-Openid") != openID {
			t.Errorf("a session was lost: %d", resp.StatusCode)
		}
	}
	for token := range ledger.ended {
		if resp, _ := get(t, c, authPage, pageHeader(holding(token))); resp.StatusCode != 302 {
			t.Errorf("a session that had ended lives again: %d", resp.StatusCode)
		}
	}
}

// lifeWholeKeys checks that the key file is whole, if it is there.
func (g *gateway) lifeWholeKeys(t *testing.T) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(g.dir, "storage", "wechat", "keys.json"))
	if os.IsNotExist(err) {
		return
	}
	var file struct{ Keys []struct{ Kid string } }
	if err != nil || json.Unmarshal(b, &file) != nil || len(file.Keys) == 0 {
		t.Errorf("half a key file: %v %q", err, b)
	}
}

func lifeRemove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// Whoever was killed while it held the lock of the keys leaves it behind. Caddy takes it for stale ten
// seconds after its last sign of life, or at once where it is older; an empty one after two.
func TestLockOfTheDead(t *testing.T) {
	left := func(age time.Duration) []byte {
		at := time.Now().Add(-age)
		b, _ := json.Marshal(map[string]time.Time{"created": at, "updated": at})
		return b
	}
	for name, lock := range map[string]func() []byte{
		"of an hour ago":       func() []byte { return left(time.Hour) },
		"of eight seconds ago": func() []byte { return left(8 * time.Second) },
		"that is empty":        func() []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			w := singleWorld(t, "")
			if err := os.WriteFile(filepath.Join(w.dir, "storage", "locks", "wechat_keys.lock"), lock(), 0o600); err != nil {
				t.Fatal(err)
			}
			signIn(t, w, w.client(), authPage)
		})
	}
}
