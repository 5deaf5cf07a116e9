package caddymodule

import (
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-wechat/caddy-wechat/ticket"
)

// refuse answers a request that needs a login and has none: a page load is led to WeChat, a form's
// sender is told that nothing was sent, a script gets JSON.
func (a *Auth) refuse(w http.ResponseWriter, r *http.Request, v *visit) {
	a.noticeRefused(r)
	outside := a.OutsideWeChat == outsideDeny && !inWeChat(r)
	switch kind := kindOf(r); {
	case kind == kindPageLoad:
		a.beginFromPage(w, r, v, loginWish{to: a.site.ownURI(r), scope: a.scope})
	case kind == kindForm && outside:
		a.openInWeChat(w, r, v, "/")
	case kind == kindForm:
		back := "/"
		if v.origin != nil {
			back = v.origin.refererPath(r)
		}
		page{Name: "form", Status: http.StatusUnauthorized, Action: back, Code: codeNotLoggedIn}.
			logged(a.site.logger, zapcore.InfoLevel, "a form was sent without a session").write(w, r)
	case outside:
		writeJSON(w, r, http.StatusForbidden, codeNotInWeChat, "")
	default:
		a.answerNotLoggedIn(w, r, v)
	}
}

// answerNotLoggedIn is what a script gets. login_url leads back to the page that the script ran in.
func (a *Auth) answerNotLoggedIn(w http.ResponseWriter, r *http.Request, v *visit) {
	to := "/"
	if v.origin != nil {
		to = v.origin.refererPath(r)
	}
	scope := ""
	if v.session != nil || a.scope != a.site.auths[0].scope { // more than a plain login brings
		scope = a.scope
	}
	writeJSON(w, r, http.StatusUnauthorized, codeNotLoggedIn, a.site.loginURL(to, scope))
}

// openInWeChat tells a browser outside WeChat where to open the page.
func (a *Auth) openInWeChat(w http.ResponseWriter, r *http.Request, v *visit, to string) {
	if v.origin == nil {
		a.wrongHost(w, r)
		return
	}
	page{Name: "open", Status: http.StatusForbidden, Address: v.origin.name + to, Phone: onPhone(r), Code: codeNotInWeChat}.write(w, r)
}

// wrongHost answers where a login would start at a host that is none of the site's.
func (a *Auth) wrongHost(w http.ResponseWriter, r *http.Request) {
	a.site.fail(w, r, zapcore.WarnLevel, "login refused: the host is none of the site's; if it is, list it with the option origin",
		page{Name: "error", Reason: "host", Status: http.StatusBadRequest, Code: codeParameter}, zap.String("host", r.Host))
}

// loginURL is the address, on this site, that starts a login.
func (s *site) loginURL(to, scope string) string {
	u := s.path + "/login?return=" + url.QueryEscape(to)
	if scope != "" {
		u += "&scope=" + scope
	}
	return u
}

// retryURL is a login's address that is let through after too many attempts: only the page that says so
// knows it, so no loop finds it.
func (o *origin) retryURL(r *http.Request, to, scope string) string {
	u := o.site.loginURL(to, scope)
	sealed, err := o.site.app.gateway.keys.Seal(r.Context(), "retry at "+o.name, []byte(now().UTC().Format(time.RFC3339)))
	if err != nil {
		return u
	}
	return u + "&retry=" + sealed
}

// isRetry reports whether sealed came from retryURL, not long ago.
func (o *origin) isRetry(r *http.Request, sealed string) bool {
	if sealed == "" {
		return false
	}
	b, err := o.site.app.gateway.keys.Open(r.Context(), "retry at "+o.name, sealed)
	if err != nil {
		return false
	}
	at, err := time.Parse(time.RFC3339, string(b))
	return err == nil && now().Sub(at) < ticket.LoginLife
}

// isTunnel reports whether r is a CONNECT that is no web socket (RFC 8441, RFC 9220). Go's client writes the
// body of a CONNECT without a frame around it: an upstream takes it for the next request, and identity
// headers in that for ours.
func isTunnel(r *http.Request) bool {
	if r.Method != http.MethodConnect {
		return false
	}
	overH2 := r.ProtoMajor == 2 && r.Header.Get(":protocol") == "websocket"
	overH3 := r.ProtoMajor == 3 && r.Proto == "websocket"
	return !overH2 && !overH3
}

// refuseTunnel answers a CONNECT, in error routes too, whoever sends it.
func refuseTunnel(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
	writeJSON(w, r, http.StatusMethodNotAllowed, codeParameter, "")
}

// noticeRefused warns when WeChat's own calls are refused: they carry no cookie and belong in `public`.
func (a *Auth) noticeRefused(r *http.Request) {
	if r.Method != http.MethodPost || !looksLikeWeChatCall(r) || !a.notices.aMinute() {
		return
	}
	line := ""
	if plainName := r.URL.Path; len(plainName) < 200 && pathPattern.MatchString(plainName) { // a stranger chose it
		line = "public " + plainName
	}
	a.site.logger.Warn("a call that looks like WeChat's own was refused for want of a login; if it is, add the line to wechat_auth",
		zap.String("line", line))
}

func looksLikeWeChatCall(r *http.Request) bool {
	q := r.URL.Query()
	return r.Header.Get("Wechatpay-Signature") != "" || q.Has("signature") && q.Has("nonce")
}

// once says yes to the first of a minute.
type once struct{ last atomic.Int64 }

func (o *once) aMinute() bool {
	last, t := o.last.Load(), now().Unix()
	return t-last >= 60 && o.last.CompareAndSwap(last, t)
}

// now is the clock of request handling.
func now() time.Time { return time.Now() }
