package integration

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// lifePhone is somebody's phone with the cookies of one site. Each of its requests goes through one of its
// doors, as through a balancer without memory. It returns errors instead of ending the test, because the
// phones run beside what the test does.
type lifePhone struct {
	user   string
	openID string
	page   string
	doors  []*http.Client
	door   *http.Client      // of the last request
	jar    map[string]string // the site's cookies
	rnd    *rand.Rand
}

// lifePeople are the simulator's people, so that each phone has somebody of its own.
var lifePeople = []string{"zhangwei", "lina", "wangfang", "noavatar", "odd"}

func (w *world) lifePhone(i int, page string, doors ...*http.Client) *lifePhone {
	user := lifePeople[i%len(lifePeople)]
	return &lifePhone{
		user: user, openID: w.sim.OpenID(appID, user), page: page, doors: doors,
		jar: map[string]string{}, rnd: rand.New(rand.NewPCG(lifeSeed(), uint64(i))),
	}
}

// lifeSeed is of all random choices of the package's life tests; LIFE_SEED repeats a run.
var lifeSeed = sync.OnceValue(func() uint64 {
	if n, err := strconv.ParseUint(os.Getenv("LIFE_SEED"), 10, 64); err == nil {
		return n
	}
	return rand.Uint64()
})

func lifeTellSeed(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("repeat with LIFE_SEED=%d", lifeSeed())
		}
	})
}

// again repeats a request whose connection was reset: on a reload Caddy closes the old listener, with
// whoever waits in its queue.
type again struct{ next http.RoundTripper }

func (a again) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	for range 5 {
		if resp, err = a.next.RoundTrip(r); err == nil {
			return resp, nil
		}
		if r.GetBody != nil {
			r.Body, _ = r.GetBody()
		}
	}
	return nil, err
}

func lifeAgain(c *http.Client) *http.Client {
	c.Transport = again{c.Transport}
	return c
}

// ask sends one request through one door and keeps its site's cookies.
func (p *lifePhone) ask(method, address string, extra http.Header) (*http.Response, string, error) {
	req, err := http.NewRequest(method, address, nil)
	if err != nil {
		return nil, "", err
	}
	req.Header = pageHeader(nil)
	for k, v := range extra {
		req.Header[k] = v
	}
	mine := strings.HasPrefix(address, p.origin()+"/")
	if mine {
		for name, value := range p.jar {
			req.Header.Add("Cookie", name+"="+value)
		}
	}
	if req.URL.Hostname() == "127.0.0.1" {
		req.Header.Set("X-Wechattest-Visitor", url.Values{"user": {p.user}}.Encode())
	}
	if !strings.Contains(address, "ticket=") { // a store in memory knows its own tickets alone
		p.door = p.doors[p.rnd.IntN(len(p.doors))]
	}
	resp, err := p.door.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if mine {
		p.take(resp)
	}
	return resp, string(body), err
}

func (p *lifePhone) take(resp *http.Response) {
	for _, c := range resp.Cookies() {
		if c.MaxAge < 0 {
			delete(p.jar, c.Name)
		} else {
			p.jar[c.Name] = c.Value
		}
	}
}

func (p *lifePhone) origin() string {
	u, _ := url.Parse(p.page)
	return "https://" + u.Host
}

func (p *lifePhone) token() string { return p.jar["__Host-wechat_session"] }

// open opens the address and follows its redirects.
func (p *lifePhone) open(address string) (resp *http.Response, body string, err error) {
	for range 8 {
		if resp, body, err = p.ask(http.MethodGet, address, nil); err != nil {
			return nil, "", err
		}
		if resp.StatusCode/100 != 3 {
			return resp, body, nil
		}
		to, err := resp.Request.URL.Parse(strings.Split(resp.Header.Get("Location"), "#")[0])
		if err != nil {
			return nil, "", err
		}
		address = to.String()
	}
	return nil, "", errors.New("too many redirects")
}

// login forgets the phone's cookies and opens the page until it is signed in as itself.
func (p *lifePhone) login() error {
	p.jar = map[string]string{}
	resp, body, err := p.open(p.page)
	if err != nil {
		return fmt.Errorf("a login was lost: %w", err)
	}
	if err := p.isMe(resp, body); err != nil {
		return fmt.Errorf("a login was lost: %w", err)
	}
	return nil
}

// stays makes one request, which must be answered to the phone's own user without a login.
func (p *lifePhone) stays() error {
	resp, body, err := p.ask(http.MethodGet, p.page, nil)
	if err != nil {
		return fmt.Errorf("a session was lost: %w", err)
	}
	if err := p.isMe(resp, body); err != nil {
		return fmt.Errorf("a session was lost: %w", err)
	}
	return nil
}

// isMe says what is wrong with a page that must have been answered to the phone's own user.
func (p *lifePhone) isMe(resp *http.Response, body string) error {
	said := `"X-Wechat-Openid":["` + p.openID + `"]`
	if resp.StatusCode != http.StatusOK || !strings.Contains(body, said) {
		return fmt.Errorf("%s got %d from %s, location %q\n%.700s", p.user, resp.StatusCode, resp.Request.URL, resp.Header.Get("Location"), body)
	}
	return nil
}

// logout returns the status that the logout answered, after it took the cookie back.
func (p *lifePhone) logout() (int, error) {
	h := http.Header{"Origin": {p.origin()}, "Sec-Fetch-Site": {"same-origin"}}
	resp, _, err := p.ask(http.MethodPost, p.origin()+"/_wechat/logout", h)
	if err != nil {
		return 0, err
	}
	if p.token() != "" {
		return resp.StatusCode, errors.New("the logout did not clear the cookie")
	}
	return resp.StatusCode, nil
}

// lifeCrew runs jobs, each over and over, until it is stopped or one fails.
type lifeCrew struct {
	t     *testing.T
	stop  chan struct{}
	once  sync.Once
	wg    sync.WaitGroup
	pause sync.RWMutex // read-held while a job runs once
	mu    sync.Mutex
	done  map[string]int // by what the job is; guarded by mu
}

func newLifeCrew(t *testing.T) *lifeCrew {
	t.Helper()
	c := &lifeCrew{t: t, stop: make(chan struct{}), done: map[string]int{}}
	t.Cleanup(c.end)
	return c
}

// run repeats job beside the test. name is what it counts as.
func (c *lifeCrew) run(name string, job func() error) {
	c.mu.Lock()
	c.done[name] = 0
	c.mu.Unlock()
	c.wg.Go(func() {
		for {
			select {
			case <-c.stop:
				return
			default:
			}
			c.pause.RLock()
			err := job()
			c.pause.RUnlock()
			if err != nil && c.t.Failed() {
				return // the test takes its connections away
			}
			if err != nil {
				c.t.Errorf("%s, after %d good ones: %v", name, c.count(name), err)
				return
			}
			c.mu.Lock()
			c.done[name]++
			c.mu.Unlock()
			time.Sleep(5 * time.Millisecond) // leaves the processor to what is tested
		}
	})
}

func (c *lifeCrew) count(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done[name]
}

// await waits until every job was done n times more: the load must be there before it is disturbed.
func (c *lifeCrew) await(n int) {
	c.t.Helper()
	c.mu.Lock()
	want := map[string]int{}
	for name, done := range c.done {
		want[name] = done + n
	}
	c.mu.Unlock()
	for name, n := range want {
		lifeUntil(c.t, 60*time.Second, name+" goes on", func() bool { return c.t.Failed() || c.count(name) >= n })
	}
	if c.t.Failed() {
		c.t.FailNow()
	}
}

// end stops the jobs and waits for them.
func (c *lifeCrew) end() {
	c.once.Do(func() { close(c.stop) })
	c.wg.Wait()
}

// lifeUntil waits for a condition.
func lifeUntil(t *testing.T, patience time.Duration, what string, yes func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !yes(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
