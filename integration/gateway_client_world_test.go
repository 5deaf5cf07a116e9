package integration

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// gatewayPair is two gateways that share nothing. The first has the app secret and the broker, at
// auth.example.com; shop.example.org is the second's, which is a client of that broker.
type gatewayPair struct {
	t             *testing.T
	first, second *gateway
	sim           *simulator
	up            *upstream
	asked         *atomic.Int64 // how often the second connected to the first

	firstFile, secondFile string
}

const (
	pairSecret = "pair-client-secret-0123456789abcdef"
	pairWrong  = "pair-another-secret-0123456789abcdef"
)

// newGatewayPair starts both. The second knows secret for the broker's client.
func newGatewayPair(t *testing.T, secret, authOptions string) *gatewayPair {
	t.Helper()
	p := &gatewayPair{t: t, first: newGateway(t), second: newGateway(t), sim: newSimulator(t, boundDomain), up: newUpstream(t), asked: new(atomic.Int64)}
	p.first.env = []string{"WECHAT_BROKER_SECRET=" + pairSecret}
	first := &world{gateway: p.first, sim: p.sim}
	p.firstFile = "{\n" + p.first.globals() + first.options("auth.example.com", "") + "}\n" + `auth.example.com {
		wechat_broker {
			client shop {
				secret {env.WECHAT_BROKER_SECRET}
				return_to https://shop.example.org/*
			}
		}
		respond "home"
	}
	`
	p.secondFile = "{\n" + p.second.globals() + `
		wechat {
			account {
				app_id ` + appID + `
				broker https://auth.example.com shop {env.WECHAT_BROKER_SECRET}
			}
		}
	}
	shop.example.org {
		wechat_auth {
			` + authOptions + `
		}
		reverse_proxy ` + p.up.addr + `
	}
	`
	p.first.start(p.firstFile)
	p.second.env = []string{
		"WECHAT_BROKER_SECRET=" + secret,
		"WECHAT_APP_SECRET=", // the first's alone
		"HTTPS_PROXY=" + p.road(), "NO_PROXY=",
		"SSL_CERT_FILE=" + filepath.Join(p.first.dir, "storage", "pki", "authorities", "local", "root.crt"),
	}
	p.second.start(p.secondFile)
	return p
}

// road is a proxy by which the second finds the first under its name. It counts the connections.
func (p *gatewayPair) road() string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != "auth.example.com:443" {
			http.Error(w, "no such road", http.StatusForbidden)
			return
		}
		p.asked.Add(1)
		there, err := p.first.dial(r.Context(), "tcp", r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer there.Close()
		here, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer here.Close()
		_, _ = here.Write([]byte("HTTP/1.1 200 OK\r\n\r\n"))
		go func() {
			_, _ = io.Copy(there, buffered)
			_ = there.Close()
		}()
		_, _ = io.Copy(here, there)
	}))
	p.t.Cleanup(server.Close)
	return server.URL
}

// dial leads a name to the gateway that has it.
func (p *gatewayPair) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if strings.HasPrefix(addr, "auth.example.com:") {
		return p.first.dial(ctx, network, addr)
	}
	return p.second.dial(ctx, network, addr)
}

func (p *gatewayPair) roots() *x509.CertPool {
	p.t.Helper()
	pool := x509.NewCertPool()
	for _, g := range []*gateway{p.first, p.second} {
		pem, err := os.ReadFile(filepath.Join(g.dir, "storage", "pki", "authorities", "local", "root.crt"))
		if err != nil {
			p.t.Fatal(err)
		}
		pool.AppendCertsFromPEM(pem)
	}
	return pool
}

func (p *gatewayPair) browser(opts wechattest.BrowserOptions) *wechattest.Browser {
	p.t.Helper()
	opts.RootCAs, opts.Dial = p.roots(), p.dial
	opts.Simulators, opts.Watch = []string{p.sim.host}, canaryOf(p.t).watch
	b := wechattest.NewBrowser(opts)
	p.t.Cleanup(b.Close)
	return b
}

// byHand is a browser that is led by hand.
func (p *gatewayPair) byHand(user string) *hijacker {
	p.t.Helper()
	tr := &http.Transport{DialContext: p.dial, TLSClientConfig: &tls.Config{RootCAs: p.roots()}, ForceAttemptHTTP2: true}
	p.t.Cleanup(tr.CloseIdleConnections)
	c := &http.Client{
		Transport:     canaryOf(p.t).watch(tr),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       30 * time.Second,
	}
	return &hijacker{t: p.t, w: &world{sim: p.sim}, user: user, c: c, jar: map[string]map[string]string{}}
}

// leave opens the shop's page, and returns the address at WeChat to which that leads by way of the broker.
func (p *gatewayPair) leave(h *hijacker) string {
	p.t.Helper()
	resp, body := h.get(shopPage)
	to := resp.Header.Get("Location")
	if resp.StatusCode != http.StatusFound || !strings.HasPrefix(to, "https://auth.example.com/auth/"+appID+"?") {
		p.t.Fatalf("no login began: %d %s\n%.500s", resp.StatusCode, to, body)
	}
	resp, body = h.get(to)
	if to = resp.Header.Get("Location"); !strings.Contains(to, wechattest.PathAuthorize) {
		p.t.Fatalf("the broker answered %d %s\n%.500s", resp.StatusCode, to, body)
	}
	return to
}

// begin opens the shop's page and returns the address at which WeChat sends the browser back to the broker.
func (p *gatewayPair) begin(h *hijacker) string {
	p.t.Helper()
	return h.authorize(p.leave(h))
}

// ticketed goes as far as the address at which the broker sends the browser back to the shop.
func (p *gatewayPair) ticketed(h *hijacker) string {
	p.t.Helper()
	callback := h.atSite(p.begin(h), shopPage)
	if !strings.Contains(callback, "&ticket=") {
		p.t.Fatalf("no ticket: %s", callback)
	}
	return callback
}

// restart ends a gateway in order, and starts it again.
func (p *gatewayPair) restart(g *gateway, caddyfile string) {
	p.t.Helper()
	g.stop()
	g.start(caddyfile)
}

// together runs n calls, the later ones each a gap after the one before, and waits for them.
func together(n int, gap time.Duration, call func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			time.Sleep(time.Duration(i) * gap)
			call(i)
		})
	}
	wg.Wait()
}

// press follows the one button of a page.
func pressByHand(t *testing.T, h *hijacker, page, body string) (*http.Response, string) {
	t.Helper()
	links := hrefs(body)
	if len(links) != 1 {
		t.Fatalf("not one button: %q\n%.500s", links, body)
	}
	resp, body, _ := h.walk(hijackOrigin(page) + links[0])
	return resp, body
}

func (p *gatewayPair) openID(user string) string { return p.sim.OpenID(appID, user) }

// logLine returns the second's lines that say text.
func (p *gatewayPair) logLines(text string) string {
	p.t.Helper()
	if !p.second.logged(text) {
		p.t.Errorf("the log does not say %q:\n%s", text, p.second.log.tail(3000))
	}
	var lines strings.Builder
	for line := range strings.Lines(p.second.log.String()) {
		if strings.Contains(line, text) {
			fmt.Fprint(&lines, line)
		}
	}
	return lines.String()
}
