package wechat_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-wechat/caddy-wechat/wechat"
)

// Whatever the other side did, nothing of it is left running. DNS look-ups are cut off, not awaited, by Go.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net.(*Resolver).goLookupIPCNAMEOrder.func3.1"))
}

const goodToken = `{"access_token":"` + canaryAccess + `","expires_in":7200,"refresh_token":"` + canaryRefresh + `","openid":"oOne","scope":"snsapi_base"}`

// gzipped is n spaces behind a good answer.
func gzipped(n int) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, goodToken+strings.Repeat(" ", n))
	z.Close()
	return b.String()
}

// Answers that are wrong as HTTP: each is an error in a bounded time, and WeChat is asked once, as the code may
// be spent.
func TestAnswersThatAreNotHTTP(t *testing.T) {
	t.Parallel()
	const ok = "HTTP/1.1 200 OK\r\n"
	sized := func(n int) string { return fmt.Sprintf("Content-Length: %d\r\n\r\n", n) }
	for name, answer := range map[string]string{
		"a length that is too long":            ok + sized(len(goodToken)+5) + goodToken,
		"a length that is too short":           ok + sized(len(goodToken)-9) + goodToken,
		"a length below zero":                  ok + "Content-Length: -1\r\n\r\n" + goodToken,
		"a length that is a word":              ok + "Content-Length: all\r\n\r\n" + goodToken,
		"two lengths":                          ok + "Content-Length: 7\r\n" + sized(len(goodToken)) + goodToken,
		"a length without end":                 ok + "Content-Length: 99999999999999999999\r\n\r\n" + goodToken,
		"a chunk that is cut":                  ok + "Transfer-Encoding: chunked\r\n\r\nffff\r\n" + goodToken,
		"a chunk of an odd size":               ok + "Transfer-Encoding: chunked\r\n\r\nzz\r\n" + goodToken,
		"a chunk of a huge size":               ok + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n" + goodToken,
		"an unknown transfer encoding":         ok + "Transfer-Encoding: gzip\r\n\r\n" + goodToken,
		"gzip that is none":                    ok + "Content-Encoding: gzip\r\n" + sized(len(goodToken)) + goodToken,
		"gzip that is cut":                     ok + "Content-Encoding: gzip\r\n\r\n" + gzipped(0)[:30],
		"a gzip bomb":                          ok + "Content-Encoding: gzip\r\n\r\n" + gzipped(16<<20),
		"an encoding that was not asked for":   ok + "Content-Encoding: br\r\n" + sized(4) + "\x1b\x00\x00\x03",
		"a flood of 100 Continue":              strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 20_000),
		"a flood of early hints":               strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 5_000),
		"a header of a megabyte":               ok + "X-Pad: " + strings.Repeat("a", 1<<20) + "\r\n" + sized(len(goodToken)) + goodToken,
		"a hundred thousand headers":           ok + strings.Repeat("X-Pad: a\r\n", 100_000) + sized(len(goodToken)) + goodToken,
		"a header without end":                 ok + "X-Pad: " + strings.Repeat("a", 32<<10),
		"a header with a NUL":                  ok + "X-Pad: a\x00b\r\n" + sized(len(goodToken)) + goodToken,
		"no status":                            "HTTP/1.1\r\n\r\n" + goodToken,
		"a status of four digits":              "HTTP/1.1 2000 OK\r\n\r\n" + goodToken,
		"no content, and a body":               "HTTP/1.1 204 No Content\r\n\r\n" + goodToken,
		"an upgrade":                           "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + goodToken,
		"HTTP/0.9":                             goodToken,
		"HTTP/2 that was not asked for":        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
		"a GOAWAY":                             "\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x0d",
		"an SSH greeting":                      "SSH-2.0-OpenSSH_9.2\r\n",
		"nothing but line ends":                strings.Repeat("\r\n", 4000),
		"a redirect that says 200 in its body": "HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere\r\n" + sized(len(goodToken)) + goodToken,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			address := raw(t, func(conn net.Conn, _ string) {
				calls.Add(1)
				io.WriteString(conn, answer)
			})
			c := &wechat.Client{AppID: appID, Secret: secret, APIURL: address, Timeout: 3 * time.Second}
			token, err := c.Exchange(t.Context(), canaryCode)
			if !errors.Is(err, wechat.ErrUnavailable) || token != (wechat.Token{}) {
				t.Errorf("got %+v, %v", token, err)
			}
			mustNotLeak(t, err)
			if n := calls.Load(); n != 1 {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

// inChunks is text, one byte a chunk.
func inChunks(text string) string {
	var b strings.Builder
	for i := range len(text) {
		fmt.Fprintf(&b, "1\r\n%s\r\n", text[i:i+1])
	}
	return b.String()
}

// Answers that are odd as HTTP, and say clearly what they say.
func TestOddAnswersThatCanBeRead(t *testing.T) {
	t.Parallel()
	const ok = "HTTP/1.1 200 OK\r\n"
	for name, answer := range map[string]string{
		"until the connection closes":   ok + "\r\n" + goodToken,
		"as gzip":                       ok + "Content-Encoding: gzip\r\n\r\n" + gzipped(1000),
		"in one chunk":                  ok + fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(goodToken), goodToken),
		"behind an early hint":          "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + ok + "\r\n" + goodToken,
		"behind twenty early hints":     strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 20) + ok + "\r\n" + goodToken,
		"in small chunks, with trailer": ok + "Trailer: X\r\nTransfer-Encoding: chunked\r\n\r\n" + inChunks(goodToken) + "0\r\nX: y\r\n\r\n",
		"by HTTP/1.0":                   "HTTP/1.0 200 OK\r\n\r\n" + goodToken,
		"with a header of 8 KB":         ok + "X-Pad: " + strings.Repeat("a", 8<<10) + "\r\n\r\n" + goodToken,
		"as HTML, by its content type":  ok + "Content-Type: text/html\r\n\r\n" + goodToken,
		"for a download":                ok + "Content-Disposition: attachment\r\nRefresh: 0; url=/x\r\n\r\n" + goodToken,
		"in white space of 60 KB":       ok + "\r\n" + strings.Repeat("\n", 60<<10) + goodToken,
		"with lines that end in LF":     "HTTP/1.1 200 OK\n\n" + goodToken,
		"with a status of other words":  "HTTP/1.1 200 KO " + goodToken + "\r\n\r\n" + goodToken,
		"with a space in a header name": ok + "X Pad: a\r\n\r\n" + goodToken,
		"in a charset that is not said": ok + "Content-Type: text/plain; charset=gbk\r\n\r\n" + goodToken,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &wechat.Client{AppID: appID, Secret: secret, APIURL: answering(t, answer)}
			if token, err := c.Exchange(t.Context(), canaryCode); err != nil || token.OpenID != "oOne" {
				t.Errorf("got %+v, %v", token, err)
			}
		})
	}
}

// The time-out bounds the whole call, however the other side keeps it going.
func TestAnswersThatTakeForever(t *testing.T) {
	t.Parallel()
	drip := func(text string) func(net.Conn, string) {
		return func(conn net.Conn, _ string) {
			for i := range text {
				if _, err := io.WriteString(conn, text[i:i+1]); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		}
	}
	endless := func(head, again string) func(net.Conn, string) {
		return func(conn net.Conn, _ string) {
			_, err := io.WriteString(conn, head)
			for err == nil {
				_, err = io.WriteString(conn, again)
				time.Sleep(time.Millisecond)
			}
		}
	}
	const ok = "HTTP/1.1 200 OK\r\n"
	for name, answer := range map[string]func(net.Conn, string){
		"nothing":                       func(conn net.Conn, _ string) { io.Copy(io.Discard, conn) },
		"the header byte by byte":       drip(ok + "X-Pad: " + strings.Repeat("a", 1000)),
		"the body byte by byte":         drip(ok + "\r\n" + goodToken),
		"a chunk a millisecond":         endless(ok+"Transfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n"),
		"an early hint a millisecond":   endless("", "HTTP/1.1 103 Early Hints\r\n\r\n"),
		"a header line a millisecond":   endless(ok, "X: y\r\n"),
		"a trailer line a millisecond":  endless(ok+"Transfer-Encoding: chunked\r\n\r\n0\r\n", "X: y\r\n"),
		"a chunk extension without end": endless(ok+"Transfer-Encoding: chunked\r\n\r\n1;", "a"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &wechat.Client{AppID: appID, Secret: secret, APIURL: raw(t, answer), Timeout: 300 * time.Millisecond}
			done := make(chan error, 1)
			go func() {
				_, err := c.Exchange(t.Context(), canaryCode)
				done <- err
			}()
			select {
			case err := <-done:
				if !errors.Is(err, wechat.ErrUnavailable) {
					t.Errorf("got %v", err)
				}
				mustNotLeak(t, err)
			case <-time.After(20 * time.Second):
				t.Fatal("the time-out does not bound it")
			}
		})
	}
}

// attack: net/http logs in clear what comes behind an answer on a kept connection. A relay that counts characters
// for Content-Length puts the end of each answer there, and an odd one anything that it was sent.
func TestWhatComesBehindAnAnswerIsNotLogged(t *testing.T) {
	var logged lockedBuffer
	log.SetOutput(&logged)
	defer log.SetOutput(io.Discard)
	var wg sync.WaitGroup
	for name, answer := range map[string]string{
		"a length that is too short": fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(`{"access_token":"`), goodToken),
		"a second answer":            fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(goodToken), goodToken) + canaryRefresh + canaryCode + secret,
	} {
		c := &wechat.Client{AppID: appID, Secret: secret, APIURL: raw(t, func(conn net.Conn, _ string) {
			io.WriteString(conn, answer)
			io.Copy(io.Discard, conn) // until the other side closes
			wg.Done()
		}), Timeout: 3 * time.Second}
		wg.Add(1)
		if _, err := c.Exchange(t.Context(), canaryCode); (err == nil) != (name == "a second answer") {
			t.Errorf("%s: %v", name, err)
		}
	}
	wg.Wait() // the connections are closed, and what is logged about them is logged before
	for _, value := range []string{canaryAccess, canaryRefresh, canaryCode, secret} {
		for at := 0; at+20 <= len(value); at++ {
			if piece := value[at : at+20]; strings.Contains(logged.String(), piece) && strings.Trim(piece, "0") != "" {
				t.Fatalf("the log holds %q:\n%s", piece, logged.String())
			}
		}
	}
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// A cookie of WeChat's is not kept: what one user's call brought does not go along with another's.
func TestCookiesOfWeChatAreNotKept(t *testing.T) {
	var cookies []string
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cookies = append(cookies, r.Header["Cookie"]...)
		http.SetCookie(w, &http.Cookie{Name: "user", Value: "one", Path: "/"})
		io.WriteString(w, goodToken)
	}))
	defer ts.Close()
	c := &wechat.Client{AppID: appID, Secret: secret, APIURL: ts.URL}
	for range 3 {
		if _, err := c.Exchange(t.Context(), canaryCode); err != nil {
			t.Fatal(err)
		}
	}
	if len(cookies) > 0 {
		t.Errorf("WeChat was sent %q", cookies)
	}
}

// attack: on a kept connection an answer that comes late, or twice, is taken for the next user's; and one that the
// other side has just closed fails the next user's login.
func TestEachCallHasAConnectionOfItsOwn(t *testing.T) {
	var connections atomic.Int32
	address := raw(t, func(conn net.Conn, _ string) {
		one := goodToken
		if n := connections.Add(1); n > 1 {
			one = strings.ReplaceAll(goodToken, "oOne", fmt.Sprintf("oUser%d", n))
		}
		answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: %d\r\n\r\n%s", len(one), one)
		io.WriteString(conn, answer)
		io.CopyN(io.Discard, conn, 1) // the next request, if it comes here
		io.WriteString(conn, answer)  // is answered with the one before
	})
	c := &wechat.Client{AppID: appID, Secret: secret, APIURL: address}
	for n := range 5 {
		token, err := c.Exchange(t.Context(), canaryCode)
		if want := fmt.Sprintf("oUser%d", n+1); err != nil || n > 0 && token.OpenID != want {
			t.Errorf("call %d: got %s, %v", n+1, token.OpenID, err)
		}
	}
	if n := connections.Load(); n != 5 {
		t.Errorf("5 calls had %d connections", n)
	}
}
