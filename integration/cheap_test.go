package integration

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// What strangers can do cheaply must be cheap to bear: their floods leave no memory, ask WeChat nothing,
// and cost the gateway no more CPU a request than a served one does.

const (
	cheapShop   = "shop.example.org"
	cheapScript = "User-Agent: MicroMessenger\r\n"
	cheapMember = cheapScript + "Accept: text/html\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n"
)

// notWithRace skips what the race detector would distort; ./xcaddy.sh test runs it again without.
func notWithRace(t *testing.T) {
	t.Helper()
	if raceEnabled {
		t.Skip("measured without the race detector")
	}
}

// cheapWorld is a broker and a shop over plain http, so that the figures are the gateway's and not TLS's.
// Its log is as an operator has it.
func cheapWorld(t *testing.T, sessionKey string) *world {
	t.Helper()
	return newWorld(t, boundDomain, func(w *world) string {
		options := strings.TrimSuffix(w.options("http://auth.example.com", ""), "}\n") + sessionKey + "\n}\n"
		s := "{\n" + w.globals() + options + "}\n" +
			"http://auth.example.com {\n wechat_broker\n}\n" +
			"http://" + cheapShop + " {\n wechat_auth\n reverse_proxy " + w.up.addr + "\n}\n"
		return strings.Replace(strings.Replace(s, "\tdebug\n", "", 1), "level DEBUG", "level INFO", 1)
	})
}

func TestFloodsAreCheap(t *testing.T) {
	notWithRace(t)
	for _, alg := range []string{"HS256", "ES256", "EdDSA"} {
		t.Run("with "+alg, func(t *testing.T) { cheapFloods(t, alg) })
	}
}

func cheapFloods(t *testing.T, alg string) {
	w := cheapWorld(t, "session_key {\n algorithm "+alg+"\n}")
	token := cheapSession(t, w)
	mine := cheapLogin(t, w)
	n, many := 100_000, 1_000_000
	if alg != "HS256" { // they differ in what a signature costs, and in nothing that could pile up
		n, many = 20_000, 20_000
	}
	served := cheapRequest("/member/", cheapMember+"Cookie: wechat_session="+token+"\r\n")
	w.flood(t, 20_000, 200, func(int) string { return served }) // the heap grows to its working size
	w.flood(t, 20_000, 302, func(int) string { return cheapRequest("/member/", cheapMember) })
	w.sim.ResetCalls()
	before := w.resident()
	baseline := w.flood(t, n, 200, func(int) string { return served })
	junk := cheapJunk(token)
	floods := []struct {
		name   string
		n      int
		status int
		make   func(i int) string
	}{
		{"started logins", many, 302, func(int) string { return cheapRequest("/member/", cheapMember) }},
		{"junk cookies", n, 401, func(i int) string { return cheapRequest("/api", cheapScript+"Cookie: wechat_session="+junk(i)+"\r\n") }},
		{"forged tokens", n, 401, func(i int) string {
			return cheapRequest("/api", cheapScript+"Cookie: wechat_session="+cheapForge(token, i)+"\r\n")
		}},
		{"forged callbacks", n, 400, func(i int) string {
			return cheapRequest(fmt.Sprintf("/_wechat/callback?code=%032d&state=%032d&login=%s", i, i, junk(i)), cheapMember)
		}},
		// Whoever has the login's cookie begins it anew: the ticket may be lost with the store.
		{"guessed tickets", n, 302, func(int) string {
			return cheapRequest(fmt.Sprintf("/_wechat/callback?ticket=%016x%016x&%s", rand.Uint64(), rand.Uint64(), mine.query), cheapMember+"Cookie: "+mine.cookie+"\r\n")
		}},
	}
	t.Logf("%-18s %9d: CPU %5.1f µs each", "served", n, baseline)
	for _, f := range floods {
		cost := w.flood(t, f.n, f.status, f.make)
		t.Logf("%-18s %9d: CPU %5.1f µs each, %.2f of a served request's", f.name, f.n, cost, cost/baseline)
		// A forged signature is told by checking it, and ES256 and EdDSA have no cheap check: SECURITY.md says so.
		if cost > baseline && (f.name != "forged tokens" || alg == "HS256") {
			t.Errorf("%s cost %.2f times what a served request does", f.name, cost/baseline)
		}
	}
	after := w.resident()
	t.Logf("resident: %d KiB before, %d KiB after", before, after)
	if after > before+before/4 {
		t.Errorf("the floods took %d KiB", after-before)
	}
	if n := w.sim.CountCalls(wechattest.PathToken); n > 0 {
		t.Errorf("WeChat was asked %d times", n)
	}
}

// One good login that brings 100,000 junk codes has WeChat asked five times.
func TestJunkCodesOfOneLogin(t *testing.T) {
	notWithRace(t)
	w := cheapWorld(t, "")
	login := cheapLogin(t, w)
	code := func(i int) string { return fmt.Sprintf("/_wechat/callback?code=%032d&%s", i, login.query) }
	w.floodHost(t, "auth.example.com", 100_000, 302, func(i int) string {
		return "GET " + code(i) + " HTTP/1.1\r\nHost: auth.example.com\r\n\r\n"
	})
	if n := w.sim.CountCalls(wechattest.PathToken); n > 5 || n == 0 {
		t.Errorf("WeChat was asked %d times", n)
	}
}

// cheapSession signs somebody in at the shop and returns the session's token.
func cheapSession(t *testing.T, w *world) string {
	t.Helper()
	b := wechattest.NewBrowser(wechattest.BrowserOptions{User: "lina", Dial: w.dial, Simulators: []string{w.sim.host}})
	t.Cleanup(b.Close)
	wantStatus(t, open(t, b, "http://"+cheapShop+"/member/"), http.StatusOK)
	for _, c := range b.Cookies("http://" + cheapShop + "/") {
		if c.Name == "wechat_session" {
			return c.Value
		}
	}
	t.Fatal("no session")
	return ""
}

type cheapBegun struct{ query, cookie string }

// cheapLogin begins a login at the shop and returns its part of a callback, and its cookie.
func cheapLogin(t *testing.T, w *world) cheapBegun {
	t.Helper()
	resp, _ := get(t, w.plainClient(), "http://"+cheapShop+"/member/", pageHeader(nil))
	callback := redirectOf(t, resp)
	c := resp.Cookies()[0]
	return cheapBegun{callback, c.Name + "=" + c.Value}
}

// redirectOf returns the login and the state that a redirect to WeChat carries.
func redirectOf(t *testing.T, resp *http.Response) string {
	t.Helper()
	to, err := resp.Location()
	if err != nil {
		t.Fatal(err)
	}
	_, login, _ := strings.Cut(to.Query().Get("redirect_uri"), "?")
	return login + "&state=" + to.Query().Get("state")
}

// cheapJunk returns cookies that are no tokens: random text, and what looks like one from afar.
func cheapJunk(token string) func(int) string {
	header, _, _ := strings.Cut(token, ".")
	return func(i int) string {
		text := strings.Repeat(fmt.Sprintf("%016x", rand.Uint64()), 12)
		if i%2 == 0 {
			return text
		}
		return header + "." + text + "." + text[:43]
	}
}

// cheapForge returns the token with another signature: it is told only by checking it.
func cheapForge(token string, i int) string {
	cut := strings.LastIndexByte(token, '.') + 1
	return token[:cut] + fmt.Sprintf("%08x", i)[:8] + token[cut+8:]
}

func cheapRequest(path, header string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: " + cheapShop + "\r\n" + header + "\r\n"
}

// flood sends n requests to the shop and returns the CPU time, in µs, that each cost the gateway.
func (w *world) flood(t *testing.T, n, status int, make func(int) string) float64 {
	t.Helper()
	return w.floodHost(t, cheapShop, n, status, make)
}

func (w *world) floodHost(t *testing.T, host string, n, status int, make func(int) string) float64 {
	t.Helper()
	const lanes = 4
	before := w.cpu()
	var wg sync.WaitGroup
	for lane := range lanes {
		wg.Go(func() {
			if err := w.floodLane(lane*n/lanes, (lane+1)*n/lanes, status, make); err != nil {
				t.Errorf("%s: %v", host, err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return (w.cpu() - before) / float64(n)
}

// floodLane sends requests on one connection, many at a time: the sender should cost less than the gateway.
func (w *world) floodLane(from, to, status int, make func(int) string) error {
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", w.http))
	if err != nil {
		return err
	}
	defer conn.Close()
	answers := bufio.NewReaderSize(conn, 64<<10)
	for from < to {
		batch := min(to-from, 32)
		var out strings.Builder
		for range batch {
			out.WriteString(make(from))
			from++
		}
		if _, err := io.WriteString(conn, out.String()); err != nil {
			return err
		}
		for range batch {
			resp, err := http.ReadResponse(answers, nil)
			if err != nil {
				return err
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				return err
			}
			if resp.StatusCode != status {
				return fmt.Errorf("status %d, want %d", resp.StatusCode, status)
			}
		}
	}
	return nil
}

// resident returns the gateway's resident set in KiB.
func (g *gateway) resident() int {
	g.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.cmd.Process.Pid))
	if err != nil {
		g.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var kib int
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
			return kib
		}
	}
	g.t.Fatal("no VmRSS")
	return 0
}

// cpu returns the CPU time that the gateway has used, in µs.
func (g *gateway) cpu() float64 {
	g.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", g.cmd.Process.Pid))
	if err != nil {
		g.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	fields := strings.Fields(rest)
	var user, system float64
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		g.t.Fatal(err)
	}
	return (user + system) * 10_000 // in ticks of 10 ms
}
