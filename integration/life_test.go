package integration

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// reloads a gateway may get in the middle of logins: good ones, and ones that are refused while they are
// provisioned or validated.
func reloads(w *world, caddyfile func(string) string) map[string]string {
	good := caddyfile("")
	return map[string]string{
		"a good one":                     good,
		"one with another size of store": strings.Replace(good, "wechat {", "wechat {\n store memory 8MiB\n", 1),
		"one refused in Provision":       strings.Replace(good, "auth.example.com {", "bad.example.com {\n wechat_broker\n}\nauth.example.com {", 1),
		"one refused by another module":  strings.Replace(good, "auth.example.com {", "auth.example.com {\n root * {env.NO_SUCH}\n tls /no/such.pem /no/such.key\n", 1),
	}
}

// A reload between any two steps of a login loses nothing, and refused ones change nothing.
func TestReloadInTheMiddleOfALogin(t *testing.T) {
	worlds := map[string]func(*testing.T, string) *world{"on the bound domain": singleWorld, "across domains": crossWorld}
	for where, make := range worlds {
		t.Run(where, func(t *testing.T) {
			w := make(t, "")
			page, caddyfile := authPage, w.single
			if where == "across domains" {
				page, caddyfile = shopPage, w.cross
			}
			c := w.client()
			for name, next := range reloads(w, caddyfile) {
				t.Run(name, func(t *testing.T) {
					callback, cookies := begin(t, w, c, page)
					mustReload(t, w, name, next)
					if where == "across domains" {
						callback = siteCallback(t, c, callback) // the ticket waits over the next reload
						mustReload(t, w, name, next)
					}
					token := follow(t, c, callback, cookies)
					if token == "" {
						t.Fatal("the login was lost")
					}
					mustReload(t, w, name, next)
					if resp, _ := get(t, c, page, pageHeader(holding(token))); resp.StatusCode != 200 {
						t.Errorf("the session was lost: %d", resp.StatusCode)
					}
				})
			}
		})
	}
}

func mustReload(t *testing.T, w *world, name, caddyfile string) {
	t.Helper()
	out, err := w.reload(caddyfile)
	if refused := strings.Contains(name, "refused"); refused != (err != nil) {
		t.Fatalf("reload: %v\n%s", err, out)
	}
}

// SIGKILL loses no session, no revocation and no login that waits for WeChat.
func TestKillAndStart(t *testing.T) {
	both(t, "", func(t *testing.T, w *world, page string) {
		caddyfile, err := os.ReadFile(filepath.Join(w.dir, "Caddyfile"))
		if err != nil {
			t.Fatal(err)
		}
		c := w.client()
		kept, ended := signIn(t, w, c, page), signIn(t, w, c, page)
		callback, cookies := begin(t, w, c, page)
		logout(t, c, page, ended)
		w.kill()
		w.start(string(caddyfile))
		c = w.client()
		if resp, _ := get(t, c, page, pageHeader(holding(kept))); resp.StatusCode != 200 {
			t.Errorf("a session was lost: %d", resp.StatusCode)
		}
		if resp, _ := get(t, c, page, pageHeader(holding(ended))); resp.StatusCode != 302 {
			t.Errorf("a session that had ended lives again: %d", resp.StatusCode)
		}
		if follow(t, c, callback, cookies) == "" {
			t.Error("a login was lost")
		}
	})
}

func logout(t *testing.T, c *http.Client, page, token string) {
	t.Helper()
	origin, _, _ := strings.Cut(strings.TrimPrefix(page, "https://"), "/")
	h := with(formPost, "Origin", "https://"+origin, "Sec-Fetch-Site", "same-origin")
	h.Del("Cookie")
	for _, ck := range holding(token) {
		h.Add("Cookie", ck.Name+"="+ck.Value)
	}
	resp, body := do(t, c, "POST", "https://"+origin+"/_wechat/logout", h, nil)
	if resp.StatusCode != 303 {
		t.Fatalf("logout answered %d\n%.500s", resp.StatusCode, body)
	}
}

// Two gateways that share their storage share keys and revocations: each serves the other's sessions.
func TestGatewaysThatShareStorage(t *testing.T) {
	w := singleWorld(t, "")
	other := &world{gateway: newGateway(t), sim: w.sim, up: w.up}
	other.start(strings.Replace(other.single(""), other.dir+"/storage", w.dir+"/storage", 1))
	c, d := w.client(), other.clientTrusting(w.roots())
	token := signIn(t, w, c, authPage)
	if resp, _ := get(t, d, authPage, pageHeader(holding(token))); resp.StatusCode != 200 {
		t.Fatalf("the other gateway does not know the session: %d", resp.StatusCode)
	}
	callback, cookies := begin(t, w, c, authPage)
	if follow(t, d, callback, cookies) == "" {
		t.Error("a login begun at one gateway does not end at the other")
	}
	logout(t, c, authPage, token)
	deadline := time.Now().Add(5 * time.Second)
	for {
		resp, _ := get(t, d, authPage, pageHeader(holding(token)))
		if resp.StatusCode == 302 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a logout did not reach the other gateway within 5 s")
		}
		time.Sleep(50 * time.Millisecond)
	}
}
