package caddymodule

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// The codes that answers carry.
const (
	codeUnavailable = -1
	codeNotLoggedIn = 1001
	codeNotAllowed  = 1002
	codeNotInWeChat = 4001
	codeParameter   = 4002
)

var jsonMessages = map[int][2]string{ // English, Chinese
	codeUnavailable: {"WeChat did not answer", "微信暂时没有响应"},
	codeNotLoggedIn: {"not logged in", "未登录"},
	codeNotAllowed:  {"not allowed", "不允许"},
	codeNotInWeChat: {"not opened in WeChat", "请在微信中打开"},
	codeParameter:   {"parameter error", "参数错误"},
}

// fail answers with an error page, or with its code to a script, and logs why under the reference that
// the page shows.
func (s *site) fail(w http.ResponseWriter, r *http.Request, level zapcore.Level, why string, p page, fields ...zap.Field) {
	failWith(s.logger, w, r, level, why, p, fields...)
}

func failWith(logger *zap.Logger, w http.ResponseWriter, r *http.Request, level zapcore.Level, why string, p page, fields ...zap.Field) {
	p = p.logged(logger, level, why, fields...)
	if wantsJSON(r) {
		writeJSON(w, r, p.Status, p.Code, "", p.Errcode)
		return
	}
	p.write(w, r)
}

// logged returns p with a reference under which the log says why it was shown.
func (p page) logged(logger *zap.Logger, level zapcore.Level, why string, fields ...zap.Field) page {
	if p.Ref != "" {
		return p // it was logged where the reference was made
	}
	p.Ref = newRef()
	if c := logger.Check(level, why); c != nil {
		c.Write(append(fields, zap.String("ref", p.Ref))...)
	}
	return p
}

// wantsJSON reports whether r was sent by a script rather than a person's navigation.
func wantsJSON(r *http.Request) bool {
	if mode := r.Header.Get("Sec-Fetch-Mode"); mode != "" {
		return mode != "navigate"
	}
	return isXHR(r) || !acceptsHTML(r) && strings.Contains(r.Header.Get("Accept"), "json")
}

// writeJSON answers a script. errcode is WeChat's, where it gave one.
func writeJSON(w http.ResponseWriter, r *http.Request, status, code int, loginURL string, errcode ...int) {
	lang := 0
	if r.Header.Get("Accept-Language") != "" && preferChinese(r) {
		lang = 1
	}
	msg := jsonMessages[code][lang]
	if code == codeUnavailable && len(errcode) > 0 && errcode[0] != 0 {
		msg = [2]string{"WeChat refused: errcode ", "微信拒绝了请求，错误码 "}[lang] + strconv.Itoa(errcode[0])
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
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Add("Vary", "Accept-Language")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write([]byte(strings.TrimSuffix(body.String(), "\n")))
	}
}
