package wechat

import (
	"encoding/json"
	"errors"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxID      = 128  // openid, unionid
	maxToken   = 1024 // bytes; WeChat promises at most 512
	maxScope   = 256  // bytes
	maxText    = 1024 // bytes of a nickname or an address
	maxExpires = 366 * 24 * time.Hour
)

// requestID finds "rid: 61a969fa-3824f418-2a65b14e", or the older
// "req_id: jCbezQaLRa-yh_Wxa". The bound keeps out codes, secrets and
// tokens, which are longer, should the other side echo them there.
var requestID = regexp.MustCompile(`\brid: ([0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{8})$|\breq_id: ([A-Za-z0-9_-]{8,24}) \]$`)

// apiError is nil if the answer is no refusal.
func apiError(endpoint string, answer object) error {
	code, err := answer.number("errcode")
	if err != nil {
		return malformed(endpoint, err.Error())
	}
	if code == 0 {
		return nil
	}
	if answer.has("access_token") || answer.has("openid") {
		return malformed(endpoint, "the answer is a refusal and a success")
	}
	refusal := &Error{Endpoint: endpoint, Code: code}
	// Of errmsg only the request id is read: its wording changes.
	if message, err := answer.text("errmsg"); err == nil {
		if found := requestID.FindStringSubmatch(message); found != nil {
			refusal.RequestID = found[1] + found[2]
		}
	}
	return refusal
}

func (o object) has(key string) bool { _, ok := o[key]; return ok }

// reader collects the first error of several readings.
type reader struct {
	object
	err error
}

func (r *reader) string(key string, allowed func(string) bool) string {
	s, err := r.text(key)
	if err == nil && !allowed(s) {
		err = errors.New(key + " is malformed")
	}
	return keep(r, s, err)
}

func (r *reader) int(key string) int {
	n, err := r.number(key)
	return keep(r, n, err)
}

func keep[T any](r *reader, value T, err error) T {
	if r.err == nil {
		r.err = err
	}
	return value
}

func readToken(endpoint string, answer object) (Token, error) {
	r := &reader{object: answer}
	snapshot := r.int("is_snapshotuser")
	expires := time.Duration(r.int("expires_in")) * time.Second
	token := Token{
		AccessToken:  r.string("access_token", and(present, printable(maxToken))),
		RefreshToken: r.string("refresh_token", printable(maxToken)),
		OpenID:       r.string("openid", and(present, isID)),
		UnionID:      r.string("unionid", isID),
		Scope:        r.string("scope", printable(maxScope)),
		ExpiresIn:    expires,
		Snapshot:     snapshot == 1,
	}
	switch {
	case r.err != nil:
		return Token{}, malformed(endpoint, r.err.Error())
	// Taking an unknown value for "no snapshot" would sign a virtual user in.
	case snapshot != 0 && snapshot != 1:
		return Token{}, malformed(endpoint, "is_snapshotuser is neither 0 nor 1")
	case expires < 0 || expires > maxExpires:
		return Token{}, malformed(endpoint, "expires_in is out of range")
	}
	return token, nil
}

func readUserInfo(endpoint string, answer object, openID string) (UserInfo, error) {
	r := &reader{object: answer}
	info := UserInfo{
		OpenID:     r.string("openid", and(present, isID)),
		UnionID:    r.string("unionid", isID),
		Nickname:   bounded(r.string("nickname", anything)),
		HeadImgURL: r.headImgURL(),
		Sex:        r.sex(),
		Province:   bounded(r.string("province", anything)),
		City:       bounded(r.string("city", anything)),
		Country:    bounded(r.string("country", anything)),
		Privilege:  r.privilege(),
	}
	switch {
	case r.err != nil:
		return UserInfo{}, malformed(endpoint, r.err.Error())
	case info.OpenID != openID:
		return UserInfo{}, malformed(endpoint, "the answer is about another openid")
	}
	return info, nil
}

// headImgURL drops an address that a page or a header could not carry as it
// stands; a login does not fail over a picture.
func (r *reader) headImgURL() string {
	s := r.string("headimgurl", anything)
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || len(s) > maxText {
		return ""
	}
	if strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune("\"'<>`\\", c) }) {
		return ""
	}
	return s
}

// sex is a number, and was a number in quotes in older answers.
func (r *reader) sex() int {
	switch string(r.object["sex"]) {
	case `1`, `"1"`:
		return 1
	case `2`, `"2"`:
		return 2
	}
	return 0
}

func (r *reader) privilege() []string {
	raw, ok := r.object["privilege"]
	if !ok {
		return nil
	}
	var list []string
	if err := json.Unmarshal(raw, &list); err != nil {
		return keep(r, list, errors.New("privilege is not a list of strings"))
	}
	for i := range list {
		list[i] = bounded(list[i])
	}
	return list
}

func anything(string) bool  { return true }
func present(s string) bool { return s != "" }

func and(a, b func(string) bool) func(string) bool {
	return func(s string) bool { return a(s) && b(s) }
}

// isID allows the empty string: ids that must be there are also present.
func isID(s string) bool {
	return len(s) <= maxID && !strings.ContainsFunc(s, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-'
	})
}

func printable(limit int) func(string) bool {
	return func(s string) bool {
		return len(s) <= limit && !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' })
	}
}

// bounded cuts at maxText bytes, between two runes.
func bounded(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= maxText {
		return s
	}
	end := maxText
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}
