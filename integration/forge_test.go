package integration

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestIdentityCannotBeForged tries every spelling of every name, in every way a client has, everywhere on
// a site, and looks at the bytes that its upstream gets.
func TestIdentityCannotBeForged(t *testing.T) {
	f := newForgeWorld(t)
	for host, family := range map[string]forgeFamily{
		forgeOne: forgeUsual, forgeTwo: forgeAcme, forgeApp: {prefix: "X-Wechat-"}, forgePHP: {prefix: "X-Wechat-"},
		forgePart: {prefix: "X-Wechat-"}, forgePlain: {prefix: "X-Wechat-"}, forgeNamed: {prefix: "X-Wechat-"},
	} {
		f.signIn(t, host, family)
	}
	for _, protocol := range forgeProtocols {
		t.Run("over "+protocol, func(t *testing.T) { f.tryEverything(t, protocol) })
	}
	for _, protocol := range forgeProtocols[1:] {
		t.Run("without wechat_auth it would arrive over "+protocol, func(t *testing.T) { f.tryWithout(t, protocol) })
	}
	t.Run("by what HTTP/1.1 lets a client write", func(t *testing.T) { f.tryTricks(t) })
	t.Run("by what frames let a client write", func(t *testing.T) { f.tryFrames(t) })
	t.Run("by a tunnel", func(t *testing.T) { f.tryTunnels(t) })
	t.Run("by a second request on the connection", func(t *testing.T) { f.tryPipelines(t) })
	for _, protocol := range forgeProtocols[1:] {
		t.Run("and cookies stay byte for byte over "+protocol, func(t *testing.T) { f.tryCookies(t, protocol) })
	}
	t.Run("and nothing was smuggled in", f.raw.wantNothingStrange)
}

// forgeTry is a cell of the great table: everything that is tried in one request but the names.
type forgeTry struct {
	protocol, method, kind string
	place                  forgePlace
	signed, open           bool
}

func (y forgeTry) String() string {
	who, filter := "a stranger", "Caddy's filter shut"
	if y.signed {
		who = "lina"
	}
	if y.open {
		filter = "Caddy's filter open"
	}
	return fmt.Sprintf("%s %s to %s (%s%s), by %s, %s, %s", y.protocol, y.method, y.place.name, y.place.host, y.place.uri, who, y.kind, filter)
}

func (f *forgeWorld) tryEverything(t *testing.T, protocol string) {
	clients := map[string]forgeClient{}
	speak := func(host string, open bool) forgeClient {
		port := f.https
		switch {
		case host == forgePlain:
			port = f.http
		case open:
			port = f.open
		}
		key := fmt.Sprint(host, port)
		if clients[key] == nil {
			clients[key] = f.forgeSpeak(t, protocol, port, host)
		}
		return clients[key]
	}
	begun, requests, cells, arrived := time.Now(), 0, 0, 0
	for _, place := range forgePlaces {
		if (place.host == forgePlain) != (protocol == "plain HTTP/1.1") {
			continue
		}
		for _, method := range forgeMethods {
			for _, kind := range forgeKinds(protocol, method) {
				cells += 2
				for i := range 4 {
					y := forgeTry{protocol, method, kind, place, i%2 == 0, i/2 == 0}
					came, err := f.try(speak(place.host, y.open), y)
					if err != nil {
						t.Errorf("%s:\n%v", y, err)
					}
					if requests++; came {
						arrived++
					}
				}
				if t.Failed() {
					return
				}
			}
		}
	}
	t.Logf("%d requests in %d cells of %d spellings each, %d of them came through to an upstream, in %s",
		requests, cells, 2*forgeSpellings, arrived, time.Since(begun).Round(time.Millisecond))
}

// try sends one request and judges what came of it; it reports whether an upstream got it.
func (f *forgeWorld) try(c forgeClient, y forgeTry) (came bool, err error) {
	n := int(f.cases.Add(1))
	user := f.users[y.place.host]
	r, w := f.forge(y, n, user)
	a, err := c.send(r)
	if err != nil {
		return false, fmt.Errorf("sending: %w", err)
	}
	through := y.place.anonymous || y.signed && y.place.signed
	if y.place.host == forgePHP {
		s, err := f.phpOf(n)
		if err != nil || (s != nil) != through {
			return false, fmt.Errorf("came through: %v, want %v; %w; status %d, %q", s != nil, through, err, a.status, a.body)
		}
		if s != nil {
			err = w.judgePHP(s)
		}
		return s != nil, err
	}
	seen := f.raw.of(n)
	switch {
	case len(seen) > 1 || (len(seen) == 1) != through:
		return false, fmt.Errorf("came through %d times, want %v; status %d, %q", len(seen), through, a.status, a.body)
	case len(seen) == 0:
		return false, nil
	case r.websocket && !r.mute && a.body != forgeHello:
		return true, fmt.Errorf("no web socket: status %d, %q", a.status, a.body)
	}
	return true, w.judge(seen[0])
}

// forge makes a request, and what must arrive of it.
func (f *forgeWorld) forge(y forgeTry, n int, user *forgeUser) (forgeRequest, forgeWant) {
	speller := &forgeSpeller{f.rng, !strings.HasSuffix(y.protocol, "HTTP/1.1")}
	var pool []string
	if y.open {
		pool = f.aliases
	}
	names := speller.names(forgeSpellings, user.family, pool)
	r := forgeRequest{method: y.method, host: y.place.host, uri: y.uri(f, n)}
	w := forgeWant{family: user.family}
	if y.signed {
		w.identity = user.identity()
	} else {
		w.identity = map[string]string{}
	}
	r.fields = []forgeField{{"x-wecha", "1"}, {"wechat-openid", "2"}, {"x-we-chap-openid", "3"}}
	w.stay = []forgeField{{"X-Wecha", "1"}, {"Wechat-Openid", "2"}, {"X-We-Chap-Openid", "3"}}
	if y.method == forgeSocket {
		r.method, r.websocket = "GET", true
		r.mute = speller.lower && y.place.ahead // else Caddy waits for the end of what is said
	}
	if y.method == "POST" {
		r.body, w.body = "a=1&b=2", "a=1&b=2"
	}
	r.put(y.kind, names, f.forged(names, n), &w)
	f.rng.Shuffle(len(r.fields), func(i, j int) { r.fields[i], r.fields[j] = r.fields[j], r.fields[i] })
	f.cookies(&r, &w, y, user)
	return r, w
}

func (y forgeTry) uri(f *forgeWorld, n int) string {
	uri := y.place.uri
	if strings.Contains(uri, "%s") {
		word := fmt.Sprintf("%x", f.rng.Uint32())
		if strings.Contains(uri, "_wechat") {
			word = []string{"userinfo", "callback", "bye", "jwks.json", "x-wechat-openid", word}[f.rng.IntN(6)]
		}
		uri = fmt.Sprintf(uri, word)
	}
	return fmt.Sprintf("%s?case=%d", uri, n)
}

// forged gives names values. An empty one would be an identity of nobody where none should be.
func (f *forgeWorld) forged(names []string, n int) (fields []forgeField) {
	for i, name := range names {
		value := fmt.Sprintf("%s-%d-%d", forgeMark, n, i)
		if f.rng.IntN(10) == 0 {
			value = ""
		}
		fields = append(fields, forgeField{name, value})
	}
	return fields
}

// put places what is forged. Beside names of ours Connection has one that is not, for which Caddy does
// as it always does.
func (r *forgeRequest) put(kind string, names []string, forged []forgeField, w *forgeWant) {
	connection := func(lines ...string) {
		for _, line := range lines {
			r.fields = append(r.fields, forgeField{"Connection", line})
		}
		r.fields = append(r.fields, forgeField{"X-Drop", "4"})
		r.fields = append(r.fields, forged[:len(forged)/2]...)
		w.gone = append(w.gone, "X-Drop")
	}
	upgrade := ""
	if r.websocket {
		upgrade = "Upgrade, "
	}
	named := append(slices.Sorted(maps.Keys(w.identity)), names...)
	switch kind {
	case forgeHeader:
		r.fields = append(r.fields, forged...)
	case forgeTwice:
		r.fields = append(append(r.fields, forged...), forged...)
	case forgeAnnounced:
		r.fields = append(r.fields, forgeField{"trailer", strings.Join(named, ", ")})
		r.trailers = forged
	case forgeUnannounced:
		r.trailers = forged
	case forgeBeside:
		r.fields = append(r.fields, forgeField{"trailer", "x-other"})
		r.trailers = append(forged, forgeField{"x-other", forgeMark})
	case forgeConnection:
		connection("X-Drop, " + strings.Join(named, ", "))
	case forgeConnections:
		half := len(named) / 2
		connection("keep-alive", upgrade+strings.Join(named[:half], " ,\t"), ",,x-drop,"+strings.Join(named[half:], ","), "")
	case forgeUpgrade:
		if r.method == http.MethodGet {
			r.websocket = true
		} else {
			r.fields = append(r.fields, forgeField{"Upgrade", "websocket"})
		}
		connection("x-DROP\t,Upgrade, " + strings.Join(named, ",\t"))
	}
}

// cookies adds cookies, lina's session somewhere among them if she is who asks.
func (f *forgeWorld) cookies(r *forgeRequest, w *forgeWant, y forgeTry, user *forgeUser) {
	switch {
	case y.signed:
		r.fields = append(r.fields, forgeField{"cookie", "theme=dark; " + user.cookie + `; odd="a b"`})
		w.cookie = `theme=dark; odd="a b"`
	case f.rng.IntN(2) == 0:
		r.fields = append(r.fields, forgeField{"cookie", "__Host-wechat_session=" + forgeMark + "; wechat_session=" + forgeMark})
	}
}
