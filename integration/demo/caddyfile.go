//go:build unix

package main

import (
	"fmt"
	"net/url"
)

// sites are the addresses of all that takes part, as URLs without a path; upstream is a host and port.
type sites struct {
	auth     string // the bound domain
	shop     string // a site on another domain
	weixin   string // where browsers authorize; empty for the real one
	api      string // where codes are exchanged; empty for the real one
	upstream string
	storage  string // a folder
}

// options are the global ones. Whatever Caddy would keep in folders of its own stays in the demo's.
func (s sites) options(bind string) string {
	return fmt.Sprintf(`{
	admin off
	persist_config off
	auto_https off
	grace_period 2s
	storage file_system %q
	%s
	wechat {
		account {
			app_id     {env.WECHAT_APP_ID}
			app_secret {env.WECHAT_APP_SECRET}
			domain     %s
			test
			%s
			%s
		}
	}
}
`, s.storage, bind, s.auth, option("open_url", s.weixin), option("api_url", s.api))
}

func option(name, value string) string {
	if value == "" {
		return ""
	}
	return fmt.Sprintf("%s %q", name, value)
}

// simulated is two sites: one on the bound domain with silent logins, one on another with profiles.
func (s sites) simulated() string {
	return s.options("default_bind 127.0.0.1") + fmt.Sprintf(`
%s {
	wechat_broker
	wechat_auth {
		public /
		outside_wechat redirect
	}
	reverse_proxy %s
}

%s {
	wechat_auth {
		public /
		outside_wechat redirect
		scope snsapi_userinfo
	}
	reverse_proxy %s
}
`, s.auth, s.upstream, s.shop, s.upstream)
}

// testAccount is one site on the bound domain: silent logins, and profiles under /profile.
func (s sites) testAccount() string {
	return s.options("") + fmt.Sprintf(`
%s {
	wechat_auth {
		public /
	}
	wechat_auth /profile* {
		scope snsapi_userinfo
	}
	reverse_proxy %s
}
`, s.auth, s.upstream)
}

// host is the host and port of an address.
func host(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}
