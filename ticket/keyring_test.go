package ticket

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/certmagic"
)

// storages are what the keys may stand in: one with switches, and Caddy's own on a disk.
func storages(t *testing.T) map[string]KeyStorage {
	return map[string]KeyStorage{"fake": newFakeStorage(), "files": &certmagic.FileStorage{Path: t.TempDir()}}
}

// attack: `caddy validate`, run by root, makes keys that the service cannot read.
func TestReadingWritesNothing(t *testing.T) {
	ctx := t.Context()
	c, other := newClock(), newKeyring(t, newFakeStorage(), newClock(), algHS256)
	token := mustSign(t, newSessions(other), newSession(other))
	sealed := mustSeal(t, other, "login", "x")
	read := func(t *testing.T, k *Keyring) {
		ss := newSessions(k)
		if verifies(t, ss, token) || isGuest(t, ss, token) || opens(t, k, "login", sealed) || k.JWKS() != nil {
			t.Error("a foreign text is taken")
		}
		if _, err := k.OpenLogin(ctx, sealed); !errors.Is(err, ErrSeal) {
			t.Errorf("OpenLogin: %v", err)
		}
	}
	t.Run("with a storage that tells", func(t *testing.T) {
		s := newFakeStorage()
		read(t, newKeyring(t, s, c, algHS256))
		if s.called("Store") != 0 || s.called("Lock") != 0 {
			t.Errorf("%v", s.calls)
		}
	})
	t.Run("with files", func(t *testing.T) {
		dir := t.TempDir()
		read(t, newKeyring(t, &certmagic.FileStorage{Path: dir}, c, algHS256))
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
			t.Errorf("%v, %v", entries, err)
		}
	})
}

func TestFirstUseMakesAKey(t *testing.T) {
	for name, s := range storages(t) {
		t.Run(name, func(t *testing.T) {
			k := newKeyring(t, s, newClock(), algEdDSA)
			sealed := mustSeal(t, k, "login", "x")
			if f := storedKeys(t, s); len(f.Keys) != 1 || f.kinds()[useSeal] != 1 {
				t.Errorf("sealing made %v", f.kinds())
			}
			token := mustSign(t, newSessions(k), newSession(k))
			mustSign(t, newSessions(k), newSession(k))
			mustSeal(t, k, "login", "y")
			f := storedKeys(t, s)
			if len(f.Keys) != 2 || f.kinds()[useSign] != 1 {
				t.Errorf("two uses of each made %v", f.kinds())
			}
			if want := int64(720 * 3600); f.Life != want {
				t.Errorf("life %d, want %d", f.Life, want)
			}
			again := newKeyring(t, s, newClock(), algEdDSA)
			if !opens(t, again, "login", sealed) || !verifies(t, newSessions(again), token) {
				t.Error("a restart forgets the keys")
			}
		})
	}
}

func TestManyFirstUsesMakeOneKey(t *testing.T) {
	for name, s := range storages(t) {
		t.Run(name, func(t *testing.T) {
			c := newClock()
			gateways := []*Keyring{newKeyring(t, s, c, algHS256), newKeyring(t, s, c, algHS256)}
			var mu sync.Mutex
			var tokens []string
			var wg sync.WaitGroup
			for i := range 50 {
				wg.Go(func() {
					k := gateways[i%2]
					token, _, err := newSessions(k).Sign(t.Context(), newSession(k))
					if err != nil {
						t.Error(err)
					}
					if _, err := k.Seal(t.Context(), "login", nil); err != nil {
						t.Error(err)
					}
					mu.Lock()
					defer mu.Unlock()
					tokens = append(tokens, token)
				})
			}
			wg.Wait()
			if kinds := storedKeys(t, s).kinds(); kinds[useSign] != 1 || kinds[useSeal] != 1 {
				t.Errorf("made %v, want one of each", kinds)
			}
			for _, token := range tokens {
				for _, k := range gateways {
					if !verifies(t, newSessions(k), token) {
						t.Fatal("a token is refused")
					}
				}
			}
		})
	}
}

func TestGatewaysShareKeys(t *testing.T) {
	for _, alg := range algorithms {
		for name, s := range storages(t) {
			t.Run(alg+" in "+name, func(t *testing.T) {
				c := newClock()
				a, b := newKeyring(t, s, c, alg), newKeyring(t, s, c, alg) // neither has a key yet
				token, sealed := mustSign(t, newSessions(a), newSession(a)), mustSeal(t, b, "login", "x")
				guest, err := newSessions(a).SignGuest(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if !verifies(t, newSessions(b), token) || !isGuest(t, newSessions(b), guest) {
					t.Error("b refuses what a signed")
				}
				if !opens(t, a, "login", sealed) {
					t.Error("a refuses what b sealed")
				}
				if !verifies(t, newSessions(a), mustSign(t, newSessions(b), newSession(b))) || !opens(t, b, "login", mustSeal(t, a, "login", "y")) {
					t.Error("the other way is refused")
				}
				if f := storedKeys(t, s); len(f.Keys) != 2 {
					t.Errorf("%d keys, want 2", len(f.Keys))
				}
			})
		}
	}
}

// attack: strangers name keys that are not there, to make the gateway read its storage.
func TestUnknownKeysAreLookedForSeldom(t *testing.T) {
	s, c := newFakeStorage(), newClock()
	k := newKeyring(t, s, c, algHS256)
	ss := newSessions(k)
	other := newKeyring(t, newFakeStorage(), c, algHS256)
	token, sealed := mustSign(t, newSessions(other), newSession(other)), mustSeal(t, other, "login", "x")
	before := s.called("Load")
	looks := func(want int) {
		t.Helper()
		for range 100 {
			verifies(t, ss, token)
			opens(t, k, "login", sealed)
		}
		if got := s.called("Load") - before; got != want {
			t.Errorf("the storage was read %d times, want %d", got, want)
		}
	}
	looks(1)
	for i := range maxLooks - 1 {
		c.add(time.Millisecond)
		looks(i + 2)
	}
	for i := range 5 {
		c.add(reloadPause - time.Millisecond)
		looks(maxLooks + i)
		c.add(time.Millisecond)
		looks(maxLooks + i + 1)
	}

	c.add(time.Hour)
	before = s.called("Load")
	for name, header := range map[string]string{
		"another typ":       `{"alg":"HS256","kid":"01234567","typ":"JWT"}`,
		"another kid":       `{"alg":"HS256","kid":"../../etc","typ":"wechat-session+jwt"}`,
		"a kid in capitals": `{"alg":"HS256","kid":"ABCDEF01","typ":"wechat-session+jwt"}`,
		"no JSON":           `hello`,
		"a long header":     `{"alg":"HS256","kid":"01234567","typ":"wechat-session+jwt","x":"` + strings.Repeat("x", 100) + `"}`,
	} {
		if verifies(t, ss, b64(header)+".e30.AAAA") {
			t.Error("taken")
		}
		if s.called("Load") != before {
			t.Fatalf("the storage was read for %s", name)
		}
	}
	if verifies(t, ss, b64(`{"alg":"HS256","kid":"01234567","typ":"wechat-session+jwt"}`)+".e30.AAAA") {
		t.Error("taken")
	}
	if s.called("Load")-before != 1 {
		t.Error("the storage was not read for what could be another gateway's key")
	}
}

// A key that another gateway makes right after a look is found all the same: whoever carries its token was
// signed in there a moment ago.
func TestUnknownKeyIsFoundRightAfterALook(t *testing.T) {
	s, c := newFakeStorage(), newClock()
	a, b := newKeyring(t, s, c, algHS256), newKeyring(t, s, c, algHS256)
	if !opens(t, b, "login", mustSeal(t, a, "login", "x")) {
		t.Error("refused what the first key sealed")
	}
	c.add(time.Millisecond)
	if !verifies(t, newSessions(b), mustSign(t, newSessions(a), newSession(a))) {
		t.Error("refused what the second key signed")
	}
}

// Many requests with a new key at once wait for one look and all find it.
func TestUnknownKeyIsFoundByAllWhoAskAtOnce(t *testing.T) {
	s, c := newFakeStorage(), newClock()
	a, b := newKeyring(t, s, c, algHS256), newKeyring(t, s, c, algHS256)
	token := mustSign(t, newSessions(a), newSession(a))
	before := s.called("Load")
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if !verifies(t, newSessions(b), token) {
				t.Error("refused")
			}
		})
	}
	wg.Wait()
	if got := s.called("Load") - before; got != 1 {
		t.Errorf("the storage was read %d times, want once", got)
	}
}

// Every key's whole life, seen by two gateways that look in time, with a token from every hour.
func TestRotation(t *testing.T) {
	const life, rotate = 24 * time.Hour, 48 * time.Hour
	for _, alg := range algorithms {
		t.Run(alg, func(t *testing.T) {
			s, c := newFakeStorage(), newClock()
			gateways := make([]*Keyring, 2)
			for i := range gateways {
				gateways[i] = &Keyring{Storage: s, Algorithm: alg, Rotate: rotate, Now: c.now, Logger: new(journal).logger()}
				gateways[i].Live(life)
				if err := gateways[i].Load(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			type signed struct {
				token, sealed string
				at            time.Time
			}
			var alive []signed
			signers := map[string]bool{}
			step := gateways[0].Every()
			for n := range 10 * 24 * 60 {
				c.add(step)
				k := gateways[n%2]
				if n%2 == 0 || n%3 == 0 { // the second gateway looks half as often
					if err := k.Maintain(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				ss := newSessions(k)
				ss.Idle, ss.Max = life, life
				if n%30 == 0 {
					x := signed{mustSign(t, ss, newSession(k)), mustSeal(t, k, "login", "x"), c.now()}
					header, _ := parts(t, x.token)
					signers[header] = true
					loads := s.called("Load")
					other := newSessions(gateways[(n+1)%2])
					if !verifies(t, other, x.token) || !opens(t, other.Keys, "login", x.sealed) {
						t.Fatalf("after %v the other gateway refuses", time.Duration(n)*step)
					}
					if n > 60 && s.called("Load") != loads {
						t.Fatalf("after %v a key was in use before the other gateway knew it", time.Duration(n)*step)
					}
					alive = append(alive, x)
				}
				if n%240 == 0 {
					alive = slices.DeleteFunc(alive, func(x signed) bool { return !x.at.Add(life - time.Second).After(c.now()) })
					for _, x := range alive {
						if !verifies(t, ss, x.token) {
							t.Fatalf("a token %v old is refused", c.now().Sub(x.at))
						}
						if c.now().Sub(x.at) <= LoginLife && !opens(t, k, "login", x.sealed) {
							t.Fatal("a login under way is refused")
						}
					}
				}
			}
			if n := len(signers); n < 5 || n > 6 {
				t.Errorf("%d keys signed in ten days, want one for two days", n)
			}
			if f := storedKeys(t, s); f.kinds()[useSign] > 2 || f.kinds()[useSeal] > 2 {
				t.Errorf("old keys are not dropped: %v", f.kinds())
			}
		})
	}
}

func TestSuccessorIsPublishedBeforeItSigns(t *testing.T) {
	s, c := newFakeStorage(), newClock()
	k := newKeyring(t, s, c, algES256)
	first, _ := parts(t, mustSign(t, newSessions(k), newSession(k)))
	firstSeal := mustSeal(t, k, "login", "x")[:5] // most of the key's id
	maintain := func() {
		t.Helper()
		if err := k.Maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	c.add(k.Rotate - k.lead() - time.Second)
	maintain()
	if n := storedKeys(t, s).kinds()[useSign]; n != 1 {
		t.Fatalf("%d keys before it is due, want 1", n)
	}
	c.add(2 * time.Second)
	maintain()
	maintain()
	if n := storedKeys(t, s).kinds()[useSign]; n != 2 {
		t.Fatalf("%d keys when it is due, want 2", n)
	}
	var set struct{ Keys []struct{ Kid string } }
	if err := json.Unmarshal(k.JWKS(), &set); err != nil || len(set.Keys) != 2 {
		t.Errorf("the successor is not published: %s", k.JWKS())
	}
	c.add(k.lead() - time.Second)
	if h, _ := parts(t, mustSign(t, newSessions(k), newSession(k))); h != first {
		t.Error("the successor signs too early")
	}
	if mustSeal(t, k, "login", "x")[:5] != firstSeal {
		t.Error("the successor seals too early")
	}
	c.add(2 * time.Second)
	if h, _ := parts(t, mustSign(t, newSessions(k), newSession(k))); h == first {
		t.Error("the successor does not sign")
	}
	if mustSeal(t, k, "login", "x")[:5] == firstSeal {
		t.Error("the successor does not seal")
	}
	c.add(720*time.Hour - 10*time.Second)
	maintain()
	if !strings.Contains(fmt.Sprint(kids(storedKeys(t, s))), kidOf(first)) {
		t.Error("the old key is dropped while its last token may live")
	}
	c.add(keepOutcome + 20*time.Second)
	maintain()
	if strings.Contains(fmt.Sprint(kids(storedKeys(t, s))), kidOf(first)) {
		t.Error("the old key is kept after its last token")
	}
}

func kids(f keyFile) (ids []string) {
	for _, k := range f.Keys {
		ids = append(ids, k.ID)
	}
	return ids
}

func kidOf(header string) string {
	var h struct{ Kid string }
	_ = json.Unmarshal([]byte(header), &h)
	return h.Kid
}

// Two gateways may keep sessions for different times; keys must outlive the longest.
func TestKeysOutliveTheTokensOfOtherGateways(t *testing.T) {
	s, c := newFakeStorage(), newClock()
	long := newKeyring(t, s, c, algHS256)
	long.Live(10000 * time.Hour)
	long.Live(time.Hour) // the longest counts
	ss := newSessions(long)
	ss.Idle, ss.Max = 10000*time.Hour, 10000*time.Hour
	token := mustSign(t, ss, newSession(long))

	short := &Keyring{Storage: s, Algorithm: algHS256, Rotate: time.Hour, Now: c.now, Logger: new(journal).logger()}
	short.Live(time.Hour)
	for range 50 {
		c.add(150 * time.Hour)
		if err := short.Maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if f := storedKeys(t, s); f.Life != 10000*3600 {
		t.Errorf("life %d", f.Life)
	}
	again := newSessions(newKeyring(t, s, c, algHS256))
	again.Idle, again.Max = ss.Idle, ss.Max
	if !verifies(t, again, token) {
		t.Error("the other gateway's key is gone before its token")
	}
}

// A gateway whose sessions live longer from now on says so before the old keys go.
func TestMaintainPublishesALongerLife(t *testing.T) {
	s, c := newFakeStorage(), newClock()
	k := newKeyring(t, s, c, algHS256)
	mustSign(t, newSessions(k), newSession(k))
	k.Live(5000 * time.Hour)
	if err := k.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f := storedKeys(t, s); f.Life != 5000*3600 {
		t.Errorf("life %d", f.Life)
	}
	writes := s.called("Store")
	if err := k.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := s.called("Store") - writes; got != 0 {
		t.Errorf("%d writes when nothing is due", got)
	}
}

func TestAlgorithmChangeKeepsOldTokens(t *testing.T) {
	for i, from := range algorithms {
		to := algorithms[(i+1)%len(algorithms)]
		t.Run(from+" to "+to, func(t *testing.T) {
			s, c := newFakeStorage(), newClock()
			before := newSessions(newKeyring(t, s, c, from))
			old := mustSign(t, before, newSession(before.Keys))
			after := newSessions(newKeyring(t, s, c, to))
			if !verifies(t, after, old) {
				t.Error("the old token is refused")
			}
			renewed := mustSign(t, after, newSession(after.Keys))
			if h, _ := parts(t, renewed); !strings.Contains(h, to) {
				t.Errorf("signed with %s", h)
			}
			if !verifies(t, after, renewed) || !verifies(t, before, renewed) {
				t.Error("the new token is refused")
			}
			for range 80 {
				c.add(24 * time.Hour)
				if err := after.Keys.Maintain(t.Context()); err != nil {
					t.Fatal(err)
				}
				if c.now().Sub(newClock().now()) < 168*time.Hour && !verifies(t, after, old) {
					t.Error("the old token is refused before its end")
				}
			}
			for _, k := range storedKeys(t, s).Keys {
				if k.Algorithm == from {
					t.Error("the key of the old algorithm is kept for ever")
				}
			}
		})
	}
}

// While a configuration is rolled out, gateways sign with two algorithms; neither may drop the other's key.
func TestGatewaysWithTwoAlgorithms(t *testing.T) {
	s, c := newFakeStorage(), newClock()
	gateways := []*Keyring{newKeyring(t, s, c, algHS256), newKeyring(t, s, c, algEdDSA)}
	for _, k := range gateways {
		k.life.Store(3600)
		mustSign(t, newSessions(k), newSession(k))
		c.add(time.Minute)
	}
	var last [2]string
	for range 60 * 24 {
		c.add(30 * time.Minute)
		for i, k := range gateways {
			must(t, k.Maintain(t.Context()))
			if last[i] != "" && !verifies(t, newSessions(k), last[i]) {
				t.Fatalf("the key of %s is gone", k.Algorithm)
			}
			last[i] = mustSign(t, newSessions(k), newSession(k))
		}
	}
}

// A key that another gateway made, whose clock is ahead, has not begun here.
func TestFirstUseOnAClockThatIsBehind(t *testing.T) {
	s, c := newFakeStorage(), newClock()
	ahead, behind := newKeyring(t, s, c, algHS256), newKeyring(t, s, c, algHS256)
	token, sealed := mustSign(t, newSessions(ahead), newSession(ahead)), mustSeal(t, ahead, "login", "x")
	c.add(-time.Minute)
	if !verifies(t, newSessions(behind), token) || !opens(t, behind, "login", sealed) {
		t.Error("what the other gateway made is refused")
	}
	ours, oursSealed := mustSign(t, newSessions(behind), newSession(behind)), mustSeal(t, behind, "login", "y")
	c.add(time.Minute)
	if !verifies(t, newSessions(ahead), ours) || !opens(t, ahead, "login", oursSealed) {
		t.Error("what we made is refused")
	}
}

// Logins live ten minutes, however short the sessions are.
func TestKeysOutliveLogins(t *testing.T) {
	s, c := newFakeStorage(), newClock()
	k := &Keyring{Storage: s, Algorithm: algHS256, Rotate: time.Hour, Now: c.now, Logger: new(journal).logger()}
	k.Live(time.Second)
	first := mustSeal(t, k, "login", "x")
	c.add(k.Rotate - k.lead() + time.Second)
	must(t, k.Maintain(t.Context()))
	c.add(k.lead() - time.Second)
	last := mustSeal(t, k, "login", "x")
	for range 9 {
		c.add(time.Minute)
		must(t, k.Maintain(t.Context()))
		if !opens(t, k, "login", last) {
			t.Fatal("a login under way is refused")
		}
	}
	c.add(5 * time.Minute)
	must(t, k.Maintain(t.Context()))
	if opens(t, k, "login", first) {
		t.Error("the old key is kept")
	}
}

// No key is in use that is not in the storage, and a storage that is away is not asked with every request.
func TestNoKeyWithoutStorage(t *testing.T) {
	for _, call := range []string{"Load", "Lock", "Store"} {
		t.Run(call+" fails", func(t *testing.T) {
			s, c := newFakeStorage(), newClock()
			var log journal
			k := newKeyring(t, s, c, algHS256)
			k.Logger = log.logger()
			ss := newSessions(k)
			s.set(call, errAway)
			for range 10 {
				if token, _, err := ss.Sign(t.Context(), newSession(k)); !errors.Is(err, ErrNoKey) || !errors.Is(err, errAway) || token != "" {
					t.Fatalf("Sign: %q, %v, want ErrNoKey and the reason", token, err)
				}
				if token, err := ss.SignGuest(t.Context()); !errors.Is(err, ErrNoKey) || token != "" {
					t.Fatalf("SignGuest: %q, %v, want ErrNoKey", token, err)
				}
				if sealed, err := k.Seal(t.Context(), "login", nil); !errors.Is(err, ErrNoKey) || sealed != "" {
					t.Fatalf("Seal: %q, %v, want ErrNoKey", sealed, err)
				}
				if sealed, err := k.SealLogin(t.Context(), Login{ID: NewLoginID()}); !errors.Is(err, ErrNoKey) || sealed != "" {
					t.Fatalf("SealLogin: %q, %v, want ErrNoKey", sealed, err)
				}
			}
			if n := s.called("Lock"); n != 1 {
				t.Errorf("%d tries within the pause, want 1", n)
			}
			if strings.Contains(log.String(), "key made") {
				t.Errorf("a key that was not made is logged: %s", log.String())
			}
			s.set(call, nil)
			if len(s.names()) != 0 {
				t.Errorf("stored: %v", s.names())
			}
			c.add(failurePause - time.Millisecond)
			if _, err := ss.SignGuest(t.Context()); !errors.Is(err, ErrNoKey) {
				t.Errorf("before the pause is over: %v", err)
			}
			c.add(time.Millisecond)
			if !verifies(t, ss, mustSign(t, ss, newSession(k))) || !opens(t, k, "login", mustSeal(t, k, "login", "x")) {
				t.Error("does not recover")
			}
			if kinds := storedKeys(t, s).kinds(); kinds[useSign] != 1 || kinds[useSeal] != 1 {
				t.Errorf("stored: %v", kinds)
			}
			if !strings.Contains(log.String(), "key made") {
				t.Errorf("a key that was made is not logged: %s", log.String())
			}
		})
	}
	t.Run("Unlock fails", func(t *testing.T) {
		s, c := newFakeStorage(), newClock()
		k := newKeyring(t, s, c, algHS256)
		s.set("Unlock", errAway)
		if _, err := k.Seal(t.Context(), "login", nil); !errors.Is(err, errAway) {
			t.Errorf("%v, want the reason", err)
		}
		mustSeal(t, k, "login", "x") // the key is stored
	})
	t.Run("a folder that cannot be written", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		k := &Keyring{Storage: &certmagic.FileStorage{Path: file}, Algorithm: algHS256, Rotate: time.Hour, Logger: new(journal).logger()}
		if _, err := k.Seal(t.Context(), "login", nil); !errors.Is(err, ErrNoKey) {
			t.Errorf("%v, want ErrNoKey", err)
		}
	})
}

// A successor that cannot be stored does not sign, and the old key goes on.
func TestMaintainFails(t *testing.T) {
	for _, call := range []string{"Load", "Lock", "Store"} {
		s, c := newFakeStorage(), newClock()
		k := newKeyring(t, s, c, algHS256)
		ss := newSessions(k)
		old := mustSign(t, ss, newSession(k))
		header, _ := parts(t, old)
		c.add(k.Rotate)
		s.set(call, errAway)
		if err := k.Maintain(t.Context()); !errors.Is(err, errAway) {
			t.Errorf("%s fails: %v", call, err)
		}
		c.add(k.lead() + time.Second)
		token := mustSign(t, ss, newSession(k))
		if h, _ := parts(t, token); h != header || !verifies(t, ss, token) {
			t.Errorf("%s fails: another key signs", call)
		}
		s.set(call, nil)
		if len(storedKeys(t, s).Keys) != 1 {
			t.Errorf("%s fails: %d keys stored", call, len(storedKeys(t, s).Keys))
		}
		if err := k.Maintain(t.Context()); err != nil || len(storedKeys(t, s).Keys) != 2 {
			t.Errorf("%s: does not recover: %v", call, err)
		}
	}
}

// A storage that is away at the start must not bring the gateway down, and operator secrets go on without it.
func TestStorageAwayAtTheStart(t *testing.T) {
	for name, secrets := range map[string][][]byte{"with stored keys": nil, "with operator secrets": {[]byte(secretOne)}} {
		t.Run(name, func(t *testing.T) {
			s, c := newFakeStorage(), newClock()
			s.set("Load", errAway)
			k := &Keyring{Storage: s, Algorithm: algHS256, Secrets: secrets, Rotate: time.Hour, Now: c.now, Logger: new(journal).logger()}
			for range 2 { // before Load and after
				ss := newSessions(k)
				other := newKeyring(t, newFakeStorage(), c, algHS256)
				if verifies(t, ss, mustSign(t, newSessions(other), newSession(other))) || opens(t, k, "login", mustSeal(t, other, "login", "x")) || k.JWKS() != nil {
					t.Error("a foreign text is taken")
				}
				if _, err := k.Seal(t.Context(), "login", nil); !errors.Is(err, ErrNoKey) {
					t.Errorf("Seal: %v, want ErrNoKey", err)
				}
				token, _, err := ss.Sign(t.Context(), newSession(k))
				if secrets == nil && !errors.Is(err, ErrNoKey) {
					t.Errorf("Sign: %v, want ErrNoKey", err)
				}
				if secrets != nil && (err != nil || !verifies(t, ss, token)) {
					t.Errorf("Sign: %v", err)
				}
				if err := k.Load(t.Context()); !errors.Is(err, errAway) {
					t.Errorf("Load: %v, want the reason", err)
				}
			}
			s.set("Load", nil)
			c.add(failurePause)
			if !opens(t, k, "login", mustSeal(t, k, "login", "x")) {
				t.Error("does not recover")
			}
		})
	}
}

// What was known stays known while the storage is away.
func TestVerifyingNeedsNoStorage(t *testing.T) {
	s, c := newFakeStorage(), newClock()
	k := newKeyring(t, s, c, algHS256)
	ss := newSessions(k)
	token, sealed := mustSign(t, ss, newSession(k)), mustSeal(t, k, "login", "x")
	for _, call := range []string{"Load", "Store", "Lock", "Unlock"} {
		s.set(call, errAway)
	}
	c.add(time.Minute)
	other := newKeyring(t, newFakeStorage(), c, algHS256)
	verifies(t, ss, mustSign(t, newSessions(other), newSession(other)))
	if err := k.Load(t.Context()); !errors.Is(err, errAway) {
		t.Errorf("Load: %v", err)
	}
	if !verifies(t, ss, token) || !opens(t, k, "login", sealed) || !verifies(t, ss, mustSign(t, ss, newSession(k))) {
		t.Error("refused")
	}
}

func TestStorageThatHangs(t *testing.T) {
	t.Run("costs an unknown key a second", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newFakeStorage()
			k := newKeyring(t, s, newClock(), algHS256)
			k.Now = nil
			other := newKeyring(t, newFakeStorage(), newClock(), algHS256)
			other.Now = nil
			sealed := mustSeal(t, other, "login", "x")
			s.hangs("Load", true)
			begun := time.Now()
			for range 10 {
				if opens(t, k, "login", sealed) {
					t.Error("taken")
				}
			}
			if took := time.Since(begun); took != reloadPause {
				t.Errorf("took %v, want %v", took, reloadPause)
			}
			time.Sleep(storagePatience) // the look gives up
		})
	})
	for _, call := range []string{"Load", "Lock", "Store", "Unlock"} {
		t.Run("in "+call+" costs a first use bounded time, and recovers", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFakeStorage()
				k := newKeyring(t, s, newClock(), algHS256)
				k.Now = nil
				s.hangs(call, true)
				begun := time.Now()
				if _, err := k.Seal(t.Context(), "login", nil); !errors.Is(err, ErrNoKey) {
					t.Errorf("%v, want ErrNoKey", err)
				}
				if took := time.Since(begun); took > 2*storagePatience {
					t.Errorf("took %v", took)
				}
				s.hangs(call, false)
				if call == "Unlock" {
					<-s.lock // as a storage does with a lock that nobody refreshes
				}
				time.Sleep(failurePause) // the bubble's clock
				mustSeal(t, k, "login", "x")
			})
		})
	}
	t.Run("a request that is given up makes the key all the same", func(t *testing.T) {
		s := newFakeStorage()
		k := newKeyring(t, s, newClock(), algHS256)
		ctx, cancel := context.WithCancel(t.Context())
		s.onStore = cancel
		if _, err := k.Seal(ctx, "login", nil); err != nil {
			t.Error(err)
		}
		cancel()
		if _, _, err := newSessions(k).Sign(ctx, newSession(k)); err != nil {
			t.Error(err)
		}
		if n := len(s.lock); n != 0 {
			t.Error("the storage stays locked")
		}
	})
}

func TestKeyFileThatCannotBeUsed(t *testing.T) {
	good, err := newFileKey(useSign, algHS256, time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	file := func(k fileKey) string {
		b, _ := json.Marshal(keyFile{3600, []fileKey{good, k}})
		return string(b)
	}
	secret := []byte("a secret that no log may show")
	for name, c := range map[string]struct{ content, want string }{
		"an empty file":                {"", "reading wechat/keys.json"},
		"half a file":                  {file(good)[:60], "reading wechat/keys.json"},
		"no JSON":                      {"hello", "reading wechat/keys.json"},
		"a list":                       {"[]", "reading wechat/keys.json"},
		"a key that is no base64":      {`{"keys":[{"kid":"01234567","use":"sign","alg":"HS256","key":"???"}]}`, "reading wechat/keys.json"},
		"a short HS256 key":            {file(fileKey{"0badc0de", useSign, algHS256, secret, 1}), "key 0badc0de in storage: shorter"},
		"an EdDSA key that is none":    {file(fileKey{"0badc0de", useSign, algEdDSA, secret, 1}), "key 0badc0de in storage"},
		"a key of unknown algorithm":   {file(fileKey{"0badc0de", useSign, "none", secret, 1}), "key 0badc0de in storage"},
		"a short sealing key":          {file(fileKey{"0badc0de", useSeal, algGCM, secret[:16], 1}), "key 0badc0de in storage: not a sealing key"},
		"a sealing key with a long id": {file(fileKey{"0badc0de0badc0de", useSeal, algGCM, good.Secret, 1}), "not a sealing key"},
	} {
		t.Run(name, func(t *testing.T) {
			var log journal
			s := newFakeStorage()
			s.files[keysPath] = []byte(c.content)
			k := &Keyring{Storage: s, Algorithm: algHS256, Rotate: time.Hour, Now: newClock().now, Logger: log.logger()}
			errs := []error{k.Load(t.Context()), k.Maintain(t.Context())}
			_, err := k.Seal(t.Context(), "login", nil)
			for _, err := range append(errs, err) {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("%v, want %q", err, c.want)
				}
				wantNoSecret(t, err.Error(), good.Secret, secret, secret[:16])
			}
			opens(t, k, "login", mustSeal(t, newKeyring(t, newFakeStorage(), newClock(), algHS256), "login", "x"))
			wantNoSecret(t, log.String(), good.Secret, secret, secret[:16])
			if string(s.files[keysPath]) != c.content {
				t.Error("the file that cannot be read was written over: its keys are lost")
			}
		})
	}
}

// A configuration that cannot sign must not leave in the storage what stops every gateway.
func TestAlgorithmThatCannotSign(t *testing.T) {
	for name, k := range map[string]*Keyring{
		"none":                          {},
		"an unknown one":                {Algorithm: "RS256"},
		"EdDSA with an operator secret": {Algorithm: algEdDSA, Secrets: [][]byte{[]byte(secretOne)}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newFakeStorage()
			k.Storage, k.Rotate, k.Now, k.Logger = s, time.Hour, newClock().now, new(journal).logger()
			if _, err := newSessions(k).SignGuest(t.Context()); !errors.Is(err, ErrNoKey) {
				t.Errorf("%v, want ErrNoKey", err)
			}
			if err := newKeyring(t, s, newClock(), algHS256).Load(t.Context()); err != nil {
				t.Errorf("another gateway: %v", err)
			}
		})
	}
}

// attack: logs are read by more people than keys.
func TestNoSecretInLogsAndErrors(t *testing.T) {
	var log journal
	var secrets [][]byte
	for _, alg := range algorithms {
		s, c := newFakeStorage(), newClock()
		k := newKeyring(t, s, c, alg)
		k.Logger = log.logger()
		ss := newSessions(k)
		token, sealed := mustSign(t, ss, newSession(k)), mustSeal(t, k, "login", "x")
		for _, key := range storedKeys(t, s).Keys {
			secrets = append(secrets, key.Secret)
		}
		secrets = append(secrets, []byte(token), []byte(sealed))
		s.set("Load", errAway)
		c.add(time.Hour)
		other := newKeyring(t, newFakeStorage(), c, alg)
		foreign := mustSign(t, newSessions(other), newSession(other))
		secrets = append(secrets, []byte(foreign))
		header, payload := parts(t, token)
		for _, bad := range []string{
			foreign, token + "\n", token[:len(token)-1] + "!", forge(t, k, header, strings.Replace(payload, "auth.", "evil.", 1)),
			forge(t, k, header, strings.Replace(payload, `"exp":`, `"exp":"`, 1)), forge(t, k, header, payload+" "),
		} {
			_, err := ss.Verify(t.Context(), bad)
			if err == nil {
				t.Fatal("taken")
			}
			wantNoSecret(t, err.Error(), append(secrets, []byte(bad))...)
		}
		opens(t, k, "login", mustSeal(t, other, "login", "x"))
	}
	if !strings.Contains(log.String(), "keys cannot be read") || !strings.Contains(log.String(), "key made") {
		t.Fatalf("the log is not what this test thinks: %s", log.String())
	}
	wantNoSecret(t, log.String(), secrets...)
}

func wantNoSecret(t *testing.T, text string, secrets ...[]byte) {
	t.Helper()
	for _, s := range secrets {
		for _, spelled := range []string{string(s), hex.EncodeToString(s), base64.StdEncoding.EncodeToString(s), base64.RawURLEncoding.EncodeToString(s)} {
			if strings.Contains(text, spelled) {
				t.Fatalf("a secret stands in %s", text)
			}
		}
	}
}

// The key file on a disk is for its owner alone.
func TestKeyFileIsPrivate(t *testing.T) {
	dir := t.TempDir()
	mustSeal(t, newKeyring(t, &certmagic.FileStorage{Path: dir}, newClock(), algHS256), "login", "x")
	info, err := os.Stat(filepath.Join(dir, filepath.FromSlash(keysPath)))
	if errors.Is(err, fs.ErrNotExist) || err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		t.Errorf("mode %v", info.Mode())
	}
}

func TestEvery(t *testing.T) {
	for rotate, want := range map[time.Duration]time.Duration{
		0: time.Second, time.Minute: 1500 * time.Millisecond, time.Hour: time.Minute, 720 * time.Hour: time.Minute, time.Second: time.Second,
	} {
		if got := (&Keyring{Rotate: rotate}).Every(); got != want {
			t.Errorf("rotate %v: %v, want %v", rotate, got, want)
		}
	}
}

// A storage that was emptied or not mounted must not sign everybody out: the keys in use stay, and are
// written back.
func TestKeysThatVanishFromStorage(t *testing.T) {
	s, c := newFakeStorage(), newClock()
	k := newKeyring(t, s, c, algHS256)
	ss := newSessions(k)
	token, sealed := mustSign(t, ss, newSession(k)), mustSeal(t, k, "login", "x")
	delete(s.files, keysPath)
	if err := k.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !verifies(t, ss, token) || !opens(t, k, "login", sealed) {
		t.Error("the keys in use were dropped")
	}
	if err := k.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	other := newKeyring(t, s, c, algHS256)
	if !verifies(t, newSessions(other), token) || !opens(t, other, "login", sealed) {
		t.Error("the keys were not written back")
	}
}

// Maintain on a storage that nobody has used yet writes nothing.
func TestMaintainBeforeFirstUse(t *testing.T) {
	s := newFakeStorage()
	k := newKeyring(t, s, newClock(), algHS256)
	k.Live(time.Hour)
	if err := k.Maintain(t.Context()); err != nil || len(s.files) > 0 {
		t.Errorf("%v, wrote %d files", err, len(s.files))
	}
}

// A gateway that waits for the storage's lock, to make a key of its own, still finds the key that whoever holds
// the lock has just made.
func TestReadingDoesNotWaitForTheLock(t *testing.T) {
	s, c := newFakeStorage(), newClock()
	a, b := newKeyring(t, s, c, algHS256), newKeyring(t, s, c, algHS256)
	token := mustSign(t, newSessions(a), newSession(a))
	before := s.called("Lock")
	s.lock <- struct{}{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		mustSeal(t, b, "login", "x")
	}()
	for s.called("Lock") == before {
		time.Sleep(time.Millisecond)
	}
	if !verifies(t, newSessions(b), token) {
		t.Error("refused")
	}
	<-s.lock
	<-done
}
