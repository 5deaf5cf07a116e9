package integration

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/ticket/storetest/redistest"
	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// manyWorld is three gateways with one Redis and one storage, behind a balancer that remembers nobody.
type manyWorld struct {
	*world   // the first gateway; its storage is everybody's
	gateways []*world
	redis    *redistest.Server
	balancer *manyBalancer
	ledger   manyLedger
	direct   []*http.Client // to each gateway, around the balancer

	people atomic.Int64 // how many there have been
}

const manyClient = "https://client.example/back"

func newManyWorld(t *testing.T, redisLines ...string) *manyWorld {
	t.Helper()
	m := &manyWorld{redis: newRedis(t, redisLines...), ledger: manyLedger{redeemed: map[string]int{}}}
	sim, up := newSimulator(t, boundDomain), newUpstream(t)
	var addrs []string
	for range 3 {
		g := &world{gateway: newGateway(t), sim: sim, up: up}
		g.env = append(g.env, "REDIS_PASSWORD="+redisPassword, "SHOP_SECRET="+shopSecret)
		m.gateways = append(m.gateways, g)
		addrs = append(addrs, fmt.Sprintf("127.0.0.1:%d", g.https))
	}
	m.world = m.gateways[0]
	for i := range m.gateways {
		m.startOne(i)
		m.direct = append(m.direct, lifeAgain(m.gateways[i].clientTrusting(m.roots())))
	}
	m.balancer = newManyBalancer(t, addrs)
	return m
}

// caddyfile has keys that are relieved all the time, and a log as operators have it: thousands log in.
func (m *manyWorld) caddyfile(g *world) string {
	redis := strings.Replace(redisOption(m.redis), "wechat {", "wechat {\n session_key {\n rotate 2s\n}\n", 1)
	s := "{\n" + g.globals() + strings.Replace(g.options("auth.example.com", ""), "wechat {\n", redis, 1) + "}\n" +
		"auth.example.com {\n wechat_broker {\n ticket_ttl 10m\n client shop {\n secret {env.SHOP_SECRET}\n return_to " + manyClient + "\n scope snsapi_base\n}\n}\n}\n" +
		"shop.example.org {\n wechat_auth\n reverse_proxy " + g.up.addr + "\n}\n" +
		"client.example {\n respond \"welcome back\"\n}\n"
	s = strings.Replace(strings.Replace(s, "\tdebug\n", "", 1), "level DEBUG", "level INFO", 1)
	return g.lifeOn(m.world, s)
}

func (m *manyWorld) startOne(i int) { m.gateways[i].start(m.caddyfile(m.gateways[i])) }

// manyBalancer gives each new connection to the next gateway that takes it.
type manyBalancer struct {
	addr  string
	addrs []string // the gateways'
	next  atomic.Uint64
}

func newManyBalancer(t *testing.T, addrs []string) *manyBalancer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &manyBalancer{addr: l.Addr().String(), addrs: addrs}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { b.lead(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return b
}

func (b *manyBalancer) lead(browser net.Conn) {
	defer browser.Close()
	first := b.next.Add(1)
	for i := range uint64(len(b.addrs)) {
		gateway, err := net.Dial("tcp", b.addrs[(first+i)%uint64(len(b.addrs))])
		if err != nil {
			continue // it is dead
		}
		defer gateway.Close()
		go func() {
			_, _ = io.Copy(gateway, browser)
			_ = gateway.(*net.TCPConn).CloseWrite()
		}()
		_, _ = io.Copy(browser, gateway)
		return
	}
}

// manyCrowd is people who log in at one time.
type manyCrowd struct {
	*manyWorld
	manyTally
	front   gateway       // where the balancer is
	lanes   chan struct{} // bounds the requests that are under way
	gate    *manyGate     // nil: nobody waits for the others
	backend http.Client   // a client's own program
}

// manyLanes is how many requests are under way at most.
const manyLanes = 100

func (m *manyWorld) crowd() *manyCrowd {
	c := &manyCrowd{manyWorld: m, front: *m.gateway, lanes: make(chan struct{}, manyLanes)}
	_, port, _ := net.SplitHostPort(m.balancer.addr)
	_, _ = fmt.Sscan(port, &c.front.https)
	c.n = map[string]int{}
	c.backend.Transport = c.transport(&http.Transport{DialContext: c.front.dial, TLSClientConfig: &tls.Config{RootCAs: m.roots()}})
	return c
}

// person makes somebody with a phone of their own.
func (c *manyCrowd) person() *manyPerson {
	id := fmt.Sprintf("person%d", c.people.Add(1))
	c.sim.AddUser(wechattest.User{ID: id})
	phone := wechattest.NewBrowser(wechattest.BrowserOptions{
		User: id, RootCAs: c.roots(), Dial: c.front.dial, Simulators: []string{c.sim.host}, Watch: c.transport,
	})
	return &manyPerson{crowd: c, phone: phone, openID: c.sim.OpenID(appID, id)}
}

// transport gives each request a connection of its own: the next one comes to another gateway.
func (c *manyCrowd) transport(next http.RoundTripper) http.RoundTripper {
	tr := next.(*http.Transport)
	tr.DisableKeepAlives, tr.ForceAttemptHTTP2 = true, false
	return canaryOf(c.t).watch(&manyWire{next: tr, crowd: c})
}

type manyWire struct {
	next  http.RoundTripper
	crowd *manyCrowd
	once  sync.Once
}

// RoundTrip sends a request again whose connection broke, as browsers and people do.
func (w *manyWire) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	c := w.crowd
	if c.gate != nil && r.URL.Host == c.sim.host {
		w.once.Do(c.gate.wait)
	}
	c.lanes <- struct{}{}
	defer func() { <-c.lanes }()
	for {
		if resp, err = w.next.RoundTrip(r); err == nil || r.Context().Err() != nil {
			return resp, err
		}
		c.count("a connection broke, the request was sent again")
		time.Sleep(50 * time.Millisecond) // nobody presses reload faster
	}
}

// manyGate holds everybody until all are there.
type manyGate struct{ here sync.WaitGroup }

func newManyGate(n int) *manyGate {
	g := new(manyGate)
	g.here.Add(n)
	return g
}

func (g *manyGate) wait() {
	g.here.Done()
	g.here.Wait()
}

// manyTally counts what happened to a crowd.
type manyTally struct {
	mu sync.Mutex
	n  map[string]int // guarded by mu
}

func (c *manyTally) count(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[what]++
}

func (c *manyTally) of(what string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[what]
}

// Of what is counted, that which tests look at.
const (
	manyDone    = "signed in"
	manySelf    = "begun anew by itself"
	manyRefresh = "a page that tried again by itself: "
	manyPress   = "a page whose button was pressed: "
	manyWait    = "a client's program that was told to wait"
)

func (c *manyTally) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.TrimPrefix(fmt.Sprint(c.n), "map")
}

// sum adds up what begins alike.
func (c *manyTally) sum(prefix string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for what, count := range c.n {
		if strings.HasPrefix(what, prefix) {
			n += count
		}
	}
	return n
}

// manyLedger is what was answered: it must hold whatever dies.
type manyLedger struct {
	mu       sync.Mutex
	kept     []manySession  // guarded by mu
	ended    []manySession  // guarded by mu
	known    int            // of ended, the first so many: every gateway has known of them; guarded by mu
	tickets  []string       // of clients, not redeemed yet; guarded by mu
	redeemed map[string]int // how often each client's ticket was; guarded by mu
}

type manySession struct{ token, openID string }
