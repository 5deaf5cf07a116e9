package ticket

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestProfiles: what was kept last is read under its whole name, until it ends.
func TestProfiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := NewMemory()
		p := Profiles{Store: memory.Limited(1 << 20)}
		name := []string{"user", "default", "shop", "oLina"}
		for i := range 3 {
			v := Voucher{Identity: Identity{OpenID: "oLina", Nickname: fmt.Sprint(i)}, Profile: &Profile{Privilege: []string{"x"}}}
			if err := p.Keep(t.Context(), name, v, time.Hour); err != nil {
				t.Fatal(err)
			}
			time.Sleep(30 * time.Minute)
		}
		if v, err := p.Read(t.Context(), name); err != nil || v.Identity.Nickname != "2" || v.Profile.Privilege[0] != "x" {
			t.Errorf("%v, %v", v, err)
		}
		for _, other := range [][]string{nil, {}, {"user", "default", "shop"}, {"user", "default", "shop", "oLina", ""}, {"user", "default", "shopoLina"}, {"user", "defaultshop", "", "oLina"}, {"user", "default", "blog", "oLina"}} {
			if _, err := p.Read(t.Context(), other); !errors.Is(err, ErrNotFound) {
				t.Errorf("%q: %v", other, err)
			}
		}
		time.Sleep(30 * time.Minute)
		if _, err := p.Read(t.Context(), name); !errors.Is(err, ErrNotFound) || memory.Bytes() != 0 {
			t.Errorf("after its end: %v, %d bytes", err, memory.Bytes())
		}
	})
}

// Many logins of one user at once keep one profile, and none of them fails.
func TestProfilesAtOnce(t *testing.T) {
	memory := NewMemory()
	p := Profiles{Store: memory.Limited(1 << 20)}
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if err := p.Keep(t.Context(), []string{"x"}, Voucher{Identity: Identity{OpenID: "oLina", Nickname: fmt.Sprintf("%02d", i)}}, time.Hour); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if v, err := p.Read(t.Context(), []string{"x"}); err != nil || len(v.Identity.Nickname) != 2 {
		t.Errorf("%v, %v", v, err)
	}
	if n := memory.Bytes(); n > 1024 {
		t.Errorf("%d bytes for one profile", n)
	}
}

// A store that is away or full is said, and nothing is concluded from it.
func TestProfilesWithoutRoom(t *testing.T) {
	p := Profiles{Store: NewMemory().Limited(1)}
	if err := p.Keep(t.Context(), []string{"x"}, Voucher{}, time.Hour); !errors.Is(err, ErrFull) {
		t.Errorf("%v", err)
	}
}
