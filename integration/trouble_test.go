package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// trouble is a gateway before a WeChat that misbehaves. Its bound domain is broker and site; the shop is a site
// on another domain.
type trouble struct {
	*world
	front   *troubleFront
	certs   troubleCerts
	timeout time.Duration
}

// troubleTimeout is an account's: short, and mostly enough for a call on a busy machine.
const troubleTimeout = time.Second

func newTrouble(t *testing.T, timeout time.Duration) *trouble {
	t.Helper()
	g := newGateway(t)
	x := &trouble{world: &world{gateway: g, up: newUpstream(t)}, timeout: timeout}
	authority := filepath.Join(g.dir, "authority.pem")
	x.certs = makeTroubleCerts(t, authority)
	x.front, x.sim = newTroubleFront(t, x.certs.good)
	g.env = []string{"SSL_CERT_FILE=" + authority}
	x.start(x.caddyfile("https://" + x.front.addr))
	return x
}

func (x *trouble) caddyfile(api string) string {
	options := strings.Replace(x.options("auth.example.com", "timeout "+x.timeout.String()), "api_url "+x.sim.url, "api_url "+api, 1)
	site := " wechat_auth\n reverse_proxy " + x.up.addr + "\n"
	return "{\n" + x.globals() + options + "}\n" +
		"auth.example.com {\n wechat_broker\n" + site + "}\n" +
		"shop.example.org {\n" + site + "}\n"
}

// troubleLogin is one way to log in.
type troubleLogin struct{ site, scope string }

var troubleLogins = []troubleLogin{
	{"https://auth.example.com", "snsapi_base"},
	{"https://shop.example.org", "snsapi_base"},
	{"https://auth.example.com", "snsapi_userinfo"},
	{"https://shop.example.org", "snsapi_userinfo"},
}

func (l troubleLogin) address() string {
	return l.site + "/_wechat/login?return=%2Fmember%2F&scope=" + l.scope
}

// troubleReaching are the logins that call path: those for a profile alone reach userinfo.
func troubleReaching(path string) []troubleLogin {
	if path == wechattest.PathToken {
		return troubleLogins[:2]
	}
	return troubleLogins[2:]
}

// troubleEnd is how a login must end.
type troubleEnd struct {
	status  int
	errcode int    // 0: none is shown
	logged  string // in the error of the log line
	advice  string // in its advice
}

var troubleRef = regexp.MustCompile(`<code>([0-9a-f]{8})</code>`)

// wantEnd checks the page at which a login ended, what the log says of it, and what a script gets there.
func (x *trouble) wantEnd(t *testing.T, b *wechattest.Browser, p *wechattest.Page, want troubleEnd) {
	t.Helper()
	title, code, retry := "暂时无法登录", "-1", "5"
	if want.status == http.StatusBadRequest {
		title, code, retry = "这次登录已失效", "4002", ""
	}
	body, at := string(p.Body), p.URL.Host
	if p.Status != want.status || !strings.Contains(body, "<h1>"+title+"</h1>") || !strings.Contains(body, "<code>"+code+"</code>") {
		t.Errorf("%s: status %d, want %d\n%.3000s", at, p.Status, want.status, body)
		return
	}
	if got := p.Header.Get("Retry-After"); got != retry || p.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s: Retry-After %q, Cache-Control %q", at, got, p.Header.Get("Cache-Control"))
	}
	if shown := fmt.Sprintf("<code>%d</code>", want.errcode); want.errcode != 0 && !strings.Contains(body, shown) {
		t.Errorf("%s: the page does not show errcode %d", at, want.errcode)
	}
	ref := troubleRef.FindStringSubmatch(body)
	if len(p.Links()) != 1 || ref == nil {
		t.Errorf("%s: links %v, reference %q", at, p.Links(), ref)
		return
	}
	x.wantLine(t, ref[1], want)
	script, err := b.Fetch(t.Context(), "GET", p.URL.String(), nil, nil)
	if err != nil || script.Status != want.status || !strings.HasPrefix(string(script.Body), `{"code":`+code+`,"msg":"`) ||
		want.errcode != 0 && code == "-1" && !strings.Contains(string(script.Body), fmt.Sprint(want.errcode)) {
		t.Errorf("%s: a script got %v %s", at, err, script.Body)
	}
}

// wantLine checks the one line of the log that has the reference.
func (x *trouble) wantLine(t *testing.T, ref string, want troubleEnd) {
	t.Helper()
	mark := `"ref":"` + ref + `"`
	if !x.logged(mark) {
		t.Errorf("the log does not have the reference %s", ref)
		return
	}
	before, after, _ := strings.Cut(x.log.String(), mark)
	if strings.Contains(after, mark) {
		t.Errorf("several lines have the reference %s", ref)
	}
	rest, _, _ := strings.Cut(after, "\n")
	text := before[strings.LastIndexByte(before, '\n')+1:] + mark + rest
	var line struct{ Level, Msg, Error, Advice string }
	if err := json.Unmarshal([]byte(text), &line); err != nil {
		t.Errorf("%v: %s", err, text)
	}
	level := map[int]string{http.StatusBadRequest: "info", http.StatusBadGateway: "error"}[want.status]
	if line.Level != level || line.Msg != "login failed at WeChat" || !strings.Contains(line.Error, want.logged) ||
		!strings.Contains(line.Advice, want.advice) || (want.advice == "") != (line.Advice == "") {
		t.Errorf("the log says %+v, want %+v", line, want)
	}
}

// wantRetry presses the page's button, now that WeChat is well.
func (x *trouble) wantRetry(t *testing.T, b *wechattest.Browser, p *wechattest.Page) {
	t.Helper()
	if len(p.Links()) != 1 {
		t.Errorf("%s: links %v", p.URL.Host, p.Links())
		return
	}
	p, err := b.Click(t.Context(), p, p.Links()[0].Text)
	if err != nil || p.Status != http.StatusOK || !strings.Contains(string(p.Body), x.sim.OpenID(appID, "zhangwei")) {
		t.Errorf("the button led to %v %v", err, p)
	}
}

// visitor is a new browser.
func (x *trouble) visitor(t *testing.T) *wechattest.Browser {
	b := x.browser(x.sim, wechattest.BrowserOptions{})
	t.Cleanup(b.Close)
	return b
}

// troubleSteady are people who are signed in and go on reading.
type troubleSteady struct {
	served, failed atomic.Int64
	last           atomic.Value
	stop           chan struct{}
	wg             sync.WaitGroup
	clients        []*http.Client
}

// steady has somebody read at each site until it is ended.
func (x *trouble) steady(t *testing.T) *troubleSteady {
	t.Helper()
	s := &troubleSteady{stop: make(chan struct{})}
	for _, page := range []string{authPage, shopPage} {
		c := x.client()
		token := signIn(t, x.world, c, page)
		s.clients = append(s.clients, c)
		s.wg.Go(func() { s.read(c, page, token) })
	}
	return s
}

func (s *troubleSteady) read(c *http.Client, page, token string) {
	reader := &http.Client{Transport: again{c.Transport}, CheckRedirect: c.CheckRedirect} // reloads close listeners
	for {
		select {
		case <-s.stop:
			return
		case <-time.After(15 * time.Millisecond):
		}
		req, _ := http.NewRequest("GET", page, nil)
		req.Header = pageHeader(holding(token))
		resp, err := reader.Do(req)
		s.served.Add(1)
		switch {
		case err != nil:
			s.failed.Add(1)
			s.last.Store(err.Error())
		default:
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				s.failed.Add(1)
				s.last.Store(resp.Status)
			}
		}
	}
}

// end fails the test for any request that was not served.
func (s *troubleSteady) end(t *testing.T) {
	t.Helper()
	close(s.stop)
	s.wg.Wait()
	for _, c := range s.clients {
		c.CloseIdleConnections()
	}
	t.Logf("people who were signed in: %d requests", s.served.Load())
	if s.failed.Load() > 0 || s.served.Load() == 0 {
		t.Errorf("%d of %d requests of people who were signed in were not served: %v", s.failed.Load(), s.served.Load(), s.last.Load())
	}
}

// goroutines is how many the gateway has.
func (x *trouble) goroutines(t *testing.T) (n int, profile string) {
	t.Helper()
	_, profile = get(t, http.DefaultClient, fmt.Sprintf("http://localhost:%d/debug/pprof/goroutine?debug=1", x.admin), nil)
	if _, err := fmt.Sscanf(profile, "goroutine profile: total %d", &n); err != nil {
		t.Fatalf("%v: %.200s", err, profile)
	}
	return n, profile
}

// troubleMargin is what Caddy's own timers and the upstream's kept connections may vary by.
const troubleMargin = 20

// wantGoroutines waits until no more than before are left.
func (x *trouble) wantGoroutines(t *testing.T, before int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		n, profile := x.goroutines(t)
		if n <= before+troubleMargin {
			t.Logf("goroutines of the gateway: %d before, %d after", before, n)
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("goroutines of the gateway: %d before, %d after\n%.6000s", before, n, profile)
			return
		}
	}
}

// during calls test while people who are signed in go on, and wants everything to be as it was afterwards.
func (x *trouble) during(t *testing.T, test func()) {
	t.Helper()
	s := x.steady(t)
	before, _ := x.goroutines(t)
	test()
	s.end(t)
	x.wantGoroutines(t, before)
	x.wantSecrecy(t)
}

// wantSecrecy: nothing that signs anybody in, and not the secret, is in the log, at DEBUG.
func (x *trouble) wantSecrecy(t *testing.T) {
	t.Helper()
	x.stop()
	text := x.log.String()
	x.front.mu.Lock()
	defer x.front.mu.Unlock()
	x.front.secrets[appSecret] = true
	delete(x.front.secrets, "")
	for secret := range x.front.secrets {
		if at := strings.Index(text, secret); at >= 0 {
			t.Errorf("the log has %q:\n%.400s", secret, text[max(0, at-200):])
		}
	}
	if n := len(x.front.secrets); n < 20 {
		t.Errorf("%d values were looked for in the log", n)
	}
}
