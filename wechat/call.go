package wechat

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// maxBody bounds an answer; WeChat's have at most a few kilobytes. A busy
	// gateway may read as many at once as it has connections.
	maxBody = 64 << 10
	// retryAfter is the shortest pause before asking again after errcode -1;
	// up to half of it is added, so that many clients do not return at once.
	retryAfter = 200 * time.Millisecond
)

// sharedClient serves all Clients without one of their own. Connections are
// not kept (see get), but TLS sessions are, which makes the next one cheap.
var sharedClient = &http.Client{Transport: &http.Transport{
	Proxy:                  http.ProxyFromEnvironment,
	DialContext:            (&net.Dialer{Timeout: 3 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
	TLSHandshakeTimeout:    3 * time.Second,
	TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(0)},
	DisableKeepAlives:      true,
	MaxConnsPerHost:        128, // a flood of junk codes waits here, not at WeChat
	MaxResponseHeaderBytes: 64 << 10,
	WriteBufferSize:        1 << 10, // each connection has its own, and asks once
	ReadBufferSize:         2 << 10,
}}

// call asks once, and once more if WeChat says that it is busy: by its own
// documentation -1 means "try again later". A network failure is not
// repeated, since a code may have been spent by it.
func (c *Client) call(ctx context.Context, path, query string) (object, error) {
	if c.AppID == "" || c.Secret == "" {
		return nil, ErrNotConfigured
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout())
	defer cancel()
	answer, err := c.ask(ctx, path, query)
	if errors.Is(err, ErrSystemBusy) && pause(ctx) {
		answer, err = c.ask(ctx, path, query)
	}
	return answer, err
}

func (c *Client) timeout() time.Duration {
	if c.Timeout <= 0 {
		return DefaultTimeout
	}
	return c.Timeout
}

// pause reports false if ctx ended first.
func pause(ctx context.Context) bool {
	timer := time.NewTimer(retryAfter + rand.N(retryAfter/2))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func (c *Client) ask(ctx context.Context, path, query string) (object, error) {
	body, err := c.get(ctx, path, query)
	if err != nil {
		return nil, err
	}
	answer, err := parse(body)
	if err != nil {
		return nil, malformed(path, err.Error())
	}
	return answer, apiError(path, answer)
}

func (c *Client) get(ctx context.Context, path, query string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base(c.APIURL, DefaultAPIURL)+path+"?"+query, nil)
	if err != nil {
		return nil, malformed(path, "the API address is not a URL")
	}
	// Each call has a connection of its own. On a kept one an answer that comes
	// twice would be the next user's, net/http logs in clear what comes behind
	// an answer, and a connection just closed fails the next login.
	req.Close = true
	// A caller's client may keep connections all the same: net/http repeats a
	// GET by itself when one breaks under it, and WeChat would then see a code
	// twice. A body that is not known to be empty stops that; nothing of it is
	// sent.
	req.Body = io.NopCloser(strings.NewReader(""))
	res, err := c.httpClient().Do(req)
	if err != nil {
		return nil, networkError(path, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, malformed(path, "HTTP status "+strconv.Itoa(res.StatusCode))
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	if err != nil {
		return nil, networkError(path, err)
	}
	if len(body) > maxBody {
		return nil, malformed(path, "the body is too large")
	}
	return body, nil
}

// httpClient follows no redirect, whoever made it: net/http would tell the
// next host our URL, secret included, in Referer.
func (c *Client) httpClient() *http.Client {
	client := *sharedClient
	if c.HTTPClient != nil {
		client = *c.HTTPClient
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client
}
