package main

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// The hosts of a configuration. Each is served over http and https alike; what is compared differs in its host, and
// the address that it is served at.
const (
	plainHost   = "plain.bench.test" // reverse_proxy
	emptyHost   = "empty.bench.test" // a handler that does nothing, reverse_proxy
	lookupHost  = "looks.bench.test" // the look-up handler, reverse_proxy
	redirHost   = "redir.bench.test" // redir
	freshHost   = "fresh.bench.test" // redir, with another state each time, four bytes longer
	callHost    = "calls.bench.test" // a bare call to WeChat, redir
	shopHost    = "shops.bench.test" // wechat_auth, reverse_proxy
	brokerHost  = "brokr.bench.test" // the bound domain: wechat_broker, wechat_auth, reverse_proxy
	clientsHost = "clien.bench.test" // the bound domain of an account whose broker has a client
	returnHost  = "retrn.bench.test" // the client's
)

var measuredHosts = []string{plainHost, emptyHost, lookupHost, redirHost, freshHost, callHost, shopHost, brokerHost, clientsHost}

// ip is the address that a host is served at. Caddy tries the sites of one after the other, up to 1 µs each: what is
// compared must not stand behind another. Where there are many sites they all are at one.
func (g *gateway) ip(host string) string {
	if g.sites > 1 {
		return loopback
	}
	return net.IPv4(127, 0, 0, byte(2+slices.Index(measuredHosts, host))).String()
}

func (g *gateway) address(host string, port int) string {
	return net.JoinHostPort(g.ip(host), strconv.Itoa(port))
}

const (
	appSecret     = "0123456789abcdef0123456789abcdef"
	sessionSecret = "a-secret-of-the-benchmarks-only-0123456789"
	clientSecret  = "a-secret-of-the-client-only"
	clientID      = "client"
	clientsAppID  = "wxc000000000000000"

	publicPath = "/static/" // needs no login
	memberPath = "/member/"
	manySites  = 100 // and accounts
)

// setting is what a gateway differs in from another.
type setting struct {
	users    int    // who are signed in
	cache    string // of verified sessions; empty: the default
	sites    int    // with wechat_auth, the measured one among them
	accounts int    // each beyond the first has a site
}

// appID is that of the account i.
func appID(i int) string { return fmt.Sprintf("wx%016x", i) }

func (g *gateway) caddyfile() string {
	var b strings.Builder
	fmt.Fprintf(&b, `{
	admin unix/%s/admin
	http_port %d
	https_port %d
	auto_https disable_redirects
	local_certs
	skip_install_trust
	grace_period 1s
	storage file_system %s/storage
	log {
		level INFO
	}
	wechat {
`, g.dir, g.http, g.https, g.dir)
	if g.cache != "" {
		fmt.Fprintf(&b, "cache %s\n", g.cache)
	}
	b.WriteString("store memory 2GiB\n") // each login of a run is remembered for ten minutes
	b.WriteString("session_key {\n secret {env.BENCH_SESSION_SECRET}\n}\n")
	for i := range g.accounts {
		b.WriteString(g.account(fmt.Sprintf("a%d", i), appID(i), "http://"+brokerHost))
	}
	b.WriteString(g.account("clients", clientsAppID, "https://"+clientsHost) + "}\n}\n")
	for i := range g.sites - 1 { // before the measured ones: Caddy tries them in this order
		b.WriteString(g.site(fmt.Sprintf("s%04d.bench.test", i), g.auth((i+1)%g.accounts)))
	}
	state := strings.Repeat("s", stateLength)
	b.WriteString(g.site(emptyHost, "bench_empty") +
		g.site(lookupHost, "bench_lookup * "+g.path("tokens")) +
		g.site(plainHost, "") +
		g.site(shopHost, g.auth(0)) +
		g.site(brokerHost, "wechat_broker\n"+g.auth(0)) +
		g.site(clientsHost, "wechat_broker clients {\n client "+clientID+" {\n secret {env.BENCH_CLIENT_SECRET}\n return_to https://"+returnHost+"/*\n scope snsapi_base\n}\n}") +
		g.site(redirHost, "redir "+g.plainRedirect(state)) +
		g.site(freshHost, "redir "+g.plainRedirect("{http.request.uuid}")) +
		g.site(callHost, "bench_call * "+g.wechat+"\nredir "+g.plainRedirect(state)))
	return b.String()
}

func (g *gateway) account(name, appID, domain string) string {
	wechat := "http://" + g.wechat
	return "account " + name + " {\n app_id " + appID + "\n app_secret {env.BENCH_APP_SECRET}\n domain " + domain +
		"\n test\n open_url " + wechat + "\n api_url " + wechat + "\n}\n"
}

func (g *gateway) auth(account int) string {
	return fmt.Sprintf("wechat_auth {\n account a%d\n public %s*\n}", account, publicPath)
}

func (g *gateway) site(host, directives string) string {
	return "http://" + host + ", https://" + host + " {\nbind " + g.ip(host) + "\n" + directives + "\nreverse_proxy " + g.upstream + "\n}\n"
}

const sealedLength, stateLength = 280, 32 // of what starts a login

// plainRedirect is as long as what starts a login.
func (g *gateway) plainRedirect(state string) string {
	back := "http://" + brokerHost + "/_wechat/callback?login=" + strings.Repeat("s", sealedLength)
	return "http://" + g.wechat + "/connect/oauth2/authorize?appid=" + appID(0) + "&redirect_uri=" + url.QueryEscape(back) +
		"&response_type=code&scope=snsapi_base&state=" + state + "#wechat_redirect"
}
