package wechattest

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Account is an official account (公众号) or a test account (测试号).
type Account struct {
	AppID  string
	Secret string
	// Name stands on the consent page. Default: 网页授权演示.
	Name string
	// Domains are the bound ones (网页授权域名): a host, or a host with a path.
	// Hosts are compared exactly; no port and no address, except for a Test
	// account, which takes "127.0.0.1:8443" too.
	Domains []string
	// Test makes this a test account.
	Test bool
	// Scopes are the allowed ones. Default: snsapi_base and snsapi_userinfo.
	Scopes []string
	// Unbound accounts belong to no open platform account: no unionid.
	Unbound bool
}

// User is a person with a phone.
type User struct {
	// ID is the simulator's own name for the person.
	ID string
	// OpenID is the person's at the first account; at the others it is
	// derived, since openids differ from account to account. Default: derived.
	OpenID string
	// UnionID is the same at all accounts. Default: derived.
	UnionID    string
	Nickname   string
	HeadImgURL string
	// Follower says that snsapi_userinfo is silent for this person.
	Follower bool
}

const avatar = "https://thirdwx.qlogo.cn/mmopen/vi_32/Q0j4TwGTfTK6xLNL2EHcMiBTBrrsBLsWKVHtDV7F1pbCdA/132"

// defaultUsers are ordinary people, and at last one whose nickname has broken
// gateways: line breaks, an escape, a direction override.
var defaultUsers = []User{
	{ID: "zhangwei", OpenID: "oSimA1-zhangwei_000000000001", Nickname: "张伟", HeadImgURL: avatar},
	{ID: "lina", OpenID: "oSimA1-lina_0000000000000002", Nickname: "李娜🌸", HeadImgURL: avatar},
	{ID: "wangfang", OpenID: "oSimA1-wangfang_000000000003", Nickname: "王芳👩‍💻", HeadImgURL: avatar, Follower: true},
	{ID: "noavatar", OpenID: "oSimA1-noavatar_000000000004", Nickname: "没有头像"},
	{ID: "odd", OpenID: "oSimA1-odd_00000000000000005", Nickname: "奇怪\r\nX-Evil: 1\x1b[31m\u202e名字\x00%0d", HeadImgURL: avatar},
}

func complete(u User) User {
	if u.UnionID == "" {
		u.UnionID = derivedID("union", u.ID)
	}
	return u
}

// bound reports whether the account's domains cover a redirect_uri.
func (a Account) bound(u *url.URL) bool {
	if u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.Host == "" {
		return false
	}
	if !a.Test && (u.Port() != "" || strings.HasSuffix(u.Host, ":") || net.ParseIP(u.Hostname()) != nil) {
		return false
	}
	return slices.ContainsFunc(a.Domains, func(domain string) bool {
		host, path, _ := strings.Cut(domain, "/")
		path = "/" + strings.Trim(path, "/")
		return u.Host == host && (path == "/" || u.Path == path || strings.HasPrefix(u.Path, path+"/"))
	})
}

func (a Account) allows(scope string) bool {
	if a.Scopes == nil {
		return scope == "snsapi_base" || scope == "snsapi_userinfo"
	}
	return slices.Contains(a.Scopes, scope)
}

// visitor is whoever looks at the authorize page.
type visitor struct {
	user     User
	snapshot bool
	// known says that the phone's holder was named or chosen before.
	known bool
}

// visitorHeader carries what only a simulator can know of its visitor, as
// "user=lina&snapshot=1". Browser sends it to simulators alone.
const visitorHeader = "X-Wechattest-Visitor"

const personCookie = "wechattest_person"

func (s *Server) visitor(r *http.Request, k Knobs) visitor {
	told, _ := url.ParseQuery(r.Header.Get(visitorHeader))
	v := visitor{snapshot: k.Snapshot || told.Get("snapshot") == "1"}
	if v.user, v.known = s.user(told.Get("user")); v.known {
		return v
	}
	if cookie, err := r.Cookie(personCookie); err == nil && k.Consent == AskPage {
		id, _ := url.QueryUnescape(cookie.Value)
		if v.user, v.known = s.user(id); v.known {
			return v
		}
	}
	var found bool
	if v.user, found = s.user(k.User); !found {
		v.user = s.Users()[0]
	}
	return v
}

func (s *Server) user(id string) (User, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.users, func(u User) bool { return u.ID == id })
	if i < 0 {
		return User{}, false
	}
	return s.users[i], true
}

// OpenID is a person's openid at an account, for comparing.
func (s *Server) OpenID(appID, userID string) string {
	u, _ := s.user(userID)
	s.mu.Lock()
	defer s.mu.Unlock()
	if u.OpenID != "" && len(s.accounts) > 0 && s.accounts[0].AppID == appID {
		return u.OpenID
	}
	return derivedID(appID, userID)
}

func (s *Server) account(appID string) (Account, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.accounts, func(a Account) bool { return a.AppID == appID })
	if i < 0 {
		return Account{}, false
	}
	return s.accounts[i], true
}
