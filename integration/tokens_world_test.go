package integration

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

const (
	tokensShop   = "shop.example.org"  // the site that is attacked
	tokensBlog   = "blog.example.org"  // another site of the same account
	tokensGuests = "guest.example.org" // a third one, where snapshot visitors may read
	tokensPlain  = "plain.example.org" // on http, where a sibling can toss cookies in

	tokensOtherApp = "wxfedcba9876543210"
	tokensSecret   = "an operator's secret of 32 bytes or more"
)

// tokensSites has two accounts with one issuer, and sites that differ from the shop in one thing each:
// the blog in its host, the site on another port in its port, or, where the Host names none, in its
// account alone.
type tokensSites struct {
	*world
	port int // of the other account's site on the shop's host
}

// tokensKeyKinds are the session_key blocks that tests go through.
var tokensKeyKinds = []struct{ name, option string }{
	{"HS256", "algorithm HS256"},
	{"EdDSA", "algorithm EdDSA"},
	{"ES256", "algorithm ES256"},
	{"HS256 with a secret", "secret {env.TOKENS_SECRET}"},
}

func newTokensSites(t *testing.T, keys, servers string) *tokensSites {
	t.Helper()
	w := &tokensSites{&world{gateway: newGateway(t), sim: newSimulator(t, boundDomain), up: newUpstream(t)}, freePort(t)}
	w.sim.AddAccount(wechattest.Account{AppID: tokensOtherApp, Secret: appSecret, Domains: []string{"auth.example.com"}})
	w.env = []string{"TOKENS_SECRET=" + tokensSecret, "TOKENS_OTHER=another " + tokensSecret}
	w.start(w.caddyfile(keys, servers))
	return w
}

// tokensEachKey runs a test with every kind of key, in one gateway that is reloaded between: the keys of
// the kinds before are still in its storage, as after an operator changed the algorithm.
func tokensEachKey(t *testing.T, test func(t *testing.T, w *tokensSites, keys string)) {
	t.Helper()
	w := newTokensSites(t, tokensKeyKinds[0].option, "")
	for i, keys := range tokensKeyKinds {
		if i > 0 {
			w.rekey(t, keys.option)
		}
		t.Run(keys.name, func(t *testing.T) { test(t, w, keys.option) })
	}
}

func (w *tokensSites) rekey(t *testing.T, keys string) {
	t.Helper()
	if out, err := w.reload(w.caddyfile(keys, "")); err != nil {
		t.Fatal(out)
	}
}

func (w *tokensSites) caddyfile(keys, servers string) string {
	account := func(name, app string) string {
		return fmt.Sprintf("account %s {\n app_id %s\n app_secret {env.WECHAT_APP_SECRET}\n domain auth.example.com\n open_url %s\n api_url %s\n}\n", name, app, w.sim.url, w.sim.url)
	}
	site := func(address, options string) string {
		return address + " {\n wechat_auth {\n public /open/*\n" + options + "\n}\n reverse_proxy " + w.up.addr + " {\n header_up X-User [{http.auth.user.id}]\n}\n}\n"
	}
	port := fmt.Sprintf("%s:%d", tokensShop, w.port)
	quiet := strings.Replace(strings.Replace(w.globals(), "\tdebug\n", "", 1), "level DEBUG", "level INFO", 1)
	return "{\n" + quiet + servers + "wechat {\n session_key {\n" + keys + "\n}\n" + account("one", appID) + account("two", tokensOtherApp) + "}\n}\n" +
		"auth.example.com {\n wechat_broker\n}\n" +
		site(tokensShop+", www.example.org", "account one\n origin https://"+tokensShop+" https://www.example.org") +
		site(tokensBlog, "account one") +
		site(tokensGuests, "account one\n snapshot guest") +
		site("http://"+tokensPlain, "account one") +
		site(port, "account two\n cookie other\n origin https://"+tokensShop+" https://"+port)
}

// tokensLogin is a real login of user at a site of either account; the session's token.
func (w *tokensSites) login(t *testing.T, page, user string) string {
	t.Helper()
	b := w.browser(w.sim, wechattest.BrowserOptions{User: user})
	wantStatus(t, open(t, b, page), http.StatusOK)
	for _, c := range b.Cookies(page) {
		if !strings.Contains(c.Name, "_login_") {
			return c.Value
		}
	}
	t.Fatalf("no session at %s", page)
	return ""
}

// tokensEdge sends bytes as they are: clients put cookies in order before they send them.
type tokensEdge struct {
	g    *gateway
	port int
	sni  string // empty: http
	conn net.Conn
	r    *bufio.Reader
}

func (w *tokensSites) edge(t *testing.T, host string) *tokensEdge {
	t.Helper()
	e := &tokensEdge{g: w.gateway, port: w.https, sni: host}
	if host == tokensPlain {
		e.port, e.sni = w.http, ""
	}
	t.Cleanup(e.close)
	return e
}

func (e *tokensEdge) close() {
	if e.conn != nil {
		_ = e.conn.Close()
		e.conn = nil
	}
}

func (e *tokensEdge) dial() (err error) {
	addr := fmt.Sprintf("127.0.0.1:%d", e.port)
	if e.sni == "" {
		e.conn, err = net.Dial("tcp", addr)
	} else {
		e.conn, err = tls.Dial("tcp", addr, &tls.Config{ServerName: e.sni, RootCAs: e.g.roots(), NextProtos: []string{"http/1.1"}})
	}
	if err == nil {
		e.r = bufio.NewReader(e.conn)
	}
	return err
}

// tokensAnswer is what came back, and what the upstream saw of the request, if it saw it.
type tokensAnswer struct {
	status   int
	header   http.Header
	upstream *seen
	body     string
}

const tokensBrowser = "User-Agent: " + wechattest.UserAgentAndroid + "\r\nAccept: text/html\r\n"

// get sends a page load with these header lines.
func (e *tokensEdge) get(t *testing.T, host, path, lines string) tokensAnswer {
	t.Helper()
	return e.ask(t, "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\n"+tokensBrowser+lines+"\r\n")
}

func (e *tokensEdge) ask(t *testing.T, request string) tokensAnswer {
	t.Helper()
	for range 3 { // a kept connection may have been closed meanwhile, by a reload
		a, err := e.try(request)
		if err == nil {
			return a
		}
		e.close()
		if !strings.Contains(err.Error(), "EOF") && !strings.Contains(err.Error(), "reset") && !strings.Contains(err.Error(), "pipe") {
			t.Fatalf("no answer: %v", err)
		}
	}
	t.Fatalf("no answer to %.300q", request)
	return tokensAnswer{}
}

func (e *tokensEdge) try(request string) (a tokensAnswer, err error) {
	if e.conn == nil {
		if err := e.dial(); err != nil {
			return a, err
		}
	}
	_ = e.conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(e.conn, request); err != nil {
		return a, err
	}
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(e.r, &http.Request{Method: method})
	if err != nil {
		return a, err
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return a, err
	}
	if resp.Close {
		e.close()
	}
	return newTokensAnswer(resp, string(body)), nil
}

func newTokensAnswer(resp *http.Response, body string) tokensAnswer {
	a := tokensAnswer{status: resp.StatusCode, header: resp.Header, body: body}
	var s seen
	if json.Unmarshal([]byte(body), &s) == nil && s.Method != "" {
		a.upstream = &s
	}
	return a
}

const (
	tokensNobody  = ""           // anonymous: refused where a login is needed, let through where not
	tokensRefused = "400 to 431" // no header of that size, or with such bytes, is read at all
)

// tokensOurs are the names of the gateway's cookies, which no upstream sees.
var tokensOurs = regexp.MustCompile(`^(__Host-|__Secure-)?(wechat_session|other)(_[0-9]+)?(_guest|_login_.*)?$`)

// who tells whom the upstream was told about: by the headers and by Caddy's placeholder, which must agree.
func (a tokensAnswer) who(t *testing.T) string {
	t.Helper()
	id := a.upstream.Header.Get("X-Wechat-Openid")
	if user := a.upstream.Header.Get("X-User"); user != "["+id+"]" {
		t.Errorf("the header says %q and the placeholder %q", id, user)
	}
	for name := range a.upstream.Header {
		if strings.HasPrefix(name, "X-Wechat-") && id == "" {
			t.Errorf("nobody, and yet %s", name)
		}
	}
	return id
}

// judge holds two answers, of a path that needs a login and of a public one, against who the sender is.
// Whatever was sent: no 5xx, nobody through the one without a name, nobody through the other with a wrong one.
func tokensJudge(t *testing.T, needs, public tokensAnswer, want string) {
	t.Helper()
	for _, a := range []tokensAnswer{needs, public} {
		if a.status >= 500 || want == tokensRefused && (a.status < 400 || a.upstream != nil) {
			t.Errorf("answered %d, upstream reached %v", a.status, a.upstream != nil)
		}
		if a.upstream == nil {
			continue
		}
		for pair := range strings.SplitSeq(strings.Join(a.upstream.Header["Cookie"], ";"), ";") {
			if name, _, _ := strings.Cut(pair, "="); tokensOurs.MatchString(strings.Trim(name, " \t")) {
				t.Errorf("the upstream saw the cookie %.80q", pair)
			}
		}
	}
	if want == tokensRefused {
		return
	}
	if got := needs.upstream; want == tokensNobody && got != nil {
		t.Errorf("through to a path that needs a login, as %q", needs.who(t))
	} else if want != tokensNobody && (got == nil || needs.who(t) != want) {
		t.Errorf("%q got %d, upstream %v", want, needs.status, got)
	}
	if public.upstream == nil {
		t.Errorf("a public path answered %d", public.status)
	} else if got := public.who(t); got != want {
		t.Errorf("on a public path known as %q, want %q", got, want)
	}
}

// both asks for a path that needs a login, twice as the session may be remembered by then, and a public one.
func (e *tokensEdge) judge(t *testing.T, host, lines, want string) {
	t.Helper()
	tokensJudge(t, e.get(t, host, "/member/", lines), e.get(t, host, "/open/x", lines), want)
}

func tokensCookie(value string) string { return "Cookie: __Host-wechat_session=" + value + "\r\n" }
