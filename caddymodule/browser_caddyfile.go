package caddymodule

import "github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

// UnmarshalCaddyfile parses the matcher. Syntax:
//
//	@name wechat_browser
func (*MatchBrowser) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	for d.Next() {
		if d.NextArg() {
			return d.Errf("wechat_browser takes no values; remove %q", d.Val())
		}
		if d.NextBlock(0) || d.Val() == "}" {
			return d.Err("wechat_browser takes no block; remove it")
		}
	}
	return nil
}

// Interface guard.
var _ caddyfile.Unmarshaler = (*MatchBrowser)(nil)
