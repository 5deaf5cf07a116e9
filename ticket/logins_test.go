package ticket

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What was sealed for a login cookie and is none, by a version before or after this one, is refused; nothing panics.
func TestOpenPendingRefusesWhatIsNoPending(t *testing.T) {
	const origin = "https://shop.example.org"
	k := newKeyring(t, newFakeStorage(), newClock(), algHS256)
	id := strings.Repeat("i", 16)
	for _, plain := range []string{"", "x", id[:15], id, id + "\x02", id + "\x80", id + "\x02\x80", id + strings.Repeat("\xff", 11), `{"i":"x"}`} {
		if p, err := k.OpenPending(t.Context(), origin, mustSeal(t, k, "login cookie of "+origin, plain)); !errors.Is(err, ErrSeal) {
			t.Errorf("%q: %+v, %v, want ErrSeal", plain, p, err)
		}
	}
	for _, bad := range []string{"", "x", strings.Repeat("A", 32), strings.Repeat("0", 31), strings.Repeat("0", 34)} {
		if sealed, err := k.SealPending(t.Context(), origin, Pending{ID: bad}); err == nil {
			t.Errorf("%q was sealed as %q", bad, sealed)
		}
	}
}

// So is what was sealed for a login and is none: a text that ends too early, one that is too long, bytes behind it.
func TestOpenLoginRefusesWhatIsNoLogin(t *testing.T) {
	k := newKeyring(t, newFakeStorage(), newClock(), algHS256)
	id := strings.Repeat("i", 16)
	whole := id + "\x02\x00\x00" + strings.Repeat("\x01x", 10)
	if _, err := k.OpenLogin(t.Context(), mustSeal(t, k, "login", whole)); err != nil {
		t.Fatal(err)
	}
	bad := []string{whole + "x", id + "\x80", id + "\x02\x00\x00" + strings.Repeat("\xff", 11), id + "\x02\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", `{"i":"x"}`, "[]"}
	for i := range len(whole) {
		bad = append(bad, whole[:i])
	}
	for _, plain := range bad {
		if l, err := k.OpenLogin(t.Context(), mustSeal(t, k, "login", plain)); !errors.Is(err, ErrSeal) || l != (Login{}) {
			t.Errorf("%q: %+v, %v, want ErrSeal", plain, l, err)
		}
	}
}

// That a login came back is known for as long as it counts as an attempt, of that login alone.
func TestLoginsThatCameBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &Codes{Store: NewMemory().Limited(1 << 20)}
		for range 2 {
			c.NoteEnd(t.Context(), "one", time.Minute)
		}
		if !c.CameBack(t.Context(), "one") || c.CameBack(t.Context(), "two") {
			t.Error("not the one that came back")
		}
		time.Sleep(time.Minute) // the bubble's clock
		if c.CameBack(t.Context(), "one") {
			t.Error("known after its time")
		}
		full := &Codes{Store: NewMemory().Limited(0)}
		full.NoteEnd(t.Context(), "one", time.Minute)
		if full.CameBack(t.Context(), "one") {
			t.Error("known by a store that took nothing")
		}
	})
}
