package integration

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestLoopTabs: logins that run beside each other in one browser.
func TestLoopTabs(t *testing.T) {
	hijackRun(t, hijackWorld(t, ""), []hijackTest{
		{"four tabs end where each was going, in every order of 24", loopFourTabs},
		{"forty logins that nobody finished leave bounded cookies, and the next one ends well", loopFortyLogins},
		{"forty logins begun at the same moment lock nobody out", loopFortyAtOnce},
		{"five logins begun at the same moment on the longest addresses lock nobody out", loopFiveLongAtOnce},
	})
}

// What no bound of the gateway's own can keep off, one line of Caddy's does: it decides what headers are too large.
func TestLoopTabsUnderALargerLimit(t *testing.T) {
	w := newWorld(t, boundDomain, func(w *world) string {
		return strings.Replace(hijackCaddyfile(w, ""), "wechat {", "servers {\n max_header_size 64KB\n}\nwechat {", 1)
	})
	for _, page := range []string{authPage, shopPage} {
		loopAtOnce(t, w, page, 20, 1950-len("/member/?"))
	}
}

func loopFourTabs(t *testing.T, w *world, page string) {
	for _, order := range loopOrders(4) {
		h := hijackBrowser(t, w, "lina")
		var callbacks, pages []string
		for tab := range 4 {
			pages = append(pages, fmt.Sprintf("%s?tab=%d&%s", page, tab, strings.Repeat("x", 100)))
			callbacks = append(callbacks, h.begin(pages[tab]))
		}
		// The broker sees them in one order, the site in another.
		for i := range order {
			tab := order[len(order)-1-i]
			callbacks[tab] = h.atSite(callbacks[tab], page)
		}
		for _, tab := range order {
			if resp, body := h.finish(callbacks[tab]); !hijackEndsAt(resp, pages[tab]) {
				t.Errorf("order %v: tab %d ended with %d %s\n%.300s", order, tab, resp.StatusCode, resp.Header.Get("Location"), body)
			}
			h.mustBe(page, "lina")
		}
	}
}

// loopOrders are all orders of n tabs.
func loopOrders(n int) (orders [][]int) {
	if n == 0 {
		return [][]int{nil}
	}
	for _, rest := range loopOrders(n - 1) {
		for at := range n {
			order := append([]int(nil), rest[:at]...)
			order = append(order, n-1)
			orders = append(orders, append(order, rest[at:]...))
		}
	}
	return orders
}

// Attack: cookies that pile up until Caddy answers 431 to everything.
func loopFortyLogins(t *testing.T, w *world, page string) {
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	long := func(int) int { return 1950 - len("/member/?") }
	for name, length := range map[string]func(i int) int{
		"short": func(int) int { return 5 }, "middling": func(int) int { return 300 }, "long": long, "mixed": func(int) int { return random.IntN(1900) },
	} {
		h := hijackBrowser(t, w, "lina")
		var last, first, target string
		for i := range 40 {
			target = page + "?" + strings.Repeat("q", length(i))
			last = h.begin(target)
			if i == 0 {
				first = last
			}
			if n, size := len(h.loginCookies(page)), len(h.cookies(hijackHost(page))); n > 5 || size > 8<<10+100 {
				t.Fatalf("seed %d, %s: %d login cookies, %d bytes after %d logins", seed, name, n, size, i+1)
			}
		}
		if resp, _ := h.finish(last); !hijackEndsAt(resp, target) {
			t.Errorf("seed %d, %s: the last one ended with %d %.100s", seed, name, resp.StatusCode, resp.Header.Get("Location"))
		}
		h.mustBe(page, "lina")
		// The first one's cookie was dropped long ago: it leads on, not to an error.
		if resp, _, _ := h.walk(first); resp.StatusCode != http.StatusOK {
			t.Errorf("%s: the first one led to %d", name, resp.StatusCode)
		}
		h.forget(page)
		if resp, _, logins := h.walk(first); resp.StatusCode != http.StatusOK || logins != 1 {
			t.Errorf("%s: without a session the first one led to %d after %d logins", name, resp.StatusCode, logins)
		}
		h.mustBe(page, "lina")
	}
}

// A browser restores its tabs: none of the requests sees the cookies that the others leave.
func loopFortyAtOnce(t *testing.T, w *world, page string) {
	loopAtOnce(t, w, page, 40, 100)
}

func loopFiveLongAtOnce(t *testing.T, w *world, page string) {
	loopAtOnce(t, w, page, 5, 1950-len("/member/?"))
}

func loopAtOnce(t *testing.T, w *world, page string, n, length int) {
	h := hijackBrowser(t, w, "lina")
	host := hijackHost(page)
	callbacks := make([]string, n)
	hijackTogether(n, func(i int) {
		fresh := hijackBrowser(t, w, "lina") // sends no cookie
		callbacks[i] = fresh.begin(page + "?" + strings.Repeat("q", length))
		h.mu.Lock()
		defer h.mu.Unlock()
		for name, value := range fresh.jar[host] {
			h.put(host, name, value)
		}
	})
	newest := h.loginCookies(page)[n-1]
	for _, callback := range callbacks {
		if !strings.HasSuffix(newest, queryOf(t, callback).Get("state")) {
			continue
		}
		if resp, body := h.finish(callback); !hijackEndsAt(resp, page+"?"+strings.Repeat("q", length)) {
			t.Fatalf("%d logins at once left %d bytes of cookies, then %d\n%.300s", n, len(h.cookies(host)), resp.StatusCode, body)
		}
	}
	h.mustBe(page, "lina")
	if size := len(h.cookies(host)); size > 8<<10+2000 {
		t.Errorf("%d bytes of cookies were kept", size)
	}
}
