package integration

import (
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// callbackJunk: what anybody can write into a callback's address.
func (x *redirectWorld) callbackJunk(t *testing.T, w *redirectWire, at redirectAt, p redirectPayload) {
	for _, sent := range []string{p.text, redirectEscape(p.text)} {
		target := "/_wechat/callback?return=" + sent + "&redirect_uri=" + sent + "&login=" + sent + "&state=" + sent + "&code=" + sent + "&ticket=" + sent + "&error=" + sent
		a := x.play(t, w, at, target, redirectGet(at.host, target, redirectInside, redirectLoad))
		if a != nil && (a.StatusCode < 400 || a.Header.Get("Location") != "" || len(a.Header["Set-Cookie"]) > 0) {
			t.Errorf("%.200q got %d %v", p.text, a.StatusCode, a.Header)
		}
	}
}

// callbackWithLogin: the login is good and the rest is not; at the broker, and at the site behind it.
func (x *redirectWorld) callbackWithLogin(t *testing.T) redirectPlay {
	t.Helper()
	w := x.redirectWire()
	defer w.close()
	a, err := w.send("shop.example.org", redirectGet("shop.example.org", "/member/", redirectInside, redirectLoad))
	if err != nil || a == nil {
		t.Fatal(err)
	}
	cookies := redirectCookies(a)
	back, _ := x.weixin(a.Header.Get("Location"))
	q := queryOf(t, back)
	login := "login=" + q.Get("login")
	return func(t *testing.T, w *redirectWire, at redirectAt, p redirectPayload) {
		junk := redirectEscape(p.text)
		behind := "&return=" + junk + "&redirect_uri=" + junk + "&error=" + junk + "&origin=" + junk
		if len(junk) > 3000 {
			return
		}
		broker := redirectAt{"auth.example.com", "auth.example.com", at.origin}
		rest := []string{"&state=" + q.Get("state") + junk, "&state=" + junk, "&state=" + q.Get("state") + "&code=" + junk}[len(p.text)%3]
		a := x.play(t, w, broker, p.text, redirectGet(broker.host, "/_wechat/callback?"+login+rest+behind, redirectInside, redirectLoad))
		if a == nil || a.StatusCode != 302 || !strings.HasPrefix(a.Header.Get("Location"), "https://shop.example.org/_wechat/callback?error=") {
			t.Errorf("%.200q: the broker answered %v", p.text, a)
			return
		}
		target := strings.TrimPrefix(a.Header.Get("Location"), at.origin)
		x.play(t, w, at, p.text, redirectGet(at.host, target+behind, redirectInside, redirectLoad, cookies))
		x.play(t, w, at, p.text, redirectGet(at.host, target+behind, redirectInside, redirectLoad))
	}
}

// tooManyAttempts: logins that came back and led to nothing, then the page whose button goes on. They count for a minute.
func (x *redirectWorld) tooManyAttempts(t *testing.T) redirectPlay {
	t.Helper()
	var (
		mu      sync.Mutex
		cookies string
		since   time.Time
	)
	attempts := func(w *redirectWire, at redirectAt) string {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(since) > 30*time.Second {
			since, cookies = time.Now(), x.attempts(t, w, at)
		}
		return cookies
	}
	return func(t *testing.T, w *redirectWire, at redirectAt, p redirectPayload) {
		a := x.play(t, w, at, p.text, redirectGet(at.host, "/_wechat/login?return="+url.QueryEscape(p.text), redirectInside, redirectLoad, attempts(w, at)))
		if a == nil || a.StatusCode != 429 {
			t.Errorf("%.200q: %v", p.text, a)
		} else if to := x.returnIn(t, p.text, a); redirectSent(to) != p.wanted {
			t.Errorf("%.200q is behind the button as %.200q, want %.200q", p.text, to, p.wanted)
		}
	}
}

// attempts are the login cookies of three logins that ended.
func (x *redirectWorld) attempts(t *testing.T, w *redirectWire, at redirectAt) (cookies string) {
	t.Helper()
	for range 3 {
		a := x.play(t, w, at, "", redirectGet(at.host, "/member/", redirectInside, redirectLoad))
		pending := redirectCookies(a)
		back, _ := x.weixin(a.Header.Get("Location"))
		for range 2 { // the broker, and the site behind it
			u, _ := url.Parse(back)
			a = x.play(t, w, redirectAt{u.Host, u.Host, at.origin}, "", redirectGet(u.Host, u.RequestURI(), redirectInside, redirectLoad, pending))
			back = a.Header.Get("Location")
		}
		for line := range strings.SplitAfterSeq(redirectCookies(a), "\r\n") {
			if strings.Contains(line, "_login_") {
				cookies += line
			}
		}
	}
	return cookies
}

// snapshot: a guest is sent on without a session.
func (x *redirectWorld) snapshot(t *testing.T, w *redirectWire, at redirectAt, p redirectPayload) {
	a := x.play(t, w, at, p.text, redirectGet(at.host, "/_wechat/login?return="+url.QueryEscape(p.text), redirectInside, redirectLoad))
	if a == nil || a.StatusCode != 302 {
		t.Errorf("%.200q: %v", p.text, a)
		return
	}
	a.Header.Set("Location", strings.Replace(a.Header.Get("Location"), "#", "&forceSnapShot=true#", 1))
	landing, token := x.walk(t, w, at, p.text, a)
	if token != "" || landing != at.origin+p.wanted {
		t.Errorf("%.200q came back as %.200q with the session %.200q, want %.200q", p.text, landing, token, p.wanted)
	}
}

// withoutCookies: there a short return path comes back in the login's seal, first in a login that is begun anew, then
// behind a button.
func (x *redirectWorld) withoutCookies(t *testing.T, w *redirectWire, at redirectAt, p redirectPayload) {
	a := x.play(t, w, at, p.text, redirectGet(at.host, "/_wechat/login?return="+url.QueryEscape(p.text), redirectInside, redirectLoad))
	for range 2 {
		for a != nil && a.StatusCode == 302 {
			to := a.Header.Get("Location")
			if strings.HasPrefix(to, x.sim.url) {
				to, _ = x.weixin(to)
			}
			u, err := url.Parse(to)
			if err != nil {
				t.Errorf("%.200q led to %.200q", p.text, to)
				return
			}
			a = x.play(t, w, redirectAt{u.Host, u.Host, at.origin}, p.text, redirectGet(u.Host, u.RequestURI(), redirectInside, redirectLoad))
		}
	}
	if a == nil || a.StatusCode != 400 {
		t.Errorf("%.200q ended with %v", p.text, a)
		return
	}
	if to := redirectSent(x.returnIn(t, p.text, a)); to != p.wanted && (to != "/#" || len(p.wanted) <= 60) {
		t.Errorf("%.200q is behind the button as %.200q, want %.200q", p.text, to, p.wanted)
	}
}
