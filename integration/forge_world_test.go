package integration

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// forgeWorld is a gateway that strangers try to fool, before a bare socket and PHP-FPM. Each site is
// served twice: on the usual port Caddy drops names with _ and . by itself, on the open one its operator
// expects hundreds of them.
type forgeWorld struct {
	*world
	raw     *forgeUpstream
	php     string // folder of the PHP application
	open    int    // the port with the opened filter
	aliases []string
	rng     *rand.Rand
	seed    [2]uint64
	users   map[string]*forgeUser // by host
	cases   atomic.Int64
}

// forgeUser is lina at one of the sites.
type forgeUser struct {
	cookie string            // her session
	values map[string]string // her identity by the header's ending: Openid and so on
	family forgeFamily
}

// The families of the sites.
var (
	forgeUsual = forgeFamily{"X-Wechat-", "X-Session-Token"}
	forgeAcme  = forgeFamily{"X-Acme-", ""}
)

const (
	forgeOne     = "one.example.net"     // one wechat_auth and nothing else
	forgeTwo     = "two.example.net"     // a prefix of its own, two handlers, basic_auth, error routes
	forgeApp     = "app.example.net"     // inside handle_path
	forgePHP     = "php.example.net"     // php_fastcgi, basic_auth, error routes
	forgePart    = "part.example.net"    // a list of protected paths: all others are open
	forgePlain   = "plain.example.net"   // over http
	forgeControl = "control.example.net" // no wechat_auth at all: what gets through Caddy by itself
	forgeNamed   = "named.example.net"   // named routes
)

// forgeScript keeps what PHP knows of a request under the number in its address.
const forgeScript = `<?php
$all = array('server' => $_SERVER, 'headers' => getallheaders(), 'env' => getenv(), 'cookie' => $_COOKIE, 'body' => file_get_contents('php://input'));
$name = __DIR__ . '/seen.' . (int) $_GET['case'];
$new = tempnam(__DIR__, 'new.'); // one number may come twice at once
file_put_contents($new, json_encode($all, JSON_INVALID_UTF8_SUBSTITUTE));
rename($new, $name);
echo 'ok';
`

func newForgeWorld(t *testing.T) *forgeWorld {
	t.Helper()
	socket := startPHP(t)
	f := &forgeWorld{raw: newForgeUpstream(t), php: t.TempDir(), open: freePort(t), seed: forgeSeed(t), users: map[string]*forgeUser{}}
	f.rng = rand.New(rand.NewPCG(f.seed[0], f.seed[1]))
	f.aliases = (&forgeSpeller{Rand: f.rng}).aliases(240, forgeUsual, forgeAcme)
	if err := os.WriteFile(filepath.Join(f.php, "index.php"), []byte(forgeScript), 0o600); err != nil {
		t.Fatal(err)
	}
	gateway := newGateway(t)
	gateway.env = []string{"GODEBUG=http2xconnect=1"} // web sockets over HTTP/2, which Go leaves off
	f.world = &world{gateway: gateway, sim: newSimulator(t, wechattest.Account{Domains: []string{forgeOne, forgeTwo, forgeApp, forgePHP, forgePart, forgePlain, forgeNamed}})}
	f.start(f.caddyfile(f.sites(socket)))
	return f
}

// forgeSeed is random, or FORGE_SEED to repeat a failure.
func forgeSeed(t *testing.T) [2]uint64 {
	t.Helper()
	seed := [2]uint64{rand.Uint64(), rand.Uint64()}
	if s := os.Getenv("FORGE_SEED"); s != "" {
		if _, err := fmt.Sscanf(s, "%d,%d", &seed[0], &seed[1]); err != nil {
			t.Fatalf("FORGE_SEED: %v", err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("to repeat: FORGE_SEED=%d,%d", seed[0], seed[1])
		}
	})
	return seed
}

// caddyfile has the filter opened on one port, and {HOST} in routes means both ports.
func (f *forgeWorld) caddyfile(routes string) string {
	options := strings.Replace(strings.Replace(f.globals(), "\tdebug\n", "", 1), "level DEBUG", "level INFO", 1)
	options += fmt.Sprintf("servers :%d {\nmax_header_size 64KiB\n%s}\nservers :%d {\nmax_header_size 64KiB\n}\n", f.open, forgeExpected(f.aliases), f.https)
	return "{\n" + options + f.options("", "scope snsapi_userinfo") + "}\n" + routes
}

// both is a site's address on both ports.
func (f *forgeWorld) both(host string) string {
	return fmt.Sprintf("%s, %s:%d", host, host, f.open)
}

// sites are the ones of the great test.
func (f *forgeWorld) sites(socket string) string {
	const locked = "basic_auth /locked/* {\n bob $2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG\n}\n"
	proxy := "reverse_proxy " + f.raw.addr
	fastcgi := "root * " + f.php + "\nphp_fastcgi unix/" + socket + "\n"
	return `&(protect) {
	wechat_auth {
		origin https://` + forgeNamed + `
		public /open/* /gone/*
	}
}
` + f.both(forgeNamed) + ` {
	tracing {
		span forged
	}
	invoke protect
	handle /open/twice/* {
		invoke protect
		` + proxy + `
	}
	handle /gone/* {
		error 404
	}
	handle {
		` + proxy + `
	}
	handle_errors {
		invoke protect
		` + proxy + `
	}
}
http://` + forgePlain + ` {
	wechat_auth {
		public /open/*
	}
	` + proxy + `
}
` + f.both(forgeOne) + ` {
	wechat_auth {
		public /open/*
		token_header X-Session-Token
	}
	handle /open/buffered/* {
		` + proxy + ` {
			request_buffers 64KiB
		}
	}
	handle {
		` + proxy + `
	}
}
` + f.both(forgeTwo) + ` {
	` + locked + `
	wechat_auth {
		public /open/* /gone/*
		header_prefix X-Acme-
	}
	wechat_auth /open/vip/*
	handle /gone/* {
		error 404
	}
	handle {
		` + proxy + `
	}
	handle_errors {
		wechat_auth
		` + proxy + `
	}
}
` + f.both(forgeApp) + ` {
	handle_path /app/* {
		wechat_auth {
			path /app/_wechat
			public /open/*
		}
		` + proxy + `
	}
}
` + f.both(forgePHP) + ` {
	` + locked + `
	wechat_auth {
		public /open/*
	}
	` + fastcgi + `
	handle_errors {
		wechat_auth
		` + fastcgi + `
	}
}
` + f.both(forgePart) + ` {
	wechat_auth /member/*
	` + proxy + `
}
` + f.both(forgeControl) + ` {
	` + proxy + `
}
`
}

// signIn signs lina in at a site and asks it who she is.
func (f *forgeWorld) signIn(t *testing.T, host string, family forgeFamily) {
	t.Helper()
	b := f.browser(f.sim, wechattest.BrowserOptions{User: "lina"})
	at, c := "https://"+host, f.client()
	switch host {
	case forgePlain:
		at, c = "http://"+host, f.plainClient()
	case forgeApp:
		at += "/app"
	}
	address := at + "/member/x?case=0"
	p, err := b.Click(t.Context(), open(t, b, address), "微信登录")
	if err != nil {
		t.Fatal(err)
	}
	wantStatus(t, p, http.StatusOK)
	u := &forgeUser{family: family}
	for _, cookie := range b.Cookies(address) {
		if strings.HasSuffix(cookie.Name, "wechat_session") {
			u.cookie = cookie.Name + "=" + cookie.Value
		}
	}
	_, body := get(t, c, at+"/_wechat/userinfo", http.Header{"Cookie": {u.cookie}})
	var info struct{ OpenID, UnionID, AppID, Scope, Nickname, HeadImgURL string }
	if err := json.Unmarshal([]byte(body), &info); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	u.values = map[string]string{
		"Openid": info.OpenID, "Unionid": info.UnionID, "Appid": info.AppID, "Scope": info.Scope,
		"Nickname": forgePercent(info.Nickname), "Headimgurl": info.HeadImgURL,
	}
	if info.OpenID != f.sim.OpenID(appID, "lina") || info.AppID != appID || info.Scope != "snsapi_userinfo" || info.UnionID == "" || info.Nickname == "" || info.HeadImgURL == "" {
		t.Fatalf("lina is %s", body)
	}
	f.users[host] = u
}

// forgePercent is a nickname as the contract has it: every byte escaped but letters, digits and -_.~.
func forgePercent(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if strings.IndexByte("-_.~", c) >= 0 || forgeFold(string(rune(c))) != "" {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

// identity is what an upstream gets of u: header by header.
func (u *forgeUser) identity() map[string]string {
	want := map[string]string{}
	for ending, value := range u.values {
		want[http.CanonicalHeaderKey(u.family.prefix+ending)] = value
	}
	if u.family.token != "" {
		_, want[u.family.token], _ = strings.Cut(u.cookie, "=")
	}
	return want
}
