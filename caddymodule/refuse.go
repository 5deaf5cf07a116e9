package caddymodule

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/ticket"
)

// The codes that answers carry.
const (
	codeDone        = 0
	codeUnavailable = -1
	codeNotLoggedIn = 1001
	codeNotAllowed  = 1002
	codeNotInWeChat = 4001
	codeParameter   = 4002
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
		page{Name: "form", Status: http.StatusUnauthorized, Action: back, Code: codeNotLoggedIn}.write(w, r)
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
	if v.session != nil {
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
	if kindOf(r) != kindPageLoad {
		writeJSON(w, r, http.StatusBadRequest, codeParameter, "")
		return
	}
	ref := newRef()
	a.site.logger.Warn("login refused: the host is none of the site's; if it is, list it with the option origin",
		zap.String("host", r.Host), zap.String("ref", ref))
	page{Name: "error", Reason: "host", Status: http.StatusBadRequest, Code: codeParameter, Ref: ref}.write(w, r)
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

var jsonMessages = map[int][2]string{ // English, Chinese
	codeDone:        {"ok", "成功"},
	codeUnavailable: {"WeChat did not answer", "微信暂时没有响应"},
	codeNotLoggedIn: {"not logged in", "未登录"},
	codeNotAllowed:  {"not allowed", "不允许"},
	codeNotInWeChat: {"not opened in WeChat", "请在微信中打开"},
	codeParameter:   {"parameter error", "参数错误"},
}

// writeJSON answers a script.
func writeJSON(w http.ResponseWriter, r *http.Request, status, code int, loginURL string) {
	msg := jsonMessages[code][0]
	if r.Header.Get("Accept-Language") != "" && preferChinese(r) {
		msg = jsonMessages[code][1]
	}
	writeBody(w, r, status, struct {
		Code     int    `json:"code"`
		Msg      string `json:"msg"`
		LoginURL string `json:"login_url,omitempty"`
	}{code, msg, loginURL})
}

// writeBody answers with v as JSON, for nobody's cache.
func writeBody(w http.ResponseWriter, r *http.Request, status int, v any) {
	var body strings.Builder
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // structs of strings and numbers always encode
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Add("Vary", "Accept-Language")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write([]byte(strings.TrimSuffix(body.String(), "\n")))
	}
}

// noticeRefused warns when WeChat's own calls are refused: they carry no cookie and belong in `public`.
func (a *Auth) noticeRefused(r *http.Request) {
	if r.Method != http.MethodPost || !looksLikeWeChatCall(r) || !a.notices.aMinute() {
		return
	}
	a.site.logger.Warn("a call that looks like WeChat's own was refused for want of a login; if it is, add the line to wechat_auth",
		zap.String("line", "public "+r.URL.Path))
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
