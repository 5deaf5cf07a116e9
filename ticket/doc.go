// Package ticket holds what the gateway itself vouches for. It knows neither Caddy nor WeChat.
//
// A login's way through it:
//
//	Login    what travels sealed through WeChat and comes back (login.go)
//	Pending  what the browser keeps meanwhile, sealed in its login cookie (login.go)
//	Codes    each of WeChat's codes exchanged at most once, its outcome kept for ten minutes (codes.go)
//	Tickets  the voucher that a broker hands to a site, spent once (tickets.go)
//	         and those of its clients: by secret or public, once or again; codes as WeChat's (clients.go)
//	Profiles what a client may read of its user after the login (profiles.go)
//	Session  the signed cookie that the site swaps it for (session.go), Guest its nameless sibling (guest.go)
//
// Beneath: Keyring makes, shares, rotates and uses the keys (keyring.go, keyfile.go, seal.go, sign.go),
// Revocations remembers ended sessions (revocations.go, prune.go), Store keeps what is short-lived and shared
// (store.go, memory.go; redisstore is one in Redis; every implementation passes storetest.Run).
package ticket
