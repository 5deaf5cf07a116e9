package caddymodule

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"go.uber.org/goleak"
)

// othersKeep are goroutines of others that no test can end.
var othersKeep = []goleak.Option{
	// Looks every five seconds whether the lock that it keeps fresh was given back, and ends then.
	goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"),
	// Caddy's tls app begins it when it provisions; it ends when the last configuration stops, and those that
	// tests only provision never ran.
	goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.(*Cache).maintainAssets"),
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, othersKeep...) }

// troubleCaddyfile is a site whose WeChat never answers.
const troubleCaddyfile = `{
	admin off
	persist_config off
	grace_period 1s
	log default {
		output discard
	}
	storage file_system %s
	wechat {
		account {
			app_id wx0123456789abcdef
			app_secret {env.TROUBLE_APP_SECRET}
			api_url http://%s
			timeout 700ms
		}
		store memory %dMiB
	}
}
http://shop.example.org:%d {
	bind 127.0.0.1
	wechat_auth
}`

// A gateway that stops, or is replaced by the next configuration, in the middle of calls that hang leaves nothing
// running.
func TestAStoppedGatewayLeavesNothing(t *testing.T) {
	t.Setenv("TROUBLE_APP_SECRET", strings.Repeat("0", 32))
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	before := goleak.IgnoreCurrent()
	wechat, asked := silence(t)
	port, storage := freeTroublePort(t), t.TempDir()
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	var wg sync.WaitGroup
	for size := range 4 {
		cfg, _, err := caddyconfig.GetAdapter("caddyfile").Adapt(fmt.Appendf(nil, troubleCaddyfile, storage, wechat.Addr(), size+1, port), nil)
		if err == nil {
			err = caddy.Load(cfg, true)
		}
		if err != nil {
			t.Fatal(err)
		}
		hung := asked.Load()
		for range 5 {
			callback := beginTrouble(t, client, port)
			wg.Go(func() {
				if resp, err := client.Do(callback); err == nil {
					_ = resp.Body.Close()
				}
			})
		}
		for deadline := time.Now().Add(10 * time.Second); asked.Load() == hung; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("no call hangs")
			}
		}
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	_ = wechat.Close()
	deadline := time.Now().Add(20 * time.Second) // a call may go on until its time-out
	for err := goleak.Find(append(othersKeep, before)...); err != nil; err = goleak.Find(append(othersKeep, before)...) {
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// beginTrouble begins a login and returns the request by which it comes back.
func beginTrouble(t *testing.T, client *http.Client, port int) *http.Request {
	t.Helper()
	request := func(uri string) *http.Request {
		r, err := http.NewRequest("GET", fmt.Sprintf("http://127.0.0.1:%d%s", port, uri), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = fmt.Sprintf("shop.example.org:%d", port)
		r.Header = http.Header{"Accept": {"text/html"}, "User-Agent": {"MicroMessenger"}}
		return r
	}
	resp, err := client.Do(request("/member/"))
	for range 100 { // a connection that the configuration before had accepted is cut
		if err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
		resp, err = client.Do(request("/member/"))
	}
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	at, err := resp.Location()
	if err != nil {
		t.Fatalf("status %d: %v", resp.StatusCode, err)
	}
	back, err := url.Parse(at.Query().Get("redirect_uri"))
	if err != nil {
		t.Fatal(err)
	}
	state := at.Query().Get("state")
	callback := request(back.RequestURI() + "&code=" + state + "&state=" + state) // a code of its own: one seen before asks nobody
	for _, c := range resp.Cookies() {
		callback.AddCookie(c)
	}
	return callback
}

// silence accepts connections and says nothing.
func silence(t *testing.T) (l net.Listener, asked *atomic.Int32) {
	t.Helper()
	asked = new(atomic.Int32)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			asked.Add(1)
			go func() {
				defer c.Close()
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}()
	return l, asked
}

func freeTroublePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
