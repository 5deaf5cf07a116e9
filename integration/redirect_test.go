package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/html"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// TestNoRedirectLeavesHome holds every way on which the gateway names an address against what a browser makes of it: the
// site's own origin, WeChat's and the bound domain are home, and nothing else is.
func TestNoRedirectLeavesHome(t *testing.T) {
	node := needs(t, "node")
	x := newRedirectWorld(t, node)
	t.Run("the payloads do leave where nothing is done about them", x.payloadsHaveTeeth)
	t.Run("payload", x.entries)
	t.Run("return path", x.returnPaths)
	t.Run("origin", x.origins)
	t.Run("HTTP/2", x.http2)
}

// redirectWorld is one gateway with a site for every place where a return path may be bent.
type redirectWorld struct {
	*world
	node string
	port int // of the site that has one of its own

	mu    sync.Mutex // guards found
	found []redirectFound
}

// redirectFound is an address that an answer named.
type redirectFound struct {
	Base    string `json:"base"`
	Address string `json:"address"`
	payload string
	home    []string // the origins that it may lead to
}

// redirectVerdict is what the WHATWG parser makes of it.
type redirectVerdict struct{ Href, Origin, User, Path, Query, Error string }

func newRedirectWorld(t *testing.T, node string) *redirectWorld {
	t.Helper()
	x := &redirectWorld{node: node, port: freePort(t)}
	account := wechattest.Account{Domains: slices.Clone(redirectHosts)}
	x.world = newWorld(t, account, func(w *world) string { x.world = w; return x.caddyfile() })
	return x
}

// redirectHosts are those that WeChat sends users back to.
var redirectHosts = []string{
	"auth.example.com", "both.example.com", "rewrite.example.org", "strip.example.org", "path.example.org", "try.example.org", "errors.example.org", "part.example.org",
	"profile.example.org", "guest.example.org", "any.example.net", "one.many.example", "one.wild.example", "a.tenants.example", "b.tenants.example", "named.example.org", "second.example.org",
	"xn--czrs0twkmrx3a.example", "shop.xn--mnchen-3ya.example", "plain.example.org", "port.example.org",
}

// redirectSites are the sites; OWN stands for an account without a domain, CROSSED for one whose broker is auth.example.com,
// SHARED for one whose broker is on a site of its own.
const redirectSites = `
auth.example.com {
	wechat_broker CROSSED
	respond "home"
}
shop.example.org {
	wechat_auth {
		account CROSSED
	}
	UPSTREAM
}
both.example.com {
	wechat_broker SHARED
	wechat_auth {
		account SHARED
	}
	UPSTREAM
}
other.example.org {
	wechat_auth {
		account SHARED
	}
	UPSTREAM
}
rewrite.example.org {
	rewrite * /index.php?rewritten
	wechat_auth {
		account OWN
	}
	UPSTREAM
}
strip.example.org {
	uri strip_prefix /app
	wechat_auth {
		account OWN
	}
	UPSTREAM
}
path.example.org {
	handle_path /app/* {
		wechat_auth {
			account OWN
			path /app/_wechat
		}
		UPSTREAM
	}
}
try.example.org {
	root * DIR
	try_files {path} /index.php
	wechat_auth {
		account OWN
	}
	UPSTREAM
}
errors.example.org {
	basic_auth {
		bob $2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG
	}
	wechat_auth {
		account OWN
	}
	handle_errors {
		wechat_auth {
			account OWN
		}
		UPSTREAM
	}
}
part.example.org {
	wechat_auth /member/* {
		account OWN
	}
	UPSTREAM
}
profile.example.org {
	wechat_auth {
		account OWN
		scope snsapi_userinfo
	}
	UPSTREAM
}
guest.example.org {
	wechat_auth {
		account OWN
		snapshot guest
	}
	UPSTREAM
}
http://plain.example.org {
	wechat_auth {
		account OWN
	}
	UPSTREAM
}
https://port.example.org:PORT {
	wechat_auth {
		account OWN
	}
	UPSTREAM
}
https:// {
	tls internal {
		on_demand
	}
	wechat_auth {
		account OWN
		origin https://any.example.net https://*.many.example
	}
	UPSTREAM
}
*.wild.example {
	wechat_auth {
		account OWN
		origin https://one.wild.example
	}
	UPSTREAM
}
*.tenants.example {
	wechat_auth {
		account OWN
		origin https://*.tenants.example
		snapshot guest
	}
	UPSTREAM
}
&(gate) {
	wechat_auth {
		account OWN
		origin https://named.example.org https://second.example.org
	}
}
named.example.org {
	invoke gate
	UPSTREAM
}
second.example.org {
	invoke gate
	UPSTREAM
}
商店测试.example {
	wechat_auth {
		account OWN
	}
	UPSTREAM
}
*.münchen.example {
	wechat_auth {
		account OWN
		origin https://Shop.MÜNCHEN.example:443
	}
	UPSTREAM
}
`

func (x *redirectWorld) caddyfile() string {
	account := func(name, domain string) string {
		return "account " + name + " {\n app_id " + appID + "\n app_secret {env.WECHAT_APP_SECRET}\n " + domain +
			"\n open_url " + x.sim.url + "\n api_url " + x.sim.url + "\n}\n"
	}
	sites := strings.NewReplacer("UPSTREAM", "reverse_proxy "+x.up.addr, "OWN", "own", "CROSSED", "crossed", "SHARED", "shared",
		"PORT", fmt.Sprint(x.port), "DIR", x.dir).Replace(redirectSites)
	globals := strings.NewReplacer("\tdebug\n", "", "level DEBUG", "level INFO").Replace(x.globals()) // thousands of requests
	return "{\n" + globals + "servers {\n trusted_proxies static 192.0.2.0/24\n}\nwechat {\n" + account("own", "") +
		account("crossed", "domain auth.example.com") + account("shared", "domain both.example.com") + "}\n}\n" + sites
}

// each runs f for every item, on a few connections at once.
func redirectEach[T any](x *redirectWorld, items []T, f func(w *redirectWire, item T)) {
	var wg sync.WaitGroup
	queue := make(chan T)
	for range 6 {
		wg.Go(func() {
			w := x.redirectWire()
			defer w.close()
			for item := range queue {
				f(w, item)
			}
		})
	}
	for _, item := range items {
		queue <- item
	}
	close(queue)
	wg.Wait()
}

// note keeps an address until it is judged.
func (x *redirectWorld) note(payload, base, address string, home ...string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.found = append(x.found, redirectFound{base, address, payload, append([]string{base}, home...)})
}

// judge has Node read the addresses that were found since the last time, and returns how many there were.
func (x *redirectWorld) judge(t *testing.T) int {
	t.Helper()
	found := x.found
	x.found = nil
	wrong := 0
	for i, v := range redirectVerdicts(t, x.node, found) {
		f := found[i]
		if v.Error != "" || v.User != "" || !slices.Contains(f.home, v.Origin) {
			if wrong++; wrong <= 10 {
				t.Errorf("%.200q led to %.200q, which is %s%.200s at %q; home is %q", f.payload, f.Address, v.Error, v.Href, v.Origin, f.home)
			}
		}
	}
	if wrong > 10 {
		t.Errorf("and %d more", wrong-10)
	}
	return len(found)
}

func redirectVerdicts(t *testing.T, node string, found []redirectFound) (verdicts []redirectVerdict) {
	t.Helper()
	in, err := json.Marshal(append([]redirectFound{}, found...))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(node, "browser/judge.mjs")
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node: %v\n%s", err, stderr.String())
	}
	if err := json.Unmarshal(out, &verdicts); err != nil || len(verdicts) != len(found) {
		t.Fatalf("%d verdicts on %d addresses: %v", len(verdicts), len(found), err)
	}
	return verdicts
}

// redirectCookie is the only shape of a cookie that the gateway sets: host-only, for the whole host.
var redirectCookie = regexp.MustCompile(`^(__Host-)?wechat_session(_\d+)?(_guest|_login_[0-9a-f]{32})?=[A-Za-z0-9_.-]*; Path=/; Max-Age=\d+; HttpOnly; SameSite=Lax(; Secure)?$`)

// look notes every address in an answer: where it redirects to, where its page's links and forms lead, its login_url.
func (x *redirectWorld) look(t *testing.T, payload string, at redirectAt, base string, a *redirectAnswer) {
	t.Helper()
	for name, lines := range a.Header {
		if name != "Location" && strings.Contains(strings.ToLower(name+strings.Join(lines, "\n")), "redirect=evil") {
			t.Errorf("%q got into the header %s", payload, name)
		}
	}
	for _, line := range a.Header["Set-Cookie"] {
		if !redirectCookie.MatchString(line) || strings.HasPrefix(line, "__Host-") != strings.HasSuffix(line, "; Secure") {
			t.Errorf("%q set the cookie %q", payload, line)
		}
		if name, _, _ := strings.Cut(line, ";"); len(name) > 4096 {
			t.Errorf("%.200q set a cookie of %d bytes, which browsers drop", payload, len(name))
		}
	}
	home := []string{at.origin, x.sim.url, "https://auth.example.com", "https://both.example.com"}
	locations := a.Header["Location"]
	if len(locations) > 1 {
		t.Errorf("%q got the locations %q", payload, locations)
	}
	for _, to := range locations {
		if i := strings.IndexFunc(to, func(r rune) bool { return r <= ' ' || r >= 0x7f }); i >= 0 {
			t.Errorf("%q led to %q, which browsers do not read alike", payload, to)
		}
		x.note(payload, base, to, home...)
	}
	for _, to := range redirectLinks(a) {
		x.note(payload, base, to)
	}
}

// redirectLinks are the addresses in an answer's page or JSON.
func redirectLinks(a *redirectAnswer) (list []string) {
	switch kind := a.Header.Get("Content-Type"); {
	case strings.HasPrefix(kind, "application/json"):
		var body struct {
			LoginURL string `json:"login_url"`
		}
		if json.Unmarshal([]byte(a.body), &body) == nil && body.LoginURL != "" {
			list = append(list, body.LoginURL)
		}
	case strings.HasPrefix(kind, "text/html"):
		for z := html.NewTokenizer(strings.NewReader(a.body)); z.Next() != html.ErrorToken; {
			token := z.Token()
			for _, attr := range token.Attr {
				name := strings.TrimPrefix(attr.Key, "xlink:")
				leads := slices.Contains([]string{"href", "action", "formaction", "src", "srcset", "data", "ping", "cite", "poster", "background", "manifest"}, name)
				if leads || token.Data == "meta" && strings.Contains(strings.ToLower(attr.Val), "url=") || token.Data == "base" {
					list = append(list, attr.Val)
				}
			}
		}
	}
	return list
}

// weixin is WeChat's answer to an authorize link: where it sends the user.
func (x *redirectWorld) weixin(address string) (back string, status int) {
	address, _, _ = strings.Cut(address, "#")
	r := httptest.NewRequest(http.MethodGet, address, nil)
	r.Header.Set("User-Agent", wechattest.UserAgentAndroid)
	rec := httptest.NewRecorder()
	x.sim.ServeHTTP(rec, r)
	return rec.Header().Get("Location"), rec.Code
}

// redirectAt is where a walk begins: a site as it is reached, and the origin that must be signed there.
type redirectAt struct {
	sni, host, origin string
}

func redirectSite(host string) redirectAt { return redirectAt{host, host, "https://" + host} }

// walk follows a login that an answer began to its end, looking at every answer on the way. It returns where the signed-in
// browser was sent, and its token.
func (x *redirectWorld) walk(t *testing.T, w *redirectWire, at redirectAt, payload string, first *redirectAnswer) (landing, token string) {
	t.Helper()
	base := at.origin
	cookies, to := redirectCookies(first), first.Header.Get("Location")
	for range 5 {
		if strings.HasPrefix(to, x.sim.url+wechattest.PathAuthorize+"?") {
			back, status := x.weixin(to)
			if status != http.StatusFound {
				t.Errorf("%q: WeChat answered %d to %s", payload, status, to)
				return "", ""
			}
			x.note(payload, x.sim.url, back, at.origin, redirectNoPort(at.origin), "https://auth.example.com", "https://both.example.com")
			to = back
		}
		u, err := url.Parse(to)
		if err != nil {
			t.Errorf("%q led to %q", payload, to)
			return "", ""
		}
		sni, host, lines := at.sni, at.host, redirectInside+redirectLoad+cookies
		if base = u.Scheme + "://" + u.Host; base != at.origin && base != redirectNoPort(at.origin) {
			sni, host, lines = u.Host, u.Host, redirectInside+redirectLoad // the broker sees no cookie of the site
		}
		a, err := w.send(sni, redirectGet(host, u.RequestURI(), lines))
		if err != nil || a == nil {
			t.Errorf("%q: no answer to %s: %v", payload, to, err)
			return "", ""
		}
		x.look(t, payload, at, base, a)
		to = a.Header.Get("Location")
		if token := redirectToken(a); token != "" || a.StatusCode != http.StatusFound {
			return to, token
		}
	}
	t.Errorf("%q: the login does not end", payload)
	return "", ""
}

// redirectNoPort is what WeChat is told of an origin: it takes no port.
func redirectNoPort(origin string) string {
	scheme, host, _ := strings.Cut(origin, "://")
	host, _, _ = strings.Cut(host, ":")
	return scheme + "://" + host
}

// redirectCookies is what a browser sends back of an answer's cookies, as header lines.
func redirectCookies(a *redirectAnswer) (lines string) {
	for _, c := range a.Cookies() {
		if c.Value != "" {
			lines += "Cookie: " + c.Name + "=" + c.Value + "\r\n"
		}
	}
	return lines
}

// redirectToken is the session that an answer signs in.
func redirectToken(a *redirectAnswer) string {
	for _, c := range a.Cookies() {
		name := strings.TrimPrefix(c.Name, "__Host-")
		if c.Value != "" && strings.HasPrefix(name, "wechat_session") && !strings.Contains(name, "_login_") && !strings.HasSuffix(name, "_guest") {
			return c.Value
		}
	}
	return ""
}
