package integration

import (
	"strings"
	"testing"
)

// tryWithout sends the same forgeries to a site without wechat_auth: what would not arrive there either
// proves nothing elsewhere.
func (f *forgeWorld) tryWithout(t *testing.T, protocol string) {
	nobody := &forgeUser{family: forgeUsual}
	for _, open := range []bool{false, true} {
		port, sure := f.https, forgeSpellings // with the filter shut all of them pass: none has _ or .
		if open {
			port, sure = f.open, forgeSpellings/2 // each opened name closes others
		}
		c := f.forgeSpeak(t, protocol, port, forgeControl)
		for _, kind := range forgeKinds(protocol, "POST") {
			for range 5 {
				n := int(f.cases.Add(1))
				r, _ := f.forge(forgeTry{protocol, "POST", kind, forgePlace{host: forgeControl, uri: "/x"}, false, open}, n, nobody)
				if _, err := c.send(r); err != nil {
					t.Fatalf("%s: %v", kind, err)
				}
				seen := f.raw.of(n)
				if len(seen) != 1 {
					t.Fatalf("%s: came through %d times", kind, len(seen))
				}
				headers, trailers := forgeCount(seen[0].lines), forgeCount(seen[0].trailers)
				if wrong := forgeArrives(protocol, kind, headers, trailers, sure); wrong {
					t.Errorf("%s, opened %v: %d headers and %d trailers arrived", kind, open, headers, trailers)
				}
			}
		}
	}
}

// forgeArrives reports whether Caddy by itself does otherwise than these tests take for granted.
func forgeArrives(protocol, kind string, headers, trailers, sure int) (wrong bool) {
	switch kind {
	case forgeHeader:
		return headers < sure
	case forgeTwice: // of a name with _ or . neither
		return headers < sure/4
	case forgeAnnounced:
		return trailers < sure && protocol != "HTTP/3" // its server does not read any
	case forgeBeside:
		return trailers < sure && protocol == "HTTP/1.1"
	case forgeUnannounced:
		return false
	}
	return headers > 0 // those that Connection names
}

// forgeCount counts the lines with names of ours.
func forgeCount(lines []string) (n int) {
	for _, line := range lines {
		name, _, _ := strings.Cut(line, ":")
		if forgeUsual.claims(name) {
			n++
		}
	}
	return n
}
