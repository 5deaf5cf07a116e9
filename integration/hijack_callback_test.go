package integration

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// TestHijackCallbacks: whatever WeChat and browsers do with the callbacks of one login, its own browser
// ends signed in as its own user, and each code is exchanged once.
func TestHijackCallbacks(t *testing.T) {
	hijackRun(t, hijackWorld(t, ""), []hijackTest{
		{"one callback twice to twenty times at once is one exchange and one session", hijackAtOnce},
		{"two codes for one state are each exchanged for themselves", hijackTwoCodes},
		{"two codes of two people are never answered with each other", hijackTwoPeoplesCodes},
		{"a callback that is aborted and comes again 50 ms later signs in", hijackAborted},
		{"the back button onto the callback shows no error to whoever is signed in", hijackBack},
		{"prefetch, HEAD and OPTIONS of a callback lose nothing", hijackPrefetch},
	})
}

func hijackAtOnce(t *testing.T, w *world, page string) {
	for n := 2; n <= 20; n++ {
		h := hijackBrowser(t, w, "lina")
		callback := h.begin(page)
		w.sim.ResetCalls()
		if n%3 == 0 {
			callback = h.atSite(callback, page) // across domains: one ticket
		}
		hijackTogether(n, func(int) {
			if resp, body := h.finish(callback); !hijackEndsAt(resp, page) {
				t.Errorf("%d at once: one ended with %d %s\n%.500s", n, resp.StatusCode, resp.Header.Get("Location"), body)
			}
		})
		if calls := w.sim.CountCalls(wechattest.PathToken); calls != 1 {
			t.Errorf("%d at once: WeChat was asked %d times", n, calls)
		}
		h.mustBe(page, "lina")
		for _, token := range h.got {
			if jti(t, token) != jti(t, h.session(page)) {
				t.Errorf("%d at once: more than one session", n)
			}
		}
	}
}

func hijackTwoCodes(t *testing.T, w *world, page string) {
	for n := 1; n <= 5; n++ {
		h := hijackBrowser(t, w, "lina")
		authorize := h.leave(page)
		callbacks := []string{h.authorize(authorize), h.authorize(authorize)}
		w.sim.ResetCalls()
		hijackTogether(2*n, func(i int) {
			if resp, _ := h.finish(callbacks[i%2]); !hijackEndsAt(resp, page) {
				t.Errorf("one ended with %d %s", resp.StatusCode, resp.Header.Get("Location"))
			}
		})
		if calls := w.sim.CountCalls(wechattest.PathToken); calls != 2 {
			t.Errorf("two codes, %d times each: WeChat was asked %d times", n, calls)
		}
		h.mustBe(page, "lina")
	}
}

// Attack: the broker keeps what a login brought under the login alone; its second code is answered with
// the identity that the first one brought, whoever had that.
func hijackTwoPeoplesCodes(t *testing.T, w *world, page string) {
	h := hijackBrowser(t, w, "lina")
	authorize := h.leave(page)
	hers := h.authorize(authorize)
	h.user = "zhangwei"
	his := h.authorize(authorize)
	for user, callback := range map[string]string{"lina": hers, "zhangwei": his} {
		login := h.cookies(hijackHost(page))
		other := &hijacker{t: t, w: w, user: user, c: h.c, jar: map[string]map[string]string{}}
		name, value, _ := strings.Cut(login, "=")
		other.jar[hijackHost(page)] = map[string]string{name: value}
		other.finish(callback)
		other.mustBe(page, user)
	}
}

// WeChat drops the first of two callbacks, whose exchange is under way by then.
func hijackAborted(t *testing.T, w *world, page string) {
	h := hijackBrowser(t, w, "lina")
	callback := h.begin(page)
	w.sim.ResetCalls()
	w.sim.Update(func(k *wechattest.Knobs) {
		k.Faults[wechattest.PathToken] = wechattest.Fault{Before: 200 * time.Millisecond, Times: 1}
	})
	ctx, abort := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer abort()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, callback, nil)
	req.Header = pageHeader(nil)
	if cookies := h.cookies(hijackHost(callback)); cookies != "" {
		req.Header.Set("Cookie", cookies)
	}
	if resp, err := h.c.Do(req); err == nil {
		_ = resp.Body.Close()
		t.Fatal("the first callback was answered before it could be aborted")
	}
	if resp, body := h.finish(callback); !hijackEndsAt(resp, page) {
		t.Fatalf("the second ended with %d\n%.500s", resp.StatusCode, body)
	}
	if calls := w.sim.CountCalls(wechattest.PathToken); calls != 1 {
		t.Errorf("WeChat was asked %d times", calls)
	}
	h.mustBe(page, "lina")
}

func hijackBack(t *testing.T, w *world, page string) {
	h := hijackBrowser(t, w, "lina")
	callback := h.begin(page)
	site := h.atSite(callback, page)
	h.finish(site)
	first := h.session(page)
	w.sim.ResetCalls()
	for _, address := range []string{callback, site, callback} {
		if resp, _ := h.finish(address); !hijackEndsAt(resp, page) {
			t.Errorf("the back button led to %d %s", resp.StatusCode, resp.Header.Get("Location"))
		}
	}
	// The browser lost its session, not its login: the same session again, by the same callback.
	h.forget(page, "__Host-wechat_session")
	h.finish(callback)
	if again := h.session(page); again == "" || jti(t, again) != jti(t, first) {
		t.Error("the same browser with the same callback has not the same session")
	}
	if n := w.sim.CountCalls(wechattest.PathToken); n != 0 {
		t.Errorf("WeChat was asked %d times again", n)
	}
	// Long after, its login cookie is gone as well: who is signed in goes on, whatever the address.
	for _, name := range h.loginCookies(page) {
		h.forget(page, name)
	}
	for _, address := range []string{callback, site} {
		if resp, _ := h.finish(address); resp.StatusCode != http.StatusSeeOther || sessionOf(resp) != "" {
			t.Errorf("without the login cookie: %d", resp.StatusCode)
		}
	}
	h.mustBe(page, "lina")
}

// Link previews, prefetching browsers and scanners ask for whatever address they see.
func hijackPrefetch(t *testing.T, w *world, page string) {
	h := hijackBrowser(t, w, "lina")
	callback := h.begin(page)
	w.sim.ResetCalls()
	hops := func(try func(who *hijacker, address string)) {
		for _, who := range []*hijacker{h, hijackBrowser(t, w, "zhangwei")} {
			try(who, callback)
		}
	}
	for _, method := range []string{http.MethodHead, http.MethodOptions, http.MethodPost, "PROPFIND"} {
		hops(func(who *hijacker, address string) {
			if resp, _ := who.do(method, address); resp.StatusCode != http.StatusMethodNotAllowed || len(resp.Header["Set-Cookie"]) > 0 {
				t.Errorf("%s: %d %v", method, resp.StatusCode, resp.Header)
			}
		})
	}
	if n := w.sim.CountCalls(wechattest.PathToken); n != 0 {
		t.Errorf("WeChat was asked %d times", n)
	}
	site := h.atSite(callback, page)
	stranger := hijackBrowser(t, w, "zhangwei")
	for _, address := range []string{callback, site} {
		for _, more := range [][]string{
			{"Sec-Purpose", "prefetch"},
			{"Sec-Purpose", "prefetch;prerender"},
			{"Purpose", "prefetch"},
			{"X-Moz", "prefetch"},
			{"Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image"},
			{"Sec-Fetch-Dest", "iframe"},
		} {
			resp, body := stranger.get(address, more...)
			stranger.mustGetNothing(fmt.Sprint(more), "lina", resp, body)
		}
		for _, method := range []string{http.MethodHead, http.MethodOptions} {
			h.do(method, address)
		}
	}
	if resp, _ := h.finish(site); !hijackEndsAt(resp, page) {
		t.Errorf("its own browser ended with %d", resp.StatusCode)
	}
	h.mustBe(page, "lina")
	if n := w.sim.CountCalls(wechattest.PathToken); n != 1 {
		t.Errorf("WeChat was asked %d times", n)
	}
}

// hijackTogether runs f n times at once.
func hijackTogether(n int, f func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	wg.Wait()
}
