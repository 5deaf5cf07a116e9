package integration

import (
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

func readExample(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../Caddyfile.example")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestExampleIsValid(t *testing.T) {
	mustValidate(t, readExample(t))
}

// exampleWorld runs Caddyfile.example with what a test must say otherwise: ports, certificates, storage,
// WeChat's stand-in, and the upstream of www.example.com. Nothing listens behind staff.example.net.
func exampleWorld(t *testing.T) *world {
	t.Helper()
	account := wechattest.Account{Domains: []string{"auth.example.com", "www.example.com"}}
	return newWorld(t, account, func(w *world) string {
		w.env = []string{"WECHAT_APP_ID=" + appID}
		globals := strings.NewReplacer("debug\n", "", "log {\n\t\tlevel DEBUG\n\t}\n", "").Replace(w.globals())
		text := strings.Replace(readExample(t), "\n{\n", "\n{\n"+globals, 1)
		stand := "app_secret {env.WECHAT_APP_SECRET}\n open_url " + w.sim.url + "\n api_url " + w.sim.url + "\n"
		text = strings.Replace(text, "app_secret {env.WECHAT_APP_SECRET}\n", stand, 1)
		return strings.Replace(text, "localhost:9000", w.up.addr, 1)
	})
}

// Whoever reads the logs of Caddyfile.example must not find what a login is made of: codes and tickets are
// dead by then, but a state or a sealed login tells one visitor's way from another's, and the openid who it was.
func TestExampleLogsNoSecrets(t *testing.T) {
	w := exampleWorld(t)
	b := w.browser(w.sim, wechattest.BrowserOptions{User: "lina"})
	p := open(t, b, "https://www.example.com/member?a=1")
	wantStatus(t, p, http.StatusOK)
	secrets := secretsOf(p)
	login := open(t, b, "https://staff.example.net/post?b=2")
	p, err := b.Click(t.Context(), login, "登录")
	if err != nil {
		t.Fatal(err)
	}
	wantStatus(t, p, http.StatusForbidden) // lina is not on the list
	secrets = append(secrets, secretsOf(p)...)
	if len(secrets) < 7 {
		t.Fatalf("the logins showed too few secrets: %q", secrets)
	}
	get(t, w.client(), "https://www.example.com/_wechat/login?retry=sealed-retry&return=/", http.Header{
		"Referer": {"https://www.example.com/_wechat/callback?code=referer-code&state=referer-state&ticket=referer-ticket&login=referer-login&retry=referer-retry"},
	})
	w.stop()
	secrets = append(secrets, "sealed-retry", "referer-", appSecret, w.sim.OpenID(appID, "lina"))
	for _, secret := range secrets {
		if at := strings.Index(w.log.String(), secret); at >= 0 {
			t.Errorf("the log has %q:\n%.600s", secret, w.log.String()[max(0, at-300):])
		}
	}
	for _, kept := range []string{"/_wechat/callback?code=-&login=-&state=-", "/_wechat/callback?login=-&state=-&ticket=-", "/member?a=1", "/post?b=2", `"user_id":"`} {
		if !strings.Contains(w.log.String(), kept) {
			t.Errorf("the log lacks %s, by which it is of use", kept)
		}
	}
}

// secretsOf are the values in the URLs that a page load went through.
func secretsOf(p *wechattest.Page) (list []string) {
	urls := []*url.URL{p.URL}
	for _, hop := range p.Redirects {
		urls = append(urls, hop.URL)
	}
	for _, u := range urls {
		q := u.Query()
		if inner, err := url.Parse(q.Get("redirect_uri")); err == nil {
			q["login"] = append(q["login"], inner.Query().Get("login"))
		}
		for _, name := range []string{"code", "state", "ticket", "login", "retry"} {
			for _, value := range q[name] {
				if len(value) > 8 {
					list = append(list, value)
				}
			}
		}
	}
	return list
}
