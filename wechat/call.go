package wechat

import (
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"math/rand/v2"
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

// shared serves all Clients without an HTTPClient of their own.
var shared = newConns()

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
	res, err := c.send(req)
	if err != nil {
		return nil, networkError(path, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, malformed(path, "HTTP status "+strconv.Itoa(res.StatusCode))
	}
	body, err := readBody(res)
	if err != nil {
		return nil, networkError(path, cmp.Or(ctx.Err(), err))
	}
	if len(body) > maxBody {
		return nil, malformed(path, "the body is too large")
	}
	return body, nil
}

// readBody reads one byte more than may be. Who does not say what encodings
// it takes may get any: gzip is all that servers use unasked.
func readBody(res *http.Response) ([]byte, error) {
	var body io.Reader = res.Body
	if strings.EqualFold(res.Header.Get("Content-Encoding"), "gzip") {
		unzipped, err := gzip.NewReader(body)
		if err != nil {
			return nil, err
		}
		body = unzipped
	}
	return io.ReadAll(io.LimitReader(body, maxBody+1))
}

// send follows no redirect, whoever made the client: net/http would tell the next host our URL, secret included, in
// Referer.
func (c *Client) send(req *http.Request) (*http.Response, error) {
	// Each call has a connection of its own, where the caller's client lets it:
	// net/http logs in clear what comes behind an answer on a kept one.
	req.Close = true
	if c.HTTPClient == nil {
		return shared.do(req)
	}
	// It may keep connections all the same: net/http repeats a GET by itself
	// when one breaks under it, and WeChat would then see a code twice. A body
	// that is not known to be empty stops that; nothing of it is sent.
	req.Body = io.NopCloser(strings.NewReader(""))
	client := *c.HTTPClient
	client.CheckRedirect = noRedirect
	return client.Do(req)
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
