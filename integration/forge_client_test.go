package integration

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// forgeField is a header line as it is written.
type forgeField struct{ name, value string }

// forgeRequest is a request as it is written: nothing in it is put right.
type forgeRequest struct {
	method    string
	host, uri string
	fields    []forgeField
	body      string
	trailers  []forgeField // after the body; nil for none
	websocket bool
	mute      bool // a web socket over HTTP/2 or HTTP/3 on which the client says nothing
}

// talks reports whether a web socket over HTTP/2 or HTTP/3 stands.
func (r forgeRequest) talks(status int) bool {
	return r.websocket && !r.mute && status == http.StatusOK
}

// forgeAnswer is what came back.
type forgeAnswer struct {
	status int
	header http.Header
	body   string // of a web socket: what the other end said
}

// forgeClient speaks one version of HTTP, over one connection as long as that lasts.
type forgeClient interface {
	send(r forgeRequest) (forgeAnswer, error)
	close()
}

// forgeHello is what is said over a web socket, and comes back.
const forgeHello = "hello, socket"

// forgePatience bounds every wait.
const forgePatience = 20 * time.Second

func (g *gateway) forgeTLS(host, proto string) *tls.Config {
	return &tls.Config{ServerName: host, RootCAs: g.roots(), NextProtos: []string{proto}}
}

// forgeSpeak returns a client of that protocol.
func (g *gateway) forgeSpeak(t *testing.T, proto string, port int, host string) forgeClient {
	t.Helper()
	var c forgeClient
	switch proto {
	case "HTTP/1.1":
		c = &forgeH1{dial: func() (net.Conn, error) {
			return tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), g.forgeTLS(host, "http/1.1"))
		}}
	case "plain HTTP/1.1":
		c = &forgeH1{dial: func() (net.Conn, error) { return net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)) }}
	case "HTTP/2":
		c = &forgeH2{dial: func() (net.Conn, error) {
			return tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), g.forgeTLS(host, "h2"))
		}}
	case "HTTP/3":
		c = &forgeH3{address: fmt.Sprintf("127.0.0.1:%d", port), tls: g.forgeTLS(host, "h3")}
	default:
		t.Fatalf("nobody speaks %s", proto)
	}
	t.Cleanup(c.close)
	return c
}

// forgeH1 writes HTTP/1.1.
type forgeH1 struct {
	dial func() (net.Conn, error)
	conn net.Conn
	in   *bufio.Reader
}

func (c *forgeH1) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

func (c *forgeH1) send(r forgeRequest) (forgeAnswer, error) {
	return c.write(r.method, forgeH1Bytes(r))
}

// forgeH1Bytes are r as HTTP/1.1 has it.
func forgeH1Bytes(r forgeRequest) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", r.method, r.uri, r.host)
	connection := false
	for _, f := range r.fields {
		fmt.Fprintf(&b, "%s: %s\r\n", f.name, f.value)
		connection = connection || strings.EqualFold(f.name, "Connection")
	}
	if r.websocket {
		b.WriteString("Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n")
		if !connection {
			b.WriteString("Connection: Upgrade\r\n")
		}
	}
	switch {
	case r.trailers != nil:
		b.WriteString("Transfer-Encoding: chunked\r\n\r\n")
		if r.body != "" {
			fmt.Fprintf(&b, "%x\r\n%s\r\n", len(r.body), r.body)
		}
		b.WriteString("0\r\n")
		for _, f := range r.trailers {
			fmt.Fprintf(&b, "%s: %s\r\n", f.name, f.value)
		}
		b.WriteString("\r\n")
	case r.body != "":
		fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(r.body), r.body)
	default:
		b.WriteString("\r\n")
	}
	return b.String()
}

// write sends bytes and reads the answer to one request.
func (c *forgeH1) write(method, raw string) (forgeAnswer, error) {
	if err := c.begin(raw); err != nil {
		return forgeAnswer{}, err
	}
	return c.answer(method)
}

func (c *forgeH1) begin(raw string) (err error) {
	if c.conn == nil {
		if c.conn, err = c.dial(); err != nil {
			return err
		}
		c.in = bufio.NewReader(c.conn)
	}
	_ = c.conn.SetDeadline(time.Now().Add(forgePatience))
	_, err = io.WriteString(c.conn, raw)
	return err
}

func (c *forgeH1) answer(method string) (forgeAnswer, error) {
	for {
		resp, err := http.ReadResponse(c.in, &http.Request{Method: method})
		if err != nil {
			c.close()
			return forgeAnswer{}, err
		}
		a := forgeAnswer{status: resp.StatusCode, header: resp.Header}
		switch {
		case resp.StatusCode == http.StatusSwitchingProtocols:
			a.body, err = c.hello()
			return a, err
		case resp.StatusCode < 200:
			continue
		}
		body, err := io.ReadAll(resp.Body)
		if resp.Close || err != nil {
			c.close()
		}
		a.body = string(body)
		return a, err
	}
}

// hello talks over the web socket and ends it.
func (c *forgeH1) hello() (string, error) {
	defer c.close()
	if _, err := io.WriteString(c.conn, forgeHello); err != nil {
		return "", err
	}
	b := make([]byte, len(forgeHello))
	n, err := io.ReadFull(c.in, b)
	return string(b[:n]), err
}

// forgeRefused reports whether the request was refused by closing the connection or the stream.
func forgeRefused(err error) bool {
	var reset forgeReset
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &reset) ||
		err != nil && strings.Contains(err.Error(), "connection reset")
}

// forgeReset is the end of a stream or a connection by the server.
type forgeReset string

func (r forgeReset) Error() string { return "refused: " + string(r) }
