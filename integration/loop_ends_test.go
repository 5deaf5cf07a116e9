package integration

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// TestLoopEnds: whatever a browser loses, it ends at a page that says why and leads on, after few trips to WeChat.
func TestLoopEnds(t *testing.T) {
	hijackRun(t, hijackWorld(t, ""), []hijackTest{
		{"cookies off: a page after two trips, and once they are on its button logs in", loopCookiesOff},
		{"a session cookie that is lost each time: a page after three logins, and nobody else is held up", loopSessionLost},
		{"all that a callback sets is lost each time: a page after three logins", loopCallbackCookiesLost},
		{"a person who declines six times is asked only when they press, and can still say yes", loopDeclined},
		{"a snapshot visitor sees a page, and logs in once they have left the snapshot", loopSnapshot},
	})
}

func loopCookiesOff(t *testing.T, w *world, page string) {
	for _, address := range []string{page, page + "?" + strings.Repeat("q", 1900), hijackOrigin(page) + "/_wechat/login?return=/member/&scope=snsapi_userinfo"} {
		h := hijackBrowser(t, w, "lina")
		h.loses = func(*http.Response, *http.Cookie) bool { return true }
		for range 3 {
			resp, body, logins := h.walk(address)
			if resp.StatusCode != http.StatusBadRequest || logins > 2 || !strings.Contains(body, "Cookie") || len(hrefs(body)) != 1 {
				t.Fatalf("%.80s: %d after %d logins\n%.500s", address, resp.StatusCode, logins, body)
			}
			address = hijackOrigin(page) + hrefs(body)[0]
		}
		h.loses = nil
		if resp, _, logins := h.walk(address); resp.StatusCode != http.StatusOK || logins != 1 {
			t.Errorf("with cookies on the button led to %d after %d logins", resp.StatusCode, logins)
		}
		h.mustBe(page, "lina")
	}
}

func loopSessionLost(t *testing.T, w *world, page string) {
	h, neighbour := hijackBrowser(t, w, "lina"), hijackBrowser(t, w, "zhangwei")
	h.loses = func(_ *http.Response, c *http.Cookie) bool { return c.Name == "__Host-wechat_session" }
	neighbour.c = h.c // behind one address, on one connection
	address, all := page, 0
	for range 3 {
		resp, body, logins := h.walk(address)
		all += logins
		if resp.StatusCode != http.StatusTooManyRequests || logins > 3 || len(hrefs(body)) != 1 {
			t.Fatalf("%d after %d logins\n%.500s", resp.StatusCode, logins, body)
		}
		address = hijackOrigin(page) + hrefs(body)[0]
		neighbour.forget(page)
		neighbour.walk(page)
		neighbour.mustBe(page, "zhangwei")
	}
	if resp, _, logins := h.walk(page); resp.StatusCode != http.StatusTooManyRequests || logins != 0 {
		t.Errorf("the page itself: %d after %d logins more", resp.StatusCode, logins)
	}
	h.loses = nil
	if resp, _, logins := h.walk(address); resp.StatusCode != http.StatusOK || logins != 1 {
		t.Errorf("with the session kept the button led to %d after %d logins", resp.StatusCode, logins)
	}
	h.mustBe(page, "lina")
	// A signed-in request ends the counting.
	for range 3 {
		h.forget(page, "__Host-wechat_session")
		if resp, _, logins := h.walk(page); resp.StatusCode != http.StatusOK || logins != 1 {
			t.Errorf("the next login: %d after %d logins", resp.StatusCode, logins)
		}
	}
}

// Something between drops the cookies of answers to addresses with a code, or the browser those of a redirect
// from another site: what the login's first answer set stays.
func loopCallbackCookiesLost(t *testing.T, w *world, page string) {
	h := hijackBrowser(t, w, "lina")
	h.loses = func(resp *http.Response, _ *http.Cookie) bool {
		return strings.HasSuffix(resp.Request.URL.Path, "/callback")
	}
	resp, body, logins := h.walk(page)
	if resp.StatusCode != http.StatusTooManyRequests || logins > 3 || len(hrefs(body)) != 1 {
		t.Fatalf("%d after %d logins\n%.500s", resp.StatusCode, logins, body)
	}
	h.loses = nil
	if resp, _, logins := h.walk(hijackOrigin(page) + hrefs(body)[0]); resp.StatusCode != http.StatusOK || logins != 1 {
		t.Errorf("the button led to %d after %d logins", resp.StatusCode, logins)
	}
	h.mustBe(page, "lina")
}

func loopDeclined(t *testing.T, w *world, page string) {
	h := hijackBrowser(t, w, "lina")
	w.sim.Update(func(k *wechattest.Knobs) { k.Consent = wechattest.DeclineLegacy })
	address := page
	for i := range 6 {
		resp, body, logins := h.walk(address)
		if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusTooManyRequests || logins > 1 || len(hrefs(body)) != 1 || h.session(page) != "" {
			t.Fatalf("refusal %d: %d after %d logins\n%.500s", i, resp.StatusCode, logins, body)
		}
		address = hijackOrigin(page) + hrefs(body)[0]
	}
	w.sim.Update(func(k *wechattest.Knobs) { k.Consent = wechattest.Silent })
	if resp, _, logins := h.walk(address); resp.StatusCode != http.StatusOK || logins != 1 || resp.Request.URL.String() != page {
		t.Errorf("yes led to %s, %d, after %d logins", resp.Request.URL, resp.StatusCode, logins)
	}
	h.mustBe(page, "lina")
}

// Leaving a snapshot drops its cookies and enters the last address again: the callback's.
func loopSnapshot(t *testing.T, w *world, page string) {
	b := w.browser(w.sim, wechattest.BrowserOptions{User: "lina", Snapshot: true})
	p := open(t, b, page)
	wantStatus(t, p, http.StatusOK)
	if !strings.Contains(string(p.Body), "使用完整服务") {
		t.Fatalf("no snapshot page\n%.500s", p.Body)
	}
	p, err := b.LeaveSnapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := openID(t, p); got != w.sim.OpenID(appID, "lina") || strings.TrimSuffix(p.URL.String(), "#") != page {
		t.Errorf("after the snapshot: %q at %s", got, p.URL)
	}
}
