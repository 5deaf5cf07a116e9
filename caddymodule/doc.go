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
// Another gateway's broker stands in WeChat's place where the account has one (remote.go).
//
// What sites share is the App's (app.go): accounts (account.go, exchange.go) and the gateway of keys,
// store (store_memory.go, store_redis.go), revocations and cache (gateway.go). Each *_caddyfile.go parses what the file of that name
// configures. The pages stand in pages/, their words in pages_text.go.
//
// A broker's clients are backends that are not sites of this Caddy. Broker.serveClients (broker.go) tells
// their requests from the site's own:
//
//	serveStart, serveAuthorize  a client sends a browser to log in (broker_start.go)
//	  errand                    what it wants: checked, limited, kept in the browser (errand.go)
//	  parseReturn               where the browser may go back to (return_address.go)
//	endErrand                   WeChat brought it back: a ticket, a code, or WeChat's own (broker_return.go)
//	serveTicket, serveUser      the client asks who it is, as wxauth's do (broker_redeem.go)
//	serveSNS                    or as SDKs ask WeChat (broker_sns.go)
//	serveArrival                wxauth's V1: a client began the login at WeChat itself (broker_targets.go)
//
// Who a client is and what proves it stands in broker_clients.go, its configuration in client.go. Sites and
// brokers keep a browser's logins in the same kind of cookies (login_cookies.go).
package caddymodule
