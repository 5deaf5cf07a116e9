// Package caddymodule is the gateway as Caddy knows it.
//
// A request's way through a site:
//
//	Auth.ServeHTTP      the front page: recognise, serve our own, pass or refuse (auth.go)
//	site.visit          takes off what a client sent under our names, tells who it is (visit.go)
//	  originOf            at which of the site's origins; none: nobody is known (site.go, origin.go)
//	  readCookies         the gateway's cookies (cookies.go), a token's session (cache.go)
//	  scrub, set          identity headers off and on (headers.go)
//	Auth.serveOwn       endpoints under /_wechat (endpoints.go, login.go, callback.go)
//	Auth.passes         THE line that decides whether a request goes on (auth.go; public.go)
//	visit.renewing      a due session's next token rides on the answer (renew.go)
//	Auth.refuse         a redirect, a page or JSON, by what the request is (refuse.go, navigation.go)
//
// A login's way: visit.begin (login.go) → WeChat → Broker.ServeHTTP on the bound domain, if that is
// another (broker.go) → Auth.serveCallback → account.exchange or a ticket → visit.signIn (callback.go).
//
// What sites share is the App's (app.go): accounts (account.go, exchange.go) and the gateway of keys,
// store (store_memory.go, store_redis.go), revocations and cache (gateway.go). Each *_caddyfile.go parses what the file of that name
// configures. The pages stand in pages/, their words in pages_text.go.
package caddymodule
