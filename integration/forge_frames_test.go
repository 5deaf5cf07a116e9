package integration

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// forgeFramed speaks HTTP/2 or HTTP/3 with all fields as they are given.
type forgeFramed interface {
	sendFields(fields []forgeField, r forgeRequest) (forgeAnswer, error)
}

// forgeFrameTricks are fields beside the usual ones, {N} and {M} as before.
var forgeFrameTricks = []struct {
	name   string
	fields []forgeField
}{
	{"upper-case names", []forgeField{{"X-Wechat-Openid", "{M}"}}},
	{"a name with a line break", []forgeField{{"x-a\r\n{N}: {M}\r\nx-b", "1"}}},
	{"a name with a colon", []forgeField{{"{N}:", "{M}"}}},
	{"a name with a blank", []forgeField{{" {N}", "{M}"}, {"{N} ", "{M}"}}},
	{"a name with a byte above ASCII", []forgeField{{"{N}\xa0", "{M}"}}},
	{"no name", []forgeField{{"", "{N}: {M}"}}},
	{"a value with a line break", []forgeField{{"x-a", "1\r\n{N}: {M}"}}},
	{"a value with LF alone", []forgeField{{"x-a", "1\n{N}: {M}"}}},
	{"a value with a NUL", []forgeField{{"x-a", "1\x00{N}: {M}"}}},
	{"a pseudo-field of ours", []forgeField{{":x-wechat-openid", "{M}"}}},
	{"a pseudo-field behind the others", []forgeField{{"x-a", "1"}, {":path", "/open/y"}, {"{N}", "{M}"}}},
	{"Connection", []forgeField{{"connection", "x-wechat-openid, {N}"}, {"{N}", "{M}"}}},
	{"Connection of an upgrade", []forgeField{{"connection", "upgrade, x-wechat-openid"}, {"upgrade", "websocket"}}},
	{"Proxy-Connection and Keep-Alive", []forgeField{{"proxy-connection", "x-wechat-openid"}, {"keep-alive", "x-wechat-openid"}, {"{N}", "{M}"}}},
	{"an upgrade to HTTP/2", []forgeField{{"upgrade", "h2c"}, {"http2-settings", "AAMAAABkAAQCAAAAAAIAAAAA"}}},
	{"Transfer-Encoding", []forgeField{{"transfer-encoding", "chunked"}, {"{N}", "{M}"}}},
	{"TE", []forgeField{{"te", "trailers"}, {"{N}", "{M}"}}},
	{"TE of something else", []forgeField{{"te", "x-wechat-openid"}, {"{N}", "{M}"}}},
	{"a host of its own", []forgeField{{"host", "evil.example"}, {"{N}", "{M}"}}},
	{"the same host", []forgeField{{"host", "{HOST}"}, {"{N}", "{M}"}}},
	{"the protocol of a web socket, without one", []forgeField{{":protocol", "websocket"}, {"{N}", "{M}"}}},
	{"a body longer than it says", []forgeField{{"content-length", "1"}, {"{N}", "{M}"}}},
}

func (f *forgeWorld) tryFrames(t *testing.T) {
	for _, protocol := range []string{"HTTP/2", "HTTP/3"} {
		arrived := 0
		for _, trick := range forgeFrameTricks {
			t.Run(protocol+": "+trick.name, func(t *testing.T) {
				for i := range forgeTimes {
					came, err := f.tryFrame(t, protocol, forgeSpots[i%len(forgeSpots)], trick.fields, i)
					if err != nil {
						t.Fatal(err)
					}
					if came {
						arrived++
					}
				}
			})
		}
		if arrived < 2*forgeTimes { // at least TE and the same host
			t.Errorf("%s: only %d requests came through", protocol, arrived)
		}
		t.Logf("%s: %d tricks, %d times each; %d requests came through", protocol, len(forgeFrameTricks), forgeTimes, arrived)
	}
}

func (f *forgeWorld) tryFrame(t *testing.T, protocol string, spot forgePlace, odd []forgeField, i int) (bool, error) {
	user := f.users[spot.host]
	name := (&forgeSpeller{Rand: f.rng, lower: true}).name(user.family, forgeFill)
	port := f.https
	if i%2 == 1 {
		port, name = f.open, strings.ToLower(f.aliases[f.rng.IntN(len(f.aliases))])
	}
	n := int(f.cases.Add(1))
	r := forgeRequest{method: http.MethodPost, host: spot.host, uri: fmt.Sprintf("%s?case=%d", spot.uri, n), body: "a=1"}
	fields := forgePseudo(r)
	if spot.signed {
		fields = append(fields, forgeField{"cookie", user.cookie})
	}
	write := strings.NewReplacer("{N}", name, "{M}", forgeMark, "{HOST}", spot.host)
	for _, o := range odd {
		fields = append(fields, forgeField{write.Replace(o.name), write.Replace(o.value)})
	}
	c := f.forgeSpeak(t, protocol, port, spot.host)
	_, err := c.(forgeFramed).sendFields(fields, r)
	c.close()
	if err != nil && !forgeRefused(err) {
		return false, fmt.Errorf("%q: %w", fields, err)
	}
	return f.judgeSpot(spot, n)
}

// tryTunnels: inside CONNECT, and behind an upgrade to a protocol that speaks HTTP again, a client could
// say anything to the upstream, past the gateway. Go sends the body of a CONNECT without a frame around
// it: the upstream takes it for the next request.
func (f *forgeWorld) tryTunnels(t *testing.T) {
	const smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\nX-Wechat-Openid: " + forgeMark + "\r\n\r\n"
	for _, protocol := range forgeProtocols[1:] {
		for _, spot := range append(forgeSpots, forgePlace{host: forgePart, uri: "/"}, forgePlace{host: forgePart, uri: "/", signed: true}) {
			for _, to := range []string{"a path", "a host", "connect-tcp", "h2c", "http/1.1"} {
				t.Run(fmt.Sprintf("%s, %s%s, to %s", protocol, spot.host, spot.uri, to), func(t *testing.T) {
					f.tryTunnel(t, protocol, to, spot, smuggled)
				})
			}
		}
	}
}

func (f *forgeWorld) tryTunnel(t *testing.T, protocol, to string, spot forgePlace, said string) {
	n := int(f.cases.Add(1))
	r := forgeRequest{method: http.MethodConnect, host: spot.host, uri: fmt.Sprintf("%s?case=%d", spot.uri, n), body: said}
	if spot.signed {
		r.fields = []forgeField{{"cookie", f.users[spot.host].cookie}}
	}
	c := f.forgeSpeak(t, protocol, f.https, spot.host)
	var err error
	switch {
	case protocol == "HTTP/1.1":
		if r.trailers = []forgeField{}; to == "a host" {
			r.uri = spot.host + ":443"
		}
		_, err = c.send(r)
	case to == "a host":
		_, err = c.send(r)
	case to == "a path":
		_, err = c.(forgeFramed).sendFields(append([]forgeField{{":method", "CONNECT"}, {":scheme", "https"}, {":authority", r.host}, {":path", r.uri}}, r.fields...), r)
	default:
		_, err = c.(forgeFramed).sendFields(append([]forgeField{{":method", "CONNECT"}, {":protocol", to}, {":scheme", "https"}, {":authority", r.host}, {":path", r.uri}}, r.fields...), r)
	}
	c.close()
	if err != nil && !forgeRefused(err) {
		t.Fatal(err)
	}
	for _, s := range f.raw.of(n) {
		t.Errorf("the upstream got %q", s.line)
	}
	f.raw.wantNothingStrange(t)
	f.raw.forgive()
}
