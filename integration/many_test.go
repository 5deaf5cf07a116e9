package integration

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// manyPerson is somebody who logs in once: at the shop, or for a client that redeems tickets.
type manyPerson struct {
	crowd  *manyCrowd
	phone  *wechattest.Browser
	openID string
}

// manySteps is how many pages anybody puts up with.
const manySteps = 30

// logIn goes on, by whatever way the pages have, until landed says that it is done. A page without a way on is a
// dead end.
func (p *manyPerson) logIn(ctx context.Context, start string, landed func(*wechattest.Page) (again bool, err error)) error {
	page, err := p.phone.Open(ctx, start)
	for range manySteps {
		if err != nil {
			return err
		}
		p.countRestarts(page)
		what := fmt.Sprintf("%d", page.Status)
		refresh, _ := page.Refresh()
		switch {
		case page.Status == http.StatusOK:
			again, wrong := landed(page)
			if !again || wrong != nil {
				return wrong
			}
			page, err = p.phone.Open(ctx, start)
		case refresh != "":
			p.crowd.count(manyRefresh + what)
			page, err = p.phone.Refresh(ctx, page)
		case len(page.Links()) > 0:
			p.crowd.count(manyPress + what + " " + page.Links()[0].Text)
			page, err = p.phone.Click(ctx, page, page.Links()[0].Text)
		default:
			return fmt.Errorf("a dead end: %d at %s\n%.1500s", page.Status, page.URL, page.Body)
		}
	}
	return fmt.Errorf("no end after %d pages", manySteps)
}

// countRestarts counts the trips to WeChat beyond the first that led to one page.
func (p *manyPerson) countRestarts(page *wechattest.Page) {
	trips := 0
	for _, hop := range page.Redirects {
		if hop.URL.Host == p.crowd.sim.host {
			trips++
		}
	}
	for range trips - 1 {
		p.crowd.count(manySelf)
	}
}

// atShop ends with a session of the shop's.
func (p *manyPerson) atShop(ctx context.Context) error {
	defer p.phone.Close()
	err := p.logIn(ctx, shopPage, func(page *wechattest.Page) (bool, error) {
		if !bytes.Contains(page.Body, []byte(`"X-Wechat-Openid":["`+p.openID+`"]`)) {
			return false, fmt.Errorf("signed in as somebody else: %.700s", page.Body)
		}
		return false, nil
	})
	if err != nil {
		return fmt.Errorf("a login was lost: %w", err)
	}
	p.crowd.count(manyDone)
	for _, c := range p.phone.Cookies(shopPage) {
		if c.Name == "__Host-wechat_session" {
			p.crowd.ledger.keep(manySession{c.Value, p.openID})
		}
	}
	return nil
}

// atClient ends with a client's user; a client whose ticket is not there sends its user to log in again.
func (p *manyPerson) atClient(ctx context.Context, redeem bool) error {
	defer p.phone.Close()
	err := p.logIn(ctx, startV2(manyClient, "x"), func(page *wechattest.Page) (bool, error) {
		tkt := page.URL.Query().Get("ticket")
		if !strings.HasPrefix(page.URL.String(), manyClient) || tkt == "" {
			return false, fmt.Errorf("landed at %s", page.URL)
		}
		if !redeem {
			p.crowd.ledger.hold(tkt)
			return false, nil
		}
		status, body, err := p.crowd.redeem(ctx, tkt)
		if err == nil && status == http.StatusOK && !strings.Contains(body, `"openid":"`+p.openID+`"`) {
			return false, fmt.Errorf("a ticket for somebody else: %s", body)
		}
		if status != http.StatusOK {
			p.crowd.count(fmt.Sprintf("a client that began anew after %d", status))
		}
		return status != http.StatusOK, err
	})
	if err != nil {
		return fmt.Errorf("a client's login was lost: %w", err)
	}
	p.crowd.count(manyDone)
	return nil
}

// redeem redeems a ticket, and waits while the gateway says that it cannot.
func (c *manyCrowd) redeem(ctx context.Context, tkt string) (status int, body string, err error) {
	for range manySteps {
		status, body, err = c.redeemAt(ctx, &c.backend, tkt)
		if err != nil || status != http.StatusServiceUnavailable {
			return status, body, err
		}
		c.count(manyWait)
		time.Sleep(time.Second)
	}
	return status, body, err
}

// redeemAt redeems a ticket as the client does, and notes in the ledger that it did.
func (m *manyWorld) redeemAt(ctx context.Context, c *http.Client, tkt string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, broker+"/ticket/"+tkt, nil)
	if err != nil {
		return 0, "", err
	}
	req.SetBasicAuth("shop", shopSecret)
	resp, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	_, err = body.ReadFrom(resp.Body)
	if resp.StatusCode == http.StatusOK {
		m.ledger.redeem(tkt)
	}
	return resp.StatusCode, body.String(), err
}

// manyTogether is how many log in at one time where they do not wait for each other: at any moment some of them
// are at each step of their login.
const manyTogether = 50

// run has n people log in, each third of them for the client, and beside that does what disturbs them.
func (c *manyCrowd) run(t *testing.T, n int, redeem bool, disturb func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	begun := time.Now()
	var wg sync.WaitGroup
	together := make(chan struct{}, manyTogether)
	for i := range n {
		p := c.person()
		wg.Go(func() {
			if c.gate == nil {
				together <- struct{}{}
				defer func() { <-together }()
			}
			login := p.atShop
			if i%3 == 2 {
				login = func(ctx context.Context) error { return p.atClient(ctx, redeem) }
			}
			if err := login(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	if disturb != nil {
		disturb()
	}
	wg.Wait()
	t.Logf("%d logins in %v: %s", n, time.Since(begun).Round(time.Millisecond), &c.manyTally)
	if done := c.of(manyDone); done != n {
		t.Errorf("%d of %d signed in", done, n)
	}
}

// await waits until so many are signed in.
func (c *manyCrowd) await(t *testing.T, n int) {
	t.Helper()
	lifeUntil(t, time.Minute, fmt.Sprintf("%d are signed in", n), func() bool { return t.Failed() || c.of(manyDone) >= n })
}

// manySize is how many log in; the race detector's own cost would make more of them a test of it.
func manySize(n int) int {
	if raceEnabled {
		return n / 4
	}
	return n
}

// A thousand logins at once at three gateways that share Redis and storage, each request of a login at another of
// them; and a hundred tickets of theirs, each tried fifty times at once.
func TestThousandLoginsAtOnce(t *testing.T) {
	notWithRace(t)
	m := newManyWorld(t, lasting...)
	manyAtOnce(t, m, 1000)
	manyTries(t, m, 100)
	m.endSome(t, 5)
	m.wantLedger(t, false)
}

// Whatever can die dies in the middle of logins at three gateways. Nobody sees a dead end, no session is lost, one
// that was ended stays ended, and no ticket is redeemed twice.
func TestManyGateways(t *testing.T) {
	m := newManyWorld(t, lasting...)
	for _, step := range []struct {
		name string
		run  func(*testing.T, *manyWorld)
	}{
		{"many logins at once", func(t *testing.T, m *manyWorld) { manyAtOnce(t, m, 100) }},
		{"fifty tries for each ticket", func(t *testing.T, m *manyWorld) { manyTries(t, m, 10) }},
		{"a process killed and started again", manyProcessDies},
		{"every process killed in the middle of exchanges", manyExchangesDie},
		{"a process reloaded", manyReload},
		{"Redis killed, and back with everything", func(t *testing.T, m *manyWorld) { manyRedisDies(t, m, true) }},
		{"Redis killed, and back with what it writes every second", func(t *testing.T, m *manyWorld) {
			m.configureRedis("appendfsync", "everysec")
			manyRedisDies(t, m, true)
		}},
		{"Redis killed, and back empty", func(t *testing.T, m *manyWorld) {
			m.configureRedis("appendonly", "no")
			manyRedisDies(t, m, false)
		}},
	} {
		m.endSome(t, 5)
		t.Run(step.name, func(t *testing.T) {
			step.run(t, m)
			lost := strings.Contains(step.name, "Redis")
			if lost {
				m.gateways[0].kill()
				m.startOne(0) // it knows what Redis says, and nothing else
			}
			m.wantLedger(t, lost)
		})
		if t.Failed() {
			return
		}
	}
}

func manyAtOnce(t *testing.T, m *manyWorld, n int) {
	t.Helper()
	c := m.crowd()
	c.gate = newManyGate(n) // all have begun before the first goes on
	c.run(t, n, false, nil)
	if got := c.sum(""); got != n {
		t.Errorf("something else happened than %d logins: %s", n, &c.manyTally)
	}
}

// manyTries: of fifty who come with one ticket at once, to three gateways, one gets it.
func manyTries(t *testing.T, m *manyWorld, n int) {
	t.Helper()
	tickets := m.ledger.held()
	tickets = tickets[:min(len(tickets), n)]
	const tries = 50
	won := map[string]int{}
	for _, tkt := range tickets {
		answers := make(chan int, tries)
		for i := range tries {
			go func() {
				status, _, err := m.redeemAt(t.Context(), m.direct[i%len(m.direct)], tkt)
				if err != nil {
					t.Error(err)
				}
				answers <- status
			}()
		}
		for range tries {
			won[fmt.Sprint(<-answers)]++
		}
	}
	t.Logf("%d tickets, %d tries each: %v", len(tickets), tries, won)
	if len(tickets) == 0 || won["200"] != len(tickets) || won["404"] != len(tickets)*(tries-1) {
		t.Errorf("%d tickets: %v", len(tickets), won)
	}
}

func manyProcessDies(t *testing.T, m *manyWorld) {
	n := manySize(200)
	c := m.crowd()
	c.run(t, n, true, func() {
		c.await(t, n/5)
		m.slowWeChat(time.Second) // so that some are in the middle of an exchange
		defer m.slowWeChat(0)
		c.await(t, n/4)
		m.gateways[1].kill()
		c.await(t, n/2)
		m.startOne(1)
	})
}

// manyExchangesDie: WeChat was asked about a code, and whoever asked is dead. The login begins anew by itself.
func manyExchangesDie(t *testing.T, m *manyWorld) {
	const n = 6
	c := m.crowd()
	m.slowWeChat(time.Second)
	m.sim.ResetCalls()
	c.run(t, n, true, func() {
		lifeUntil(t, 20*time.Second, "all codes are being exchanged", func() bool { return m.sim.CountCalls(wechattest.PathToken) == n })
		for _, g := range m.gateways {
			g.kill()
		}
		m.slowWeChat(0)
		for i := range m.gateways {
			m.startOne(i)
		}
	})
	if self := c.of(manySelf); self != n || c.sum(manyPress) > 0 {
		t.Errorf("%d of %d began anew by themselves: %s", self, n, &c.manyTally)
	}
}

func (m *manyWorld) slowWeChat(wait time.Duration) {
	m.sim.Update(func(k *wechattest.Knobs) {
		k.Faults = map[string]wechattest.Fault{wechattest.PathToken: {Before: wait}}
	})
}

func manyReload(t *testing.T, m *manyWorld) {
	n := manySize(200)
	c := m.crowd()
	c.run(t, n, true, func() {
		for i, cache := range []string{"1MiB", "2MiB"} {
			c.await(t, n*(i+1)/4)
			next := strings.Replace(m.caddyfile(m.gateways[2]), "wechat {", "wechat {\n cache "+cache, 1)
			if out, err := m.gateways[2].reload(next); err != nil {
				t.Errorf("%v %s", err, out)
			}
		}
	})
	if waited := c.sum(manyPress) + c.sum(manyRefresh) + c.sum(manySelf); waited > 0 {
		t.Errorf("a reload cost logins: %s", &c.manyTally)
	}
}

// manyRedisDies: Redis ends in the middle, and is back once somebody saw that.
func manyRedisDies(t *testing.T, m *manyWorld, lasts bool) {
	n := manySize(200)
	c := m.crowd()
	m.wantEndedKnown(t, false) // what one gateway alone knew and Redis lost is gone with that gateway, and the first is killed then
	c.run(t, n, true, func() {
		c.await(t, n/4)
		m.redis.Kill()
		lifeUntil(t, 20*time.Second, "some wait for Redis", func() bool { return c.sum(manyRefresh)+c.of(manyWait) >= manyTogether/5 })
		m.redis.Start()
	})
	for _, tkt := range m.ledger.spent() { // none is good again; wantLedger looks at that
		if _, _, err := m.redeemAt(t.Context(), m.direct[0], tkt); err != nil {
			t.Error(err)
		}
	}
	if pressed := c.sum(manyPress + "400"); lasts && pressed > 0 {
		t.Errorf("a login was lost with a Redis that lost nothing: %s", &c.manyTally)
	}
}

func (m *manyWorld) configureRedis(option, value string) {
	m.redis.Do("CONFIG", "SET", option, value)
	m.redis.Do("CONFIG", "REWRITE")
}

// endSome logs n people in and out.
func (m *manyWorld) endSome(t *testing.T, n int) {
	t.Helper()
	c := m.crowd()
	for range n {
		p := c.person()
		if err := p.atShop(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.endLast(t)
	}
}

// endLast logs the last one out again.
func (m *manyWorld) endLast(t *testing.T) {
	t.Helper()
	m.ledger.mu.Lock()
	defer m.ledger.mu.Unlock()
	last := len(m.ledger.kept) - 1
	s := m.ledger.kept[last]
	m.ledger.kept, m.ledger.ended = m.ledger.kept[:last], append(m.ledger.ended, s)
	logout(t, m.direct[last%len(m.direct)], shopPage, s.token)
}

// wantEndedKnown waits until every gateway knows of all sessions that ended. Those that all knew of before stay ended
// all the while, but where lost is true: the first gateway was started anew with what Redis had left.
func (m *manyWorld) wantEndedKnown(t *testing.T, lost bool) {
	t.Helper()
	m.ledger.mu.Lock()
	defer m.ledger.mu.Unlock()
	for i, c := range m.direct {
		lives := func(s manySession) bool {
			resp, _ := get(t, c, shopPage, pageHeader(holding(s.token)))
			return resp.StatusCode != http.StatusFound
		}
		if (i > 0 || !lost) && slices.ContainsFunc(m.ledger.ended[:m.ledger.known], lives) {
			t.Errorf("gateway %d: a session that had ended lives again", i)
		}
		// Within 5 s; where Redis lost all and a gateway starts, the others write it back first: a look more.
		lifeUntil(t, 10*time.Second, fmt.Sprintf("ended sessions are known at gateway %d", i), func() bool {
			return !slices.ContainsFunc(m.ledger.ended, lives)
		})
	}
	m.ledger.known = len(m.ledger.ended)
}

// wantLedger checks what was answered against every gateway.
func (m *manyWorld) wantLedger(t *testing.T, lost bool) {
	t.Helper()
	m.wantEndedKnown(t, lost)
	m.ledger.mu.Lock()
	defer m.ledger.mu.Unlock()
	for i, c := range m.direct {
		for _, s := range m.ledger.kept {
			resp, body := get(t, c, shopPage, pageHeader(holding(s.token)))
			if resp.StatusCode != http.StatusOK || !strings.Contains(body, s.openID) {
				t.Fatalf("gateway %d: a session was lost: %d", i, resp.StatusCode)
			}
		}
	}
	for tkt, times := range m.ledger.redeemed {
		if times > 1 {
			t.Errorf("a ticket was redeemed %d times: %s", times, tkt)
		}
	}
	t.Logf("at all three gateways: %d sessions go on, %d stay ended; %d tickets of clients redeemed once", len(m.ledger.kept), len(m.ledger.ended), len(m.ledger.redeemed))
}

func (l *manyLedger) keep(s manySession) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = append(l.kept, s)
}

func (l *manyLedger) hold(tkt string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tickets = append(l.tickets, tkt)
}

func (l *manyLedger) held() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tickets
}

func (l *manyLedger) spent() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Keys(l.redeemed))
}

func (l *manyLedger) redeem(tkt string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.redeemed[tkt]++
}

// A client's login that comes back while Redis is away waits at a page that tries again by itself.
func TestRedisAwayForClients(t *testing.T) {
	redis := newRedis(t)
	w := redisWorld(t)
	w.env = append(w.env, "SHOP_SECRET="+shopSecret, "BLOG_SECRET="+blogSecret)
	w.start(w.onRedis(w.brokerWith(clientBlocks, ""), redis))
	b := w.browser(w.sim, wechattest.BrowserOptions{User: "lina"})
	redis.Kill()
	page := open(t, b, startV2("https://blog.example/x", "it's"))
	wantStatus(t, page, http.StatusBadGateway)
	redis.Start()
	page, err := b.Refresh(t.Context(), page)
	if err != nil {
		t.Fatal(err)
	}
	q := landed(t, page, "https://blog.example/x")
	if resp, user := w.redeem(t, q.Get("ticket"), "blog", blogSecret); resp.StatusCode != http.StatusOK || user["state"] != "it's" {
		t.Errorf("status %d, %v", resp.StatusCode, user)
	}
}
