package wechat

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	dialTimeout      = 3 * time.Second
	handshakeTimeout = 3 * time.Second
	maxConns         = 128      // at once to a host: a flood of junk codes waits here, not at WeChat
	maxHead          = 64 << 10 // bytes of an answer's header
	maxInterim       = 5        // answers of 1xx before the answer
)

// conns sends each request on a connection of its own, which ends with the answer: on a kept one an answer that
// comes twice would be the next user's, and a connection just closed fails the next login. TLS sessions are kept,
// which makes the next one cheap.
//
// What goes over the wire is net/http's. Its Transport, which is made to keep connections, takes two goroutines and
// half as much CPU again for a call; it does those that go through a proxy.
type conns struct {
	dialer  net.Dialer
	tls     *tls.Config
	proxied *http.Transport
	places  sync.Map // of each host: chan struct{}
}

func newConns() *conns {
	c := &conns{
		dialer: net.Dialer{Timeout: dialTimeout, KeepAlive: -1}, // a call ends before a probe would be sent
		tls:    &tls.Config{MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(0)},
	}
	c.proxied = &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            c.dialer.DialContext,
		TLSHandshakeTimeout:    handshakeTimeout,
		TLSClientConfig:        c.tls,
		DisableKeepAlives:      true,
		MaxConnsPerHost:        maxConns,
		MaxResponseHeaderBytes: maxHead,
	}
	return c
}

// RoundTrip is that of http.RoundTripper. It sends no body. The context ends the call at any time.
func (c *conns) RoundTrip(req *http.Request) (*http.Response, error) {
	if proxy, err := http.ProxyFromEnvironment(req); proxy != nil || err != nil {
		return c.proxied.RoundTrip(req)
	}
	if req.URL.Scheme != "http" && req.URL.Scheme != "https" {
		return nil, errors.New("neither http nor https")
	}
	ctx := req.Context()
	leave, err := c.enter(ctx, req.URL.Host)
	if err != nil {
		return nil, err
	}
	call := &call{leave: leave}
	if call.Conn, err = c.dial(ctx, req); err != nil {
		leave()
		return nil, err
	}
	call.stop = context.AfterFunc(ctx, func() { _ = call.SetDeadline(time.Unix(1, 0)) }) // long ago: reads and writes end
	res, err := call.ask(req)
	if err != nil {
		_ = call.Close()
		return nil, errors.Join(ctx.Err(), err)
	}
	return res, nil
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

func (c *conns) dial(ctx context.Context, req *http.Request) (net.Conn, error) {
	host, port, secure := req.URL.Hostname(), req.URL.Port(), req.URL.Scheme == "https"
	if port == "" {
		port = map[bool]string{true: "443", false: "80"}[secure]
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
	body  io.ReadCloser
}

func (c *call) ask(req *http.Request) (*http.Response, error) {
	sent := *req // a RoundTripper must not change a request
	sent.Body, sent.Close = nil, true
	const writeSize, readSize = 1 << 10, 2 << 10 // what most calls need; net/http would take 4 KB each
	w := bufio.NewWriterSize(c.Conn, writeSize)
	if err := errors.Join(sent.Write(w), w.Flush()); err != nil {
		return nil, err
	}
	r := bufio.NewReaderSize(io.LimitReader(c.Conn, maxHead+maxBody), readSize)
	for range maxInterim {
		res, err := http.ReadResponse(r, &sent)
		if err != nil {
			return nil, err
		}
		if res.StatusCode >= http.StatusOK || res.StatusCode == http.StatusSwitchingProtocols {
			return res, c.take(res)
		}
	}
	return nil, errors.New("too many interim answers")
}

// take makes the call the answer's body. Who does not say what encodings it takes may get any: gzip is all that
// servers use unasked.
func (c *call) take(res *http.Response) (err error) {
	c.body, res.Body = res.Body, c
	if strings.EqualFold(res.Header.Get("Content-Encoding"), "gzip") {
		c.body, err = gzip.NewReader(c.body)
	}
	return err
}

// Read reads the answer's body.
func (c *call) Read(p []byte) (int, error) { return c.body.Read(p) }

// Close ends the call.
func (c *call) Close() error {
	c.stop()
	defer c.leave()
	return c.Conn.Close()
}
