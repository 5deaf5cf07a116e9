package wechattest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Fetch is a script's fetch() on the page that was opened last: mode cors,
// credentials same-origin. Redirects are followed without their fragments
// being kept. Headers replace the browser's own.
func (b *Browser) Fetch(ctx context.Context, method, address string, body []byte, headers http.Header) (*Page, error) {
	b.mu.Lock()
	var from *url.URL
	if len(b.history) > 0 {
		from = b.history[len(b.history)-1]
	}
	b.mu.Unlock()
	u, err := resolve(from, address)
	if err != nil {
		return nil, fmt.Errorf("fetching: %w", err)
	}
	if from == nil {
		from = u // a script of the address's own page
	}
	f := &fetch{navigation{method: method, url: u, body: string(body), from: from}, headers}
	return b.fetch(ctx, f)
}

type fetch struct {
	navigation
	headers http.Header
}

func (b *Browser) fetch(ctx context.Context, f *fetch) (*Page, error) {
	for {
		f.chain = append(f.chain, f.url)
		res, err := b.loadFetch(ctx, f)
		if err != nil {
			return nil, err
		}
		next, err := f.step(res)
		if err != nil || next == nil {
			f.page.URL, f.page.Status, f.page.Header, f.page.Body = f.url, res.status, res.header, res.body
			return &f.page, err
		}
		f.url = next
	}
}

func (b *Browser) loadFetch(ctx context.Context, f *fetch) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, f.method, withoutFragment(f.url), strings.NewReader(f.body))
	if err != nil {
		return nil, err
	}
	b.headers(req.Header, f.url)
	req.Header.Set("Accept", "*/*")
	site := fetchSite(f.from, f.chain)
	if f.method != http.MethodGet && f.method != http.MethodHead || site != "same-origin" {
		req.Header.Set("Origin", serialize(f.from))
	}
	if referer := referer(f.from, f.url, ""); referer != "" {
		req.Header.Set("Referer", referer)
	}
	if b.SecFetch && secure(f.url) {
		req.Header.Set("Sec-Fetch-Site", site)
		req.Header.Set("Sec-Fetch-Mode", "cors")
		req.Header.Set("Sec-Fetch-Dest", "empty")
	}
	for name, values := range f.headers {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	if site != "same-origin" {
		return b.sendAnonymous(req)
	}
	return b.send(req, request{sameSite: true})
}

func (b *Browser) sendAnonymous(req *http.Request) (*answer, error) {
	res, err := b.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxPage))
	return &answer{res.StatusCode, res.Header, body}, err
}
