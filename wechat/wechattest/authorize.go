package wechattest

import (
	"net/http"
	"net/url"
	"strings"
)

func (s *Server) authorize(r *http.Request) reply {
	k := s.Knobs()
	l, refused := s.admit(r, k, r.URL.RawQuery)
	if refused != nil {
		return *refused
	}
	v := s.visitor(r, k)
	if truth(l.force.Get("forceSnapShot")) {
		v.snapshot = true
	}
	switch {
	case v.snapshot: // the popup is suppressed there
		return s.allow(l, v, k)
	case k.Consent == DeclineNothing:
		return declinedPage(l, v.user)
	case k.Consent == DeclineLegacy:
		return declineBack(l)
	case k.Consent == AskPage && !silent(l, v):
		return s.consentPage(l, v.user, !v.known)
	}
	return s.allow(l, v, k)
}

// admit is nil for a link and a browser that WeChat would take.
func (s *Server) admit(r *http.Request, k Knobs, rawLink string) (link, *reply) {
	var refused reply
	if !k.AnyBrowser && !insideWeChat(r.UserAgent()) {
		refused = outsidePage()
		return link{}, &refused
	}
	if k.TooOften {
		refused = errorPage(10009)
		return link{}, &refused
	}
	l, code := s.readLink(rawLink)
	if code != 0 {
		refused = errorPage(code)
		return link{}, &refused
	}
	return l, nil
}

// insideWeChat is a hint and never a permission: anybody can send this. A
// WeCom browser names MicroMessenger too, but is another app.
func insideWeChat(userAgent string) bool {
	ua := strings.ToLower(userAgent)
	return strings.Contains(ua, "micromessenger") && !strings.Contains(ua, "wxwork")
}

// silent says whether nobody is asked: with snsapi_base, and for a follower.
func silent(l link, v visitor) bool {
	return v.known && (l.scope == "snsapi_base" || v.user.Follower)
}

func truth(s string) bool { return s == "1" || s == "true" }

// allow issues a new code at every call.
func (s *Server) allow(l link, v visitor, k Knobs) reply {
	g := &grant{appID: l.account.AppID, user: v.user, scope: l.scope, snapshot: v.snapshot, issued: k.now()}
	g.openID, g.unionID = s.OpenID(g.appID, v.user.ID), v.user.UnionID
	if v.snapshot && !k.SnapshotRealIDs {
		g.openID, g.unionID = derivedID("snapshot", g.appID, v.user.ID), derivedID("snapshot union", v.user.ID)
	}
	if l.account.Unbound {
		g.unionID = ""
	}
	code := randomText(32)
	s.mu.Lock()
	s.codes.put(code, g)
	s.mu.Unlock()
	return reply{
		status: http.StatusFound, contentType: "text/html", location: l.back(code),
		outcome: "code", user: v.user.ID,
	}
}

func declineBack(l link) reply {
	return reply{status: http.StatusFound, contentType: "text/html", location: l.back(""), outcome: "declined"}
}

// Parameters of ours behind the link on the consent page; the link itself is
// judged again, so that nothing needs a signature.
const (
	ownPerson = "&wechattest_person="
	ownAnswer = "&wechattest_answer="
)

// confirm is where the consent page's own links lead.
func (s *Server) confirm(r *http.Request) reply {
	k := s.Knobs()
	rawLink, own, _ := strings.Cut(r.URL.RawQuery, ownPerson)
	l, refused := s.admit(r, k, rawLink)
	if refused != nil {
		return *refused
	}
	id, answer, _ := strings.Cut(own, ownAnswer)
	id, _ = url.QueryUnescape(id)
	person, ok := s.user(id)
	if !ok {
		return s.consentPage(l, s.visitor(r, k).user, true)
	}
	switch answer {
	case "allow":
		allowed := s.allow(l, visitor{user: person, snapshot: s.visitor(r, k).snapshot}, k)
		allowed.cookie = holds(person)
		return allowed
	case "decline":
		return declinedPage(l, person)
	case "legacy":
		return declineBack(l)
	}
	return s.consentPage(l, person, true)
}

// holds remembers the person who holds the phone.
func holds(u User) *http.Cookie {
	return &http.Cookie{
		Name: personCookie, Value: url.QueryEscape(u.ID), Path: "/", MaxAge: 30 * 24 * 3600,
		HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
}
