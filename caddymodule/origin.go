package caddymodule

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"golang.org/x/net/idna"
)

// siteAddress is what Caddy knows of a site when its handlers are provisioned.
type siteAddress struct {
	server *caddyhttp.Server
	hosts  []string // exact, lower-case; none on a catch-all address or in a named route
	wide   []string // those with a wildcard or a placeholder
	open   bool     // the address also takes hosts that are not in hosts: catch-all, wildcard, placeholder
	inSite bool     // false in a named route, which belongs to no site
}

// key tells sites of one configuration apart. A site's error routes have its hosts, and so its key.
func (s *siteAddress) key() string {
	return fmt.Sprintf("%p %t %q %q", s.server, s.inSite, s.hosts, s.wide)
}

// addressOf finds the site that a handler is being provisioned for: the first route of its server that
// is not provisioned yet.
func addressOf(ctx caddy.Context) *siteAddress {
	server, _ := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	addr := &siteAddress{server: server, open: true}
	if server == nil {
		return addr
	}
	routes := server.Routes
	if server.Errors != nil {
		routes = slices.Concat(routes, server.Errors.Routes)
	}
	for _, route := range routes {
		// Caddy drops the raw handlers of a route once they are loaded.
		if len(route.HandlersRaw) > 0 {
			addr.inSite = true
			addr.readHosts(route.MatcherSets)
			break
		}
	}
	return addr
}

// readHosts takes the hosts of a route's matchers. A set without a host matcher takes any host.
func (s *siteAddress) readHosts(sets caddyhttp.MatcherSets) {
	s.open = len(sets) == 0
	for _, set := range sets {
		var hosts caddyhttp.MatchHost
		for _, m := range set {
			if h, ok := m.(*caddyhttp.MatchHost); ok {
				hosts = append(hosts, *h...)
			}
		}
		s.open = s.open || len(hosts) == 0
		for _, host := range hosts {
			if strings.ContainsAny(host, "*{") {
				s.open, s.wide = true, append(s.wide, host)
				continue
			}
			s.hosts = append(s.hosts, strings.ToLower(host))
		}
	}
	slices.Sort(s.hosts)
	slices.Sort(s.wide)
	s.hosts, s.wide = slices.Compact(s.hosts), slices.Compact(s.wide)
}

// requestScheme tells https from the connection, or by a trusted proxy. X-Forwarded-Host is not read.
func requestScheme(r *http.Request) string {
	if r.TLS != nil || forwardedHTTPS(r) {
		return "https"
	}
	return "http"
}

func forwardedHTTPS(r *http.Request) bool {
	lines := r.Header["X-Forwarded-Proto"]
	if len(lines) == 0 {
		return false
	}
	trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	proto, _, _ := strings.Cut(lines[0], ",")
	proto = strings.TrimSpace(proto)
	return trusted && (strings.EqualFold(proto, "https") || strings.EqualFold(proto, "wss"))
}

// splitHost splits a Host header into its lower-case name and port.
func splitHost(s string) (host, port string, ok bool) {
	host = strings.ToLower(s)
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host, port = host[:i], host[i+1:]
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || port[0] == '0' {
			return "", "", false
		}
	}
	return host, port, isHost(host)
}

// isHost reports whether host can stand in an origin: a lower-case DNS name without a trailing dot, or an address.
func isHost(host string) bool {
	if inner, ok := strings.CutPrefix(host, "["); ok {
		return strings.HasSuffix(inner, "]") && net.ParseIP(inner[:len(inner)-1]) != nil
	}
	if host == "" || len(host) > 253 || host[0] == '.' || host[0] == '-' {
		return false
	}
	for i := range len(host) {
		c := host[i]
		dot := c == '.' && i+1 < len(host) && host[i-1] != '.'
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && !dot {
			return false
		}
	}
	return true
}

func defaultPort(scheme string) string {
	if scheme == "https" {
		return "443"
	}
	return "80"
}

// localPort reports whether port is the one that r's connection came in on.
func localPort(r *http.Request, port string) bool {
	n := 0
	switch addr := r.Context().Value(http.LocalAddrContextKey).(type) {
	case *net.TCPAddr:
		n = addr.Port
	case *net.UDPAddr:
		n = addr.Port
	}
	var room [20]byte
	return n != 0 && string(strconv.AppendInt(room[:0], int64(n), 10)) == port
}

// normalOrigin returns an origin as it is compared: lower-case, ASCII, without a default port. Its host
// may have * as the whole first label.
func normalOrigin(s string) (string, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "":
		return "", fmt.Errorf("origin %q is not one; write it as https://shop.example.org", s)
	case u.User != nil || (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "":
		return "", fmt.Errorf("origin %q has more than scheme, host and port; write it as https://shop.example.org", s)
	}
	host, port := u.Hostname(), u.Port()
	if strings.Contains(u.Host, "[") {
		host = "[" + host + "]"
	}
	host, wild := strings.CutPrefix(strings.ToLower(toASCII(host)), "*.")
	if !isHost(host) {
		return "", fmt.Errorf("origin %q: only the whole first label of a host may be *, and the rest must be a host name", s)
	}
	if port != "" && !isPort(port) {
		return "", fmt.Errorf("origin %q: its port is not one; write it as https://shop.example.org:8443", s)
	}
	if wild {
		host = "*." + host
	}
	if port != "" && port != defaultPort(u.Scheme) {
		host += ":" + port
	}
	return u.Scheme + "://" + host, nil
}

func checkOrigin(origin string) error {
	if placeholder(origin) {
		return nil
	}
	_, err := normalOrigin(origin)
	return err
}

// toASCII returns an international host name as DNS has it, or s where it is none.
func toASCII(s string) string {
	if a, err := idna.Lookup.ToASCII(s); err == nil {
		return a
	}
	return s
}

// joinOrigin puts an origin's parts together.
func joinOrigin(scheme, host, port string) string {
	if port == "" {
		return scheme + "://" + host
	}
	return scheme + "://" + host + ":" + port
}
