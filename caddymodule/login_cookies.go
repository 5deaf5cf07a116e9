package caddymodule

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/caddy-wechat/caddy-wechat/ticket"
)

const (
	keepLogins = 5       // login cookies a browser keeps, and
	keepBytes  = 8 << 10 // their bytes in all: Caddy refuses headers over about 20 KB
	maxCookie  = 4096    // bytes of a cookie's name and value that browsers keep
)

// loginJar is the login cookies that a request carries: a cookie for each login that its browser began at
// this origin, at a site or at a broker.
type loginJar struct {
	keys    *ticket.Keyring
	origin  string
	names   *cookieNames
	cookies []cookie
}

// loginCookie is a login cookie that opened.
type loginCookie struct {
	cookie
	ticket.Pending
}

// open returns the cookies, the oldest first. Somebody else's and an old key's are empty, and so the first to
// be dropped.
func (j loginJar) open(ctx context.Context) (open []loginCookie) {
	for _, c := range j.cookies {
		p, err := j.keys.OpenPending(ctx, j.origin, c.value)
		if err != nil || c.name != j.names.login+p.ID {
			p = ticket.Pending{}
		}
		open = append(open, loginCookie{c, p})
	}
	slices.SortStableFunc(open, func(a, b loginCookie) int { return int(a.Started - b.Started) })
	return open
}

// keep sets the cookie of p, and drops the oldest of the others where they would be too many. shorter is what
// may stand in place of p's return address where that makes the cookie longer than browsers keep.
func (j loginJar) keep(ctx context.Context, w http.ResponseWriter, others []loginCookie, p ticket.Pending, shorter ...[]byte) error {
	value, err := j.seal(ctx, p, shorter)
	if err != nil {
		return err
	}
	j.makeRoom(w, others, len(j.names.login)+len(p.ID)+len(value))
	life := ticket.LoginLife
	if p.Ended > 0 {
		life = attemptWindow
	}
	j.names.set(w, j.names.login+p.ID, value, life)
	return nil
}

// makeRoom drops the oldest of the others where they would be too many beside one more of that size.
func (j loginJar) makeRoom(w http.ResponseWriter, others []loginCookie, size int) {
	for _, c := range others {
		size += len(c.name) + len(c.value)
	}
	for len(others) > 0 && (len(others) >= keepLogins || size > keepBytes) {
		size -= len(others[0].name) + len(others[0].value)
		j.names.clear(w, others[0].name)
		others = others[1:]
	}
}

var errLongCookie = errors.New("the login does not fit into a cookie")

// seal returns p as a cookie's value that browsers keep.
func (j loginJar) seal(ctx context.Context, p ticket.Pending, shorter [][]byte) (string, error) {
	for {
		value, err := j.keys.SealPending(ctx, j.origin, p)
		switch {
		case err != nil || len(j.names.login)+len(p.ID)+len(value) < maxCookie:
			return value, err
		case len(shorter) == 0:
			return "", errLongCookie
		}
		p.Return, shorter = shorter[0], shorter[1:]
	}
}

// pendingOf returns the browser's own record of the login, if it began it.
func pendingOf(open []loginCookie, id string) (ticket.Pending, bool) {
	for _, c := range open {
		if c.ID == id && !c.ExpiredAt(now()) {
			return c.Pending, true
		}
	}
	return ticket.Pending{}, false
}

func without(list []loginCookie, id string) []loginCookie {
	var rest []loginCookie
	for _, c := range list {
		if c.ID != id {
			rest = append(rest, c)
		}
	}
	return rest
}
