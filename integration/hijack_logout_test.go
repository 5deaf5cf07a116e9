package integration

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestHijackLogout: another site cannot sign a person out, and nothing but a press does.
func TestHijackLogout(t *testing.T) {
	w := hijackWorld(t, "")
	hijackRun(t, w, []hijackTest{
		{"a POST ends the session unless a browser says that another origin sent it", hijackLogoutPosts},
		{"a GET ends the session only where a page of this origin led a person there", hijackLogoutGets},
	})
	t.Run("what a sibling domain tossed in is not read on https", func(t *testing.T) { hijackTossed(t, w) })
}

func hijackLogoutPosts(t *testing.T, w *world, page string) {
	own := hijackOrigin(page)
	host := hijackHost(page)
	origins := map[string]bool{
		"": true, own: true, strings.ToUpper(own): true, own + ":443": true,
		"null": false, "https://evil.example": false, own + ".evil.example": false, "https://www." + host: false,
		"http://" + host: false, own + ":8443": false, "https://" + host + "@evil.example": false, "junk": false,
	}
	sites := map[string]bool{"": true, "same-origin": true, "none": true, "same-site": false, "cross-site": false, "junk": false}
	h := hijackBrowser(t, w, "lina")
	h.signIn(page)
	for origin, originOwn := range origins {
		for site, siteOwn := range sites {
			resp, _ := h.do(http.MethodPost, own+"/_wechat/logout", hijackHeaders("Origin", origin, "Sec-Fetch-Site", site)...)
			ended := originOwn && siteOwn
			want := map[bool]int{true: http.StatusSeeOther, false: http.StatusForbidden}[ended]
			if resp.StatusCode != want {
				t.Errorf("Origin %q, Sec-Fetch-Site %q: %d, want %d", origin, site, resp.StatusCode, want)
			}
			if !ended {
				h.mustBe(page, "lina")
				continue
			}
			h.signIn(page)
		}
	}
}

// hijackHeaders are the pairs that have a value.
func hijackHeaders(pairs ...string) (list []string) {
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			list = append(list, pairs[i], pairs[i+1])
		}
	}
	return list
}

// Attacks: a link in a mail, an image in a forum post of this very site, a browser that prefetches links.
func hijackLogoutGets(t *testing.T, w *world, page string) {
	own := hijackOrigin(page)
	cases := []struct {
		name   string
		header []string
		ends   bool
	}{
		{"a link of this site", []string{"Sec-Fetch-Site", "same-origin"}, true},
		{"a script of this site", []string{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty"}, true},
		{"a link of this site, in an old browser", []string{"Referer", page}, true},
		{"a link of this site, to its root", []string{"Referer", own}, true},
		{"the address bar", []string{"Sec-Fetch-Site", "none"}, false},
		{"no word of where it came from", nil, false},
		{"another site's link", []string{"Sec-Fetch-Site", "cross-site", "Referer", page}, false},
		{"a sibling's link", []string{"Sec-Fetch-Site", "same-site"}, false},
		{"a host that begins like this one", []string{"Referer", own + ".evil.example/"}, false},
		{"this host as a user's name", []string{"Referer", own + "@evil.example/"}, false},
		{"this host on another port", []string{"Referer", own + ":8443/"}, false},
		{"this host over http", []string{"Referer", "http://" + hijackHost(page) + "/"}, false},
		{"an image in a post of this site", []string{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image"}, false},
		{"a frame in this site", []string{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Dest", "iframe"}, false},
		{"a style sheet of this site", []string{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "style"}, false},
		{"a link of this site, prefetched", []string{"Sec-Fetch-Site", "same-origin", "Sec-Purpose", "prefetch"}, false},
		{"a link of this site, prerendered", []string{"Sec-Fetch-Site", "same-origin", "Sec-Purpose", "prefetch;prerender"}, false},
		{"a link of this site, prefetched by an old browser", []string{"Referer", page, "Purpose", "prefetch"}, false},
	}
	h := hijackBrowser(t, w, "lina")
	h.signIn(page)
	for _, x := range cases {
		resp, body := h.get(own+"/_wechat/logout", hijackWithoutFetch(x.header)...)
		if x.ends != (resp.StatusCode == http.StatusSeeOther) || !x.ends && !strings.Contains(body, `method="post"`) {
			t.Errorf("%s: %d", x.name, resp.StatusCode)
		}
		if x.ends {
			h.signIn(page)
		}
		h.mustBe(page, "lina")
	}
	for _, method := range []string{http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete} {
		if resp, _ := h.do(method, own+"/_wechat/logout", "Sec-Fetch-Site", "same-origin"); resp.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", method, resp.StatusCode)
		}
	}
	h.mustBe(page, "lina")
}

// hijackWithoutFetch leaves out Sec-Fetch-Mode and -Dest where a case names no Sec-Fetch-Site: an old browser.
func hijackWithoutFetch(header []string) []string {
	if strings.Contains(strings.Join(header, " "), "Sec-Fetch-Site") {
		return header
	}
	return append([]string{"Sec-Fetch-Mode", "", "Sec-Fetch-Dest", ""}, header...)
}

// Attack: www.example.com, which is Mallory's, sets cookies for all of example.com. A browser lets it have any
// name but a __Host- one; on plain http no name is safe, and nothing is promised there.
func hijackTossed(t *testing.T, w *world) {
	mallory := hijackBrowser(t, w, "zhangwei")
	callback := mallory.begin(authPage)
	login := mallory.loginCookies(authPage)[0]
	value := mallory.cookie(authPage, login)
	mallory.finish(callback)
	lina := hijackBrowser(t, w, "lina")
	lina.jar["auth.example.com"] = map[string]string{
		"wechat_session": mallory.session(authPage), strings.TrimPrefix(login, "__Host-"): value,
		"__Secure-wechat_session": mallory.session(authPage),
	}
	if who := lina.known(authPage); who != "" {
		t.Errorf("lina is %q", who)
	}
	resp, body := lina.finish(callback)
	lina.mustGetNothing("the tossed login", "zhangwei", resp, body)
	lina.signIn(authPage)
}

// TestHijackLogoutRaces: page loads renew a session, and callbacks deliver it again, while it is ended. What
// any answer handed out is worth nothing once the logout was answered: not here, not on a gateway beside it,
// not after a crash.
func TestHijackLogoutRaces(t *testing.T) {
	w := hijackWorld(t, "renew 1ms")
	other := &world{gateway: newGateway(t), sim: w.sim, up: w.up}
	other.start(strings.Replace(hijackCaddyfile(other, "renew 1ms"), other.dir+"/storage", w.dir+"/storage", 1))
	ended := map[string][]string{}
	for page, way := range map[string]func(*hijacker, string){authPage: hijackByLogout, shopPage: hijackByLogout, hijackBlog: hijackByLogin} {
		for range 15 {
			ended[page] = append(ended[page], hijackRace(t, w, page, way)...)
		}
		t.Logf("%s: %d tokens were ended", page, len(ended[page]))
	}
	deadline := time.Now().Add(5 * time.Second)
	for page, tokens := range ended {
		for _, token := range tokens {
			for hijackAlive(t, other.clientTrusting(w.roots()), page, token) {
				if time.Now().After(deadline) {
					t.Fatal("a session that was ended lives on at the other gateway")
				}
				time.Sleep(50 * time.Millisecond)
			}
		}
	}
	caddyfile, err := os.ReadFile(filepath.Join(w.dir, "Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	w.kill()
	w.start(string(caddyfile))
	for page, tokens := range ended {
		hijackAllDead(t, w, page, tokens, "after a crash")
	}
}

func hijackByLogout(h *hijacker, page string) { logout(h.t, h.c, page, h.session(page)) }

// hijackByLogin replaces the session: somebody else logs in with the same browser.
func hijackByLogin(h *hijacker, page string) {
	next := &hijacker{t: h.t, w: h.w, user: "zhangwei", c: h.c, jar: map[string]map[string]string{}}
	callback := next.begin(page)
	next.jar[hijackHost(page)]["__Host-wechat_session"] = h.session(page)
	next.finish(callback)
	next.mustBe(page, "zhangwei")
}

// hijackRace ends a session while it is renewed, and returns all of its tokens.
func hijackRace(t *testing.T, w *world, page string, end func(*hijacker, string)) []string {
	t.Helper()
	h := hijackBrowser(t, w, "lina")
	callback := h.begin(page)
	h.finish(callback)
	first := &hijacker{t: t, w: w, user: "lina", c: h.c, jar: map[string]map[string]string{hijackHost(page): {"__Host-wechat_session": h.session(page)}}}
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		hijackTogether(6, func(i int) {
			for {
				select {
				case <-stop:
					return
				default:
				}
				switch i {
				case 0: // a tab that never takes a renewed cookie
					first.get(page)
					first.forget(page, "__Host-wechat_session")
					first.keepSession(page, h.all()[0])
				case 1:
					h.finish(callback)
				default:
					h.get(page)
				}
			}
		})
	}()
	for h.tokens() < 12 {
		time.Sleep(time.Millisecond)
	}
	end(h, page)
	hijackAllDead(t, w, page, h.all(), "at once")
	close(stop)
	<-done
	tokens := append(h.all(), first.all()...)
	hijackAllDead(t, w, page, tokens, "in the end")
	return tokens
}

func (h *hijacker) keepSession(page, token string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.jar[hijackHost(page)]["__Host-wechat_session"] = token
}

func (h *hijacker) tokens() int { return len(h.all()) }

func (h *hijacker) all() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.got...)
}

func hijackAllDead(t *testing.T, w *world, page string, tokens []string, when string) {
	t.Helper()
	c := w.client()
	for i, token := range tokens {
		if hijackAlive(t, c, page, token) {
			t.Fatalf("%s: token %d of %d lives: %s", when, i, len(tokens), fmt.Sprint(claims(t, token)))
		}
	}
}

func hijackAlive(t *testing.T, c *http.Client, page, token string) bool {
	t.Helper()
	resp, _ := get(t, c, page, pageHeader(holding(token)))
	return resp.StatusCode == http.StatusOK
}
