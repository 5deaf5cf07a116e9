package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddy.RegisterModule(new(Call))
	httpcaddyfile.RegisterHandlerDirective("bench_call", parseCall)
	httpcaddyfile.RegisterDirectiveOrder("bench_call", httpcaddyfile.Before, "redir")
}

// Call asks WeChat as cheaply as that is done on a connection of its own: a fixed text is sent, and what comes is
// read, not looked at. The code that it brings is none.
type Call struct {
	// Address is WeChat's host and port.
	Address string `json:"address"`
}

// CaddyModule returns the Caddy module information.
func (*Call) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.bench_call", New: func() caddy.Module { return new(Call) }}
}

// parseCall reads `bench_call * <address>`.
func parseCall(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	c := new(Call)
	h.Next()
	if !h.Args(&c.Address) {
		return nil, h.ArgErr()
	}
	return c, nil
}

func (c *Call) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if err := c.ask(); err != nil {
		return caddyhttp.Error(http.StatusBadGateway, err)
	}
	return next.ServeHTTP(w, r)
}

func (c *Call) ask() error {
	const request = "GET /sns/oauth2/access_token?appid=wx0000000000000000&secret=0123456789abcdef0123456789abcdef" +
		"&code=081aWl0w3kHzY437Kw1w3yvq1s2aWl0x&grant_type=authorization_code HTTP/1.1\r\nHost: wechat\r\nConnection: close\r\n\r\n"
	dialer := net.Dialer{KeepAlive: -1}
	conn, err := dialer.Dial("tcp", c.Address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		return err
	}
	const usual = 2 << 10
	res, err := http.ReadResponse(bufio.NewReaderSize(conn, usual), nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return fmt.Errorf("reading WeChat's answer: %w", err)
	}
	return nil
}

var _ caddyhttp.MiddlewareHandler = (*Call)(nil)
