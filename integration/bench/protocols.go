package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// httpLoad is traffic that Go's client sends over TLS. It costs more than the gateway does, so that requests per
// second tell of the client: the gateway's CPU per request counts.
type httpLoad struct {
	requests   []*http.Request
	transports []http.RoundTripper
	status     int
	version    int // major
}

// Of HTTP/2 and HTTP/3 a few connections with several requests at a time each, as browsers have them.
const (
	multiplexed = 4
	streams     = connections / multiplexed
)

// newHTTPLoad sends t to a host in HTTP of that major version.
func newHTTPLoad(g *gateway, version int, host string, t traffic, status int) (*httpLoad, error) {
	l := &httpLoad{status: status, version: version}
	for _, line := range t.lines {
		r, err := t.request(host, line)
		if err != nil {
			return nil, err
		}
		l.requests = append(l.requests, r)
	}
	for range multiplexed {
		l.transports = append(l.transports, g.transport(version, host))
	}
	return l, nil
}

func (g *gateway) transport(version int, host string) http.RoundTripper {
	cfg := tlsConfig(host)
	if version == 3 {
		return &http3.Transport{TLSClientConfig: cfg, DisableCompression: true, Dial: func(ctx context.Context, _ string, cfg *tls.Config, q *quic.Config) (*quic.Conn, error) {
			return quic.DialAddrEarly(ctx, g.address(host, g.https), cfg, q)
		}}
	}
	tr := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, g.address(host, g.https))
		},
		TLSClientConfig: cfg, DisableCompression: true, MaxIdleConnsPerHost: streams, ForceAttemptHTTP2: version == 2,
	}
	return tr
}

func (l *httpLoad) prepare(context.Context, time.Duration) error { return nil }

func (l *httpLoad) start(ctx context.Context) (sending, error) {
	var lanes []func() error
	for _, tr := range l.transports {
		for range streams {
			next := len(lanes)
			lanes = append(lanes, func() error {
				next++
				return l.send(ctx, tr, l.requests[next%len(l.requests)])
			})
		}
	}
	return drive(ctx, lanes), nil
}

func (l *httpLoad) send(ctx context.Context, tr http.RoundTripper, r *http.Request) error {
	resp, err := tr.RoundTrip(r.Clone(ctx))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != l.status || resp.ProtoMajor != l.version {
		return fmt.Errorf("%s: %s %d, want HTTP/%d and %d", r.Host, resp.Proto, resp.StatusCode, l.version, l.status)
	}
	return nil
}

func (l *httpLoad) close() {
	for _, tr := range l.transports {
		switch tr := tr.(type) {
		case *http.Transport:
			tr.CloseIdleConnections()
		case *http3.Transport:
			_ = tr.Close()
		}
	}
}
