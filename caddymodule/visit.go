package caddymodule

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-wechat/caddy-wechat/ticket"
)

// visit is what a site knows of one request. Who only passes holds it by value, which allocates nothing (125
// ns and 160 bytes less); whoever answers or keeps it takes a pointer by kept.
type visit struct {
	site     *site
	origin   *origin      // nil where the request's host is none of the site's
	session  *liveSession // nil for anybody unknown
	own      ownCookies
	at       time.Time
	answered *bool // the answer carries its cookies already; nil where no other handler can have put them there
}

// kept returns v as what may be kept.
func (v visit) kept() *visit { return &v }

// visit recognises who sends r: it takes off r what a client sent under our names, and puts on who the
// user is. Where handlers may meet one request several times (several of a site, named routes, error
// routes), the later ones find the first one's visit.
func (s *site) visit(r *http.Request) (v visit) {
	if len(s.auths) > 1 || s.app.named {
		v = s.visitAgain(r)
	} else {
		v = s.newVisit(r, r.Header["Cookie"])
	}
	s.headers.scrub(r)
	s.app.hideCookies(r.Header)
	if v.session != nil {
		s.headers.set(r.Header, v.session)
	}
	return v
}

func (s *site) visitAgain(r *http.Request) visit {
	if first, ok := caddyhttp.GetVar(r.Context(), s.visitKey).(*visit); ok {
		return *first
	}
	v := s.newVisit(r, cookieLines(r))
	v.answered = new(bool)
	caddyhttp.SetVar(r.Context(), s.visitKey, v.kept())
	return v
}

func (s *site) newVisit(r *http.Request, cookies []string) visit {
	v := visit{site: s, origin: s.originOf(r)}
	if v.origin != nil {
		v.own = v.origin.cookies.readCookies(cookies)
		if v.own.session[0] != "" {
			v.at = now()
			v.session = v.recognise(r)
		}
	}
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		v.session.setPlaceholders(repl)
	}
	return v
}

// cookieLines returns r's cookies as they came. Where another site's handler may meet r as well (a named
// route in a site), they are kept for it: this one's are hidden from then on.
func cookieLines(r *http.Request) []string {
	const key = "wechat_cookies"
	if lines, ok := caddyhttp.GetVar(r.Context(), key).([]string); ok {
		return lines
	}
	lines := slices.Clone(r.Header["Cookie"])
	caddyhttp.SetVar(r.Context(), key, lines)
	return lines
}

// recognise returns the session that r's cookie stands for. Two different cookies of one name mean that
// one was tossed in by somebody else; they count only if exactly one of them is a session.
func (v *visit) recognise(r *http.Request) *liveSession {
	if len(v.own.more) > 0 {
		return nil
	}
	s := v.origin.session(r, v.own.session[0], v.at)
	if v.own.session[1] == "" {
		return s
	}
	other := v.origin.session(r, v.own.session[1], v.at)
	switch {
	case other == nil:
		return s
	case s == nil:
		return other
	}
	return nil
}

// session returns the live session of a token, or nil. The signature is checked once; that it has not
// ended and was not revoked, on every request. While nothing is known of revocations yet nobody is let in.
func (o *origin) session(r *http.Request, token string, at time.Time) *liveSession {
	s, revoked := o.verified(r, token, at), o.site.app.gateway.revoked
	if s == nil || !revoked.Loaded(r.Context()) || revoked.Known.Has(s.ID) {
		return nil
	}
	return s
}

// verified returns the session that a token stands for, ended by a logout or not.
func (o *origin) verified(r *http.Request, token string, at time.Time) *liveSession {
	cache := o.site.app.gateway.cache
	if s := cache.get(token, o.name, o.sessions.AppID, at); s != nil {
		return s
	}
	verified, err := o.sessions.Verify(r.Context(), token)
	if err != nil {
		return nil
	}
	// A copy: the token points into the request's cookies, and would keep all of them, a megabyte if need be.
	s := newLiveSession(strings.Clone(token), o.name, verified)
	cache.put(s)
	return s
}

// presented are the sessions that r's cookies stand for, ended or not, whoever is recognised by them.
func (v *visit) presented(r *http.Request) (list []*liveSession) {
	for _, token := range append(v.own.session[:], v.own.more...) {
		if token == "" {
			continue
		}
		if s := v.origin.verified(r, token, now()); s != nil {
			list = append(list, s)
		}
	}
	return list
}

// has reports whether the user is signed in with at least that scope.
func (v *visit) has(scope string) bool {
	return v.session != nil && ticket.ScopeCovers(v.session.Scope, scope)
}

// isGuest reports whether r comes from a snapshot visitor who was let in to look around.
func (v *visit) isGuest(r *http.Request) bool {
	return v.own.guest != "" && v.origin.sessions.VerifyGuest(r.Context(), v.own.guest) == nil
}

// setPlaceholders sets {http.auth.user.*}. The id replaces what basic_auth may have set, so that PHP gets
// the openid as REMOTE_USER; the others are computed when they are asked for. For anybody unknown they are
// empty, or the placeholders' own text would be handed on.
func (s *liveSession) setPlaceholders(repl *caddy.Replacer) {
	if s == nil {
		repl.Map(nobody)
		return
	}
	repl.Set("http.auth.user.id", s.openID)
	repl.Map(s.provide)
}

// nobody provides the placeholders of a request without a session; what basic_auth has set stands before it.
func nobody(key string) (any, bool) {
	switch key {
	case "http.auth.user.id", "http.auth.user.openid", "http.auth.user.unionid", "http.auth.user.appid",
		"http.auth.user.scope", "http.auth.user.nickname", "http.auth.user.headimgurl":
		return "", true
	}
	return nil, false
}

func (s *liveSession) placeholder(key string) (any, bool) {
	value := ""
	switch key {
	case "http.auth.user.openid":
		value = s.OpenID
	case "http.auth.user.unionid":
		value = s.UnionID
	case "http.auth.user.appid":
		value = s.AppID
	case "http.auth.user.scope":
		value = s.Scope
	case "http.auth.user.nickname":
		value = s.Nickname
	case "http.auth.user.headimgurl":
		value = s.HeadImgURL
	default:
		return nil, false
	}
	return value, true
}
