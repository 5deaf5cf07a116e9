package wechattest

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// world is the simulator and a site on TLS, all hosts on one listener.
type world struct {
	sim  *Server
	site *http.ServeMux
	opts BrowserOptions

	mu   sync.Mutex // guards seen
	seen []*http.Request
}

func newWorld(t *testing.T) *world {
	w := &world{sim: newServer(), site: http.NewServeMux()}
	ts := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.Host, "weixin.qq.com") {
			w.sim.ServeHTTP(rw, r)
			return
		}
		w.mu.Lock()
		w.seen = append(w.seen, r)
		w.mu.Unlock()
		w.site.ServeHTTP(rw, r)
	}))
	t.Cleanup(ts.Close)
	roots := x509.NewCertPool()
	roots.AddCert(ts.Certificate())
	w.opts = BrowserOptions{RootCAs: roots, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, ts.Listener.Addr().String())
	}}
	return w
}

// browser trusts the test's certificate, which is example.com's.
func (w *world) browser(t *testing.T, change ...func(*BrowserOptions)) *Browser {
	opts := w.opts
	for _, f := range change {
		f(&opts)
	}
	b := NewBrowser(opts)
	b.client.Transport.(*http.Transport).TLSClientConfig.ServerName = "example.com"
	t.Cleanup(b.Close)
	return b
}

func (w *world) requests(path string) []*http.Request {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []*http.Request
	for _, r := range w.seen {
		if r.URL.Path == path {
			list = append(list, r)
		}
	}
	return list
}

func (w *world) login(path string) {
	w.site.HandleFunc(path, func(rw http.ResponseWriter, r *http.Request) {
		http.SetCookie(rw, &http.Cookie{Name: "__Host-login", Value: "1", Path: "/", Secure: true, SameSite: http.SameSiteLaxMode})
		http.SetCookie(rw, &http.Cookie{Name: "strict", Value: "1", Path: "/", SameSite: http.SameSiteStrictMode})
		http.Redirect(rw, r, "https://open.weixin.qq.com"+goodLink+"#wechat_redirect", http.StatusFound)
	})
	w.site.HandleFunc("/cb", func(rw http.ResponseWriter, r *http.Request) {
		http.SetCookie(rw, &http.Cookie{Name: "got" + r.FormValue("code")[:4], Value: "1", Path: "/"})
		fmt.Fprintf(rw, `<a href="/next">下一页</a>`)
	})
	w.site.HandleFunc("/next", func(http.ResponseWriter, *http.Request) {})
}

func TestBrowserSignsIn(t *testing.T) {
	w := newWorld(t)
	w.login("/start")
	b := w.browser(t, func(o *BrowserOptions) { o.User = "lina" })
	p, err := b.Open(t.Context(), "https://auth.shop.test/start")
	if err != nil {
		t.Fatal(err)
	}
	callback := w.requests("/cb")[0]
	t.Run("the fragment stays over redirects", func(t *testing.T) {
		if p.URL.Fragment != "wechat_redirect" || p.Status != http.StatusOK || len(p.Redirects) != 2 {
			t.Errorf("%s after %d redirects, status %d", p.URL, len(p.Redirects), p.Status)
		}
	})
	t.Run("the callback can be had for replaying", func(t *testing.T) {
		if got := p.Callback(); got == nil || got.Path != "/cb" || got.Query().Get("code") == "" {
			t.Errorf("got %v", got)
		}
	})
	t.Run("Lax comes back from another site and Strict does not", func(t *testing.T) {
		if got := callback.Header.Get("Cookie"); got != "__Host-login=1" {
			t.Errorf("Cookie: %q", got)
		}
	})
	t.Run("nobody but the simulator hears of the visitor", func(t *testing.T) {
		if callback.Header.Get(visitorHeader) != "" {
			t.Error("the site does")
		}
		if calls := w.sim.Calls(); calls[0].User != "lina" {
			t.Errorf("the simulator saw %q", calls[0].User)
		}
	})
	t.Run("the headers are those of a WebView", func(t *testing.T) {
		for name, want := range map[string]string{
			"X-Requested-With": "com.tencent.mm", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none", "Sec-Fetch-Dest": "document",
			"Referer": "", "User-Agent": UserAgentAndroid,
		} {
			if got := callback.Header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
	})
	t.Run("a click comes from the page", func(t *testing.T) {
		if _, err := b.Click(t.Context(), p, "下一页"); err != nil {
			t.Fatal(err)
		}
		h := w.requests("/next")[0].Header
		if h.Get("Sec-Fetch-Site") != "same-origin" || !strings.Contains(h.Get("Cookie"), "strict=1") || !strings.Contains(h.Get("Referer"), "/cb?code=") {
			t.Errorf("%v", h)
		}
		if _, err := b.Click(t.Context(), p, "nothing"); !errors.Is(err, ErrNoLink) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("back asks for the callback again", func(t *testing.T) {
		if _, err := b.Back(t.Context()); err != nil {
			t.Fatal(err)
		}
		if again := w.requests("/cb"); len(again) != 2 || again[1].URL.RawQuery != callback.URL.RawQuery {
			t.Errorf("%d callbacks", len(again))
		}
	})
	t.Run("a script's request says so", func(t *testing.T) {
		if _, err := b.Fetch(t.Context(), http.MethodPost, "/next", []byte("{}"), http.Header{"x-csrf": {"1"}}); err != nil {
			t.Fatal(err)
		}
		r := w.requests("/next")[1]
		if h := r.Header; r.Method != "POST" || h.Get("Sec-Fetch-Mode") != "cors" || h.Get("Origin") != "https://auth.shop.test" || h.Get("X-Csrf") != "1" {
			t.Errorf("%s %v", r.Method, h)
		}
	})
	t.Run("a form is a navigation with an origin", func(t *testing.T) {
		if _, err := b.PostForm(t.Context(), p, "/next", url.Values{"a": {"1"}}); err != nil {
			t.Fatal(err)
		}
		r := w.requests("/next")[2]
		if h := r.Header; r.Method != "POST" || h.Get("Sec-Fetch-Mode") != "navigate" || h.Get("Origin") != "https://auth.shop.test" {
			t.Errorf("%s %v", r.Method, h)
		}
	})
}

func TestBrowserSendsCallbacksTwice(t *testing.T) {
	t.Run("with one code", func(t *testing.T) {
		w := newWorld(t)
		w.login("/start")
		b := w.browser(t, func(o *BrowserOptions) { o.Double = SameCode })
		if _, err := b.Open(t.Context(), "https://auth.shop.test/start"); err != nil {
			t.Fatal(err)
		}
		got := w.requests("/cb")
		if len(got) != 2 || got[0].FormValue("code") != got[1].FormValue("code") {
			t.Errorf("%d callbacks", len(got))
		}
	})
	t.Run("with two codes for one state", func(t *testing.T) {
		w := newWorld(t)
		w.login("/start")
		b := w.browser(t, func(o *BrowserOptions) { o.Double = TwoCodes })
		p, err := b.Open(t.Context(), "https://auth.shop.test/start")
		if err != nil {
			t.Fatal(err)
		}
		got := w.requests("/cb")
		if len(got) != 2 || got[0].FormValue("code") == got[1].FormValue("code") || got[0].FormValue("state") != got[1].FormValue("state") {
			t.Errorf("%d callbacks", len(got))
		}
		if p.Twin == nil || p.Twin.Status != http.StatusOK || p.Twin.URL.Query().Get("code") == p.URL.Query().Get("code") {
			t.Errorf("twin %+v", p.Twin)
		}
		if len(b.Cookies("https://auth.shop.test/")) != 4 {
			t.Errorf("cookies %v", b.Cookies("https://auth.shop.test/"))
		}
	})
	t.Run("the first of which is aborted while it hangs", func(t *testing.T) {
		w := newWorld(t)
		w.login("/start")
		var once sync.Once
		ended := make(chan struct{})
		w.site.HandleFunc("auth.shop.test/cb", func(_ http.ResponseWriter, r *http.Request) {
			once.Do(func() { <-r.Context().Done(); close(ended) })
		})
		b := w.browser(t, func(o *BrowserOptions) { o.Double = SameCode })
		p, err := b.Open(t.Context(), "https://auth.shop.test/start")
		if err != nil || p.Twin != nil {
			t.Fatalf("%v, twin %v", err, p.Twin)
		}
		<-ended
	})
}

func TestBrowserInSnapshot(t *testing.T) {
	w := newWorld(t)
	w.login("/start")
	b := w.browser(t, func(o *BrowserOptions) { o.Snapshot = true })
	if !b.SetCookie("https://auth.shop.test/", &http.Cookie{Name: "a", Value: "1"}) {
		t.Fatal("cookie refused")
	}
	p, err := b.Open(t.Context(), "https://auth.shop.test/start")
	if err != nil {
		t.Fatal(err)
	}
	body := ask(t, w.sim, PathToken, exchangeOf(p.URL.Query().Get("code"))...)
	if body["is_snapshotuser"] != 1.0 {
		t.Errorf("token %v", body)
	}
	if _, err := b.Click(t.Context(), p, "下一页"); !errors.Is(err, ErrSnapshotIgnoresClicks) {
		t.Errorf("click: %v", err)
	}
	if _, err := b.PostForm(t.Context(), p, "/next", nil); !errors.Is(err, ErrSnapshotIgnoresClicks) {
		t.Errorf("form: %v", err)
	}
	if _, err := b.LeaveSnapshot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := b.Cookies("https://auth.shop.test/"); len(got) != 1 || got[0].Name == "a" {
		t.Errorf("cookies outside the snapshot: %v", got)
	}
}

func TestBrowserStops(t *testing.T) {
	w := newWorld(t)
	w.site.HandleFunc("/loop", func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, "/loop", 302) })
	w.site.HandleFunc("/app", func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Location", "weixin://x")
		rw.WriteHeader(302)
	})
	b := w.browser(t, func(o *BrowserOptions) { o.NoCookies = true })
	if p, err := b.Open(t.Context(), "https://auth.shop.test/loop"); !errors.Is(err, ErrTooManyRedirects) || p == nil || len(p.Redirects) != maxRedirects {
		t.Errorf("loop: %v", err)
	}
	if _, err := b.Open(t.Context(), "https://auth.shop.test/app"); err == nil {
		t.Error("followed an address that is no web page")
	}
	if _, err := w.browser(t).Back(t.Context()); err == nil {
		t.Error("went back from nowhere")
	}
}

func TestRefreshHeader(t *testing.T) {
	w := newWorld(t)
	w.site.HandleFunc("/wait", func(rw http.ResponseWriter, _ *http.Request) { rw.Header().Set("Refresh", "0; url=/there?a=1") })
	w.site.HandleFunc("/there", func(http.ResponseWriter, *http.Request) {})
	b := w.browser(t)
	p, err := b.Open(t.Context(), "https://example.com/wait")
	if err != nil {
		t.Fatal(err)
	}
	if p, err = b.Refresh(t.Context(), p); err != nil || p.URL.RequestURI() != "/there?a=1" {
		t.Fatalf("went to %v, %v", p, err)
	}
	if _, err = b.Refresh(t.Context(), p); !errors.Is(err, ErrNoRefresh) {
		t.Errorf("a page without the header: %v", err)
	}
	for _, odd := range []string{"5", "x; url=/there", "-1; url=/there", "5; /there", ";"} {
		p.Header.Set("Refresh", odd)
		if to, _ := p.Refresh(); to != "" {
			t.Errorf("%q leads to %s", odd, to)
		}
	}
}
