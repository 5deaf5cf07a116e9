package wechattest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// errmsgs are WeChat's words (全局返回码).
var errmsgs = map[int]string{
	-1: "system error", 40001: "invalid credential, access_token is invalid or not latest", 40002: "invalid grant_type",
	40003: "invalid openid", 40013: "invalid appid", 40014: "invalid access_token", 40029: "invalid code",
	40030: "invalid refresh_token", 40125: "invalid appsecret", 40163: "code been used",
	40164: "invalid ip 61.172.68.219, not in whitelist hint", 40243: "AppSecret has been frozen",
	41001: "access_token missing", 41002: "appid missing", 41003: "refresh_token missing", 41004: "appsecret missing",
	41008: "missing code", 41009: "missing openid", 42001: "access_token expired", 42002: "refresh_token expired",
	42003: "code expired", 42007: "access_token and refresh_token exception", 43001: "require GET method",
	43004: "require subscribe", 45009: "reach max api daily quota limit",
	45011: "api minute-quota reach limit mustslower retry next minute", 48001: "api unauthorized", 48004: "api forbidden",
	50001: "user unauthorized", 50002: "user limited", 89503: "this ip needs the administrator's confirmation",
}

// refuse answers an errcode as WeChat does: HTTP 200, text/plain, and a
// request id behind the message, for 41008 still in the older form.
func (s *Server) refuse(code int) reply {
	message, ok := errmsgs[code]
	if !ok {
		message = "error"
	}
	if code == 41008 {
		message += ", hints: [ req_id: " + randomText(10) + "-yh_Wxa ]"
	} else {
		message += ", rid: " + newRID(s.Knobs().now())
	}
	answer := jsonReply(struct {
		Errcode int    `json:"errcode"`
		Errmsg  string `json:"errmsg"`
	}{code, message})
	answer.errcode, answer.outcome = code, "refused"
	return answer
}

func jsonReply(v any) reply {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // only structs of ours come here
	}
	return reply{status: http.StatusOK, contentType: "text/plain", body: bytes.TrimSpace(body.Bytes())}
}

type param struct {
	name    string
	missing int
}

// check is the errcode of the first missing parameter, or of a call that is
// no GET.
func check(r *http.Request, q url.Values, wanted ...param) int {
	if r.Method != http.MethodGet {
		return 43001
	}
	for _, p := range wanted {
		if q.Get(p.name) == "" {
			return p.missing
		}
	}
	return 0
}

func (s *Server) exchange(r *http.Request) reply {
	q := r.URL.Query()
	if code := check(r, q, param{"appid", 41002}, param{"secret", 41004}, param{"code", 41008}); code != 0 {
		return s.refuse(code)
	}
	account, ok := s.account(q.Get("appid"))
	switch {
	case q.Get("grant_type") != "authorization_code":
		return s.refuse(40002)
	case !ok:
		return s.refuse(40013)
	case account.Secret == "" || q.Get("secret") != account.Secret:
		return s.refuse(40125)
	}
	g, code := s.spend(q.Get("code"), account.AppID)
	if code != 0 {
		return s.refuse(code)
	}
	return s.tokenReply(s.issue(g), true)
}

// spend takes a code out of use.
func (s *Server) spend(code, appID string) (grant, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.codes.get(code)
	switch {
	case !ok || g.appID != appID:
		return grant{}, 40029
	case g.used:
		return grant{}, 40163
	case !s.knobs.now().Before(g.issued.Add(or(s.knobs.CodeTTL, 5*time.Minute))):
		if s.knobs.ExpiredCode != 0 {
			return grant{}, s.knobs.ExpiredCode
		}
		return grant{}, 42003
	}
	g.used = true
	return *g, 0
}

func (s *Server) issue(g grant) token {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &token{grant: g, access: "AT_" + randomText(107), refresh: "RT_" + randomText(107)}
	t.expires = s.knobs.now().Add(or(s.knobs.TokenTTL, 2*time.Hour))
	t.refreshExpires = s.knobs.now().Add(or(s.knobs.RefreshTTL, 30*24*time.Hour))
	s.tokens.put(t.access, t)
	s.refresh.put(t.refresh, t)
	return *t
}

func (s *Server) tokenReply(t token, first bool) reply {
	k := s.Knobs()
	body := struct {
		AccessToken  string `json:"access_token"`
		ExpiresIn    int    `json:"expires_in"`
		RefreshToken string `json:"refresh_token"`
		OpenID       string `json:"openid"`
		Scope        string `json:"scope"`
		Snapshot     int    `json:"is_snapshotuser,omitempty"`
		UnionID      string `json:"unionid,omitempty"`
	}{
		AccessToken: t.access, ExpiresIn: int(or(k.TokenTTL, 2*time.Hour) / time.Second),
		RefreshToken: t.refresh, OpenID: t.openID, Scope: t.scope,
	}
	if first && t.snapshot {
		body.Snapshot = 1
	}
	if first && t.scope == "snsapi_userinfo" {
		body.UnionID = t.unionID
	}
	answer := jsonReply(body)
	answer.outcome, answer.user = "token", t.user.ID
	return answer
}

// refreshToken keeps a living access token and prolongs it, or issues a new
// one; the refresh token's own life is not prolonged.
func (s *Server) refreshToken(r *http.Request) reply {
	q := r.URL.Query()
	if code := check(r, q, param{"appid", 41002}, param{"refresh_token", 41003}); code != 0 {
		return s.refuse(code)
	}
	if q.Get("grant_type") != "refresh_token" {
		return s.refuse(40002)
	}
	if _, ok := s.account(q.Get("appid")); !ok {
		return s.refuse(40013)
	}
	t, code := s.prolong(q.Get("refresh_token"), q.Get("appid"))
	if code != 0 {
		return s.refuse(code)
	}
	return s.tokenReply(t, false)
}

func (s *Server) prolong(refresh, appID string) (token, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.knobs.now()
	t, ok := s.refresh.get(refresh)
	switch {
	case !ok || t.appID != appID:
		return token{}, 40030
	case !now.Before(t.refreshExpires):
		return token{}, 42002
	}
	if !now.Before(t.expires) {
		next := *t
		next.access = "AT_" + randomText(107)
		t = &next
		s.tokens.put(t.access, t)
		s.refresh.put(t.refresh, t)
	}
	t.expires = now.Add(or(s.knobs.TokenTTL, 2*time.Hour))
	return *t, 0
}

// holder finds a token for sns/userinfo and sns/auth.
func (s *Server) holder(r *http.Request) (token, int) {
	q := r.URL.Query()
	if code := check(r, q, param{"access_token", 41001}, param{"openid", 41009}); code != 0 {
		return token{}, code
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.tokens.get(q.Get("access_token"))
	switch {
	case !ok:
		return token{}, 40001
	case !s.knobs.now().Before(t.expires):
		return token{}, 42001
	case t.openID != q.Get("openid"):
		return token{}, 40003
	}
	return *t, 0
}

func (s *Server) checkToken(r *http.Request) reply {
	t, code := s.holder(r)
	if code != 0 {
		return s.refuse(code)
	}
	return reply{
		status: http.StatusOK, contentType: "text/plain", body: []byte(`{"errcode":0,"errmsg":"ok"}`),
		outcome: "ok", user: t.user.ID,
	}
}

func (s *Server) userInfo(r *http.Request) reply {
	t, code := s.holder(r)
	k := s.Knobs()
	switch {
	case code != 0:
		return s.refuse(code)
	case t.scope != "snsapi_userinfo":
		return s.refuse(48001)
	case t.snapshot && k.SnapshotUserInfo != 0:
		return s.refuse(k.SnapshotUserInfo)
	}
	answer := jsonReply(profile(t, k))
	answer.outcome, answer.user = "profile", t.user.ID
	return answer
}

// profileBody has WeChat's fields. Sex and places are empty for everybody
// since October 2021.
type profileBody struct {
	OpenID     string   `json:"openid"`
	Nickname   string   `json:"nickname"`
	Sex        int      `json:"sex"`
	Language   string   `json:"language"`
	City       string   `json:"city"`
	Province   string   `json:"province"`
	Country    string   `json:"country"`
	HeadImgURL string   `json:"headimgurl"`
	Privilege  []string `json:"privilege"`
	UnionID    string   `json:"unionid,omitempty"`
}

func profile(t token, k Knobs) profileBody {
	body := profileBody{
		OpenID: t.openID, UnionID: t.unionID, Privilege: []string{},
		Nickname: t.user.Nickname, HeadImgURL: t.user.HeadImgURL,
	}
	if k.AvatarBase != "" && body.HeadImgURL != "" {
		body.HeadImgURL = fmt.Sprintf("%s/wechattest/avatar.svg?id=%s", k.AvatarBase, url.QueryEscape(t.user.ID))
	}
	if t.snapshot {
		body.Nickname, body.HeadImgURL = "微信用户", avatar
	}
	return body
}
