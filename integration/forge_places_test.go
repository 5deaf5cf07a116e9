package integration

import (
	"slices"
	"strings"
)

// forgePlace is somewhere on a site, and who may come through to its upstream.
type forgePlace struct {
	name, host, uri string
	anonymous       bool // strangers come through
	signed          bool // lina comes through
	ahead           bool // Caddy reads a body to its end before it goes on
}

var forgePlaces = []forgePlace{
	{"a protected path", forgeOne, "/member/x", false, true, false},
	{"a public path", forgeOne, "/open/x", true, true, false},
	{"a path nobody knows", forgeOne, "/nope/%s.cgi", false, true, false},
	{"the gateway's own path", forgeOne, "/_wechat/%s", false, false, false},
	{"a public path that is read ahead", forgeOne, "/open/buffered/x", true, true, true},
	{"a protected path of a site with a prefix of its own", forgeTwo, "/member/x", false, true, false},
	{"a public path of a site with a prefix of its own", forgeTwo, "/open/x", true, true, false},
	{"a path of the second handler", forgeTwo, "/open/vip/x", false, true, false},
	{"an error before the gateway", forgeTwo, "/locked/x", true, true, false},
	{"an error behind the gateway", forgeTwo, "/gone/x", true, true, false},
	{"a protected path inside handle_path", forgeApp, "/app/member/x", false, true, false},
	{"a public path inside handle_path", forgeApp, "/app/open/x", true, true, false},
	{"a protected path over plain http", forgePlain, "/member/x", false, true, false},
	{"a public path over plain http", forgePlain, "/open/x", true, true, false},
	{"a protected path behind a named route", forgeNamed, "/member/x", false, true, false},
	{"a public path behind a named route twice", forgeNamed, "/open/twice/x", true, true, false},
	{"an error behind a named route", forgeNamed, "/gone/x", true, true, false},
	{"PHP, protected", forgePHP, "/member/x", false, true, true},
	{"PHP, public", forgePHP, "/open/x", true, true, true},
	{"PHP, an error before the gateway", forgePHP, "/locked/x", true, true, true},
}

// The ways to forge.
const (
	forgeHeader      = "as a header"
	forgeTwice       = "as a header, twice"
	forgeAnnounced   = "as a trailer, announced"
	forgeUnannounced = "as a trailer, not announced"
	forgeBeside      = "as a trailer beside an announced one"
	forgeConnection  = "named in Connection"
	forgeConnections = "named in several lines of Connection"
	forgeUpgrade     = "named in Connection with Upgrade"
)

const forgeSocket = "a web socket"

var (
	forgeProtocols = []string{"plain HTTP/1.1", "HTTP/1.1", "HTTP/2", "HTTP/3"}
	forgeMethods   = []string{"GET", "POST", "OPTIONS", "HEAD", forgeSocket}
)

// forgeKinds are the ways to forge in a protocol. Only HTTP/1.1 has Connection, and a web socket there
// has no body to put trailers behind.
func forgeKinds(protocol, method string) []string {
	trailers := []string{forgeAnnounced, forgeUnannounced, forgeBeside}
	connection := []string{forgeConnection, forgeConnections, forgeUpgrade}
	kinds := []string{forgeHeader, forgeTwice}
	if !strings.HasSuffix(protocol, "HTTP/1.1") {
		return append(kinds, trailers...)
	}
	if method == forgeSocket {
		return append(kinds, forgeConnections, forgeUpgrade)
	}
	return slices.Concat(kinds, trailers, connection)
}

// forgeSpellings is how many names one request tries.
const forgeSpellings = 20
