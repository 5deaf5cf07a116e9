package ticket

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestSealRoundTrip(t *testing.T) {
	k := newKeyring(t, newFakeStorage(), newClock(), algHS256)
	seen := map[string]bool{}
	for _, plain := range []string{"", "x", "x", "\x00\xff", strings.Repeat("x", 2900)} {
		sealed := mustSeal(t, k, "login", plain)
		got, err := k.Open(t.Context(), "login", sealed)
		if err != nil || string(got) != plain {
			t.Errorf("%d bytes: got %d, %v", len(plain), len(got), err)
		}
		if seen[sealed] || len(plain) > 1 && strings.Contains(sealed, plain) {
			t.Errorf("%q is sealed the same twice, or not at all", plain)
		}
		if strings.Trim(sealed, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
			t.Errorf("%q is not fit for a URL", sealed)
		}
		seen[sealed] = true
	}
}

// attack: seals share rooms. Nothing of a text may get into another one's seal, nor a later seal into one that was
// returned.
func TestSealsDoNotMix(t *testing.T) {
	const origin = "https://shop.example.org"
	ctx, k := t.Context(), newKeyring(t, newFakeStorage(), newClock(), algHS256)
	mustSeal(t, k, "login", "") // makes the key
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			var logins, pendings, others [200]string
			login := func(i int) Login {
				return Login{ID: strings.Repeat(hex.EncodeToString([]byte{byte(i)}), 16), Origin: origin, State: strings.Repeat("s", i*n)}
			}
			plain := func(i int) string { return strings.Repeat(string(rune('a'+n)), 200-i) }
			var failed [3]error
			for i := range logins {
				logins[i], failed[0] = k.SealLogin(ctx, login(i))
				_, _ = k.SealLogin(ctx, Login{ID: "none", Origin: strings.Repeat("x", 500)})
				pendings[i], failed[1] = k.SealPending(ctx, origin, Pending{ID: login(i).ID, Return: []byte(plain(i))})
				others[i], failed[2] = k.Seal(ctx, "x", []byte(plain(i)))
				if err := errors.Join(failed[:]...); err != nil {
					t.Error(err)
				}
			}
			for i := range logins {
				if got, err := k.OpenLogin(ctx, logins[i]); err != nil || got != login(i) {
					t.Errorf("%+v, %v", got, err)
				}
				if got, err := k.OpenPending(ctx, origin, pendings[i]); err != nil || got.ID != login(i).ID || string(got.Return) != plain(i) {
					t.Errorf("%+v, %v", got, err)
				}
				if got, err := k.Open(ctx, "x", others[i]); err != nil || string(got) != plain(i) {
					t.Errorf("%q, %v", got, err)
				}
			}
		})
	}
	all.Wait()
}

// attack: what was sealed for one purpose is brought where another is asked for.
func TestSealsOfOnePurposeAreWorthNothingForAnother(t *testing.T) {
	ctx, k := t.Context(), newKeyring(t, newFakeStorage(), newClock(), algHS256)
	sealed := mustSeal(t, k, "login", `{"i":"x"}`)
	for _, purpose := range []string{"", "logi", "login ", "Login", "login cookie of https://shop.example.org", "login\x00"} {
		if opens(t, k, purpose, sealed) {
			t.Errorf("taken for %q", purpose)
		}
	}
	const ours, theirs = "https://shop.example.org", "https://blog.example.org"
	id := NewLoginID()
	login, err := k.SealLogin(ctx, Login{ID: id})
	if err != nil {
		t.Fatal(err)
	}
	pending, err := k.SealPending(ctx, ours, Pending{ID: id})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.OpenPending(ctx, ours, login); !errors.Is(err, ErrSeal) {
		t.Errorf("what travels in the URL passes for the browser's own cookie: %v", err)
	}
	if _, err := k.OpenLogin(ctx, pending); !errors.Is(err, ErrSeal) {
		t.Errorf("a cookie passes for a login: %v", err)
	}
	if _, err := k.OpenPending(ctx, theirs, pending); !errors.Is(err, ErrSeal) {
		t.Errorf("one site's cookie passes at another: %v", err)
	}
	if got, err := k.OpenPending(ctx, ours, pending); err != nil || got.ID != id {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestOpenRefusesEveryOtherSpelling(t *testing.T) {
	k := newKeyring(t, newFakeStorage(), newClock(), algHS256)
	other := newKeyring(t, newFakeStorage(), newClock(), algHS256)
	for _, plain := range []string{"", "a", "ab", `{"i":"0123456789abcdef"}`} {
		sealed := mustSeal(t, k, "login", plain)
		raw := []byte(unb64(t, sealed))
		for i := range raw {
			for bit := range 8 {
				raw[i] ^= 1 << bit
				if opens(t, k, "login", b64(string(raw))) {
					t.Errorf("byte %d with bit %d changed is taken", i, bit)
				}
				raw[i] ^= 1 << bit
			}
		}
		for n := range sealed {
			if opens(t, k, "login", sealed[:n]) || opens(t, k, "login", sealed[n+1:]) {
				t.Errorf("cut at %d is taken", n)
			}
			for _, c := range []string{"\n", "\r", "\r\n", " ", "=", "\x00", "."} {
				if opens(t, k, "login", sealed[:n]+c+sealed[n:]) {
					t.Errorf("%q at %d is taken", c, n)
				}
			}
		}
		const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
		for _, c := range alphabet {
			if s := sealed[:len(sealed)-1] + string(c); s != sealed && opens(t, k, "login", s) {
				t.Errorf("with the last character %c it is taken", c)
			}
		}
		foreign := unb64(t, mustSeal(t, other, "login", plain))
		for name, s := range map[string]string{
			"a line break behind":            sealed + "\n",
			"CR LF behind":                   sealed + "\r\n",
			"padding":                        base64.URLEncoding.EncodeToString(raw) + "=",
			"the standard alphabet":          base64.StdEncoding.EncodeToString(append(raw, 0xff)),
			"one character more":             sealed + "A",
			"twice":                          sealed + sealed,
			"another gateway's":              b64(foreign),
			"another gateway's under our id": b64(string(raw[:4]) + foreign[4:]),
			"the id alone":                   b64(string(raw[:4])),
			"60 KB":                          strings.Repeat("A", 60<<10),
			"60 KB behind":                   sealed + strings.Repeat("A", 60<<10),
		} {
			if opens(t, k, "login", s) {
				t.Errorf("%s is taken", name)
			}
		}
	}
}

// attack: 60 KB of sealed text, even our own, are not worked on.
func TestOpenIsBounded(t *testing.T) {
	k := newKeyring(t, newFakeStorage(), newClock(), algHS256)
	fits := mustSeal(t, k, "login", strings.Repeat("x", maxSealed/4*3-32))
	if len(fits) != maxSealed || !opens(t, k, "login", fits) {
		t.Errorf("%d characters are refused", len(fits))
	}
	for _, n := range []int{maxSealed/4*3 - 31, 45 << 10} {
		if sealed := mustSeal(t, k, "login", strings.Repeat("x", n)); opens(t, k, "login", sealed) {
			t.Errorf("%d characters are opened", len(sealed))
		}
	}
}

// WeChat cuts or refuses long addresses.
func TestSealedLoginIsShort(t *testing.T) {
	k := newKeyring(t, newFakeStorage(), newClock(), algHS256)
	l := Login{
		ID: NewLoginID(), Account: strings.Repeat("a", 20), Origin: "https://" + strings.Repeat("o", 52), Path: "/_wechat",
		Scope: ScopeUserInfo, Started: time.Now().Unix(), Restarts: 1, Return: "/" + strings.Repeat("r", 39),
	}
	sealed, err := k.SealLogin(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d characters", len(sealed))
	if len(sealed) >= 400 {
		t.Errorf("%d characters, want under 400", len(sealed))
	}
	if got, err := k.OpenLogin(t.Context(), sealed); err != nil || got != l {
		t.Errorf("%+v, %v, want %+v", got, err, l)
	}
	l.Outcome, l.Ref = StatusUnavailable, "0123456789abcdef"
	if sealed, err = k.SealLogin(t.Context(), l); err != nil || len(sealed) > 450 {
		t.Errorf("with an outcome: %d characters, %v", len(sealed), err)
	}
}

// A return path is at most 2,000 bytes: the browser's cookie must hold it.
func TestSealedPendingFitsIntoACookie(t *testing.T) {
	const origin = "https://shop.example.org"
	k := newKeyring(t, newFakeStorage(), newClock(), algHS256)
	p := Pending{NewLoginID(), []byte("/\xe4&" + strings.Repeat("&", 1997)), time.Now().Unix(), time.Now().Unix()}
	sealed, err := k.SealPending(t.Context(), origin, p)
	if err != nil || len(sealed) > 3900 {
		t.Fatalf("%d characters, %v", len(sealed), err)
	}
	if got, err := k.OpenPending(t.Context(), origin, sealed); err != nil || !reflect.DeepEqual(got, p) {
		t.Errorf("%+v, %v, want %+v", got, err, p)
	}
}

func TestLoginExpires(t *testing.T) {
	now := newClock().now()
	for started, want := range map[time.Duration]bool{
		0: false, -LoginLife: false, -LoginLife - time.Second: true, -24 * time.Hour: true,
		skew: false, skew + 2*time.Second: true, time.Hour: true,
	} {
		at := now.Truncate(time.Second)
		unix := at.Add(started).Unix()
		if got := (Login{Started: unix}).ExpiredAt(at); got != want {
			t.Errorf("a login begun %v from now: expired %v, want %v", started, got, want)
		}
		if got := (Pending{Started: unix}).ExpiredAt(at); got != want {
			t.Errorf("a pending begun %v from now: expired %v, want %v", started, got, want)
		}
	}
	if !(Login{}).ExpiredAt(now) || !(Login{Started: 1 << 62}).ExpiredAt(now) || !(Login{Started: -1 << 62}).ExpiredAt(now) {
		t.Error("a login of no time is fresh")
	}
}

func TestLoginID(t *testing.T) {
	id := NewLoginID()
	if !IsLoginID(id) || id == NewLoginID() {
		t.Errorf("%q", id)
	}
	for state, want := range map[string]string{
		id: id, id + "#wechat_redirect": id, id + "&from=singlemessage": id, id + id: id, "": "", "short": "short",
	} {
		if got := LoginID(state); got != want {
			t.Errorf("%q: got %q, want %q", state, got, want)
		}
	}
	for _, s := range []string{"", id[1:], id + "0", strings.ToUpper("ab" + id[2:]), "g" + id[1:], id[1:] + "\n", strings.Repeat("é", 16)} {
		if IsLoginID(s) {
			t.Errorf("%q has a login id's shape", s)
		}
	}
}

func FuzzOpen(f *testing.F) {
	k := newKeyring(f, newFakeStorage(), newClock(), algHS256)
	genuine := map[string]bool{}
	for _, plain := range []string{"", "x", `{"i":"0123456789abcdef"}`, strings.Repeat("x", 500)} {
		sealed := mustSeal(f, k, "login", plain)
		genuine[sealed] = true
		f.Add(sealed)
		f.Add(sealed + "\n")
		f.Add(sealed[:len(sealed)-1])
		f.Add(mustSeal(f, k, "cookie", plain))
	}
	f.Add("")
	f.Add("====")
	f.Add(strings.Repeat("A", 43))
	f.Fuzz(func(t *testing.T, sealed string) {
		if opens(t, k, "login", sealed) && !genuine[sealed] {
			t.Errorf("%q was not sealed here", sealed)
		}
	})
}
