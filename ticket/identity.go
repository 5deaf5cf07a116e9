package ticket

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// WeChat's scopes, from the least to the most that a session may say.
const (
	ScopeBase     = "snsapi_base"
	ScopeUserInfo = "snsapi_userinfo"
	ScopeLogin    = "snsapi_login" // website apps; counts as snsapi_userinfo
)

// Identity is who WeChat says a user is.
type Identity struct {
	OpenID     string `json:"openid"`               // the user under this app id, at most 128 of [A-Za-z0-9_-]
	UnionID    string `json:"unionid,omitempty"`    // the user across one owner's app ids, where known
	AppID      string `json:"appid"`                // the account's app id
	Scope      string `json:"scope"`                // snsapi_base, snsapi_userinfo or snsapi_login
	Nickname   string `json:"nickname,omitempty"`   // as the user wrote it, less what Clean removes
	HeadImgURL string `json:"headimgurl,omitempty"` // the avatar's URL
}

// Bounds of what a session cookie carries: browsers drop a cookie over 4,096 bytes.
const (
	maxNickname   = 256 // bytes as written; WeChat allows 32 characters
	maxHeadImgURL = 512
	maxID         = 128
)

// Clean returns id with the nickname free of control characters and every value within its bounds.
// A nickname with CR LF set as a header gives its user a 502 on every request.
func (id Identity) Clean() Identity {
	id.Nickname = cleanNickname(id.Nickname)
	if !printable(id.HeadImgURL) || cut(id.HeadImgURL, maxHeadImgURL) != id.HeadImgURL {
		id.HeadImgURL = ""
	}
	return id
}

// Valid reports whether id names a user: an openid, and every value as Clean leaves it.
func (id Identity) Valid() bool {
	return isID(id.OpenID) && isID(id.AppID) && (id.UnionID == "" || isID(id.UnionID)) &&
		ScopeCovers(id.Scope, ScopeBase) && id == id.Clean()
}

// ScopeCovers reports whether a session of scope have satisfies a route that asks for want.
func ScopeCovers(have, want string) bool {
	switch have {
	case ScopeUserInfo, ScopeLogin:
		return true
	case ScopeBase:
		return want == ScopeBase || want == ""
	}
	return false
}

func cleanNickname(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || r == utf8.RuneError {
			return -1
		}
		return r
	}, s)
	return cut(s, maxNickname)
}

// cut returns as much of s, in whole characters, as takes at most limit bytes in a token's JSON, where one
// < becomes six. s is valid UTF-8.
func cut(s string, limit int) string {
	if len(s) <= limit && !strings.ContainsAny(s, `<>&"\`) {
		return s // as nearly all do
	}
	n := 0
	for i, r := range s {
		switch r {
		case '<', '>', '&':
			n += 6
		case '"', '\\':
			n += 2
		default:
			n += utf8.RuneLen(r)
		}
		if n > limit {
			return s[:i]
		}
	}
	return s
}

// isID reports whether s is shaped like WeChat's ids. Separators, quotes and control bytes never are.
func isID(s string) bool {
	if s == "" || len(s) > maxID {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}
