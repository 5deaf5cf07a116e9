package integration

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// leakUpstream answers as it is told to.
type leakUpstream struct {
	addr string
	mu   sync.Mutex // guards next
	next http.HandlerFunc
}

func newLeakUpstream(t *testing.T) *leakUpstream {
	t.Helper()
	u := &leakUpstream{next: func(http.ResponseWriter, *http.Request) {}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.mu.Lock()
		next := u.next
		u.mu.Unlock()
		next(w, r)
	}))
	t.Cleanup(server.Close)
	u.addr = server.Listener.Addr().String()
	return u
}

func (u *leakUpstream) answer(next http.HandlerFunc) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.next = next
}

// leakRenewing is a gateway with a session whose token is due on every page load.
type leakRenewing struct {
	*world
	told   *leakUpstream
	client *http.Client
	header http.Header
}

func newLeakRenewing(t *testing.T) *leakRenewing {
	t.Helper()
	l := &leakRenewing{told: newLeakUpstream(t)}
	files := t.TempDir()
	if err := os.WriteFile(filepath.Join(files, "page.html"), []byte(strings.Repeat("<p>page</p>", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	l.world = newWorld(t, boundDomain, func(w *world) string {
		site := strings.NewReplacer("UPSTREAM", l.told.addr, "FILES", files).Replace(leakRenewingSite)
		return "{\n" + w.globals() + w.options("", "") + "}\n" + site
	})
	l.client = l.world.client()
	l.header = pageHeader(holding(signIn(t, l.world, l.client, "https://auth.example.com/proxy")))
	for range 200 {
		if resp, _ := get(t, l.client, "https://auth.example.com/proxy", l.header); sessionOf(resp) != "" {
			return l
		}
		time.Sleep(50 * time.Millisecond) // tokens count whole seconds
	}
	t.Fatal("no token is ever renewed")
	return nil
}

const leakRenewingSite = `auth.example.com {
	wechat_auth {
		session 1h 2h
		renew 1s
	}
	header /marked/* Cache-Control "public, max-age=60"
	header /default/* ?Cache-Control "public, max-age=60"
	handle /proxy* {
		reverse_proxy UPSTREAM
	}
	handle /encoded {
		encode gzip
		reverse_proxy UPSTREAM
	}
	handle /inner {
		header >Cache-Control "public, max-age=60"
		reverse_proxy UPSTREAM
	}
	handle /deleted {
		header -Cache-Control
		reverse_proxy UPSTREAM
	}
	handle /down {
		reverse_proxy UPSTREAM {
			header_down Cache-Control "s-maxage=60"
		}
	}
	handle /respond {
		respond "hello"
	}
	handle /error {
		error 404
	}
	handle_path /files/* {
		root * FILES
		encode gzip
		file_server
	}
	handle_path /marked/* {
		root * FILES
		file_server
	}
	handle_path /default/* {
		root * FILES
		file_server
	}
	handle_errors {
		respond "an error"
	}
}
`

// leakAnswer is what an upstream says about caches, in what status.
type leakAnswer struct {
	status int
	header http.Header
}

func (a leakAnswer) serve(w http.ResponseWriter, _ *http.Request) {
	for name, lines := range a.header {
		w.Header()[name] = lines
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(a.status)
	if a.status >= 200 && a.status != http.StatusNoContent && a.status != http.StatusNotModified {
		_, _ = io.WriteString(w, strings.Repeat("<p>hello</p>", 100))
	}
}

var (
	leakStatuses = []int{200, 200, 200, 203, 204, 206, 301, 302, 304, 307, 404, 410, 500, 503}
	leakWords    = []string{
		"public", "Public", "private", "PRIVATE", "no-store", "No-Store", "no-cache", "must-revalidate", "proxy-revalidate", "no-transform",
		"immutable", "max-age=0", "max-age=60", `max-age="60"`, "max-age = 60", "Max-Age=00", "max-age=-1", "max-age=99999999999999999999", "max-age=1e3",
		"s-maxage=60", "s-maxage=0", "S-MaxAge=9", "stale-while-revalidate=60", "stale-if-error=60", "must-understand",
		`private="Set-Cookie"`, `private="X-Foo"`, "private=X-Foo", `no-cache="Set-Cookie"`, `no-cache="x, private, y"`, `ext="a, no-store, b"`,
		`ext="open`, `ext="\", private, "`, "private x", "private;", "no-store=1", `"private"`, "", "=", "ext",
	}
	leakExpires  = []string{"Fri, 31 Dec 2060 23:59:59 GMT", "Thu, 01 Jan 1970 00:00:00 GMT", "0", "Friday, 31-Dec-60 23:59:59 GMT", "Fri, 31 Dec 2060 23:59:59 UTC", ""}
	leakTargeted = []string{"Surrogate-Control", "Cdn-Cache-Control", "Cloudflare-Cdn-Cache-Control", "Akamai-Cache-Control", "X-Accel-Expires"}
)

func newLeakAnswer(r *rand.Rand) leakAnswer {
	pick := func(list []string) string { return list[r.IntN(len(list))] }
	a := leakAnswer{leakStatuses[r.IntN(len(leakStatuses))], http.Header{}}
	for range r.IntN(3) { // lines
		words := make([]string, 1+r.IntN(4))
		for i := range words {
			words[i] = pick(leakWords)
		}
		a.header.Add("Cache-Control", strings.Trim(strings.Join(words, pick([]string{",", ", ", " ,", ",,", "\t, "})), " \t"))
	}
	for range max(0, r.IntN(6)-3) {
		a.header.Add("Expires", pick(leakExpires))
	}
	for range max(0, r.IntN(6)-4) {
		a.header.Add(pick(leakTargeted), pick([]string{"max-age=60", "no-store", "private", "", "60"}))
	}
	for name, values := range map[string][]string{
		"Vary": {"*", "Cookie", "Accept-Encoding"}, "Pragma": {"no-cache", "public"}, "Age": {"0", "100"}, "Etag": {`"a"`}, "Set-Cookie": {"theirs=1; Path=/"},
	} {
		if r.IntN(4) == 0 {
			a.header.Set(name, pick(values))
		}
	}
	return a
}

// marks says what the upstream surely means: that others may be served with it, that they may not, or
// nothing. Where it cannot be told, all three are false.
func (a leakAnswer) marks() (shared, private, nothing bool) {
	for _, name := range leakTargeted {
		if a.header[name] != nil {
			return false, false, false
		}
	}
	if a.header["Expires"] == nil && a.header["Cache-Control"] == nil {
		return false, false, a.header.Get("Pragma") != "no-cache" // which Go reads as Cache-Control
	}
	if strings.Contains(strings.Join(a.header["Cache-Control"], ","), `"`) {
		return false, false, false
	}
	private = leakForbidden(a.header["Cache-Control"])
	for _, d := range leakDirectives(a.header["Cache-Control"], true) {
		shared = shared || !private && (d.name == "public" || d.name == "max-age" && d.value == "60")
	}
	return shared, private, false
}

// TestRenewedCookieNeverRidesOnACacheableAnswer judges the gateway by another reading of the RFCs than its
// own. Attack: a cache in front keeps one user's answer and hands it, cookie and all, to the next.
func TestRenewedCookieNeverRidesOnACacheableAnswer(t *testing.T) {
	l := newLeakRenewing(t)
	seed, err := strconv.ParseUint(os.Getenv("WECHAT_TEST_SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64()
	}
	t.Logf("WECHAT_TEST_SEED=%d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	rode, kept := 0, 0
	for i := range 1500 {
		a := newLeakAnswer(r)
		l.told.answer(a.serve)
		method := []string{"GET", "GET", "GET", "HEAD"}[i%4]
		resp, _ := do(t, l.client, method, "https://auth.example.com/"+[]string{"proxy", "encoded"}[i%2], l.header, nil)
		renewed := sessionOf(resp) != ""
		shared, private, nothing := a.marks()
		said := fmt.Sprintf("answer %d: %s, upstream %d %q, client %d %q", i, method, a.status, a.header, resp.StatusCode, resp.Header)
		switch {
		case resp.StatusCode != a.status:
			t.Fatalf("%s: another status", said)
		case renewed && leakMayBeShared(resp.StatusCode, resp.Header):
			t.Fatalf("%s: a shared cache may keep the cookie", said)
		case shared && (renewed || !slices.Equal(resp.Header["Cache-Control"], a.header["Cache-Control"])):
			t.Fatalf("%s: the upstream means it for others, too", said)
		case (private || nothing) && !renewed:
			t.Fatalf("%s: nothing speaks against the cookie", said)
		case nothing && resp.Header.Get("Cache-Control") != "private":
			t.Fatalf("%s: the answer must be marked private", said)
		case private && !slices.Equal(resp.Header["Cache-Control"], a.header["Cache-Control"]):
			t.Fatalf("%s: what forbids it already was changed", said)
		}
		if renewed {
			rode++
		} else {
			kept++
		}
	}
	if rode < 100 || kept < 100 {
		t.Errorf("%d cookies rode and %d did not: the cases are one-sided", rode, kept)
	}
}

func TestRenewalThroughCaddysOwnHandlers(t *testing.T) {
	l := newLeakRenewing(t)
	l.told.answer(leakAnswer{status: 200}.serve)
	cases := []struct {
		name, path string
		header     []string
		status     int
		renews     bool
	}{
		{"a file", "/files/page.html", nil, 200, true},
		{"a part of a file", "/files/page.html", []string{"Range", "bytes=0-9"}, 206, true},
		{"a file that has not changed", "/files/page.html", []string{"If-Modified-Since", "Fri, 31 Dec 2060 23:59:59 GMT"}, 304, true},
		{"a compressed file", "/files/page.html", []string{"Accept-Encoding", "gzip"}, 200, true},
		{"a file that header marks for others", "/marked/page.html", nil, 200, false},
		{"a part of it", "/marked/page.html", []string{"Range", "bytes=0-9"}, 206, false},
		{"a file that header would mark unless something says otherwise", "/default/page.html", nil, 200, true},
		{"an answer that header marks inside", "/inner", nil, 200, false},
		{"an answer of which header deletes the mark inside", "/deleted", nil, 200, true},
		{"an answer that reverse_proxy marks", "/down", nil, 200, false},
		{"respond", "/respond", nil, 200, true},
		{"an error page", "/error", nil, 404, false},
	}
	for _, x := range cases {
		t.Run(x.name, func(t *testing.T) {
			resp, _ := get(t, l.client, "https://auth.example.com"+x.path, with(l.header, x.header...))
			renewed := sessionOf(resp) != ""
			if resp.StatusCode != x.status || renewed != x.renews || renewed && leakMayBeShared(resp.StatusCode, resp.Header) {
				t.Errorf("status %d, renewed %v, %q", resp.StatusCode, renewed, resp.Header)
			}
		})
	}
}

// A header that goes out before its body, early hints, and connections that become something else.
func TestRenewalOfAnswersThatStream(t *testing.T) {
	l := newLeakRenewing(t)
	t.Run("the cookie stands in the header of a stream, and each event comes at once", func(t *testing.T) {
		more := make(chan struct{})
		l.told.answer(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			for range 3 {
				_, _ = io.WriteString(w, "data: x\n\n")
				_ = http.NewResponseController(w).Flush()
				select {
				case <-more:
				case <-r.Context().Done():
				}
			}
		})
		resp := l.begin(t, "/proxy")
		defer resp.Body.Close()
		lines := bufio.NewReader(resp.Body)
		for range 3 {
			if line, err := lines.ReadString('\n'); line != "data: x\n" {
				t.Fatalf("%q: %v", line, err)
			}
			_, _ = lines.ReadString('\n')
			more <- struct{}{}
		}
		l.wantPrivateCookie(t, resp)
	})
	t.Run("a flush before anything is written", func(t *testing.T) {
		l.told.answer(func(w http.ResponseWriter, r *http.Request) { _ = http.NewResponseController(w).Flush() })
		resp := l.begin(t, "/proxy")
		defer resp.Body.Close()
		l.wantPrivateCookie(t, resp)
	})
	t.Run("early hints carry no cookie, and the answer behind them does", func(t *testing.T) {
		l.told.answer(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "</x.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusOK)
		})
		req := l.request(t, "/proxy")
		var hints []textproto.MIMEHeader
		trace := &httptrace.ClientTrace{Got1xxResponse: func(_ int, h textproto.MIMEHeader) error {
			hints = append(hints, h)
			return nil
		}}
		resp, _ := send(t, l.client, req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
		if len(hints) != 1 || hints[0].Get("Set-Cookie") != "" {
			t.Errorf("hints %q", hints)
		}
		l.wantPrivateCookie(t, resp)
	})
	t.Run("early hints before an answer for others", func(t *testing.T) {
		l.told.answer(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Set("Cache-Control", "public, max-age=60")
		})
		if resp, _ := get(t, l.client, "https://auth.example.com/proxy", l.header); sessionOf(resp) != "" {
			t.Errorf("%q", resp.Header)
		}
	})
	for mode, header := range map[string]string{"a script's": "Sec-Fetch-Mode: websocket\r\n", "one that claims to be a page load": "Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n"} {
		t.Run("a WebSocket, "+mode, func(t *testing.T) { l.upgrade(t, header) })
	}
}

func (l *leakRenewing) request(t *testing.T, path string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://auth.example.com"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = l.header.Clone()
	return req
}

func (l *leakRenewing) begin(t *testing.T, path string) *http.Response {
	t.Helper()
	resp, err := l.client.Do(l.request(t, path))
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func (l *leakRenewing) wantPrivateCookie(t *testing.T, resp *http.Response) {
	t.Helper()
	if sessionOf(resp) == "" || resp.Header.Get("Cache-Control") != "private" {
		t.Errorf("%q", resp.Header)
	}
}

// upgrade checks that a connection becomes a WebSocket, works both ways, and has no cookie that somebody
// else could be served with: an answer 101 is nobody's but the connection's.
func (l *leakRenewing) upgrade(t *testing.T, header string) {
	t.Helper()
	l.told.answer(func(w http.ResponseWriter, _ *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_ = rw.Flush()
		line, _ := rw.ReadString('\n')
		_, _ = rw.WriteString("got " + line)
		_ = rw.Flush()
	})
	c, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", l.https), &tls.Config{ServerName: "auth.example.com", RootCAs: l.roots(), NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(c, "GET /proxy HTTP/1.1\r\nHost: auth.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nCookie: "+l.header.Get("Cookie")+"\r\n"+header+"\r\n")
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v %v", resp, err)
	}
	if sessionOf(resp) != "" && !leakForbidden(resp.Header["Cache-Control"]) {
		t.Errorf("%q", resp.Header)
	}
	_, _ = io.WriteString(c, "hello\n")
	if line, err := in.ReadString('\n'); line != "got hello\n" {
		t.Errorf("%q %v", line, err)
	}
}
