package integration

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

var boundDomain = wechattest.Account{Domains: []string{"auth.example.com"}}

// siteWorld is the bound domain with a site block of its own.
func siteWorld(t *testing.T, accountOptions, block string) *world {
	t.Helper()
	return newWorld(t, boundDomain, func(w *world) string {
		return "{\n" + w.globals() + w.options("", accountOptions) + "}\n" + strings.ReplaceAll(block, "UPSTREAM", w.up.addr)
	})
}

func holding(token string) []*http.Cookie {
	return []*http.Cookie{{Name: "__Host-wechat_session", Value: token}}
}

func TestMatcherAndPublicPaths(t *testing.T) {
	w := siteWorld(t, "", `auth.example.com {
		@member path /member /member/*
		wechat_auth @member {
			public /member/open/*
		}
		@alias path /alias/*
		rewrite @alias /somewhere
		rewrite /hidden /member/x
		reverse_proxy UPSTREAM
	}`)
	c := w.client()
	token := signIn(t, w, c, authPage)
	cases := []struct {
		name, path string
		anonymous  int
	}{
		{"what the matcher takes", "/member/x", 302},
		{"what it does not take", "/other", 200},
		{"a public path", "/member/open/x", 200},
		{"a public path that only looks like one", "/member/open/..;/x", 302},
		{"a path that is rewritten into the protected part", "/hidden", 302},
		{"a machine's file", "/robots.txt", 200},
	}
	for _, x := range cases {
		t.Run(x.name, func(t *testing.T) {
			resp, _ := get(t, c, "https://auth.example.com"+x.path, pageHeader(nil))
			if resp.StatusCode != x.anonymous {
				t.Errorf("anonymous: %d, want %d", resp.StatusCode, x.anonymous)
			}
			resp, body := get(t, c, "https://auth.example.com"+x.path, pageHeader(holding(token)))
			if resp.StatusCode != 200 || readSeen(t, []byte(body)).Header.Get("X-Wechat-Openid") == "" {
				t.Errorf("signed in: %d without identity", resp.StatusCode)
			}
		})
	}
}

// With a rewrite before the handler the matcher sees another path than the browser sent: both count.
func TestARewriteBeforeTheHandlerOpensNothing(t *testing.T) {
	w := siteWorld(t, "", `auth.example.com {
		rewrite /member/* /index
		wechat_auth /member/*
		reverse_proxy UPSTREAM
	}`)
	resp, _ := get(t, w.client(), authPage, pageHeader(nil))
	if resp.StatusCode != 302 {
		t.Errorf("status %d", resp.StatusCode)
	}
}

func TestSeveralHandlersOnOneSite(t *testing.T) {
	w := siteWorld(t, "", `auth.example.com {
		wechat_auth {
			public /
		}
		wechat_auth /vip/* {
			scope snsapi_userinfo
			outside_wechat redirect
		}
		reverse_proxy UPSTREAM
	}`)
	b := w.browser(w.sim, wechattest.BrowserOptions{User: "lina"})
	if got := openID(t, open(t, b, "https://auth.example.com/plain")); got == "" {
		t.Error("no identity on the plain part")
	}
	p := open(t, b, "https://auth.example.com/vip/x")
	wantStatus(t, p, 200)
	p, err := b.Click(t.Context(), p, p.Links()[0].Text)
	if err != nil {
		t.Fatal(err)
	}
	s := readSeen(t, p.Body)
	if s.Header.Get("X-Wechat-Scope") != "snsapi_userinfo" || s.Header.Get("X-Wechat-Nickname") == "" || s.URI != "/vip/x" {
		t.Errorf("stepped up to %v at %s", s.Header, s.URI)
	}
	if open(t, b, "https://auth.example.com/plain").Status != 200 {
		t.Error("the stepped-up session does not serve the plain part")
	}
}

func TestInsideHandlePath(t *testing.T) {
	w := siteWorld(t, "", `auth.example.com {
		handle_path /app/* {
			wechat_auth {
				path /app/_wechat
				public /open
			}
			reverse_proxy UPSTREAM
		}
		handle {
			respond "home"
		}
	}`)
	b := w.browser(w.sim, wechattest.BrowserOptions{})
	p := open(t, b, "https://auth.example.com/app/member?x=1")
	if got := openID(t, p); got == "" || strings.TrimSuffix(p.URL.String(), "#") != "https://auth.example.com/app/member?x=1" {
		t.Errorf("landed at %s as %q", p.URL, got)
	}
	if s := readSeen(t, p.Body); s.URI != "/member?x=1" {
		t.Errorf("the upstream got %s", s.URI)
	}
	fresh := w.browser(w.sim, wechattest.BrowserOptions{})
	if p := open(t, fresh, "https://auth.example.com/app/open"); len(p.Redirects) > 0 {
		t.Error("the public path asked for a login")
	}
}

// An error raised before the handler reaches handle_errors with the client's own headers.
func TestHandleErrorsStripsAndRecognises(t *testing.T) {
	w := siteWorld(t, "", `auth.example.com {
		basic_auth /admin/* {
			bob $2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG
		}
		wechat_auth
		handle /missing {
			error 404
		}
		handle {
			reverse_proxy UPSTREAM
		}
		handle_errors {
			wechat_auth
			reverse_proxy UPSTREAM
		}
	}`)
	c := w.client()
	token := signIn(t, w, c, authPage)
	forged := pageHeader(holding(token))
	forged["X-Wechat-Openid"] = []string{"oForged"}
	forged["X_wechat_openid"] = []string{"oForged"}
	for _, path := range []string{"/admin/x", "/missing"} {
		resp, body := get(t, c, "https://auth.example.com"+path, forged)
		s := readSeen(t, []byte(body))
		if got := s.Header["X-Wechat-Openid"]; len(got) != 1 || got[0] != openIDOf(t, token) {
			t.Errorf("%s: status %d, identity %q", path, resp.StatusCode, got)
		}
	}
	anonymous := pageHeader(nil)
	anonymous["X-Wechat-Openid"] = []string{"oForged"}
	resp, body := get(t, c, "https://auth.example.com/admin/x", anonymous)
	if s := readSeen(t, []byte(body)); s.Header.Get("X-Wechat-Openid") != "" || strings.Contains(resp.Header.Get("Location"), "oauth2") {
		t.Errorf("an anonymous error page: %d %v", resp.StatusCode, s.Header)
	}
}

func TestBehindATLSTerminatingProxy(t *testing.T) {
	caddyfile := func(trusted string) func(w *world) string {
		return func(w *world) string {
			return "{\n" + w.globals() + "servers {\n" + trusted + "\n}\n" + w.options("", "") + "}\n" +
				"http://auth.example.com {\n wechat_auth {\n origin https://auth.example.com\n}\n reverse_proxy " + w.up.addr + "\n}\n"
		}
	}
	header := pageHeader(nil)
	header.Set("X-Forwarded-Proto", "https")
	header.Set("X-Forwarded-Host", "evil.example")
	t.Run("that is trusted, the login is https", func(t *testing.T) {
		w := newWorld(t, boundDomain, caddyfile("trusted_proxies static 127.0.0.0/8"))
		resp, _ := get(t, w.plainClient(), "http://auth.example.com/member/", header)
		if resp.StatusCode != 302 || !strings.Contains(resp.Header.Get("Location"), "redirect_uri=https%3A%2F%2Fauth.example.com%2F") || strings.Contains(resp.Header.Get("Location"), "evil") {
			t.Fatalf("status %d, Location %s", resp.StatusCode, resp.Header.Get("Location"))
		}
		if c := resp.Cookies()[0]; !strings.HasPrefix(c.Name, "__Host-") || !c.Secure {
			t.Errorf("the login cookie is %v", c)
		}
	})
	t.Run("that is not, nobody is known and no login starts", func(t *testing.T) {
		w := newWorld(t, boundDomain, caddyfile(""))
		resp, body := get(t, w.plainClient(), "http://auth.example.com/member/", header)
		if resp.StatusCode != 400 || !strings.Contains(body, "4002") {
			t.Errorf("status %d", resp.StatusCode)
		}
	})
}

func TestForeignHosts(t *testing.T) {
	w := newWorld(t, boundDomain, func(w *world) string {
		return "{\n" + w.globals() + w.options("", "") + "}\n" +
			"https:// {\n tls internal {\n on_demand\n}\n wechat_auth {\n origin https://auth.example.com https://*.tenants.example\n public /open\n}\n reverse_proxy " + w.up.addr + "\n}\n"
	})
	c := w.insecureClient()
	token := signIn(t, w, c, authPage)
	for _, host := range []string{"evil.example", "auth.example.com.", "auth.example.com:9999", "a.b.tenants.example", "tenants.example"} {
		t.Run(host, func(t *testing.T) {
			at := func(path string, h http.Header) (*http.Response, string) {
				req, _ := http.NewRequest("GET", "https://auth.example.com"+path, nil)
				req.Header, req.Host = h, host
				return send(t, c, req)
			}
			resp, body := at("/member/", pageHeader(holding(token)))
			if resp.StatusCode != 400 || !strings.Contains(body, "4002") || len(resp.Header["Set-Cookie"]) > 0 {
				t.Errorf("a page load got %d %v", resp.StatusCode, resp.Header)
			}
			if resp, _ := at("/_wechat/callback?login=x&state=y&code=z", pageHeader(nil)); resp.StatusCode != 400 {
				t.Errorf("a callback got %d", resp.StatusCode)
			}
			if resp, _ := at("/_wechat/login?return=/", pageHeader(nil)); resp.StatusCode != 400 {
				t.Errorf("a login got %d", resp.StatusCode)
			}
			resp, body = at("/open", pageHeader(holding(token)))
			if s := readSeen(t, []byte(body)); resp.StatusCode != 200 || s.Header.Get("X-Wechat-Openid") != "" || len(s.Header["Cookie"]) > 0 {
				t.Errorf("a public page got %d with %v", resp.StatusCode, s.Header)
			}
		})
	}
	resp, _ := get(t, c, "https://a.tenants.example/member/", pageHeader(nil))
	if resp.StatusCode != 302 {
		t.Errorf("a listed wildcard's host got %d", resp.StatusCode)
	}
}

func TestVerifyFiles(t *testing.T) {
	const files = "verify_file MP_verify_0123456789abcdef.txt\nverify_file other.txt hello"
	sites := map[string]string{
		"by the site itself": "auth.example.com {\n wechat_auth\n reverse_proxy UPSTREAM\n}\n",
		"by the broker":      "auth.example.com {\n wechat_broker\n respond \"home\"\n}\n",
	}
	for name, block := range sites {
		t.Run(name, func(t *testing.T) {
			w := siteWorld(t, "domain auth.example.com\n"+files, block)
			c := w.client()
			for path, want := range map[string]string{"/MP_verify_0123456789abcdef.txt": "0123456789abcdef", "/other.txt": "hello"} {
				resp, body := get(t, c, "https://auth.example.com"+path, nil)
				if resp.StatusCode != 200 || body != want || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
					t.Errorf("%s: %d %q %s", path, resp.StatusCode, body, resp.Header.Get("Content-Type"))
				}
			}
			// Answering for any name would let anybody bind this domain to their account.
			if _, body := get(t, c, "https://auth.example.com/MP_verify_fedcba9876543210.txt", nil); body == "fedcba9876543210" {
				t.Error("an unknown file was answered")
			}
		})
	}
}

// TestValidateNamesTheMend: what depends on the site's address, or is only known when it runs.
func TestValidateNamesTheMend(t *testing.T) {
	const account = "app_id " + appID + "\n app_secret {env.WECHAT_APP_SECRET}\n"
	cases := []struct{ name, caddyfile, want string }{
		{"a catch-all site without origin", "{\n wechat {\n account {\n" + account + "}\n}\n}\n:8080 {\n wechat_auth\n}\n", "option origin is missing"},
		{"a wildcard site without origin", "{\n wechat {\n account {\n" + account + "}\n}\n}\n*.example.com {\n tls internal\n wechat_auth\n}\n", "option origin is missing"},
		{"a named route without origin", "{\n wechat {\n account {\n" + account + "}\n}\n}\n&(app) {\n wechat_auth\n}\nexample.com {\n tls internal\n invoke app\n}\n", "option origin is missing"},
		{"a broker whose site is nobody's domain", "{\n wechat {\n account {\n" + account + "domain auth.example.com\n}\n}\n}\nother.example.com {\n tls internal\n wechat_broker\n}\n", "domain <this site's host>"},
		{"two accounts with one cookie on one host", "{\n wechat {\n account a {\n" + account + "}\n account b {\n" + account + "}\n}\n}\nhttps://example.com {\n tls internal\n wechat_auth {\n account a\n}\n}\nhttps://example.com:8443 {\n tls internal\n wechat_auth {\n account b\n}\n}\n", "cookie <name>"},
		{"a later handler that contradicts the first", "{\n wechat {\n account {\n" + account + "}\n}\n}\nexample.com {\n tls internal\n wechat_auth\n wechat_auth /x/* {\n cookie other\n}\n}\n", "option cookie"},
		{"a missing secret", "{\n wechat {\n account {\n app_id " + appID + "\n app_secret {env.NO_SUCH_SECRET}\n}\n}\n}\nexample.com {\n tls internal\n wechat_auth\n}\n", "NO_SUCH_SECRET"},
		{"a missing secret file", "{\n wechat {\n account {\n app_id " + appID + "\n app_secret {file./no/such/file}\n}\n}\n}\nexample.com {\n tls internal\n wechat_auth\n}\n", "account default"},
		{"a short HS256 secret behind a placeholder", "{\n wechat {\n account {\n" + account + "}\n session_key {\n secret {env.SHORT}\n}\n}\n}\nexample.com {\n tls internal\n wechat_auth\n}\n", "at least 32"},
		{"a client whose id turns out to be an app id", brokerOf("app_id {env.OTHER_APP}\n app_secret {env.WECHAT_APP_SECRET}\n domain auth.example.com", "client wxfedcba9876543210 {\n secret {env.LONG}\n}"), "is an account's app id; choose another"},
		{"two brokers that have one client with two secrets", brokerOf(account+"domain auth.example.com b.example.com", "client shop {\n secret {env.LONG}\n}") + "b.example.com {\n tls internal\n wechat_broker {\n client shop {\n secret {env.LONGER}\n}\n}\n}\n", "client shop: another wechat_broker has a client of this id with another secret"},
		{"a request target where there are several accounts", strings.Replace(brokerOf(account+"domain auth.example.com", "client shop {\n secret {env.LONG}\n token 0123abcd https://old.example.org/\n}"), "account {", "account b {\n app_id wxfedcba9876543210\n app_secret {env.WECHAT_APP_SECRET}\n domain auth.example.com\n}\n account a {", 1), "client shop: option token: what WeChat brings to a token does not say which account it is of; name one: account <name>"},
		{"a request target behind a placeholder that has a ticket", brokerOf(account+"domain auth.example.com", "client shop {\n secret {env.LONG}\n token 0123abcd {env.TARGET}\n}"), "client shop: token 0123abcd: mend its address"},
		{"equal patterns behind placeholders", brokerOf(account+"domain auth.example.com", "client a {\n secret {env.LONG}\n return_to {env.BACK}\n}\n client b {\n secret {env.LONGER}\n return_to https://shop.example.org/*\n}"), "clients a and b have the same return_to"},
		{"a pattern behind a placeholder that is none", brokerOf(account+"domain auth.example.com", "client a {\n secret {env.LONG}\n return_to {env.SHORT}\n}"), "client a: return_to"},
		{"a client's short secret behind a placeholder", brokerOf(account+"domain auth.example.com", "client a {\n secret {env.SHORT}\n}"), "client a: secret has 8 characters, and 16 are the least"},
		{"a client's missing secret", brokerOf(account+"domain auth.example.com", "client a {\n secret {env.NO_SUCH_SECRET}\n}"), "client a: option secret"},
	}
	g := newGateway(t)
	g.env = []string{"SHORT=tooshort", "LONG=" + shopSecret, "LONGER=" + blogSecret, "OTHER_APP=wxfedcba9876543210", "TARGET=https://old.example.org/?ticket=1", "BACK=https://shop.example.org:443/*"}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			out, err := g.validate(c.caddyfile)
			if err == nil || !strings.Contains(out, c.want) || strings.Contains(out, appSecret) {
				t.Errorf("validate said, with error %v:\n%s\nwant %s", err, out, c.want)
			}
		})
	}
}

// brokerOf is the bound domain with a broker and its clients.
func brokerOf(account, clients string) string {
	return "{\n wechat {\n account {\n" + account + "\n}\n}\n}\nauth.example.com {\n tls internal\n wechat_broker {\n" + clients + "\n}\n}\n"
}

// A literal secret stands in /config/ and autosave for all to read.
func TestLiteralSecretDrawsAWarning(t *testing.T) {
	g := newGateway(t)
	const key = "a-secret-of-at-least-thirty-two-bytes"
	out, err := g.validate("{\n wechat {\n account {\n app_id " + appID + "\n app_secret " + appSecret + "\n}\n session_key {\n secret " + key + "\n}\n}\n}\nexample.com {\n tls internal\n wechat_auth\n}\n")
	if err != nil || strings.Count(out, "stands literally") != 2 || strings.Contains(out, appSecret) || strings.Contains(out, key) {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestNoWechatOption(t *testing.T) {
	g := newGateway(t)
	out, err := g.validate("example.com {\n tls internal\n wechat_auth\n}\n")
	if err == nil || !strings.Contains(out, "no wechat option") || !strings.Contains(out, "Caddyfile:3") {
		t.Errorf("%v\n%s", err, out)
	}
}
