package integration

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// forgeTimes is how often each trick is tried, each time with another name.
const forgeTimes = 20

// forgeTricks are requests as HTTP/1.1 lets a client write them, or nearly so. {HEAD} stands for Host and
// cookies, {N} for a name of ours in some spelling, {M} for the forged value.
var forgeTricks = []struct{ name, request string }{
	{"a folded line", "GET {U} HTTP/1.1\r\n{HEAD}X-Other: a\r\n {N}: {M}\r\n\r\n"},
	{"a line folded with a tab", "GET {U} HTTP/1.1\r\n{HEAD}X-Other: a\r\n\t{N}: {M}\r\nX-More: b\r\n\r\n"},
	{"a first line that begins with a blank", "GET {U} HTTP/1.1\r\n {N}: {M}\r\n{HEAD}\r\n"},
	{"a line that ends in LF alone", "GET {U} HTTP/1.1\r\n{HEAD}X-Other: a\n{N}: {M}\n\r\n"},
	{"a line that ends in CR alone", "GET {U} HTTP/1.1\r\n{HEAD}X-Other: a\r{N}: {M}\r\n\r\n"},
	{"a NUL before the line", "GET {U} HTTP/1.1\r\n{HEAD}X-Other: a\x00{N}: {M}\r\n\r\n"},
	{"a vertical tab before the line", "GET {U} HTTP/1.1\r\n{HEAD}X-Other: a\v{N}: {M}\r\n\r\n"},
	{"a blank before the colon", "GET {U} HTTP/1.1\r\n{HEAD}{N} : {M}\r\n\r\n"},
	{"a tab before the colon", "GET {U} HTTP/1.1\r\n{HEAD}{N}\t: {M}\r\n\r\n"},
	{"a name with a byte above ASCII", "GET {U} HTTP/1.1\r\n{HEAD}{N}\xa0: {M}\r\n\r\n"},
	{"a name with letters that fold into ASCII", "GET {U} HTTP/1.1\r\n{HEAD}X-Wechat-Open\u0131d: {M}\r\n\r\n"},
	{"a name in brackets", "GET {U} HTTP/1.1\r\n{HEAD}{N}[x]: {M}\r\n\r\n"},
	{"a name with a NUL", "GET {U} HTTP/1.1\r\n{HEAD}{N}\x00: {M}\r\n\r\n"},
	{"a name with a colon in it", "GET {U} HTTP/1.1\r\n{HEAD}:{N}: {M}\r\n\r\n"},
	{"Connection with tabs and empty places", "GET {U} HTTP/1.1\r\n{HEAD}Connection:\t,,\t{N}\t,,\tX-Wechat-Openid\t,x-wechat-APPID,\r\n{N}: {M}\r\n\r\n"},
	{"Connection in quotes", "GET {U} HTTP/1.1\r\n{HEAD}Connection: \"X-Wechat-Openid\", X-Wechat-Scope;q=1\r\n\r\n"},
	{"Connection on folded lines", "GET {U} HTTP/1.1\r\n{HEAD}Connection: keep-alive,\r\n X-Wechat-Openid,\r\n\t{N}\r\n\r\n"},
	{"a hundred lines of Connection", "GET {U} HTTP/1.1\r\n{HEAD}" + strings.Repeat("Connection: {N}, X-Wechat-Openid\r\n", 100) + "\r\n"},
	{"Connection that names itself and ours", "GET {U} HTTP/1.1\r\n{HEAD}Connection: Connection, X-Wechat-Openid\r\nConnection: {N}\r\n\r\n"},
	{"Proxy-Connection and Keep-Alive", "GET {U} HTTP/1.1\r\n{HEAD}Proxy-Connection: X-Wechat-Openid, {N}\r\nKeep-Alive: X-Wechat-Openid\r\n{N}: {M}\r\n\r\n"},
	{"TE", "GET {U} HTTP/1.1\r\n{HEAD}Connection: TE, X-Wechat-Openid\r\nTE: trailers, X-Wechat-Openid\r\n{N}: {M}\r\n\r\n"},
	{"Trailer without any", "GET {U} HTTP/1.1\r\n{HEAD}Trailer: X-Wechat-Openid, {N}\r\n{N}: {M}\r\n\r\n"},
	{"HTTP/1.0", "GET {U} HTTP/1.0\r\n{HEAD}{N}: {M}\r\n\r\n"},
	{"HTTP/1.0 with Connection", "GET {U} HTTP/1.0\r\n{HEAD}Connection: keep-alive, X-Wechat-Openid, {N}\r\n{N}: {M}\r\n\r\n"},
	{"HTTP/1.0 with chunks and trailers", "POST {U} HTTP/1.0\r\n{HEAD}Transfer-Encoding: chunked\r\nTrailer: {N}\r\n\r\n1\r\na\r\n0\r\n{N}: {M}\r\n\r\n"},
	{"the whole address in the first line", "GET https://{HOST}{U} HTTP/1.1\r\n{HEAD}{N}: {M}\r\nConnection: X-Wechat-Openid\r\n\r\n"},
	{"the whole address in the first line, another Host", "GET https://{HOST}{U} HTTP/1.1\r\nHost: evil.example\r\nCookie: {COOKIE}\r\n{N}: {M}\r\n\r\n"},
	{"chunk extensions", "POST {U} HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\n1;{N}={M}\r\na\r\n0;{N}={M}\r\n{N}: {M}\r\n\r\n"},
	{"folded trailers", "POST {U} HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\nTrailer: X-Other\r\n\r\n1\r\na\r\n0\r\nX-Other: a\r\n {N}: {M}\r\n{N}: {M}\r\n\r\n"},
	{"trailers announced on two lines, in odd case", "POST {U} HTTP/1.1\r\n{HEAD}Transfer-Encoding: Chunked\r\nTRAILER: X-Other\r\ntrailer:\t{N},,x-wechat-openid\r\n\r\n1\r\na\r\n0\r\n{N}: {M}\r\nX-Wechat-Openid: {M}\r\n\r\n"},
	{"trailers after Expect", "POST {U} HTTP/1.1\r\n{HEAD}Expect: 100-continue\r\nTransfer-Encoding: chunked\r\nTrailer: {N}\r\n\r\n1\r\na\r\n0\r\n{N}: {M}\r\n\r\n"},
	{"trailers behind nothing", "POST {U} HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\nTrailer: {N}\r\n\r\n0\r\n{N}: {M}\r\n\r\n"},
	{"two ways to say how long the body is", "POST {U} HTTP/1.1\r\n{HEAD}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n{N}: {M}\r\n\r\n"},
	{"chunked twice", "POST {U} HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{N}: {M}\r\n\r\n"},
	{"chunked and something else", "POST {U} HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n{N}: {M}\r\n\r\n"},
	{"chunked behind a control byte", "POST {U} HTTP/1.1\r\n{HEAD}Transfer-Encoding: \vchunked\r\n\r\n0\r\n{N}: {M}\r\n\r\n"},
	{"another method by header", "POST {U} HTTP/1.1\r\n{HEAD}X-HTTP-Method-Override: GET\r\nContent-Length: 0\r\n{N}: {M}\r\n\r\n"},
	{"variables of CGI by header", "GET {U} HTTP/1.1\r\n{HEAD}Remote-User: evil\r\nRemoteUser: evil\r\nAuth-User: evil\r\nRedirect-Remote-User: evil\r\nProxy: evil\r\n{N}: {M}\r\n\r\n"},
	{"an upgrade to HTTP/2", "GET {U} HTTP/1.1\r\n{HEAD}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n"},
	{"an upgrade to HTTP/2, its settings not named", "GET {U} HTTP/1.1\r\n{HEAD}Connection: Upgrade\r\nUpgrade: H2C\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n"},
	{"an upgrade to HTTP/2 behind a web socket", "GET {U} HTTP/1.1\r\n{HEAD}Connection: Upgrade\r\nUpgrade: websocket, h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n"},
	{"an upgrade to HTTP/2 on another line", "GET {U} HTTP/1.1\r\n{HEAD}Connection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n\r\n"},
	{"an upgrade to TLS", "GET {U} HTTP/1.1\r\n{HEAD}Connection: upgrade\r\nUpgrade: TLS/1.2\r\n\r\n"},
}

// forgeSpots are a stranger on a public path and lina on a protected one.
var forgeSpots = []forgePlace{
	{host: forgeOne, uri: "/open/x", anonymous: true},
	{host: forgeOne, uri: "/member/x", signed: true},
	{host: forgeTwo, uri: "/locked/x", anonymous: true},
	{host: forgePHP, uri: "/member/x", signed: true},
}

func (f *forgeWorld) tryTricks(t *testing.T) {
	arrived := 0
	for _, trick := range forgeTricks {
		t.Run(trick.name, func(t *testing.T) {
			for i := range forgeTimes {
				spot := forgeSpots[i%len(forgeSpots)]
				port := []int{f.https, f.open}[i/len(forgeSpots)%2]
				c := f.forgeSpeak(t, "HTTP/1.1", port, spot.host).(*forgeH1)
				n := int(f.cases.Add(1))
				request := f.forgeTrick(trick.request, spot, n, port)
				method, _, _ := strings.Cut(request, " ")
				_, err := c.write(method, request)
				c.close()
				if err != nil && !forgeRefused(err) {
					t.Fatalf("%q: %v", request, err)
				}
				came, err := f.judgeSpot(spot, n)
				if err != nil {
					t.Fatalf("%q:\n%v", request, err)
				}
				if came {
					arrived++
				}
			}
		})
	}
	if arrived < len(forgeTricks)*forgeTimes/2 {
		t.Errorf("only %d requests came through", arrived)
	}
	t.Logf("%d tricks, %d times each; %d requests came through", len(forgeTricks), forgeTimes, arrived)
}

func (f *forgeWorld) forgeTrick(request string, spot forgePlace, n, port int) string {
	user := f.users[spot.host]
	speller := &forgeSpeller{Rand: f.rng}
	name := speller.name(user.family, forgeFill)
	if port == f.open {
		name = f.aliases[f.rng.IntN(len(f.aliases))]
	}
	cookie := "theme=dark"
	if spot.signed {
		cookie = user.cookie + "; theme=dark"
	}
	return strings.NewReplacer(
		"{HEAD}", "Host: "+spot.host+"\r\nCookie: "+cookie+"\r\n", "{HOST}", spot.host, "{COOKIE}", cookie,
		"{U}", fmt.Sprintf("%s?case=%d", spot.uri, n), "{N}", name, "{M}", forgeMark,
	).Replace(request)
}

// judgeSpot looks at the identity that an upstream got, if it got the request at all.
func (f *forgeWorld) judgeSpot(spot forgePlace, n int) (came bool, err error) {
	user := f.users[spot.host]
	w := forgeWant{family: user.family, identity: map[string]string{}}
	if spot.signed {
		w.identity = user.identity()
	}
	if spot.host == forgePHP {
		s, err := f.phpOf(n)
		if s == nil || err != nil {
			return false, err
		}
		return true, w.judgePHPIdentity(s)
	}
	for _, s := range f.raw.of(n) {
		err = errors.Join(err, w.judgeIdentity(s))
	}
	return len(f.raw.of(n)) > 0, err
}

// tryPipelines: what is read ahead of an answer is a request of its own, and so is what follows a body.
func (f *forgeWorld) tryPipelines(t *testing.T) {
	first, second := forgeSpots[1], forgeSpots[0]
	for range forgeTimes {
		c := f.forgeSpeak(t, "HTTP/1.1", f.https, forgeOne).(*forgeH1)
		n, m := int(f.cases.Add(1)), int(f.cases.Add(1))
		one := f.forgeTrick("POST {U} HTTP/1.1\r\n{HEAD}Content-Length: 3\r\n\r\na=1", first, n, f.https)
		two := f.forgeTrick("GET {U} HTTP/1.1\r\n{HEAD}{N}: {M}\r\nConnection: X-Wechat-Openid\r\n\r\n", second, m, f.https)
		if a, err := c.write(http.MethodPost, one+two); err != nil || a.status != http.StatusOK {
			t.Fatalf("the first: %d, %v", a.status, err)
		}
		if a, err := c.answer(http.MethodGet); err != nil || a.status != http.StatusOK {
			t.Fatalf("the second: %d, %v", a.status, err)
		}
		for spot, number := range map[*forgePlace]int{&first: n, &second: m} {
			if came, err := f.judgeSpot(*spot, number); err != nil || !came {
				t.Fatalf("%s: came through: %v; %v", spot.uri, came, err)
			}
		}
	}
}
