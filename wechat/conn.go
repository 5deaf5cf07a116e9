package wechat

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode"
)

const (
	dialTimeout      = 3 * time.Second
	handshakeTimeout = 3 * time.Second
	maxConns         = 128      // at once to a host: a flood of junk codes waits here, not at WeChat
	maxHead          = 64 << 10 // bytes of an answer's header, and of the answers of 1xx before it
)

// conns sends each request on a connection of its own, which ends with the answer: on a kept one an answer that
// comes twice would be the next user's, and a connection just closed fails the next login. TLS sessions are kept,
// which makes the next one cheap.
//
// What goes over the wire is net/http's. Its Transport, which is made to keep connections, takes two goroutines and
// half as much CPU again for a call; it does those that take more than a connection: a proxy's, and odd addresses'.
type conns struct {
	dialer net.Dialer
	tls    *tls.Config
	odd    http.Client
	places sync.Map // of each host: chan struct{}
}

func newConns() *conns {
	c := &conns{
		dialer: net.Dialer{Timeout: dialTimeout, KeepAlive: -1}, // a call ends before a probe would be sent
		tls:    &tls.Config{MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(0)},
	}
	c.odd = http.Client{CheckRedirect: noRedirect, Transport: &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            c.dialer.DialContext,
		TLSHandshakeTimeout:    handshakeTimeout,
		TLSClientConfig:        c.tls,
		DisableKeepAlives:      true,
		MaxConnsPerHost:        maxConns,
		MaxResponseHeaderBytes: maxHead,
	}}
	return c
}

// do sends req, which has no body and closes its connection. The context ends the call at any time. The answer's
// body is closed once.
func (c *conns) do(req *http.Request) (*http.Response, error) {
	if proxy, err := http.ProxyFromEnvironment(req); proxy != nil || err != nil || !plain(req.URL) {
		return c.odd.Do(req)
	}
	ctx := req.Context()
	leave, err := c.enter(ctx, req.URL.Host)
	if err != nil {
		return nil, err
	}
	conn, err := c.dial(ctx, req.URL)
	if err != nil {
		leave()
		return nil, err
	}
	call := &call{Conn: conn, leave: leave}
	call.stop = context.AfterFunc(ctx, func() { _ = call.SetDeadline(time.Unix(1, 0)) }) // long ago: reads and writes end
	res, err := call.ask(req)
	if err != nil {
		_ = call.Close()
		return nil, cmp.Or(ctx.Err(), err)
	}
	return res, nil
}

// plain reports whether u names a host in ASCII, and no user: the others are net/http's to translate, or to refuse.
func plain(u *url.URL) bool {
	other := func(r rune) bool { return r > unicode.MaxASCII }
	return (u.Scheme == "http" || u.Scheme == "https") && u.User == nil && u.Hostname() != "" && !strings.ContainsFunc(u.Host, other)
}

// enter waits for a place among the connections to host.
func (c *conns) enter(ctx context.Context, host string) (leave func(), err error) {
	list, ok := c.places.Load(host)
	if !ok {
		list, _ = c.places.LoadOrStore(host, make(chan struct{}, maxConns))
	}
	places := list.(chan struct{})
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c *conns) dial(ctx context.Context, u *url.URL) (net.Conn, error) {
	host, port, secure := u.Hostname(), u.Port(), u.Scheme == "https"
	switch {
	case port != "":
	case secure:
		port = "443"
	default:
		port = "80"
	}
	conn, err := c.dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil || !secure {
		return conn, err
	}
	config := c.tls.Clone()
	config.ServerName = host
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secured, nil
}

// call is a connection during its one request, and the body of the answer.
type call struct {
	net.Conn
	stop  func() bool // watching the context
	leave func()      // the place
	body  io.Reader
}

func (c *call) ask(req *http.Request) (*http.Response, error) {
	const writeSize, readSize = 1 << 10, 2 << 10 // what most calls need; net/http would take 4 KB each
	w := bufio.NewWriterSize(c.Conn, writeSize)
	if err := errors.Join(req.Write(w), w.Flush()); err != nil {
		return nil, err
	}
	limited := &io.LimitedReader{R: c.Conn, N: maxHead}
	r := bufio.NewReaderSize(limited, readSize)
	for {
		res, err := http.ReadResponse(r, req)
		switch {
		case err != nil && limited.N <= 0:
			return nil, errors.New("the header is too large") // and not that the other side closed early
		case err != nil:
			return nil, err
		case res.StatusCode/100 != 1 || res.StatusCode == http.StatusSwitchingProtocols:
			limited.N += maxBody
			c.body, res.Body = res.Body, c
			return res, nil
		}
	}
}

// Read reads the answer's body.
func (c *call) Read(p []byte) (int, error) { return c.body.Read(p) }

// Close ends the call. If its context has ended, no goodbye is said: TLS would try for 5 s more if the other side
// does not read.
func (c *call) Close() error {
	defer c.leave()
	secured, ok := c.Conn.(*tls.Conn)
	if ended := !c.stop(); ended && ok {
		return secured.NetConn().Close()
	}
	return c.Conn.Close()
}
