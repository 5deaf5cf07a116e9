package integration

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// redirectWire speaks HTTP/1.1 with bytes as they are. It keeps one connection per server name; one goroutine uses it.
type redirectWire struct {
	g     *gateway
	tls   *tls.Config
	conns map[string]*redirectConn
}

type redirectConn struct {
	net.Conn
	r *bufio.Reader
}

// redirectAnswer is an answer with its body; nil stands for a connection that was closed without one.
type redirectAnswer struct {
	*http.Response
	body string
}

func (a *redirectAnswer) String() string {
	if a == nil {
		return "no answer"
	}
	return fmt.Sprintf("%s %v %.300s", a.Status, a.Header, a.body)
}

func (g *gateway) redirectWire() *redirectWire {
	return &redirectWire{g, &tls.Config{RootCAs: g.roots(), NextProtos: []string{"http/1.1"}}, map[string]*redirectConn{}}
}

func (w *redirectWire) close() {
	for _, c := range w.conns {
		_ = c.Close()
	}
}

// send writes a request to the site that sni names, "host" or "host:port"; one that begins with http:// goes without TLS.
func (w *redirectWire) send(sni, request string) (*redirectAnswer, error) {
	for {
		c, kept := w.conns[sni]
		if !kept {
			var err error
			if c, err = w.dial(sni); err != nil {
				return nil, err
			}
		}
		delete(w.conns, sni)
		answer, err := c.exchange(request)
		switch {
		case err != nil && kept: // the gateway had closed it meanwhile
			_ = c.Close()
			continue
		case err != nil:
			_ = c.Close()
			return nil, nil
		}
		// Line ends in a payload may have made two requests of one.
		if head, _, _ := strings.Cut(request, "\r\n\r\n"); answer.Close || strings.Count(request, "\n") != strings.Count(head, "\r\n")+2 || w.tls == nil {
			_ = c.Close()
		} else {
			w.conns[sni] = c
		}
		return answer, nil
	}
}

func (w *redirectWire) dial(sni string) (*redirectConn, error) {
	host, port, isPlain := strings.TrimPrefix(sni, "http://"), w.g.https, strings.HasPrefix(sni, "http://")
	if isPlain {
		port = w.g.http
	}
	if name, own, ok := strings.Cut(host, ":"); ok {
		host = name
		_, _ = fmt.Sscan(own, &port)
	}
	conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), 20*time.Second)
	if err != nil {
		return nil, err
	}
	if !isPlain {
		cfg := w.tls.Clone()
		cfg.ServerName = host
		client := tls.Client(conn, cfg)
		_ = client.SetDeadline(time.Now().Add(30 * time.Second))
		if err := client.Handshake(); err != nil {
			_ = conn.Close()
			return nil, fmt.Errorf("TLS with %s: %w", sni, err)
		}
		conn = client
	}
	return &redirectConn{conn, bufio.NewReader(conn)}, nil
}

func (c *redirectConn) exchange(request string) (*redirectAnswer, error) {
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		return nil, err
	}
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	return &redirectAnswer{resp, string(body)}, err
}

// The header lines of those who come.
const (
	redirectInside  = "User-Agent: Mozilla/5.0 (Linux; Android 14) MicroMessenger/8.0.50\r\n"
	redirectOutside = "User-Agent: Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0\r\n"
	redirectLoad    = "Accept: text/html\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n"
	redirectScript  = "Accept: */*\r\nSec-Fetch-Mode: cors\r\n"
	redirectForm    = redirectLoad + "Content-Type: application/x-www-form-urlencoded\r\n"
)

// redirectGet is a GET of target, byte for byte; lines end in CR LF each.
func redirectGet(host, target string, lines ...string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\n" + strings.Join(lines, "") + "\r\n"
}

func redirectPost(host, target, body string, lines ...string) string {
	return "POST " + target + " HTTP/1.1\r\nHost: " + host + "\r\n" + strings.Join(lines, "") + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body)) + body
}
