package integration

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// TestLoopSteps: browsers that wait at every step of a login, while the gateway is reloaded, or crashes.
func TestLoopSteps(t *testing.T) {
	w := hijackWorld(t, "")
	caddyfile, err := os.ReadFile(filepath.Join(w.dir, "Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	t.Run("reloads lose nothing", func(t *testing.T) {
		loopSteps(t, w, func() {
			for range 2 {
				if out, err := w.reload(string(caddyfile)); err != nil {
					t.Fatal(out)
				}
			}
		}, false)
	})
	t.Run("a crash loses what was in memory alone, and that is one press away at most", func(t *testing.T) {
		loopSteps(t, w, func() {
			w.kill()
			w.start(string(caddyfile))
		}, true)
	})
}

// loopWaiting is a browser that waits at a step.
type loopWaiting struct {
	*hijacker
	step   string
	page   string
	at     string // where it goes next
	memory bool   // what it needs was in memory
}

func loopSteps(t *testing.T, w *world, interrupt func(), crash bool) {
	var waiting []loopWaiting
	for _, page := range []string{authPage + "?x=1", shopPage + "?x=1", hijackClub + "?x=1"} {
		wait := func(step, at string, h *hijacker, memory bool) {
			waiting = append(waiting, loopWaiting{h, step + " of " + hijackHost(page), page, at, memory})
		}
		h := hijackBrowser(t, w, "lina")
		wait("at WeChat", h.authorize(h.leave(page)), h, false)

		h = hijackBrowser(t, w, "lina")
		if site := h.atSite(h.begin(page), page); strings.Contains(site, "ticket=") {
			wait("with a ticket", site, h, true)
		}

		// The last answer was lost on its way: the browser asks again.
		h = hijackBrowser(t, w, "lina")
		callback := h.begin(page)
		before := map[string]string{}
		for name, value := range h.jar[hijackHost(page)] {
			before[name] = value
		}
		h.finish(callback)
		h.jar[hijackHost(page)] = before
		wait("at the end", callback, h, true)

		h = hijackBrowser(t, w, "lina")
		callback = h.begin(page)
		h.finish(callback)
		wait("signed in, and back at the callback", callback, h, false)
	}
	interrupt()
	for _, b := range waiting {
		b.c = w.client()
		resp, body := b.finish(b.at)
		to := resp.Header.Get("Location")
		if crash && strings.HasPrefix(b.step, "with a ticket") {
			// The ticket is lost, and this browser began the login: it begins anew by itself.
			if resp.StatusCode != http.StatusFound || !strings.Contains(to, wechattest.PathAuthorize) {
				t.Errorf("%s: %d %s\n%.300s", b.step, resp.StatusCode, to, body)
				continue
			}
			b.wantWalk(to, 0)
		} else if lost := crash && b.memory; lost {
			if resp.StatusCode != http.StatusBadRequest || len(hrefs(body)) == 0 {
				t.Errorf("%s: %d %s\n%.300s", b.step, resp.StatusCode, to, body)
				continue
			}
			b.wantWalk(hijackOrigin(b.page)+hrefs(body)[0], 1)
		} else if !hijackEndsAt(resp, b.page) {
			t.Errorf("%s: %d %s\n%.300s", b.step, resp.StatusCode, to, body)
		}
		b.mustBe(b.page, "lina")
	}
	if crash {
		return
	}
	for _, b := range waiting {
		if got := jti(t, b.session(b.page)); got == "" {
			t.Errorf("%s: no session", b.step)
		}
	}
}

// wantWalk goes on from an address and must end at the page, after so many more trips to WeChat.
func (b loopWaiting) wantWalk(from string, want int) {
	b.t.Helper()
	resp, _, logins := b.walk(from)
	if resp.StatusCode != http.StatusOK || logins != want || resp.Request.URL.String() != b.page {
		b.t.Errorf("%s: the way led to %s, %d, after %d logins", b.step, resp.Request.URL, resp.StatusCode, logins)
	}
}

// TestLoopTrouble: whatever WeChat does, the person sees a page, and its button logs them in once WeChat is well again.
func TestLoopTrouble(t *testing.T) {
	hijackRun(t, hijackWorld(t, ""), []hijackTest{{"each trouble is a page whose button works", loopTrouble}})
}

func loopTrouble(t *testing.T, w *world, page string) {
	const long = 30e9 // 30 s
	again := hijackBrowser(t, w, "zhangwei")
	again.signIn(page)
	cases := []struct {
		name   string
		fault  wechattest.Fault
		status int
	}{
		{"-1, then well", wechattest.Fault{Errcodes: []int{-1}}, 200},
		{"-1 and -1", wechattest.Fault{Errcodes: []int{-1, -1}}, 502},
		{"40029", wechattest.Fault{Errcodes: []int{40029}}, 400},
		{"40163", wechattest.Fault{Errcodes: []int{40163}}, 400},
		{"42001", wechattest.Fault{Errcodes: []int{42001, 42001}}, 502},
		{"45011", wechattest.Fault{Errcodes: []int{45011, 45011}}, 502},
		{"HTML", wechattest.Fault{Raw: "<!doctype html><h1>502 Bad Gateway</h1>", ContentType: "text/html"}, 502},
		{"an empty answer", wechattest.Fault{Raw: " "}, 502},
		{"no answer", wechattest.Fault{Drop: true}, 502},
		{"an answer after 30 s", wechattest.Fault{Before: long}, 502},
		{"a body that takes 30 s", wechattest.Fault{Body: long}, 502},
		{"a body without end", wechattest.Fault{Endless: true}, 502},
	}
	for _, x := range cases {
		h := hijackBrowser(t, w, "lina")
		w.sim.Update(func(k *wechattest.Knobs) { k.Faults[wechattest.PathToken] = x.fault })
		resp, body, logins := h.walk(page)
		again.mustBe(page, "zhangwei") // who is signed in notices nothing
		w.sim.Update(func(k *wechattest.Knobs) { delete(k.Faults, wechattest.PathToken) })
		if resp.StatusCode != x.status || logins != 1 {
			t.Errorf("%s: %d after %d logins", x.name, resp.StatusCode, logins)
			continue
		}
		if x.status == http.StatusOK {
			h.mustBe(page, "lina")
			continue
		}
		if h.session(page) != "" || len(hrefs(body)) != 1 {
			t.Errorf("%s: session %q, buttons %q", x.name, h.session(page), hrefs(body))
			continue
		}
		wantOwnAnswer(t, resp)
		resp, _, logins = h.walk(hijackOrigin(page) + hrefs(body)[0])
		if resp.StatusCode != http.StatusOK || logins != 1 || resp.Request.URL.String() != page {
			t.Errorf("%s: the button led to %s, %d, after %d logins", x.name, resp.Request.URL, resp.StatusCode, logins)
		}
		h.mustBe(page, "lina")
	}
}
