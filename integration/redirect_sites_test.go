package integration

import (
	"fmt"
	"strings"
)

// redirectHosts are those that WeChat sends users back to.
var redirectHosts = []string{
	"auth.example.com", "both.example.com", "rewrite.example.org", "strip.example.org", "path.example.org", "try.example.org", "errors.example.org", "part.example.org",
	"profile.example.org", "guest.example.org", "any.example.net", "one.many.example", "one.wild.example", "a.tenants.example", "b.tenants.example", "named.example.org", "second.example.org",
	"xn--czrs0twkmrx3a.example", "shop.xn--mnchen-3ya.example", "plain.example.org", "port.example.org",
}

// redirectSites are the sites; OWN stands for an account without a domain, CROSSED for one whose broker is auth.example.com,
// SHARED for one whose broker is on a site of its own.
const redirectSites = `
auth.example.com {
	wechat_broker CROSSED
	respond "home"
}
shop.example.org {
	wechat_auth {
		account CROSSED
	}
	UPSTREAM
}
both.example.com {
	wechat_broker SHARED
	wechat_auth {
		account SHARED
	}
	UPSTREAM
}
other.example.org {
	wechat_auth {
		account SHARED
	}
	UPSTREAM
}
rewrite.example.org {
	rewrite * /index.php?rewritten
	wechat_auth {
		account OWN
	}
	UPSTREAM
}
strip.example.org {
	uri strip_prefix /app
	wechat_auth {
		account OWN
	}
	UPSTREAM
}
path.example.org {
	handle_path /app/* {
		wechat_auth {
			account OWN
			path /app/_wechat
		}
		UPSTREAM
	}
}
try.example.org {
	root * DIR
	try_files {path} /index.php
	wechat_auth {
		account OWN
	}
	UPSTREAM
}
errors.example.org {
	basic_auth {
		bob $2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG
	}
	wechat_auth {
		account OWN
	}
	handle_errors {
		wechat_auth {
			account OWN
		}
		UPSTREAM
	}
}
part.example.org {
	wechat_auth /member/* {
		account OWN
	}
	UPSTREAM
}
profile.example.org {
	wechat_auth {
		account OWN
		scope snsapi_userinfo
	}
	UPSTREAM
}
guest.example.org {
	wechat_auth {
		account OWN
		snapshot guest
	}
	UPSTREAM
}
http://plain.example.org {
	wechat_auth {
		account OWN
	}
	UPSTREAM
}
https://port.example.org:PORT {
	wechat_auth {
		account OWN
	}
	UPSTREAM
}
https:// {
	tls internal {
		on_demand
	}
	wechat_auth {
		account OWN
		origin https://any.example.net https://*.many.example
	}
	UPSTREAM
}
*.wild.example {
	wechat_auth {
		account OWN
		origin https://one.wild.example
	}
	UPSTREAM
}
*.tenants.example {
	wechat_auth {
		account OWN
		origin https://*.tenants.example
		snapshot guest
	}
	UPSTREAM
}
&(gate) {
	wechat_auth {
		account OWN
		origin https://named.example.org https://second.example.org
	}
}
named.example.org {
	invoke gate
	UPSTREAM
}
second.example.org {
	invoke gate
	UPSTREAM
}
商店测试.example {
	wechat_auth {
		account OWN
	}
	UPSTREAM
}
*.münchen.example {
	wechat_auth {
		account OWN
		origin https://Shop.MÜNCHEN.example:443
	}
	UPSTREAM
}
`

func (x *redirectWorld) caddyfile() string {
	account := func(name, domain string) string {
		return "account " + name + " {\n app_id " + appID + "\n app_secret {env.WECHAT_APP_SECRET}\n " + domain +
			"\n open_url " + x.sim.url + "\n api_url " + x.sim.url + "\n}\n"
	}
	sites := strings.NewReplacer("UPSTREAM", "reverse_proxy "+x.up.addr, "OWN", "own", "CROSSED", "crossed", "SHARED", "shared",
		"PORT", fmt.Sprint(x.port), "DIR", x.dir).Replace(redirectSites)
	globals := strings.NewReplacer("\tdebug\n", "", "level DEBUG", "level INFO").Replace(x.globals()) // thousands of requests
	return "{\n" + globals + "servers {\n trusted_proxies static 192.0.2.0/24\n}\nwechat {\n" + account("own", "") +
		account("crossed", "domain auth.example.com") + account("shared", "domain both.example.com") + "}\n}\n" + sites
}
