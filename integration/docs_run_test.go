package integration

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// documentedWorld runs the sites of a page's Caddyfile, with the test's global options in place of its own.
// replace is what a test must say otherwise: pairs of old and new.
func documentedWorld(t *testing.T, page, heading, more string, replace ...string) *world {
	t.Helper()
	return documentedWorldOf(t, newGateway(t), page, heading, more, replace...)
}

func documentedWorldOf(t *testing.T, g *gateway, page, heading, more string, replace ...string) *world {
	t.Helper()
	_, sites, _ := strings.Cut(documentedBlock(t, "caddyfile", page, heading), "\n}\n")
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(sites, replace[i]) {
			t.Fatalf("%s shows no %q", page, replace[i])
		}
	}
	sites = strings.NewReplacer(replace...).Replace(sites)
	w := &world{gateway: g, sim: newSimulator(t, boundDomain), up: newUpstream(t)}
	w.env = append(w.env, environmentOf(sites)...)
	w.start("{\n" + w.globals() + w.options("auth.example.com", "") + "}\n" + sites + more)
	return w
}

// documentedBlock is the first block of a language under a page's heading.
func documentedBlock(t *testing.T, language, page, heading string) string {
	t.Helper()
	for _, b := range blocksOf(language, page, documents(t)[page]) {
		if b.where == page+" "+heading {
			return b.text
		}
	}
	t.Fatalf("%s shows no %s under %q", page, language, heading)
	return ""
}

const documentedHome = "root /var/www/home\n\tfile_server"

// The site of a broker that answers over plain http sends the rest of itself to https, as it did before.
func TestDocumentedPlainHTTP(t *testing.T) {
	w := documentedWorld(t, "docs/wxauth.md", "Plain http", "http://old.example.org {\n respond \"welcome back\"\n}\n", documentedHome, "respond home")
	c := w.client()
	for _, x := range []struct {
		path, to string
		status   int
	}{
		{"/", "https://auth.example.com/", http.StatusPermanentRedirect},
		{"/ticket/help?a=1", "https://auth.example.com/ticket/help?a=1", http.StatusPermanentRedirect},
		{"/auth/" + appID + "?redirect_uri=http://old.example.org/x", "https://auth.example.com/auth/" + appID + "?redirect_uri=http://old.example.org/x", http.StatusFound},
		{"/ticket/00112233445566778899aabbccddeeff", "", http.StatusNotFound},
		{"/user/" + appID + "/oNobody", "", http.StatusNotFound},
	} {
		resp, _ := get(t, c, "http://auth.example.com"+x.path, pageHeader(nil))
		if resp.StatusCode != x.status || resp.Header.Get("Location") != x.to {
			t.Errorf("%s: %d to %q", x.path, resp.StatusCode, resp.Header.Get("Location"))
		}
	}
	if resp, body := get(t, c, broker+"/", pageHeader(nil)); resp.StatusCode != http.StatusOK || body != "home" {
		t.Errorf("the home page: %d %s", resp.StatusCode, body)
	}
	p := open(t, w.browser(w.sim, wechattest.BrowserOptions{User: "lina"}), startV2("http://old.example.org/x", "1"))
	tkt := landed(t, p, "http://old.example.org/x").Get("ticket")
	if resp, body := get(t, c, "http://auth.example.com/ticket/"+tkt, nil); resp.StatusCode != http.StatusOK || !strings.Contains(body, w.sim.OpenID(appID, "lina")) {
		t.Errorf("the ticket: %d", resp.StatusCode)
	}
}

// An app that redirects to WeChat by itself, behind the one line of Caddy that the page shows.
func TestDocumentedPassCode(t *testing.T) {
	const link = "https://open.weixin.qq.com/connect/oauth2/authorize?appid=" + appID + "&redirect_uri=https%3A%2F%2Fapp.example.org%2Fcallback&response_type=code&scope=snsapi_base&state=mine&connect_redirect=1#wechat_redirect"
	w := documentedWorld(t, "docs/pass-code.md", "The Caddyfile", "",
		"root /var/www/app", "redir /login "+link, "php_fastcgi unix//run/php/php-fpm.sock", "respond \"welcome back\"", "file_server", "")
	for name, address := range map[string]string{
		"by the line": "https://app.example.org/login",
		"by GetWeixinCode's address": broker + "/get-weixin-code.html?appid=" + appID +
			"&scope=snsapi_base&state=mine&redirect_uri=https%3A%2F%2Fapp.example.org%2Fcallback",
	} {
		t.Run(name, func(t *testing.T) {
			p := open(t, w.browser(w.sim, wechattest.BrowserOptions{User: "lina"}), address)
			q := landed(t, p, "https://app.example.org/callback")
			if q.Get("state") != "mine" || len(q) != 2 {
				t.Errorf("came back with %v", q)
			}
			exchange := url.Values{"appid": {appID}, "secret": {appSecret}, "code": q["code"], "grant_type": {"authorization_code"}}
			_, body := get(t, http.DefaultClient, w.sim.url+wechattest.PathToken+"?"+exchange.Encode(), nil)
			if !strings.Contains(body, w.sim.OpenID(appID, "lina")) {
				t.Errorf("the app's exchange: %s", body)
			}
		})
	}
}
