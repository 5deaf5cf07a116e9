package wechattest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// UserAgentAndroid is WeChat 8.0.50 on Android 14.
const UserAgentAndroid = "Mozilla/5.0 (Linux; Android 14; V2270A Build/UP1A.231005.007; wv) AppleWebKit/537.36 " +
	"(KHTML, like Gecko) Version/4.0 Chrome/126.0.6478.188 Mobile Safari/537.36 XWEB/1260097 MMWEBSDK/20240501 " +
	"MMWEBID/2553 MicroMessenger/8.0.50.2701(0x28003257) WeChat/arm64 Weixin NetType/WIFI Language/zh_CN ABI/arm64"

// UserAgentIOS is WeChat 8.0.22 on iOS 15.
const UserAgentIOS = "Mozilla/5.0 (iPhone; CPU iPhone OS 15_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) " +
	"Mobile/15E148 MicroMessenger/8.0.22(0x18001626) NetType/WIFI Language/zh_CN"

// UserAgentOutside is Chrome on Android, outside WeChat.
const UserAgentOutside = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) " +
	"Chrome/126.0.0.0 Mobile Safari/537.36"

var (
	// ErrSnapshotIgnoresClicks: nothing of a page can be tapped in a snapshot.
	ErrSnapshotIgnoresClicks = errors.New("a snapshot page ignores clicks")
	// ErrTooManyRedirects comes with the page at which the browser gave up.
	ErrTooManyRedirects = errors.New("too many redirects")
	// ErrNoLink: no link with that text.
	ErrNoLink = errors.New("the page has no such link")
	// ErrNoRefresh: the page stays where it is.
	ErrNoRefresh = errors.New("the page leads nowhere by itself")
)

// DoubleMode is how often a callback arrives.
type DoubleMode int

const (
	// None sends each callback once.
	None DoubleMode = iota
	// SameCode sends it twice 19 ms apart, with one code; the first request
	// is aborted.
	SameCode
	// TwoCodes authorizes twice, so that two callbacks with two codes and one
	// state run at once; the page is the second's.
	TwoCodes
)

// BrowserOptions are a Browser's settings. The zero value is an ordinary
// phone.
type BrowserOptions struct {
	// RootCAs are trusted for https. Default: the system's.
	RootCAs *x509.CertPool
	// Dial connects, so that every host can be mapped to the loopback.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Watch wraps the browser's transport, so that a test sees every answer.
	// Default: nobody watches.
	Watch func(http.RoundTripper) http.RoundTripper
	// UserAgent: default UserAgentAndroid.
	UserAgent string
	// AcceptLanguage: default "zh-CN,zh;q=0.9,en-US;q=0.8,en;q=0.7".
	AcceptLanguage string
	// Simulators are the hosts, with or without a port, at which the Server
	// is. They alone are told User and Snapshot. Default: open.weixin.qq.com.
	Simulators []string
	// User is the ID of whoever holds this phone. Default: as Knobs say.
	User string
	// Snapshot opens pages as snapshots (快照页).
	Snapshot bool
	// Double sends callbacks twice.
	Double DoubleMode
	// NoCookies keeps and sends no cookies.
	NoCookies bool
}

// Browser is the browser inside WeChat. It may be used by several goroutines,
// each being a tab, as long as the fields do not change meanwhile.
type Browser struct {
	UserAgent      string
	AcceptLanguage string
	// SecFetch sends Sec-Fetch-* as Chromium does; WebKit has none before iOS
	// 16.4.
	SecFetch bool
	// User, Snapshot, Double and NoCookies are as in BrowserOptions.
	User      string
	Snapshot  bool
	Double    DoubleMode
	NoCookies bool

	simulators []string
	client     *http.Client
	real       *jar
	snapshot   *jar // a snapshot shares nothing with the ordinary pages

	mu      sync.Mutex // guards history
	history []*url.URL
}

// NewBrowser makes a phone that has been nowhere yet.
func NewBrowser(opts BrowserOptions) *Browser {
	dial := opts.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	b := &Browser{
		UserAgent: opts.UserAgent, AcceptLanguage: opts.AcceptLanguage, SecFetch: true,
		User: opts.User, Snapshot: opts.Snapshot, Double: opts.Double, NoCookies: opts.NoCookies,
		simulators: opts.Simulators, real: &jar{}, snapshot: &jar{},
	}
	if b.UserAgent == "" {
		b.UserAgent = UserAgentAndroid
	}
	if b.AcceptLanguage == "" {
		b.AcceptLanguage = "zh-CN,zh;q=0.9,en-US;q=0.8,en;q=0.7"
	}
	if b.simulators == nil {
		b.simulators = []string{"open.weixin.qq.com"}
	}
	var transport http.RoundTripper = &http.Transport{
		DialContext: dial, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: opts.RootCAs},
	}
	if opts.Watch != nil {
		transport = opts.Watch(transport)
	}
	b.client = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return b
}

// Close closes idle connections.
func (b *Browser) Close() { b.client.CloseIdleConnections() }

// Open goes to an address as a tap on a message in a chat does: no page
// began it, so that cookies of any SameSite go along.
func (b *Browser) Open(ctx context.Context, address string) (*Page, error) {
	u, err := resolve(nil, address)
	if err != nil {
		return nil, fmt.Errorf("opening: %w", err)
	}
	return b.navigate(ctx, &navigation{method: http.MethodGet, url: u})
}

// Click follows the first link of p whose text contains text.
func (b *Browser) Click(ctx context.Context, p *Page, text string) (*Page, error) {
	if b.Snapshot {
		return nil, ErrSnapshotIgnoresClicks
	}
	for _, link := range p.Links() {
		if strings.Contains(link.Text, text) {
			return b.follow(ctx, p, &navigation{method: http.MethodGet}, link.Href)
		}
	}
	return nil, fmt.Errorf("%w: %q", ErrNoLink, text)
}

// Refresh waits as long as p's Refresh header says and goes where it leads, as a
// browser does with a page that nobody touches.
func (b *Browser) Refresh(ctx context.Context, p *Page) (*Page, error) {
	address, after := p.Refresh()
	if address == "" {
		return nil, ErrNoRefresh
	}
	select {
	case <-time.After(after):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return b.follow(ctx, p, &navigation{method: http.MethodGet}, address)
}

// PostForm sends a form of page p as a navigation.
func (b *Browser) PostForm(ctx context.Context, p *Page, address string, values url.Values) (*Page, error) {
	if b.Snapshot {
		return nil, ErrSnapshotIgnoresClicks
	}
	return b.follow(ctx, p, &navigation{method: http.MethodPost, body: values.Encode()}, address)
}

func (b *Browser) follow(ctx context.Context, p *Page, n *navigation, address string) (*Page, error) {
	var err error
	if n.url, err = resolve(p.URL, address); err != nil {
		return nil, fmt.Errorf("following: %w", err)
	}
	n.from, n.policy = p.URL, p.Header.Get("Referrer-Policy")
	return b.navigate(ctx, n)
}

// Back goes to the address before the current one, and asks for it again: the
// browser inside WeChat keeps no pages.
func (b *Browser) Back(ctx context.Context) (*Page, error) {
	b.mu.Lock()
	if len(b.history) < 2 {
		b.mu.Unlock()
		return nil, errors.New("there is no page before this one")
	}
	target := b.history[len(b.history)-2]
	b.history = b.history[:len(b.history)-2]
	b.mu.Unlock()
	return b.navigate(ctx, &navigation{method: http.MethodGet, url: target})
}

// LeaveSnapshot is WeChat's own button "使用完整服务": the snapshot's cookies
// are dropped, and the last page is entered again as an ordinary one.
func (b *Browser) LeaveSnapshot(ctx context.Context) (*Page, error) {
	b.mu.Lock()
	if len(b.history) == 0 {
		b.mu.Unlock()
		return nil, errors.New("there is no page yet")
	}
	target := b.history[len(b.history)-1]
	b.history = b.history[:len(b.history)-1]
	b.mu.Unlock()
	b.snapshot.clear(nil)
	b.Snapshot = false
	return b.navigate(ctx, &navigation{method: http.MethodGet, url: target})
}

// Cookies are those that a navigation from the same site would send.
func (b *Browser) Cookies(address string) []*http.Cookie {
	u, err := resolve(nil, address)
	if err != nil {
		return nil
	}
	return b.jar().match(u, request{sameSite: true, topGet: true})
}

// SetCookie sets a cookie as an answer of address would, and reports whether
// the browser took it.
func (b *Browser) SetCookie(address string, c *http.Cookie) bool {
	u, err := resolve(nil, address)
	return err == nil && b.jar().set(u, c)
}

// ClearCookies forgets the cookies that are sent to these hosts, or all.
func (b *Browser) ClearCookies(hosts ...string) { b.jar().clear(hosts) }

func (b *Browser) jar() *jar {
	if b.Snapshot {
		return b.snapshot
	}
	return b.real
}

func (b *Browser) isSimulator(u *url.URL) bool {
	return slices.Contains(b.simulators, u.Host) || slices.Contains(b.simulators, u.Hostname())
}
