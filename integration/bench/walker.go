package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// walker is a browser's connections during logins, one to each host.
type walker struct {
	gateway *gateway
	lanes   map[string]*lane
}

// step is one request of a login, and what must come of it.
type step struct {
	host, path, header string
	status             int
	secure             bool // over https
}

// lane is the walker's connection to a step's host. What is none of the gateway's is WeChat's.
func (w *walker) lane(s step) *lane {
	l := w.lanes[s.host]
	switch {
	case l != nil:
		return l
	case s.host == w.gateway.wechat:
		l = &lane{dial: func() (net.Conn, error) { return net.Dial("tcp", s.host) }}
	case s.secure:
		l = w.gateway.secureLane(s.host)
	default:
		l = w.gateway.lane(s.host)
	}
	w.lanes[s.host] = l
	return l
}

func (w *walker) do(s step) (answer, error) {
	a, err := w.lane(s).get(s.host, s.path, s.header)
	if err == nil && a.status != s.status {
		err = fmt.Errorf("%s%.40s: status %d, want %d", s.host, s.path, a.status, s.status)
	}
	return a, err
}

// follow is the step to where an answer leads.
func follow(a answer, cookies string, status int) (step, error) {
	u, err := url.Parse(a.location)
	if err != nil || u.Host == "" {
		return step{}, fmt.Errorf("an answer does not lead on, but to %.40q", a.location)
	}
	return step{u.Host, u.RequestURI(), withCookies(cookies), status, u.Scheme == "https"}, nil
}

func withCookies(cookies string) string {
	if cookies == "" {
		return browser
	}
	return browser + "Cookie: " + cookies + "\r\n"
}

// begin starts a login, has WeChat agree, and returns the callback that WeChat leads to.
func (w *walker) begin(start step, status int) (callback step, cookies string, err error) {
	a, err := w.do(start)
	if err != nil {
		return step{}, "", err
	}
	authorize, err := follow(a, "", http.StatusFound)
	if err != nil {
		return step{}, "", err
	}
	agreed, err := w.do(authorize)
	if err != nil {
		return step{}, "", err
	}
	callback, err = follow(agreed, a.cookies, status)
	return callback, a.cookies, err
}

// codeCallback is the last step but one of a login on the bound domain: the code becomes a session.
func (w *walker) codeCallback() (step, error) {
	callback, _, err := w.begin(pageOf(brokerHost), http.StatusSeeOther)
	return callback, err
}

// ticketCallback is that of a login across domains: the ticket becomes a session.
func (w *walker) ticketCallback() (step, error) {
	brokers, cookies, err := w.begin(pageOf(shopHost), http.StatusFound)
	if err != nil {
		return step{}, err
	}
	brokers.header = browser // the site's cookie stays with the site
	a, err := w.do(brokers)
	if err != nil {
		return step{}, err
	}
	return follow(a, cookies, http.StatusSeeOther)
}

// redeemable is the request with which a client redeems a ticket.
func (w *walker) redeemable() (step, error) {
	start := step{
		clientsHost, "/auth/" + clientsAppID + "?redirect_uri=" + url.QueryEscape("https://"+returnHost+"/back"), browser, http.StatusFound, true,
	}
	callback, _, err := w.begin(start, http.StatusFound)
	if err != nil {
		return step{}, err
	}
	a, err := w.do(callback)
	if err != nil {
		return step{}, err
	}
	back, err := url.Parse(a.location)
	if err != nil {
		return step{}, err
	}
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(clientID, clientSecret)
	return step{clientsHost, "/ticket/" + back.Query().Get("ticket"), "Authorization: " + r.Header.Get("Authorization") + "\r\n", http.StatusOK, true}, nil
}

func pageOf(host string) step {
	return step{host: host, path: memberPath, header: browser, status: http.StatusFound}
}

// login walks from the first request to the signed-in page.
func (w *walker) login(callback func(*walker) (step, error)) error {
	last, cookies, err := w.signIn(callback)
	if err != nil {
		return err
	}
	_, err = w.do(step{host: last.host, path: memberPath, header: withCookies(cookies), status: http.StatusOK})
	return err
}

// toCookie walks from the first request to the session's cookie.
func (w *walker) toCookie(callback func(*walker) (step, error)) error {
	_, _, err := w.signIn(callback)
	return err
}

func (w *walker) signIn(callback func(*walker) (step, error)) (last step, cookies string, err error) {
	if last, err = callback(w); err != nil {
		return step{}, "", err
	}
	a, err := w.do(last)
	return last, a.cookies, err
}

// plainly is what a login is compared with: so many redirects, so many behind a call to WeChat, and a page from the
// upstream.
func (w *walker) plainly(redirects, calls int) error {
	for host, n := range map[string]int{redirHost: redirects, callHost: calls} {
		for range n {
			if _, err := w.do(pageOf(host)); err != nil {
				return err
			}
		}
	}
	_, err := w.do(step{host: plainHost, path: memberPath, header: browser, status: http.StatusOK})
	return err
}

// walkLoad sends one walker on each connection.
type walkLoad struct {
	walkers []*walker
	walk    func(*walker) error // what is measured, or:

	stock func(*walker) (step, error) // what is done before, and returns the one request that is measured
	left  []step
	next  atomic.Int64
}

// stockRate bounds what is prepared, per second. Where it is used up, the turn is shorter.
const stockRate = 5000

func newWalkLoad(g *gateway) *walkLoad {
	l := new(walkLoad)
	for range connections {
		l.walkers = append(l.walkers, &walker{g, map[string]*lane{}})
	}
	return l
}

func (l *walkLoad) prepare(ctx context.Context, d time.Duration) error {
	if l.stock == nil {
		return nil
	}
	l.left = make([]step, max(connections, int(d.Seconds()*stockRate)))
	l.next.Store(0)
	failed := make([]error, len(l.walkers))
	var at atomic.Int64
	var wg sync.WaitGroup
	for i, w := range l.walkers {
		wg.Go(func() {
			for n := at.Add(1) - 1; int(n) < len(l.left) && failed[i] == nil && ctx.Err() == nil; n = at.Add(1) - 1 {
				l.left[n], failed[i] = l.stock(w)
			}
		})
	}
	wg.Wait()
	for _, err := range failed {
		if err != nil {
			return fmt.Errorf("preparing logins: %w", err)
		}
	}
	return ctx.Err()
}

func (l *walkLoad) start(ctx context.Context) (sending, error) {
	lanes := make([]func() error, len(l.walkers))
	for i, w := range l.walkers {
		lanes[i] = func() error {
			if l.stock == nil {
				return l.walk(w)
			}
			return l.spend(w)
		}
	}
	return drive(ctx, lanes), nil
}

func (l *walkLoad) spend(w *walker) error {
	n := int(l.next.Add(1) - 1)
	if n >= len(l.left) {
		return errNoMore
	}
	_, err := w.do(l.left[n])
	return err
}

func (l *walkLoad) close() {
	for _, w := range l.walkers {
		for _, lane := range w.lanes {
			lane.close()
		}
	}
}
