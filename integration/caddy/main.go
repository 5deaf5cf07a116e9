// Command caddy is a standard Caddy with this plugin, as the tests build it (with -race, or without xcaddy's detour).
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-wechat/caddy-wechat"
)

func main() { caddycmd.Main() }
