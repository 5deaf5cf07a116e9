package wechattest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

const (
	maxRedirects = 20
	maxPage      = 8 << 20
)

// navigation is a top-level load on its way through redirects.
type navigation struct {
	method string
	url    *url.URL
	body   string   // of a form
	from   *url.URL // the page that began it; nil if none did
	policy string   // Referrer-Policy of that page, or of a redirect since
	chain  []*url.URL
	twin   chan *Hop // delivers the other callback's answer; nil if there is none
	page   Page
}

func (b *Browser) navigate(ctx context.Context, n *navigation) (*Page, error) {
	defer n.awaitTwin()
	for {
		n.chain = append(n.chain, n.url)
		res, err := b.load(ctx, n)
		if err != nil {
			return nil, err
		}
		next, err := n.step(res)
		if err != nil || next == nil {
			return b.arrive(n, res, err)
		}
		if b.isCallback(n.url, next) && n.twin == nil {
			if next, err = b.double(ctx, n, next); err != nil {
				return nil, err
			}
		}
		n.url = next
	}
}

// load fetches the navigation's present address, and stores the cookies.
func (b *Browser) load(ctx context.Context, n *navigation) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, n.method, withoutFragment(n.url), strings.NewReader(n.body))
	if err != nil {
		return nil, err
	}
	b.headers(req.Header, n.url)
	h := req.Header
	h.Set("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8")
	h.Set("Upgrade-Insecure-Requests", "1")
	if n.method == http.MethodPost {
		h.Set("Content-Type", "application/x-www-form-urlencoded")
		h.Set("Origin", "null")
		if n.from != nil && n.policy != "no-referrer" {
			h.Set("Origin", serialize(n.from))
		}
	}
	if referer := referer(n.from, n.url, n.policy); referer != "" {
		h.Set("Referer", referer)
	}
	if b.SecFetch && secure(n.url) {
		h.Set("Sec-Fetch-Site", fetchSite(n.from, n.chain))
		h.Set("Sec-Fetch-Mode", "navigate")
		h.Set("Sec-Fetch-User", "?1")
		h.Set("Sec-Fetch-Dest", "document")
	}
	return b.send(req, request{sameSite: n.sameSite(), topGet: n.method == http.MethodGet})
}

// answer is a response that has been read.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (b *Browser) send(req *http.Request, r request) (*answer, error) {
	jar := b.jar()
	if !b.NoCookies {
		for _, c := range jar.match(req.URL, r) {
			req.AddCookie(&http.Cookie{Name: c.Name, Value: c.Value, Quoted: c.Quoted})
		}
	}
	res, err := b.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if !b.NoCookies {
		for _, c := range res.Cookies() {
			jar.set(req.URL, c)
		}
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxPage))
	return &answer{res.StatusCode, res.Header, body}, err
}

// headers are those of every request. Android's WebView names the app in
// X-Requested-With, on navigations too: it does not mean XMLHttpRequest.
func (b *Browser) headers(h http.Header, to *url.URL) {
	h.Set("User-Agent", b.UserAgent)
	h.Set("Accept-Language", b.AcceptLanguage)
	if strings.Contains(b.UserAgent, "Android") && strings.Contains(b.UserAgent, "MicroMessenger") {
		h.Set("X-Requested-With", "com.tencent.mm")
	}
	if b.isSimulator(to) {
		told := url.Values{}
		if b.User != "" {
			told.Set("user", b.User)
		}
		if b.Snapshot {
			told.Set("snapshot", "1")
		}
		if len(told) > 0 {
			h.Set(visitorHeader, told.Encode())
		}
	}
}

// step returns the next address of a redirect, nil if this was the end.
func (n *navigation) step(res *answer) (*url.URL, error) {
	location := res.header.Get("Location")
	switch res.status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther:
	case http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return nil, nil
	}
	if location == "" {
		return nil, nil
	}
	next, err := resolve(n.url, location)
	if err != nil {
		return nil, fmt.Errorf("redirected by %s: %w", n.url.Host, err)
	}
	if len(n.page.Redirects) == maxRedirects {
		return nil, ErrTooManyRedirects
	}
	if next.Fragment == "" && !strings.Contains(location, "#") {
		next.Fragment, next.RawFragment = n.url.Fragment, n.url.RawFragment
	}
	n.page.Redirects = append(n.page.Redirects, Hop{n.url, res.status, location, res.header})
	if policy := res.header.Get("Referrer-Policy"); policy != "" {
		n.policy = policy
	}
	if res.status != http.StatusTemporaryRedirect && res.status != http.StatusPermanentRedirect {
		n.method, n.body = http.MethodGet, ""
	}
	return next, nil
}

// arrive makes the page, and an entry in the history.
func (b *Browser) arrive(n *navigation, res *answer, err error) (*Page, error) {
	n.page.URL, n.page.Status, n.page.Header, n.page.Body = n.url, res.status, res.header, res.body
	b.mu.Lock()
	b.history = append(b.history, n.url)
	b.mu.Unlock()
	return &n.page, err
}

// sameSite is strict, as WebKit and RFC 6265bis are and Chromium plans to be:
// one redirect by another site suffices for SameSite=Strict to stay away.
func (n *navigation) sameSite() bool {
	here := site(n.url)
	for _, u := range n.chain {
		if site(u) != here {
			return false
		}
	}
	return n.from == nil || site(n.from) == here
}

// fetchSite is Sec-Fetch-Site (W3C Fetch Metadata): "none" if no page began
// it, else the farthest that any address of the chain is from that page.
func fetchSite(from *url.URL, chain []*url.URL) string {
	if from == nil {
		return "none"
	}
	value := "same-origin"
	for _, u := range chain {
		switch {
		case site(u) != site(from):
			return "cross-site"
		case origin(u) != origin(from):
			value = "same-site"
		}
	}
	return value
}

// referer follows the policies a gateway may set; the default is
// strict-origin-when-cross-origin.
func referer(from, to *url.URL, policy string) string {
	downgrade := from != nil && from.Scheme == "https" && to.Scheme != "https"
	switch {
	case from == nil, policy == "no-referrer", downgrade && policy != "unsafe-url":
		return ""
	case policy == "origin", policy == "strict-origin":
		return serialize(from) + "/"
	case origin(from) == origin(to), policy == "unsafe-url", policy == "no-referrer-when-downgrade":
		return withoutFragment(from)
	case policy == "same-origin":
		return ""
	}
	return serialize(from) + "/"
}

func serialize(u *url.URL) string { return u.Scheme + "://" + u.Host }

func withoutFragment(u *url.URL) string {
	bare := *u
	bare.Fragment, bare.RawFragment, bare.User = "", "", nil
	return bare.String()
}
