package caddymodule

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-wechat/caddy-wechat/ticket"
)

func testSite(hosts, origins []string, test bool) (*site, error) {
	s := &site{
		app:     &App{gateway: &gateway{keys: &ticket.Keyring{}}},
		account: &account{name: "default", appID: "wx1", test: test},
		address: &siteAddress{hosts: hosts, open: len(hosts) == 0, inSite: true},
		exact:   map[string]bool{}, path: "/_wechat", cookie: "s",
	}
	return s, s.takeOrigins(origins)
}

func TestOriginRule(t *testing.T) {
	shop := []string{"shop.example.org"}
	cases := []struct {
		name    string
		hosts   []string
		origins []string
		test    bool
		host    string
		port    int // of the connection
		https   bool
		want    string // "" for none
	}{
		{"the site's host", shop, nil, false, "shop.example.org", 443, true, "https://shop.example.org"},
		{"in upper case", shop, nil, false, "SHOP.example.ORG", 443, true, "https://shop.example.org"},
		{"with the default port", shop, nil, false, "shop.example.org:443", 443, true, "https://shop.example.org"},
		{"with the connection's own port", shop, nil, false, "shop.example.org:8443", 8443, true, "https://shop.example.org:8443"},
		{"with a port that is not the connection's", shop, nil, false, "shop.example.org:9999", 8443, true, ""},
		{"without a port on another than the default", shop, nil, false, "shop.example.org", 8443, true, "https://shop.example.org"},
		{"over plain http", shop, nil, false, "shop.example.org", 80, false, "http://shop.example.org"},
		{"with a trailing dot", shop, nil, false, "shop.example.org.", 443, true, ""},
		{"another host", shop, nil, false, "evil.example", 443, true, ""},
		{"a host behind user info", shop, nil, false, "shop.example.org@evil.example", 443, true, ""},
		{"a subdomain", shop, nil, false, "a.shop.example.org", 443, true, ""},
		{"a listed origin alone", shop, []string{"https://www.example.org"}, false, "shop.example.org", 443, true, ""},
		{"a listed origin", shop, []string{"https://www.example.org"}, false, "www.example.org", 8443, true, "https://www.example.org"},
		{"a listed origin by another scheme", shop, []string{"https://www.example.org"}, false, "www.example.org", 80, false, ""},
		{"a listed origin with a port", shop, []string{"https://www.example.org:8443"}, false, "www.example.org:8443", 443, true, "https://www.example.org:8443"},
		{"a wildcard's label", nil, []string{"https://*.example.org"}, false, "a.example.org", 443, true, "https://a.example.org"},
		{"two labels under a wildcard", nil, []string{"https://*.example.org"}, false, "a.b.example.org", 443, true, ""},
		{"a wildcard's own domain", nil, []string{"https://*.example.org"}, false, "example.org", 443, true, ""},
		{"a wildcard with another port", nil, []string{"https://*.example.org"}, false, "a.example.org:8443", 8443, true, ""},
		{"an international name", []string{"xn--fsqu00a.example"}, []string{"https://例子.example"}, false, "xn--fsqu00a.example", 443, true, "https://xn--fsqu00a.example"},
		{"any host of a test account", nil, nil, true, "192.168.1.5:8080", 8080, false, "http://192.168.1.5:8080"},
		{"an IPv6 address of a test account", nil, nil, true, "[::1]:8080", 8080, false, "http://[::1]:8080"},
		{"a malformed host of a test account", nil, nil, true, "a..b", 80, false, ""},
		{"a malformed port", nil, nil, true, "a.test:08", 80, false, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s, err := testSite(c.hosts, c.origins, c.test)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time from memory
				got := ""
				if o := s.originOf(requestAt(t, c.host, c.port, c.https)); o != nil {
					got = o.name
				}
				if got != c.want {
					t.Errorf("got %q, want %q", got, c.want)
				}
			}
		})
	}
}

func requestAt(t *testing.T, host string, port int, https bool) *http.Request {
	t.Helper()
	r := httptest.NewRequest("GET", "/", nil)
	r.Host, r.TLS = host, nil
	if https {
		r.TLS = &tls.ConnectionState{}
	}
	ctx := t.Context()
	ctx = contextWith(ctx, http.LocalAddrContextKey, &net.TCPAddr{Port: port})
	return caddyhttp.PrepareRequest(r.WithContext(ctx), newTestReplacer(), nil, nil)
}

// On a catch-all address a login would be signed for whatever host a visitor names.
func TestOriginIsRequiredWhereTheAddressTakesAnyHost(t *testing.T) {
	if _, err := testSite(nil, nil, false); err == nil {
		t.Error("a catch-all site needs no origin")
	}
	if _, err := testSite(nil, nil, true); err != nil {
		t.Errorf("a test account needs one: %v", err)
	}
}

// Sites that differ by their wildcards alone were one: the second had to name the first one's origins.
func TestSitesWithWildcardsAreToldApart(t *testing.T) {
	keys := map[string]bool{}
	for _, hosts := range []caddyhttp.MatchHost{nil, {"*.a.example"}, {"*.b.example"}, {"b.example", "*.b.example"}, {"b.example"}, {"{env.HOST}"}} {
		addr := siteAddress{inSite: true}
		sets := caddyhttp.MatcherSets{{&hosts}}
		if hosts == nil {
			sets = nil
		}
		addr.readHosts(sets)
		keys[addr.key()] = true
	}
	if len(keys) != 6 {
		t.Errorf("6 sites have %d keys: %v", len(keys), keys)
	}
}

func TestForwardedProtoCountsFromATrustedProxyAlone(t *testing.T) {
	s, _ := testSite([]string{"shop.example.org"}, nil, false)
	for _, trusted := range []bool{true, false} {
		r := requestAt(t, "shop.example.org", 80, false)
		r.Header.Set("X-Forwarded-Proto", "https")
		r.Header.Set("X-Forwarded-Host", "evil.example")
		caddyhttp.SetVar(r.Context(), caddyhttp.TrustedProxyVarKey, trusted)
		want := map[bool]string{true: "https://shop.example.org", false: "http://shop.example.org"}[trusted]
		if o := s.originOf(r); o == nil || o.name != want {
			t.Errorf("trusted %v: %v, want %s", trusted, o, want)
		}
	}
}

func TestRedirectURI(t *testing.T) {
	cases := []struct {
		name    string
		domains []string
		test    bool
		origin  string
		port    string
		want    string
	}{
		{"no domain: the site itself", nil, false, "https://shop.example.org", "", "https://shop.example.org/_wechat/callback"},
		{"never a port", nil, false, "https://shop.example.org:8443", "8443", "https://shop.example.org/_wechat/callback"},
		{"but for tests", nil, true, "http://192.168.1.5:8080", "8080", "http://192.168.1.5:8080/_wechat/callback"},
		{"the bound domain for another site", []string{"https://auth.example.com", "https://b.example.com"}, false, "https://shop.example.org", "", "https://auth.example.com/_wechat/callback"},
		{"a site that is the second bound domain itself", []string{"https://auth.example.com", "https://b.example.com"}, false, "https://b.example.com", "", "https://b.example.com/_wechat/callback"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s, _ := testSite([]string{"shop.example.org"}, nil, c.test)
			s.account.domains = c.domains
			if got := s.newOrigin(c.origin, c.port, true).redirectURI(); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// A site at a mapped port is told anew for each request, and changes no table on the way: that takes a lock.
func TestMappedPortIsNotRemembered(t *testing.T) {
	a, _ := signedInAuth(t)
	const host = "shop.example.org:9999"
	a.site.exact = map[string]bool{"http://" + host: true}
	r := newBenchRequest(t, "").r // came in on port 80
	r.Host = host
	for range 2 {
		if o := a.site.originOf(r); o == nil || o.name != "http://"+host {
			t.Fatalf("the site's origin is %v", o)
		}
	}
	if a.site.origins[0].get(host) != nil {
		t.Error("what depends on the connection is remembered")
	}
}
