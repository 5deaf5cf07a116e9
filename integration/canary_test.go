package integration

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// canary watches one test: it collects every secret that passes, and looks for them, when the test ends,
// wherever a gateway of that test could have let one out. It also judges every answer of the gateway's own
// (canary_answers_test.go). The harness keeps it, so that no test can forget it.
type canary struct {
	mu          sync.Mutex // guards everything below
	secrets     map[string]canarySecret
	literal     map[string]bool // stand in the Caddyfile as they are
	hmac        [][]byte        // keys of the storage
	sims        []*wechattest.Server
	simHosts    map[string]bool
	tokenHeader bool
	answers     map[string][]byte // the gateway's own, by what they answered
	kept        int               // bytes in answers
	faults      map[string]bool   // what was wrong about an answer
}

// canaryAnswers bounds what is kept of one test's answers, in bytes.
const canaryAnswers = 4 << 20

var canaries sync.Map // by the name of the whole test: its subtests share gateways

func canaryOf(t testing.TB) *canary {
	name, _, _ := strings.Cut(t.Name(), "/")
	c, _ := canaries.LoadOrStore(name, &canary{
		secrets: map[string]canarySecret{}, literal: map[string]bool{}, simHosts: map[string]bool{},
		answers: map[string][]byte{}, faults: map[string]bool{},
	})
	return c.(*canary)
}

// watchSimulator makes the canary know what a simulator gives out.
func (c *canary) watchSimulator(s *wechattest.Server, host, secret string) {
	c.mu.Lock()
	c.sims = append(c.sims, s)
	c.simHosts[host] = true
	c.mu.Unlock()
	c.addConfigured(secret)
}

// watch wraps a client's transport.
func (c *canary) watch(next http.RoundTripper) http.RoundTripper { return canaryTransport{next, c} }

type canaryTransport struct {
	next http.RoundTripper
	c    *canary
}

func (t canaryTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(r)
	if err != nil {
		return resp, err
	}
	t.c.readCookies(resp)
	t.c.readLocation(resp.Header.Get("Location"))
	t.c.readRequest(r, resp.StatusCode)
	if !t.c.isSimulator(r.URL.Host) && resp.StatusCode != http.StatusSwitchingProtocols {
		resp.Body = &canaryBody{ReadCloser: resp.Body, resp: resp, c: t.c}
	}
	return resp, nil
}

func (c *canary) isSimulator(host string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.simHosts[host]
}

// CloseIdleConnections is what http.Client calls.
func (t canaryTransport) CloseIdleConnections() {
	if next, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		next.CloseIdleConnections()
	}
}

// canaryBody copies an answer's body as it is read, and has the answer judged at its end.
type canaryBody struct {
	io.ReadCloser
	resp   *http.Response
	c      *canary
	copied []byte
	judged bool
}

func (b *canaryBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if len(b.copied) < 64<<10 { // no answer of ours is longer
		b.copied = append(b.copied, p[:n]...)
	}
	if err == io.EOF {
		b.judge()
	}
	return n, err
}

func (b *canaryBody) Close() error {
	b.judge()
	return b.ReadCloser.Close()
}

func (b *canaryBody) judge() {
	if b.judged {
		return
	}
	b.judged = true
	faults, ours := canaryJudge(b.resp, b.copied)
	b.c.mu.Lock()
	defer b.c.mu.Unlock()
	what := fmt.Sprintf("%s %s: %d", b.resp.Request.Method, b.resp.Request.URL.Path, b.resp.StatusCode)
	for _, fault := range faults {
		b.c.faults[what+": "+fault] = true
	}
	if ours && b.c.kept < canaryAnswers {
		b.c.kept += len(b.copied)
		b.c.answers[what] = append(append(b.c.answers[what], b.copied...), '\n')
	}
}

// canaryPlaces are the admin endpoints that show what Caddy holds. Those that are not there answer 404.
var canaryPlaces = []string{
	"/config/", "/debug/vars", "/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=2", "/debug/pprof/heap?debug=1", "/metrics",
	"/pki/ca/local", "/reverse_proxy/upstreams", "/id/", "/wechat/accounts", "/wechat/keys",
}

// lookWhileRunning looks at what a running gateway shows.
func (g *gateway) lookWhileRunning() {
	g.t.Helper()
	if g.cmd == nil {
		return
	}
	s := canaryOf(g.t).scanner()
	if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", g.cmd.Process.Pid)); err == nil {
		s.want(g.t, "the list of processes", string(line), nil)
	}
	client := &http.Client{Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	for _, path := range canaryPlaces {
		resp, err := client.Get(fmt.Sprintf("http://localhost:%d%s", g.admin, path))
		if err != nil {
			return // no admin endpoint, or a gateway that has ended
		}
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 32<<20))
		_ = resp.Body.Close()
		s.want(g.t, "the admin answer "+path, string(b), g.asWritten)
	}
}

// lookBehind looks at what a gateway left: its log, its files, and what its clients saw of it.
func (g *gateway) lookBehind() {
	g.t.Helper()
	c := canaryOf(g.t)
	s := c.scanner()
	for logger, lines := range canaryByLogger(g.log.String(), c.aboutSimulator) {
		s.want(g.t, "the log of "+logger, lines, func(s canarySecret) bool { return c.mayLog(logger, s) })
		for _, token := range c.signedHere(lines) {
			if !c.mayLog(logger, canarySecret{kind: canarySession}) {
				g.t.Errorf("the log of %s has a living token: %s", logger, token)
			}
		}
	}
	for _, path := range g.filesLeft() {
		if b, err := os.ReadFile(path); err == nil {
			s.want(g.t, "the file "+path, path+"\n"+string(b), g.asWritten)
		}
	}
	c.mu.Lock()
	answers, faults := c.answers, c.faults
	c.answers, c.faults, c.kept = map[string][]byte{}, map[string]bool{}, 0
	c.mu.Unlock()
	for what, bodies := range answers {
		s.want(g.t, "the answer to "+what, string(bodies), func(s canarySecret) bool { return s.kind == canaryRetry })
	}
	for fault := range faults {
		g.t.Errorf("canary: %s", fault)
	}
}

// filesLeft are Caddy's autosave and all that the gateway keeps in Caddy's storage, but for the keys.
func (g *gateway) filesLeft() []string {
	list := []string{filepath.Join(g.dir, "config", "caddy", "autosave.json")}
	_ = filepath.WalkDir(filepath.Join(g.dir, "storage", "wechat"), func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && entry.Name() != "keys.json" {
			list = append(list, path)
		}
		return nil
	})
	return list
}

// asWritten allows a secret that the Caddyfile has literally.
func (g *gateway) asWritten(s canarySecret) bool {
	c := canaryOf(g.t)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.literal[s.text]
}

func (g *gateway) wantNoSecret(where, text string, allowed func(canarySecret) bool) {
	g.t.Helper()
	canaryOf(g.t).scanner().want(g.t, where, text, allowed)
}

// want reports the first secret of each kind.
func (s *canaryScanner) want(t *testing.T, where, text string, allowed func(canarySecret) bool) {
	t.Helper()
	reported := map[canaryKind]bool{}
	for _, found := range s.find(text) {
		if !reported[found.kind] && (allowed == nil || !allowed(found.canarySecret)) {
			reported[found.kind] = true
			t.Errorf("canary: %s shows a %s: %.400s", where, found.kind, text[max(0, found.at-150):])
		}
	}
}

// scanner looks for all that is known by now.
func (c *canary) scanner() *canaryScanner { return newCanaryScanner(c.known()) }

// mayLog is what the contract says about logs. The gateway's own loggers say no secret at all. Caddy's own
// write addresses, and what stands in those is dead by then: a code that was exchanged, a ticket that was
// redeemed; a sealed login is nothing without its cookie. Its handlers' debug log of a request's headers has
// the token that the operator put there with token_header.
func (c *canary) mayLog(logger string, s canarySecret) bool {
	if canaryOwnLogger(logger) {
		return false
	}
	switch s.kind {
	case canaryCode, canaryTicket:
		return s.dead
	case canaryLogin, canaryRetry:
		return true
	case canarySession:
		return c.tokenHeader && (strings.HasPrefix(logger, "http.handlers.") || strings.HasPrefix(logger, "http.reverse_proxy.transport"))
	}
	return false
}

// canaryOwnLogger is true for the gateway's loggers, and for what is no line of a log: a panic.
func canaryOwnLogger(logger string) bool {
	return logger == "" || strings.Contains(logger, "wechat")
}

// aboutSimulator is true for what Caddy's debug log says of an upstream that is WeChat's stand-in.
func (c *canary) aboutSimulator(line string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for host := range c.simHosts {
		if strings.Contains(line, `"upstream":"`+host+`"`) {
			return true
		}
	}
	return false
}

// canaryByLogger sorts a log's lines by who wrote them.
func canaryByLogger(log string, leaveOut func(line string) bool) map[string]string {
	sorted := map[string]*strings.Builder{}
	for line := range strings.Lines(log) {
		if leaveOut(line) {
			continue
		}
		logger := ""
		if _, rest, ok := strings.Cut(line, `"logger":"`); ok {
			logger, _, _ = strings.Cut(rest, `"`)
		} else if strings.HasPrefix(line, `{"level":`) {
			logger = "caddy"
		}
		if sorted[logger] == nil {
			sorted[logger] = new(strings.Builder)
		}
		sorted[logger].WriteString(line)
	}
	list := map[string]string{}
	for logger, lines := range sorted {
		list[logger] = lines.String()
	}
	return list
}
