package integration

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// caddyBinary is the gateway under test: CADDY_BIN, or one that TestMain builds.
var caddyBinary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "caddy-wechat-test-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		if caddyBinary = os.Getenv("CADDY_BIN"); caddyBinary == "" {
			caddyBinary = filepath.Join(dir, "caddy")
			args := []string{"build", "-o", caddyBinary}
			if raceEnabled {
				args = append(args, "-race")
			}
			build := exec.Command("go", append(args, "./caddy")...)
			build.Stderr = os.Stderr
			if err := build.Run(); err != nil {
				panic(err)
			}
		}
		return m.Run()
	}())
}

// needs skips a test where a program is missing, or fails it where all tests must run.
func needs(t *testing.T, candidates ...string) string {
	t.Helper()
	for _, name := range candidates {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	say := t.Skipf
	if os.Getenv("WECHAT_TEST_ALL") == "1" {
		say = t.Fatalf
	}
	say("not installed: %s; ./xcaddy.sh test installs what the tests need", strings.Join(candidates, " or "))
	return ""
}

// gateway is a running Caddy.
type gateway struct {
	t     *testing.T
	dir   string // its home: storage, configuration, log
	https int    // listening ports on the loopback
	http  int
	admin int
	env   []string

	binary string // which Caddy; default: caddyBinary

	cmd    *exec.Cmd
	log    *logBuffer
	exited chan struct{}
}

// newGateway makes a gateway that is not running yet.
func newGateway(t *testing.T) *gateway {
	t.Helper()
	g := &gateway{t: t, dir: t.TempDir(), https: freePort(t), http: freePort(t), admin: freePort(t), log: new(logBuffer)}
	t.Cleanup(func() {
		canaryOf(t).addKeys(filepath.Join(g.dir, "storage"))
		g.lookWhileRunning()
		g.stop()
		g.lookBehind()
		g.wantNoRace()
		if t.Failed() {
			t.Logf("log of the gateway:\n%s", g.log.tail(12000))
		}
	})
	return g
}

// wantNoRace fails the test where our code raced or a handler panicked, whatever the answers were: Caddy goes
// on after both. Races of Caddy alone, such as one at its start below main, are not ours to mend.
func (g *gateway) wantNoRace() {
	g.t.Helper()
	const ours = "github.com/caddy-wechat/caddy-wechat/"
	const main = ours + "integration/caddy/main.go"
	for part := range strings.SplitSeq(g.log.String(), "==================") {
		race := strings.Contains(part, "WARNING: DATA RACE") && strings.Contains(strings.ReplaceAll(part, main, ""), ours)
		at := max(0, strings.Index(part, "panic"))
		if race || strings.Contains(part, "panic serving") || strings.Contains(part, "\npanic: ") {
			g.t.Errorf("the gateway said:\n%s", part[at:min(len(part), at+6000)])
		}
	}
}

// globals are the options that every test Caddyfile begins with, less the braces.
func (g *gateway) globals() string {
	return fmt.Sprintf(`
	debug
	admin localhost:%d
	https_port %d
	http_port %d
	local_certs
	skip_install_trust
	grace_period 2s
	storage file_system %s/storage
	log {
		level DEBUG
	}
`, g.admin, g.https, g.http, g.dir)
}

// write stores the Caddyfile and returns its path.
func (g *gateway) write(caddyfile string) string {
	g.t.Helper()
	path := filepath.Join(g.dir, "Caddyfile")
	if err := os.WriteFile(path, []byte(caddyfile), 0o600); err != nil {
		g.t.Fatal(err)
	}
	canaryOf(g.t).readCaddyfile(caddyfile, g.command().Env)
	return path
}

func (g *gateway) command(args ...string) *exec.Cmd {
	cmd := exec.Command(cmp.Or(g.binary, caddyBinary), args...)
	cmd.Env = append(os.Environ(), "HOME="+g.dir, "XDG_DATA_HOME="+g.dir+"/data", "XDG_CONFIG_HOME="+g.dir+"/config", "WECHAT_APP_SECRET="+appSecret)
	cmd.Env = append(cmd.Env, g.env...)
	return cmd
}

// start runs Caddy with the Caddyfile and waits until it serves.
func (g *gateway) start(caddyfile string) {
	g.t.Helper()
	path := g.write(caddyfile)
	g.log.mark()
	g.cmd = g.command("run", "--config", path, "--adapter", "caddyfile")
	g.cmd.Stdout, g.cmd.Stderr = g.log, g.log
	if err := g.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	g.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) {
		_ = cmd.Wait()
		close(exited)
	}(g.cmd, g.exited)
	g.await()
}

// await waits until Caddy has loaded its configuration.
func (g *gateway) await() {
	g.t.Helper()
	// Caddy tries again after a minute where a certificate could not be had at once.
	deadline := time.Now().Add(100 * time.Second)
	for time.Now().Before(deadline) {
		select {
		case <-g.exited:
			g.t.Fatalf("Caddy ended:\n%s", g.log.tail(6000))
		default:
		}
		if resp, err := http.Get(fmt.Sprintf("http://localhost:%d/config/", g.admin)); err == nil {
			_ = resp.Body.Close()
			if strings.Contains(g.log.since(), "serving initial configuration") && g.hasCertificates() {
				return
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	g.t.Fatalf("Caddy did not start:\n%s", g.log.tail(6000))
}

var managed = regexp.MustCompile(`certificate management","domains":\[([^]]*)\]`)

// hasCertificates reports whether every site that Caddy manages a certificate for has one.
func (g *gateway) hasCertificates() bool {
	m := managed.FindStringSubmatch(g.log.since())
	if m == nil {
		return true
	}
	for name := range strings.SplitSeq(strings.ReplaceAll(m[1], `"`, ""), ",") {
		cfg := &tls.Config{ServerName: strings.Replace(name, "*", "any", 1), InsecureSkipVerify: true}
		c, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", g.https), cfg)
		if err != nil {
			return false
		}
		_ = c.Close()
	}
	return true
}

// reload hands Caddy a new Caddyfile and returns what `caddy reload` says.
func (g *gateway) reload(caddyfile string) (string, error) {
	g.t.Helper()
	out, err := g.command("reload", "--config", g.write(caddyfile), "--adapter", "caddyfile", "--address", fmt.Sprintf("localhost:%d", g.admin), "--force").CombinedOutput()
	g.wantNoSecret("what caddy reload says", string(out), nil)
	return string(out), err
}

// validate runs `caddy validate` and returns what it says.
func (g *gateway) validate(caddyfile string) (string, error) {
	g.t.Helper()
	out, err := g.command("validate", "--config", g.write(caddyfile), "--adapter", "caddyfile").CombinedOutput()
	g.wantNoSecret("what caddy validate says", string(out), nil)
	return string(out), err
}

// logged reports whether the log says text, now or within a moment: it comes through a pipe.
func (g *gateway) logged(text string) bool {
	for range 100 {
		if strings.Contains(g.log.String(), text) {
			return true
		}
		time.Sleep(20 * time.Millisecond)
	}
	return false
}

// stop ends Caddy in order; kill ends it at once.
func (g *gateway) stop() { g.end(os.Interrupt) }

func (g *gateway) kill() { g.end(os.Kill) }

func (g *gateway) end(sig os.Signal) {
	if g.cmd == nil {
		return
	}
	_ = g.cmd.Process.Signal(sig)
	select {
	case <-g.exited:
	case <-time.After(15 * time.Second):
		_ = g.cmd.Process.Kill()
		<-g.exited
	}
	g.cmd = nil
}

// roots returns the local certificate authority of the gateway.
func (g *gateway) roots() *x509.CertPool {
	g.t.Helper()
	path := filepath.Join(g.dir, "storage", "pki", "authorities", "local", "root.crt")
	pem, err := os.ReadFile(path)
	if err != nil {
		g.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return pool
}

// dial leads every host to the gateway, by the port's usual meaning.
func (g *gateway) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	switch port {
	case "443":
		addr = fmt.Sprintf("127.0.0.1:%d", g.https)
	case "80":
		addr = fmt.Sprintf("127.0.0.1:%d", g.http)
	default:
		addr = "127.0.0.1:" + port
	}
	var d net.Dialer
	return d.DialContext(ctx, network, addr)
}

// client is an HTTP client that follows nothing and keeps no cookies.
func (g *gateway) client() *http.Client { return g.clientWith(&tls.Config{RootCAs: g.roots()}) }

// clientTrusting trusts another gateway's certificate authority: they share storage.
func (g *gateway) clientTrusting(roots *x509.CertPool) *http.Client {
	return g.clientWith(&tls.Config{RootCAs: roots})
}

func (g *gateway) clientWith(cfg *tls.Config) *http.Client {
	tr := &http.Transport{DialContext: g.dial, TLSClientConfig: cfg, ForceAttemptHTTP2: true}
	g.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{
		Transport:     canaryOf(g.t).watch(tr),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       30 * time.Second,
	}
}

// plainClient speaks http, and insecureClient takes any certificate.
func (g *gateway) plainClient() *http.Client { return g.clientWith(nil) }

func (g *gateway) insecureClient() *http.Client {
	return g.clientWith(&tls.Config{InsecureSkipVerify: true})
}

// browser is WeChat's in-app browser before the gateway, in the hands of somebody.
func (g *gateway) browser(sim *simulator, opts wechattest.BrowserOptions) *wechattest.Browser {
	opts.RootCAs, opts.Dial = g.roots(), g.dial
	opts.Simulators, opts.Watch = []string{sim.host}, canaryOf(g.t).watch
	b := wechattest.NewBrowser(opts)
	g.t.Cleanup(b.Close)
	return b
}

// simulator is WeChat's stand-in on a port of its own.
type simulator struct {
	*wechattest.Server
	url  string
	host string
}

const (
	appID     = "wx0123456789abcdef"
	appSecret = "0123456789abcdef0123456789abcdef"
)

func newSimulator(t *testing.T, account wechattest.Account) *simulator {
	t.Helper()
	if account.AppID == "" {
		account.AppID = appID
	}
	if account.Secret == "" {
		account.Secret = appSecret
	}
	sim := wechattest.New(account)
	server := httptest.NewServer(sim)
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	canaryOf(t).watchSimulator(sim, host, account.Secret)
	return &simulator{sim, server.URL, host}
}

// freePort finds a port below those that the system hands out: else a test server could get the number
// before the gateway listens there.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := 10000 + rand.IntN(20000)
		if l, err := net.Listen("tcp", fmt.Sprintf(":%d", port)); err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// logBuffer collects a process's output.
type logBuffer struct {
	mu     sync.Mutex
	buf    bytes.Buffer
	marked int
}

// mark remembers how far the log has come; since returns what came after.
func (b *logBuffer) mark() { b.marked = len(b.String()) }

func (b *logBuffer) since() string { return b.String()[b.marked:] }

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (b *logBuffer) tail(n int) string {
	s := b.String()
	return s[max(0, len(s)-n):]
}

// get answers a plain GET with its body read.
func get(t *testing.T, c *http.Client, url string, header http.Header) (*http.Response, string) {
	t.Helper()
	return do(t, c, http.MethodGet, url, header, nil)
}

func do(t *testing.T, c *http.Client, method, url string, header http.Header, body io.Reader) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	return send(t, c, req)
}

// send returns a request's answer with its body read.
func send(t *testing.T, c *http.Client, req *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}
