package caddymodule

import (
	"context"
	"net/url"

	"github.com/caddyserver/caddy/v2"
)

func newTestReplacer() *caddy.Replacer { return caddy.NewReplacer() }

func unescaped(path string) string {
	if p, err := url.PathUnescape(path); err == nil {
		return p
	}
	return path
}

func contextWith(ctx context.Context, key, value any) context.Context {
	return context.WithValue(ctx, key, value)
}
