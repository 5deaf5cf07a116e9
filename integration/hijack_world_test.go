package integration

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

const (
	hijackBlog = "https://blog.example.net/member/" // another site of the same account
	hijackClub = "https://club.example.com/member/" // a site of another account
	hijackApp2 = "wxfedcba9876543210"
)

// hijackCaddyfile is one gateway with all that logins can be confused between: a site on the bound domain
// itself, two on other domains, and one of another account.
func hijackCaddyfile(w *world, options string) string {
	account := func(name, id string) string {
		return "account " + name + " {\n app_id " + id + "\n app_secret {env.WECHAT_APP_SECRET}\n domain auth.example.com\n timeout 1s\n open_url " + w.sim.url + "\n api_url " + w.sim.url + "\n}\n"
	}
	site := func(address, more string) string {
		return address + " {\n" + more + "\n reverse_proxy " + w.up.addr + "\n}\n"
	}
	auth := "wechat_auth {\n account one\n" + options + "\n}\n"
	return "{\n" + w.globals() + "wechat {\n" + account("one", appID) + account("two", hijackApp2) + "}\n}\n" +
		site("auth.example.com", "wechat_broker\n"+auth) + site("shop.example.org", auth) + site("blog.example.net", auth) +
		site("club.example.com", "wechat_auth {\n account two\n"+options+"\n}\n")
}

func hijackWorld(t *testing.T, options string) *world {
	t.Helper()
	return newWorld(t, boundDomain, func(w *world) string {
		w.sim.AddAccount(wechattest.Account{AppID: hijackApp2, Secret: appSecret, Domains: boundDomain.Domains})
		return hijackCaddyfile(w, options)
	})
}

// hijackTest is an attack that is tried on the bound domain itself and across domains.
type hijackTest struct {
	name string
	test func(t *testing.T, w *world, page string)
}

func hijackRun(t *testing.T, w *world, tests []hijackTest) {
	t.Helper()
	for _, x := range tests {
		t.Run(x.name, func(t *testing.T) {
			t.Run("on the bound domain", func(t *testing.T) { x.test(t, w, authPage) })
			t.Run("across domains", func(t *testing.T) { x.test(t, w, shopPage) })
		})
	}
}

// hijacker is a browser that is led by hand, one request at a time or many at once.
type hijacker struct {
	t    *testing.T
	w    *world
	user string
	c    *http.Client

	loses func(*http.Response, *http.Cookie) bool // which cookies it does not keep; nil: it keeps all

	mu  sync.Mutex
	jar map[string]map[string]string // by host, then by name; guarded by mu
	age map[string]int               // by name: the oldest cookie is sent first; guarded by mu
	got []string                     // every session token that an answer carried; guarded by mu
}

func hijackBrowser(t *testing.T, w *world, user string) *hijacker {
	t.Helper()
	return &hijacker{t: t, w: w, user: user, c: w.client(), jar: map[string]map[string]string{}}
}

// get asks for an address as a page load, with the jar's cookies; what stands in more replaces headers.
func (h *hijacker) get(address string, more ...string) (*http.Response, string) {
	h.t.Helper()
	return h.do(http.MethodGet, address, more...)
}

func (h *hijacker) do(method, address string, more ...string) (*http.Response, string) {
	h.t.Helper()
	address, _, _ = strings.Cut(address, "#")
	req, err := http.NewRequest(method, address, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	req.Header = with(pageHeader(nil), more...)
	req.Header["X-Wechattest-Visitor"] = []string{"user=" + h.user}
	if cookies := h.cookies(req.URL.Host); cookies != "" {
		req.Header.Set("Cookie", cookies)
	}
	resp, body := send(h.t, h.c, req)
	h.keep(req.URL.Host, resp)
	return resp, body
}

func (h *hijacker) cookies(host string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	names := slices.SortedFunc(maps.Keys(h.jar[host]), func(a, b string) int { return h.age[a] - h.age[b] })
	for i, name := range names {
		names[i] = name + "=" + h.jar[host][name]
	}
	return strings.Join(names, "; ")
}

// put sets a cookie. The caller holds mu.
func (h *hijacker) put(host, name, value string) {
	if h.jar[host] == nil {
		h.jar[host] = map[string]string{}
	}
	if h.age == nil {
		h.age = map[string]int{}
	}
	if h.jar[host][name] == "" {
		h.age[name] = len(h.age) + 1
	}
	h.jar[host][name] = value
}

func (h *hijacker) keep(host string, resp *http.Response) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range resp.Cookies() {
		if h.loses != nil && h.loses(resp, c) {
			continue
		}
		if c.MaxAge < 0 {
			delete(h.jar[host], c.Name)
			continue
		}
		h.put(host, c.Name, c.Value)
		if c.Name == "__Host-wechat_session" {
			h.got = append(h.got, c.Value)
		}
	}
}

// session is the token that the jar holds for the page's site.
func (h *hijacker) session(page string) string { return h.cookie(page, "__Host-wechat_session") }

func (h *hijacker) cookie(page, name string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.jar[hijackHost(page)][name]
}

func (h *hijacker) forget(page string, names ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(names) == 0 {
		delete(h.jar, hijackHost(page))
	}
	for _, name := range names {
		delete(h.jar[hijackHost(page)], name)
	}
}

// loginCookies are the names of the site's login cookies, the oldest first.
func (h *hijacker) loginCookies(page string) (names []string) {
	for cookie := range strings.SplitSeq(h.cookies(hijackHost(page)), "; ") {
		if name, _, _ := strings.Cut(cookie, "="); strings.Contains(name, "_login_") {
			names = append(names, name)
		}
	}
	return names
}

// begin opens a page that needs a login, and returns the address at which WeChat sends the browser back.
func (h *hijacker) begin(page string) string {
	h.t.Helper()
	return h.authorize(h.leave(page))
}

// leave opens a page that needs a login, and returns the address at WeChat to which that leads.
func (h *hijacker) leave(page string) string {
	h.t.Helper()
	resp, body := h.get(page)
	to := resp.Header.Get("Location")
	if resp.StatusCode != http.StatusFound || !strings.Contains(to, wechattest.PathAuthorize) {
		h.t.Fatalf("%s: no login began: %d %s\n%.500s", page, resp.StatusCode, to, body)
	}
	return to
}

func (h *hijacker) authorize(address string) string {
	h.t.Helper()
	resp, body := h.get(address)
	if resp.StatusCode != http.StatusFound {
		h.t.Fatalf("WeChat answered %d\n%.500s", resp.StatusCode, body)
	}
	to, _, _ := strings.Cut(resp.Header.Get("Location"), "#")
	return to
}

// atSite carries a callback to the site that began it: over the broker, where that is another.
func (h *hijacker) atSite(callback, page string) string {
	h.t.Helper()
	if hijackHost(callback) == hijackHost(page) {
		return callback
	}
	resp, body := h.get(callback)
	to := resp.Header.Get("Location")
	if resp.StatusCode != http.StatusFound || !strings.Contains(to, "/_wechat/callback?") || strings.Contains(to, wechattest.PathAuthorize) {
		h.t.Fatalf("the broker answered %d %s\n%.500s", resp.StatusCode, to, body)
	}
	return to
}

// finish walks a callback to its end: the answer that leads nowhere, on to a page, or to WeChat anew.
func (h *hijacker) finish(callback string) (*http.Response, string) {
	h.t.Helper()
	for {
		resp, body := h.get(callback)
		to := resp.Header.Get("Location")
		if !strings.Contains(to, "/_wechat/callback?") || strings.Contains(to, wechattest.PathAuthorize) {
			return resp, body
		}
		callback = to
	}
}

// walk opens a page and follows every redirect; logins counts the trips to WeChat.
func (h *hijacker) walk(address string) (resp *http.Response, body string, logins int) {
	h.t.Helper()
	for range 30 {
		resp, body = h.get(address)
		if address = resp.Header.Get("Location"); address == "" {
			return resp, body, logins
		}
		if strings.Contains(address, wechattest.PathAuthorize) {
			logins++
		}
	}
	h.t.Fatal("redirects without end")
	return nil, "", 0
}

// known is whom the site's upstream was told of, "" where the browser is not signed in.
func (h *hijacker) known(page string) string {
	h.t.Helper()
	resp, body := h.get(page)
	if resp.StatusCode != http.StatusOK {
		return ""
	}
	return readSeen(h.t, []byte(body)).Header.Get("X-Wechat-Openid")
}

// signIn logs the browser's user in.
func (h *hijacker) signIn(page string) {
	h.t.Helper()
	h.finish(h.begin(page))
	h.mustBe(page, h.user)
}

// mustBe fails unless the browser is signed in at the page, without another login, as that user.
func (h *hijacker) mustBe(page, user string) {
	h.t.Helper()
	if got, want := h.known(page), h.id(page, user); got != want {
		h.t.Fatalf("known as %q, want %q", got, want)
	}
}

// id is a user's openid at the page's account.
func (h *hijacker) id(page, user string) string {
	if hijackHost(page) == hijackHost(hijackClub) {
		return h.w.sim.OpenID(hijackApp2, user)
	}
	return h.w.sim.OpenID(appID, user)
}

// mustGetNothing fails where an answer gives a person's identity away, or any session.
func (h *hijacker) mustGetNothing(what, victim string, resp *http.Response, body string) {
	h.t.Helper()
	id := h.w.sim.OpenID(appID, victim)
	if s := sessionOf(resp); s != "" {
		h.t.Errorf("%s: a session of %s", what, openIDOf(h.t, s))
	}
	if strings.Contains(body, id) || strings.Contains(resp.Header.Get("Location"), id) {
		h.t.Errorf("%s: the identity of %s", what, victim)
	}
	if resp.StatusCode >= 500 {
		h.t.Errorf("%s: status %d\n%.500s", what, resp.StatusCode, body)
	}
}

func hijackHost(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}

// hijackOrigin is the origin of a page.
func hijackOrigin(page string) string { return "https://" + hijackHost(page) }

// hijackEndsAt reports whether an answer leads on to the page, with its empty fragment.
func hijackEndsAt(resp *http.Response, page string) bool {
	return resp.StatusCode == http.StatusSeeOther && resp.Header.Get("Location") == page+"#"
}
