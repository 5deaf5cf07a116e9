package wechat

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// alone makes a Client's calls until the test ends have places of their own, and trust ts.
func alone(t *testing.T, ts *httptest.Server) {
	t.Helper()
	before := shared
	t.Cleanup(func() { shared = before })
	shared = newConns()
	if ts != nil {
		shared.tls.RootCAs = x509.NewCertPool()
		shared.tls.RootCAs.AddCert(ts.Certificate())
	}
}

// listen hands each connection to answer, with a channel that ends with the test, and closes it.
func listen(t *testing.T, answer func(net.Conn, <-chan struct{})) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	ended := make(chan struct{})
	t.Cleanup(func() {
		l.Close()
		close(ended)
		all.Wait()
	})
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				answer(conn, ended)
			})
		}
	})
	return l.Addr().String()
}

// readHead reads a request, whose path's first part it returns.
func readHead(conn net.Conn) string {
	var head []byte
	buf := make([]byte, 1<<10)
	for !strings.Contains(string(head), "\r\n\r\n") {
		n, err := conn.Read(buf)
		if err != nil {
			return ""
		}
		head = append(head, buf[:n]...)
	}
	return strings.Split(string(head), "/")[1]
}

const okHead = "HTTP/1.1 200 OK\r\n"

// attack: a call that keeps its place makes the gateway slower each time, and after 128 of them nobody can log in.
func TestEachCallGivesItsPlaceBack(t *testing.T) {
	alone(t, nil)
	var together sync.WaitGroup
	together.Add(maxConns)
	hang := func(conn net.Conn) { io.Copy(io.Discard, conn) }
	answers := map[string]string{
		"closed":    "",
		"cut":       okHead + "Content-Length: 99\r\n\r\n{",
		"malformed": "HTTP/1.1 what\r\n\r\n",
		"status":    "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\n\r\nsorry",
		"redirect":  "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n\r\n",
		"switch":    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
		"interim":   strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 10_000),
		"header":    okHead + "X-Pad: " + strings.Repeat("a", 1<<20),
		"body":      okHead + "\r\n" + strings.Repeat(" ", 1<<20),
		"gzip":      okHead + "Content-Encoding: gzip\r\n\r\nno gzip",
		"good":      okHead + "\r\n" + `{"errcode":0}`,
		"early":     okHead + "Content-Length: 13\r\n\r\n" + `{"errcode":0}`,
	}
	address := listen(t, func(conn net.Conn, _ <-chan struct{}) {
		switch path := readHead(conn); path {
		case "head", "half":
			io.WriteString(conn, map[string]string{"half": okHead + "\r\n{"}[path])
			hang(conn)
		case "together":
			together.Done()
			together.Wait()
			io.WriteString(conn, answers["good"])
		default:
			io.WriteString(conn, answers[path])
		}
	})
	ask := func(path string, timeout time.Duration) error {
		c := &Client{AppID: "wx", Secret: "s", APIURL: "http://" + address + "/" + path, Timeout: timeout}
		return c.CheckToken(t.Context(), "t", "o")
	}
	const short, long = 50 * time.Millisecond, 10 * time.Second
	for path := range answers {
		if err := ask(path, long); (err == nil) != (path == "good" || path == "early") {
			t.Errorf("%s: %v", path, err)
		}
	}
	for _, path := range []string{"head", "half"} {
		if err := ask(path, short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := ask("good", time.Nanosecond); !errors.Is(err, context.DeadlineExceeded) { // ends in enter, or dialling
		t.Error(err)
	}
	var calls sync.WaitGroup
	for range maxConns {
		calls.Go(func() {
			if err := ask("together", long); err != nil {
				t.Error("a place is gone:", err)
			}
		})
	}
	calls.Wait()
}

// A call beyond the 128 waits for a place, no longer than its time-out, and begins once there is one.
func TestCallsWaitForAPlace(t *testing.T) {
	alone(t, nil)
	arrived, release := make(chan struct{}, maxConns+1), make(chan struct{})
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-release
		io.WriteString(w, `{"errcode":0}`)
	}))
	defer ts.Close()
	ask := func(ctx context.Context, timeout time.Duration) error {
		return (&Client{AppID: "wx", Secret: "s", APIURL: ts.URL, Timeout: timeout}).CheckToken(ctx, "t", "o")
	}
	var calls sync.WaitGroup
	call := func() {
		if err := ask(t.Context(), time.Minute); err != nil {
			t.Error(err)
		}
	}
	for range maxConns {
		calls.Go(call)
	}
	for range maxConns {
		<-arrived
	}
	if err := ask(t.Context(), 20*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if err := ask(ctx, time.Minute); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	calls.Go(call)
	if len(arrived) > 0 {
		t.Error("one call more than may be")
	}
	close(release)
	calls.Wait()
}

// Whatever a call waits for, it ends with its context, and tells a caller who gave up from a time-out.
func TestACallEndsWithItsContext(t *testing.T) {
	wait := func(conn net.Conn, _ <-chan struct{}) { io.Copy(io.Discard, conn) }
	behind := func(text string) func(net.Conn, <-chan struct{}) {
		return func(conn net.Conn, _ <-chan struct{}) {
			io.WriteString(conn, text)
			io.Copy(io.Discard, conn)
		}
	}
	deaf := func(_ net.Conn, ended <-chan struct{}) { <-ended }
	ts := httptest.NewTLSServer(http.NotFoundHandler())
	defer ts.Close()
	alone(t, ts)
	deafTLS := func(conn net.Conn, ended <-chan struct{}) {
		_ = tls.Server(conn, &tls.Config{Certificates: ts.TLS.Certificates}).Handshake()
		<-ended
	}
	for name, c := range map[string]struct {
		scheme string
		code   int // how long
		answer func(net.Conn, <-chan struct{})
	}{
		"in the TLS handshake": {"https", 10, wait},
		"writing":              {"http", 4 << 20, deaf},
		"writing by TLS":       {"https", 4 << 20, deafTLS},
		"before the answer":    {"http", 10, wait},
		"in the TLS answer":    {"https", 10, deafTLS},
		"in the header":        {"http", 10, behind(okHead + "X-Pad:")},
		"in interim answers":   {"http", 10, behind("HTTP/1.1 103 Early Hints\r\n\r\n")},
		"before the body":      {"http", 10, behind(okHead + "Content-Length: 9\r\n\r\n")},
		"in the body":          {"http", 10, behind(okHead + "\r\n{")},
		"in a chunk":           {"http", 10, behind(okHead + "Transfer-Encoding: chunked\r\n\r\n9\r\n{")},
		"in a gzip's header":   {"http", 10, behind(okHead + "Content-Encoding: gzip\r\n\r\n\x1f\x8b")},
	} {
		for how, want := range map[string]error{"a time-out": context.DeadlineExceeded, "a caller who gives up": context.Canceled} {
			t.Run(name+", by "+how, func(t *testing.T) {
				t.Parallel()
				client := &Client{AppID: "wx", Secret: "s", APIURL: c.scheme + "://" + listen(t, c.answer)}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				const soon = 200 * time.Millisecond
				if errors.Is(want, context.Canceled) {
					time.AfterFunc(soon, cancel)
				} else {
					client.Timeout = soon
				}
				began := time.Now()
				_, err := client.Exchange(ctx, strings.Repeat("c", c.code))
				if took := time.Since(began); took > 4*time.Second || !errors.Is(err, ErrUnavailable) || !errors.Is(err, want) {
					t.Errorf("after %v: %v", took, err)
				}
			})
		}
	}
}

// A handshake costs more than all the rest of a call: the second call's is the first one's, resumed.
func TestTLSSessionsAreResumed(t *testing.T) {
	var resumed []bool
	ts := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		resumed = append(resumed, r.TLS.DidResume)
		io.WriteString(w, `{"errcode":0}`)
	}))
	defer ts.Close()
	alone(t, ts)
	for range 3 {
		if err := (&Client{AppID: "wx", Secret: "s", APIURL: ts.URL}).CheckToken(t.Context(), "t", "o"); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(resumed, []bool{false, true, true}) {
		t.Errorf("resumed: %v", resumed)
	}
}
