package main

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddy.RegisterModule(Empty{})
	httpcaddyfile.RegisterHandlerDirective("bench_empty", func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		return Empty{}, nil
	})
	httpcaddyfile.RegisterDirectiveOrder("bench_empty", httpcaddyfile.Before, "forward_auth")
}

// Empty is a handler that does nothing: what a route's next handler costs at all.
type Empty struct{}

// CaddyModule returns the Caddy module information.
func (Empty) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.bench_empty", New: func() caddy.Module { return new(Empty) }}
}

func (Empty) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return next.ServeHTTP(w, r)
}

var _ caddyhttp.MiddlewareHandler = Empty{}
