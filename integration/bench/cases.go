package main

import (
	"context"
	"net/http"
	"slices"
)

// benchCase is what is measured, and beside what.
type benchCase struct {
	name    string
	setting setting
	arms    func(*gateway) ([]arm, error) // the limits, then the subject
	goals   []goal
	login   bool // its CPU time has a bound of its own
	alone   bool // it has a gateway of its own: what is remembered of its logins would be collected during others' turns
}

// The arms' names.
const (
	subjectName = "wechat_auth"
	plain       = "plain reverse_proxy"
	empty       = "empty handler"
	lookup      = "look-up handler"
	redirect    = "plain redir"
	fresh       = "plain redir, another each time"
	served      = "served request"
	asMany      = "as many plain requests"     // a login's redirects, and a page
	andCall     = "the same, with a bare call" // to WeChat
)

var few = setting{users: 10, sites: 1, accounts: 1}

func allCases() []benchCase {
	var list []benchCase
	list = append(list, warmCases()...)
	list = append(list, strangerCases()...)
	list = append(list, loginCases()...)
	list = append(list, protocolCases()...)
	return append(list, manyCases()...)
}

// hosts makes an arm of each host, all with the same traffic.
func hosts(traffic func(*gateway) traffic, names ...string) func(*gateway) ([]arm, error) {
	return func(g *gateway) (arms []arm, err error) {
		t := traffic(g)
		for _, name := range names {
			l, err := newWrkLoad(g, hostOf[name], t)
			if err != nil {
				return nil, err
			}
			arms = append(arms, arm{name, l})
		}
		return arms, nil
	}
}

var hostOf = map[string]string{
	plain: plainHost, empty: emptyHost, lookup: lookupHost, redirect: redirHost, fresh: freshHost, subjectName: shopHost,
}

func signedIn(g *gateway) traffic { return pages(g.tokens) }

func warmCases() []benchCase {
	return []benchCase{
		{
			name: "warm, 10 users", setting: few, arms: hosts(signedIn, plain, empty, lookup, subjectName),
			goals: []goal{{plain, 0.93}, {lookup, 0.97}},
		},
		{name: "spoof-laden, 30 headers to strip", setting: few, arms: hosts(func(g *gateway) traffic { return spoofs(g.tokens) }, plain, subjectName)},
		{
			name: "cold: no token twice", setting: few, goals: []goal{{plain, 0.82}},
			arms: func(g *gateway) ([]arm, error) {
				arms, err := hosts(signedIn, plain, empty, subjectName)(g)
				if err != nil {
					return nil, err
				}
				arms[2].load.(*wrkLoad).fresh = func(ctx context.Context, n int) ([]string, error) {
					return newTokens(ctx, "http://"+shopHost, n)
				}
				return arms, nil
			},
		},
	}
}

// manyJunk is more than is remembered of any.
const manyJunk = 50_000

func strangerCases() []benchCase {
	return []benchCase{
		{
			name: "anonymous, public path", setting: few, goals: []goal{{plain, 0.95}},
			arms: hosts(func(*gateway) traffic { return strangers(publicPath) }, plain, empty, subjectName),
		},
		{
			name: "refused: junk cookie", setting: few, goals: []goal{{served, 1}},
			arms: refusals(func(g *gateway) []string { return junk(g.tokens[0], manyJunk) }),
		},
		{
			name: "refused: forged signature", setting: few, goals: []goal{{served, 1}},
			arms: refusals(func(g *gateway) []string {
				var list []string
				for len(list) < manyJunk {
					list = append(list, forged(g.tokens)...)
				}
				return list
			}),
		},
		{
			name: "login start", setting: few, goals: []goal{{redirect, 0.85}},
			arms: hosts(func(*gateway) traffic { return strangers(memberPath) }, redirect, subjectName),
		},
	}
}

// refusals compares calls that are refused with the same of people who are signed in.
func refusals(cookies func(*gateway) []string) func(*gateway) ([]arm, error) {
	return func(g *gateway) ([]arm, error) {
		good, err := newWrkLoad(g, shopHost, calls(g.tokens))
		if err != nil {
			return nil, err
		}
		bad, err := newWrkLoad(g, shopHost, calls(cookies(g)))
		if err != nil {
			return nil, err
		}
		bad.refused = true
		return []arm{{served, good}, {subjectName, bad}}, nil
	}
}

func loginCases() []benchCase {
	const across, bound = 3, 2 // redirects of the gateway
	list := []benchCase{
		{name: "callback with a code, to the cookie", setting: few, arms: stocked((*walker).codeCallback, redirHost, http.StatusFound, false)},
		{name: "callback with a ticket, to the cookie", setting: few, arms: stocked((*walker).ticketCallback, redirHost, http.StatusFound, false)},
		{name: "a client redeems its ticket, https", setting: few, arms: stocked((*walker).redeemable, plainHost, http.StatusOK, true)},
		{name: "whole login across domains", setting: few, arms: walked((*walker).login, (*walker).ticketCallback, across), goals: []goal{{asMany, 0.5}}, login: true},
		{name: "login across domains, to the cookie", setting: few, arms: walked((*walker).toCookie, (*walker).ticketCallback, across), goals: []goal{{asMany, 0.5}}, login: true},
		{name: "whole login on the bound domain", setting: few, arms: walked((*walker).login, (*walker).codeCallback, bound), goals: []goal{{asMany, 0.5}}, login: true},
	}
	for i := range list {
		list[i].alone = true
	}
	return list
}

// stocked compares the last request of what is prepared with one to a host, sent by the same client.
func stocked(stock func(*walker) (step, error), host string, status int, secure bool) func(*gateway) ([]arm, error) {
	return func(g *gateway) ([]arm, error) {
		limit, subject := newWalkLoad(g), newWalkLoad(g)
		subject.stock = stock
		limit.walk = func(w *walker) error {
			_, err := w.do(step{host, memberPath, browser, status, secure})
			return err
		}
		name := redirect
		if host == plainHost {
			name = plain
		}
		return []arm{{name, limit}, {subjectName, subject}}, nil
	}
}

// walked compares a login, whose last request but one callback returns, with plain requests: so many redirects, and a page.
func walked(login func(*walker, func(*walker) (step, error)) error, callback func(*walker) (step, error), redirects int) func(*gateway) ([]arm, error) {
	return func(g *gateway) ([]arm, error) {
		limit, call, subject := newWalkLoad(g), newWalkLoad(g), newWalkLoad(g)
		limit.walk = func(w *walker) error { return w.plainly(redirects, 0) }
		call.walk = func(w *walker) error { return w.plainly(redirects-1, 1) }
		subject.walk = func(w *walker) error { return login(w, callback) }
		return []arm{{asMany, limit}, {andCall, call}, {subjectName, subject}}, nil
	}
}

func protocolCases() []benchCase {
	list := []benchCase{overTLS("warm, HTTP/1.1 with TLS", 1, securePeople, http.StatusOK, 0.93, plain)}
	for _, p := range []struct {
		name    string
		version int
	}{{"HTTP/2", 2}, {"HTTP/3", 3}} {
		list = append(list,
			overTLS("warm, "+p.name, p.version, securePeople, http.StatusOK, 0.93, plain),
			overTLS("anonymous, public path, "+p.name, p.version, func(*gateway) traffic { return strangers(publicPath) }, http.StatusOK, 0.95, plain),
			overTLS("login start, "+p.name, p.version, func(*gateway) traffic { return strangers(memberPath) }, http.StatusFound, 0.85, redirect, fresh),
		)
	}
	return list
}

func securePeople(g *gateway) traffic { return securePages(g.secureTokens) }

// overTLS has its goal beside the first of the limits.
func overTLS(name string, version int, traffic func(*gateway) traffic, status int, atLeast float64, limits ...string) benchCase {
	return benchCase{
		name: name, setting: few, goals: []goal{{limits[0], atLeast}},
		arms: func(g *gateway) (arms []arm, err error) {
			for _, name := range append(slices.Clone(limits), subjectName) {
				l, err := newHTTPLoad(g, version, hostOf[name], traffic(g), status)
				if err != nil {
					return nil, err
				}
				arms = append(arms, arm{name, l})
			}
			return arms, nil
		},
	}
}

// manyCases need gateways of their own.
func manyCases() []benchCase {
	warm := func(name string, s setting, goals ...goal) benchCase {
		return benchCase{name: name, setting: s, goals: goals, arms: hosts(signedIn, plain, lookup, subjectName)}
	}
	return []benchCase{
		warm("warm, 20,000 users", setting{users: 20_000, sites: 1, accounts: 1}, goal{plain, 0.90}),
		// The default keeps 42,000 sessions of this size.
		warm("warm, 100,000 users, cache 256MiB", setting{users: 100_000, cache: "256MiB", sites: 1, accounts: 1}, goal{plain, 0.90}),
		warm("warm, 10 users, 100 sites", setting{users: 10, sites: manySites, accounts: 1}),
		warm("warm, 10 users, 100 sites, 100 accounts", setting{users: 10, sites: manySites, accounts: manySites}),
	}
}
