package integration

import (
	"math/rand/v2"
	"net/http"
	"testing"
	"time"
)

// TestHijackPeople: several people, several logins, one browser, one connection. Everybody sees themselves.
func TestHijackPeople(t *testing.T) {
	hijackRun(t, hijackWorld(t, "renew 1ms"), []hijackTest{
		{"two people who alternate 1,000 times on one connection always see themselves", hijackAlternating},
		{"people who load pages at the same time see themselves", hijackCrowd},
		{"a login that was begun while somebody else was signed in ends their session", hijackWhileSignedIn},
	})
}

func hijackAlternating(t *testing.T, w *world, page string) {
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	people := []*hijacker{hijackBrowser(t, w, "zhangwei"), hijackBrowser(t, w, "lina")}
	people[1].c = people[0].c
	for i := range 1000 {
		h := people[i%2]
		if random.IntN(25) == 0 {
			h.forget(page)
		}
		if resp, _, _ := h.walk(page); resp.StatusCode != http.StatusOK {
			t.Fatalf("seed %d, visit %d: status %d", seed, i, resp.StatusCode)
		}
		if got := h.known(page); got != h.id(page, h.user) {
			t.Fatalf("seed %d, visit %d: %s was shown %q", seed, i, h.user, got)
		}
	}
}

func hijackCrowd(t *testing.T, w *world, page string) {
	users := []string{"zhangwei", "lina", "wangfang", "noavatar", "odd"}
	c := w.client()
	hijackTogether(10, func(i int) {
		h := hijackBrowser(t, w, users[i%len(users)])
		h.c = c
		for range 4 {
			h.forget(page)
			h.walk(page)
			for range 20 {
				if got := h.known(page); got != h.id(page, h.user) {
					t.Errorf("%s was shown %q", h.user, got)
				}
			}
		}
	})
}

// A phone is handed on: its new holder logs in, by a login that was begun before or after the other's.
func hijackWhileSignedIn(t *testing.T, w *world, page string) {
	h := hijackBrowser(t, w, "zhangwei")
	hers := h.leave(page)
	h.signIn(page)
	before := h.session(page)
	h.user = "lina"
	h.finish(h.authorize(hers))
	h.mustBe(page, "lina")
	if jti(t, h.session(page)) == jti(t, before) {
		t.Error("two people share a session's id")
	}
	if hijackAlive(t, h.c, page, before) {
		t.Error("the session that was replaced lives on")
	}
	// A step up by somebody else replaces it as well.
	before = h.session(page)
	step := h.leave(hijackOrigin(page) + "/_wechat/login?return=/member/&scope=snsapi_userinfo")
	h.user = "zhangwei"
	h.finish(h.authorize(step))
	h.mustBe(page, "zhangwei")
	if hijackAlive(t, h.c, page, before) {
		t.Error("the session that a step up replaced lives on")
	}
}
