package integration

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// troubleCase is something that goes wrong at one call, or on the way to WeChat, until it is mended.
type troubleCase struct {
	name   string
	do     func(x *trouble, path string)
	logged string // in the error of the log line, behind the path
	mend   func(x *trouble)
}

// TestTroubleAnswers: whatever WeChat answers that cannot be believed.
func TestTroubleAnswers(t *testing.T) {
	x := newTrouble(t, time.Minute)
	x.during(t, func() {
		for _, c := range troubleAnswers() {
			for _, path := range []string{wechattest.PathToken, wechattest.PathUserInfo} {
				t.Run(c.name+" at "+path, func(t *testing.T) { x.ends(t, c, path) })
			}
		}
	})
}

// ends has c go wrong for two logins at once, and WeChat well again for their retries.
func (x *trouble) ends(t *testing.T, c troubleCase, path string) {
	t.Helper()
	c.do(x, path)
	x.front.askedFor(path)
	tabs := troubleAtOnce(troubleReaching(path), func(l troubleLogin) troubleTab {
		b := x.visitor(t)
		p, err := b.Open(t.Context(), l.address())
		if err != nil {
			t.Error(err)
			return troubleTab{}
		}
		return troubleTab{b, p}
	})
	if n := x.front.askedFor(path); n > len(tabs) {
		t.Errorf("WeChat was asked %d times", n)
	}
	for _, tab := range tabs {
		x.wantEnd(t, tab.b, tab.p, troubleEnd{status: 502, logged: path + ": no usable answer from WeChat: " + c.logged})
	}
	if c.mend != nil {
		c.mend(x)
	}
	x.sim.Update(func(k *wechattest.Knobs) { clear(k.Faults) })
	x.front.calm(x.certs.good)
	for _, tab := range tabs {
		x.wantRetry(t, tab.b, tab.p)
	}
}

type troubleTab struct {
	b *wechattest.Browser
	p *wechattest.Page
}

func troubleAnswers() []troubleCase {
	text := func(answer string) func(*trouble, string) {
		return troubleRaw(func(w io.Writer) { io.WriteString(w, answer) })
	}
	const ok, found = "HTTP/1.1 200 OK\r\n", `{"access_token":"AT_a","refresh_token":"r","expires_in":7200,"scope":"snsapi_base,snsapi_userinfo","openid":"oSimA1-zhangwei_000000000001"`
	const markup = `<script src=//evil.example></script>`
	return []troubleCase{
		{"an endless body", troubleFault(wechattest.Fault{Endless: true}), "the body is too large", nil},
		{"a gzip bomb", text(ok + "Content-Encoding: gzip\r\n\r\n" + troubleGzip(16<<20)), "the body is too large", nil},
		{"truncated JSON", troubleFault(wechattest.Fault{Truncate: true}), "the body is not a JSON object", nil},
		{"HTML", troubleFault(wechattest.Fault{Raw: "<html>" + markup, ContentType: "text/html"}), "the body is not a JSON object", nil},
		{"nothing at all", troubleFault(wechattest.Fault{Raw: " "}), "the body is not a JSON object", nil},
		{"no field of ours", troubleFault(wechattest.Fault{Raw: "{}"}), "", nil},
		{"an openid in capitals beside it", troubleFault(wechattest.Fault{Raw: found + `,"OPENID":"oOther"}`}), "a key is spelt in another case", nil},
		{"an openid twice", troubleFault(wechattest.Fault{Raw: found + `,"openid":"oOther"}`}), "a key stands twice", nil},
		{"an openid twice, once by an escape", troubleFault(wechattest.Fault{Raw: found + `,"open\u0069d":"oOther"}`}), "a key stands twice", nil},
		{"an openid twice, the same", troubleFault(wechattest.Fault{Raw: found + `,"openid":"oSimA1-zhangwei_000000000001"}`}), "a key stands twice", nil},
		{"a refusal and a user", troubleFault(wechattest.Fault{Raw: found + `,"errcode":40029}`}), "the answer is a refusal and a success", nil},
		{"an errcode of markup", troubleFault(wechattest.Fault{Raw: `{"errcode":"` + markup + `"}`}), "errcode is not an integer", nil},
		{"two objects", troubleFault(wechattest.Fault{Raw: found + `}{}`}), "the body goes on behind its JSON object", nil},
		{"a redirect", troubleFault(wechattest.Fault{Redirect: "https://evil.example/"}), "HTTP status 302", nil},
		{"a redirect to itself", troubleFault(wechattest.Fault{Redirect: "?again"}), "HTTP status 302", nil},
		{"status 500", troubleFault(wechattest.Fault{Status: 500}), "HTTP status 500", nil},
		{"a closed connection", troubleFault(wechattest.Fault{Drop: true}), "the connection was closed early", nil},
		{"a length that is too long", text(ok + "Content-Length: 9999\r\n\r\n" + found + "}"), "the connection was closed early", nil},
		{"a length that is too short", text(ok + "Content-Length: 30\r\n\r\n" + found + "}"), "the body is not a JSON object", nil},
		{"a chunk without its end", text(ok + "Transfer-Encoding: chunked\r\n\r\nffff\r\n" + found + "}"), "the connection was closed early", nil},
		{"a flood of 1xx", text(strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 5000)), "the request failed", nil},
		{"a header of a megabyte", text(ok + "X-Pad: " + strings.Repeat("a", 1<<20) + "\r\n\r\n" + found + "}"), "the request failed", nil},
		{"HTTP/2 that was not asked for", text("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"), "the request failed", nil},
		{"an openid of another, with a cookie", troubleFault(wechattest.Fault{Raw: `{"access_token":"AT_a","openid":""}`}), "", nil},
	}
}

// troubleSlow are answers that only the time-out ends.
func troubleSlow() []troubleCase {
	return []troubleCase{
		{"slow headers", troubleFault(wechattest.Fault{Before: time.Minute}), "", nil},
		{"a slow body", troubleFault(wechattest.Fault{Body: time.Minute}), "", nil},
		{"a body byte by byte", troubleRaw(func(w io.Writer) {
			_, err := io.WriteString(w, "HTTP/1.1 200 OK\r\n\r\n")
			for err == nil {
				_, err = io.WriteString(w, " ")
				time.Sleep(20 * time.Millisecond)
			}
		}), "timed out", nil},
	}
}

// troubleFault is a fault of the simulator at one path.
func troubleFault(f wechattest.Fault) func(*trouble, string) {
	return func(x *trouble, path string) {
		x.sim.Update(func(k *wechattest.Knobs) { k.Faults[path] = f })
	}
}

// troubleRaw is an answer that is no HTTP.
func troubleRaw(answer func(io.Writer)) func(*trouble, string) {
	return func(x *trouble, path string) {
		x.front.change(func() { x.front.raw = map[string]func(net.Conn){path: func(c net.Conn) { answer(c) }} })
	}
}

func troubleGzip(n int) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, strings.Repeat(" ", n))
	z.Close()
	return b.String()
}

// TestTroubleOnTheWay: whatever keeps WeChat from being reached, or from answering in time. The reason is in the log, in words that name no URL.
func TestTroubleOnTheWay(t *testing.T) {
	x := newTrouble(t, troubleTimeout)
	cert := func(choose func(troubleCerts) tls.Certificate) func(*trouble, string) {
		return func(x *trouble, _ string) { x.front.change(func() { x.front.cert = choose(x.certs) }) }
	}
	tcp := func(serve func(net.Conn)) func(*trouble, string) {
		return func(x *trouble, _ string) { x.front.change(func() { x.front.tcp = serve }) }
	}
	x.during(t, func() {
		for _, c := range troubleSlow() {
			for _, path := range []string{wechattest.PathToken, wechattest.PathUserInfo} {
				t.Run(c.name+" at "+path, func(t *testing.T) { x.ends(t, c, path) })
			}
		}
		for _, c := range []troubleCase{
			{"a certificate that nobody signed", cert(func(c troubleCerts) tls.Certificate { return c.nobodys }), "tls: failed to verify certificate: x509: ", nil},
			{"a certificate of another name", cert(func(c troubleCerts) tls.Certificate { return c.other }), "tls: failed to verify certificate: x509: ", nil},
			{"a certificate that has expired", cert(func(c troubleCerts) tls.Certificate { return c.expired }), "tls: failed to verify certificate: x509: ", nil},
			{"a port that speaks plain HTTP", tcp(func(c net.Conn) { io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n{}") }), "the answer is not TLS", nil},
			{"a port that answers in SSH", tcp(func(c net.Conn) { io.WriteString(c, "SSH-2.0-OpenSSH_9.2\r\n") }), "the answer is not TLS", nil},
			{"a TLS alert", tcp(func(c net.Conn) { io.WriteString(c, "\x15\x03\x03\x00\x02\x02\x28"); io.Copy(io.Discard, c) }), "TLS remote error", nil},
			{"a port that closes at once", tcp(func(net.Conn) {}), "", nil},
			{"a port that says nothing", tcp(func(c net.Conn) { io.Copy(io.Discard, c) }), "", nil},
			{"nobody who listens", func(x *trouble, _ string) { x.front.down() }, "dial 127.0.0.1:", func(x *trouble) { x.front.up(t) }},
			{
				"a name that does not exist", func(x *trouble, _ string) { x.to(t, "https://api.weixin.invalid") }, "lookup api.weixin.invalid",
				func(x *trouble) { x.to(t, "https://"+x.front.addr) },
			},
		} {
			t.Run(c.name, func(t *testing.T) { x.ends(t, c, wechattest.PathToken) })
		}
	})
}

// to has the gateway call another address.
func (x *trouble) to(t *testing.T, api string) {
	t.Helper()
	if out, err := x.reload(x.caddyfile(api)); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// troubleAtOnce calls f for all at once, and returns what it returns in their order.
func troubleAtOnce[A, B any](all []A, f func(A) B) []B {
	results := make([]B, len(all))
	done := make(chan struct{})
	for i, a := range all {
		go func() {
			defer func() { done <- struct{}{} }()
			results[i] = f(a)
		}()
	}
	for range all {
		<-done
	}
	return results
}
