package integration

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// TestLegacyPHP runs clients as they are written in PHP: the gateway must serve them as they stand.
func TestLegacyPHP(t *testing.T) {
	w := legacyPHPWorld(t)
	lina := w.sim.OpenID(appID, "lina")
	t.Run("with its secret in the ticket's address", func(t *testing.T) {
		var got struct {
			URI    string
			User   map[string]any
			Name   string
			Rights []string
			Same   bool `json:"same_app"`
		}
		b := w.browser(w.sim, wechattest.BrowserOptions{User: "lina"})
		p := legacyPage(t, b, "https://client.example/member.php?a=1&b=%E4%BD%A0+%26", &got)
		if got.URI != "/member.php?a=1&b=%E4%BD%A0+%26" || strings.Contains(p.URL.RawQuery, "ticket") {
			t.Errorf("ended at %s", p.URL)
		}
		if got.User["openid"] != lina || got.Name != "李娜🌸" || got.Rights == nil || !got.Same {
			t.Errorf("PHP has %+v", got)
		}
		wantKeys(t, got.User, "openid", "unionid", "nickname", "sex", "city", "province", "country", "headimgurl", "privilege", "avatar", "app", "appid", "scope", "state")
		legacyPage(t, b, "https://client.example/member.php?again", &got)
		if n := w.sim.CountCalls(wechattest.PathToken); n != 1 || got.URI != "/member.php?again" {
			t.Errorf("a second visit: %d logins, %s", n, got.URI)
		}
	})
	t.Run("with a stream context, openid alone", func(t *testing.T) {
		var got struct {
			User  map[string]any
			Again any
			State string
		}
		legacyPage(t, w.browser(w.sim, wechattest.BrowserOptions{User: "lina"}), "https://blog.example/", &got)
		if got.User["openid"] != lina || got.Again != nil || got.State != "" {
			t.Errorf("PHP has %+v", got)
		}
		wantKeys(t, got.User, "openid", "app", "appid", "scope", "state")
	})
	t.Run("of old, over plain http, without a secret", func(t *testing.T) {
		var got struct {
			Info        map[string]any
			Status      string
			Avatar, VIP bool
			State       string
		}
		p := legacyPage(t, w.browser(w.sim, wechattest.BrowserOptions{User: "lina"}), "https://old.example/news/1?id=7", &got)
		if got.Info["openid"] != lina || !got.Avatar || got.VIP || got.State != "" || !strings.Contains(got.Status, "200") {
			t.Errorf("PHP has %+v", got)
		}
		if q := p.URL.RawQuery; !strings.HasPrefix(q, "id=7&ticket=") || !strings.HasSuffix(q, "&state=") {
			t.Errorf("came back with %s", q)
		}
	})
	t.Run("outside WeChat it asks nobody", func(t *testing.T) {
		p := open(t, w.browser(w.sim, wechattest.BrowserOptions{UserAgent: wechattest.UserAgentOutside}), "https://client.example/member.php")
		wantStatus(t, p, http.StatusForbidden)
		if len(p.Redirects) != 0 {
			t.Errorf("led to %v", p.Redirects)
		}
	})
	t.Run("a ticket that somebody made up is no user", func(t *testing.T) {
		p := open(t, w.browser(w.sim, wechattest.BrowserOptions{}), "https://client.example/member.php?ticket=00112233445566778899aabbccddeeff&state=/")
		wantStatus(t, p, http.StatusForbidden)
	})
}
