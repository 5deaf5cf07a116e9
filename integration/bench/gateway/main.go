// Command gateway is the Caddy that is measured: the standard modules, this plugin, and handlers to compare it with
// in the very same binary.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-wechat/caddy-wechat"
)

func main() { caddycmd.Main() }
