// Package caddywechat is the plugin as xcaddy builds it in; all of it stands in caddymodule.
package caddywechat

import _ "github.com/caddy-wechat/caddy-wechat/caddymodule"
