package caddymodule

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-wechat/caddy-wechat/ticket"
)

// crossSites provisions a broker on the bound domain and a shop elsewhere. WeChat cannot be reached:
// whoever asks it gets a 502.
func crossSites(t testing.TB) (*Broker, *Auth) {
	t.Helper()
	t.Setenv("BENCH_APP_SECRET", "0123456789abcdef0123456789abcdef")
	app := provision(t, `{
		log default {
			output discard
		}
		storage file_system `+t.TempDir()+`
		wechat {
			account {
				app_id wx0123456789abcdef
				app_secret {env.BENCH_APP_SECRET}
				domain auth.example.com
				api_url http://127.0.0.1:1
			}
		}
	}
	http://auth.example.com {
		wechat_broker
	}
	http://shop.example.org {
		wechat_auth
	}`)
	for _, s := range app.sites {
		return app.brokers[defaultAccount], s.auths[0]
	}
	t.Fatal("no site")
	return nil, nil
}

func serveAt(t *testing.T, h caddyhttp.MiddlewareHandler, address string, change func(*http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest("GET", address, nil)
	r.TLS = nil
	r.Header.Set("Accept", "text/html")
	r.Header.Set("User-Agent", "MicroMessenger")
	if change != nil {
		change(r)
	}
	ctx := context.WithValue(t.Context(), http.LocalAddrContextKey, &net.TCPAddr{Port: 80})
	w := httptest.NewRecorder()
	if err := h.ServeHTTP(w, caddyhttp.PrepareRequest(r.WithContext(ctx), newTestReplacer(), nil, nil), done); err != nil {
		t.Fatal(err)
	}
	return w
}

// loginOf seals a login of the shop as change makes it, and returns it as it goes into a URL.
func loginOf(t testing.TB, a *Auth, change func(*ticket.Login)) (ticket.Login, string) {
	t.Helper()
	l := ticket.Login{
		ID: ticket.NewLoginID(), Account: defaultAccount, Origin: "http://shop.example.org", Path: "/_wechat",
		Scope: ticket.ScopeBase, Started: time.Now().Unix(), Return: "/member/",
	}
	change(&l)
	sealed, err := a.site.app.gateway.keys.SealLogin(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	return l, sealed
}

// WeChat is not asked about a login that is too old, or from too far ahead; it goes back to its site,
// which believes the seal and never the word in the URL.
func TestOldLoginsAreNotExchanged(t *testing.T) {
	broker, shop := crossSites(t)
	for name, age := range map[string]time.Duration{"eleven minutes old": -11 * time.Minute, "from the future": 5 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			l, sealed := loginOf(t, shop, func(l *ticket.Login) { l.Started += int64(age.Seconds()) })
			w := serveAt(t, broker, "http://auth.example.com/_wechat/callback?login="+sealed+"&code=c&state="+l.ID, nil)
			to := w.Header().Get("Location")
			if w.Code != 302 || !strings.HasPrefix(to, "http://shop.example.org/_wechat/callback?error=expired&state="+l.ID+"&login=") {
				t.Fatalf("%d %s", w.Code, to)
			}
			for _, address := range []string{to, strings.Replace(to, "error=expired", "error=denied", 1)} {
				if w := serveAt(t, shop, address, nil); w.Code != 400 || !strings.Contains(w.Body.String(), "/_wechat/login?return=%2Fmember%2F") {
					t.Errorf("the site answered %d", w.Code)
				}
			}
		})
	}
}

// A clock that is a minute off, either way, ends no login.
func TestAMinuteOffIsInTime(t *testing.T) {
	broker, shop := crossSites(t)
	for _, off := range []time.Duration{-time.Minute, time.Minute} {
		l, sealed := loginOf(t, shop, func(l *ticket.Login) { l.Started += int64(off.Seconds()) })
		w := serveAt(t, broker, "http://auth.example.com/_wechat/callback?login="+sealed+"&code="+l.ID+"&state="+l.ID, nil)
		if to := w.Header().Get("Location"); !strings.Contains(to, "error=unavailable") { // WeChat was asked
			t.Errorf("%v: %d %s", off, w.Code, to)
		}
	}
}

func TestBrokerServesItsAccountsAlone(t *testing.T) {
	broker, shop := crossSites(t)
	l, sealed := loginOf(t, shop, func(l *ticket.Login) { l.Account = "another" })
	w := serveAt(t, broker, "http://auth.example.com/_wechat/callback?login="+sealed+"&code=c&state="+l.ID, nil)
	if w.Code != 400 || w.Header().Get("Location") != "" {
		t.Errorf("%d %s", w.Code, w.Header().Get("Location"))
	}
}

func TestBrokerPassesOnWhatIsNotItsOwn(t *testing.T) {
	broker, _ := crossSites(t)
	for _, path := range []string{"/", "/_wechat/login", "/_wechat/callback/x", "/auth/login", "/?code=a&state=b", "/MP_verify_0123456789abcdef.txt"} {
		if w := serveAt(t, broker, "http://auth.example.com"+path, nil); w.Code != 200 || w.Body.Len() > 0 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if w := serveAt(t, broker, "http://auth.example.com/_wechat/callback", nil); w.Code != 400 {
		t.Errorf("a callback without a login: %d", w.Code)
	}
}

// Early data can be replayed: it spends neither code nor ticket.
func TestEarlyDataSpendsNothing(t *testing.T) {
	broker, shop := crossSites(t)
	l, sealed := loginOf(t, shop, func(*ticket.Login) {})
	unfinished := func(r *http.Request) { r.TLS = &tls.ConnectionState{HandshakeComplete: false} }
	byProxy := func(r *http.Request) { r.Header.Set("Early-Data", "1") }
	for name, early := range map[string]func(*http.Request){"an unfinished handshake": unfinished, "a proxy's word": byProxy} {
		if w := serveAt(t, broker, "http://auth.example.com/_wechat/callback?login="+sealed+"&code=c&state="+l.ID, early); w.Code != 425 {
			t.Errorf("the broker, %s: %d", name, w.Code)
		}
	}
	if w := serveAt(t, shop, "http://shop.example.org/_wechat/callback?login="+sealed+"&ticket=x&state="+l.ID, byProxy); w.Code != 425 {
		t.Errorf("the site: %d", w.Code)
	}
}
