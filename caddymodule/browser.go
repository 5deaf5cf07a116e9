package caddymodule

import (
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// MatchBrowser is the matcher `wechat_browser`: it matches requests of WeChat's in-app browser, not of
// WeCom's. Anybody can say to be it: it tells which page a person should see, never what is allowed.
type MatchBrowser struct{}

func init() {
	caddy.RegisterModule(MatchBrowser{})
}

// CaddyModule returns the Caddy module information.
func (MatchBrowser) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.matchers.wechat_browser", New: func() caddy.Module { return new(MatchBrowser) }}
}

// Match reports whether r says to come from WeChat.
func (MatchBrowser) Match(r *http.Request) bool { return inWeChat(r) }

// MatchWithError reports whether r says to come from WeChat.
func (MatchBrowser) MatchWithError(r *http.Request) (bool, error) { return inWeChat(r), nil }

func inWeChat(r *http.Request) bool {
	ua := r.UserAgent()
	return containsFold(ua, "micromessenger") && !containsFold(ua, "wxwork")
}

// containsFold reports whether s contains lower, in any case: without a copy of s, as every login's start asks.
func containsFold(s, lower string) bool {
	for i := range len(s) - len(lower) + 1 {
		if s[i]|0x20 == lower[0] && strings.EqualFold(s[i:i+len(lower)], lower) {
			return true
		}
	}
	return false
}

// onPhone reports whether r comes from a phone's browser.
func onPhone(r *http.Request) bool {
	ua := strings.ToLower(r.UserAgent())
	return strings.Contains(ua, "mobile") || strings.Contains(ua, "android") || strings.Contains(ua, "iphone")
}

// Interface guard.
var _ caddyhttp.RequestMatcherWithError = (*MatchBrowser)(nil)
