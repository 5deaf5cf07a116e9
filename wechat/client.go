package wechat

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// Scopes of an authorization.
const (
	// ScopeBase asks for the openid alone; the user is not asked.
	ScopeBase = "snsapi_base"
	// ScopeUserInfo asks for name and picture too; the user is asked.
	ScopeUserInfo = "snsapi_userinfo"
	// ScopeLogin is a website app's login by QR code, outside WeChat.
	ScopeLogin = "snsapi_login"
)

// What a Client's empty fields stand for.
const (
	DefaultOpenURL = "https://open.weixin.qq.com"
	DefaultAPIURL  = "https://api.weixin.qq.com"
	DefaultTimeout = 5 * time.Second
)

// The endpoints, as they stand in an Error.
const (
	pathToken     = "/sns/oauth2/access_token"
	pathRefresh   = "/sns/oauth2/refresh_token"
	pathUserInfo  = "/sns/userinfo"
	pathCheck     = "/sns/auth"
	pathAuthorize = "/connect/oauth2/authorize"
	pathQRConnect = "/connect/qrconnect"
)

// Client calls WeChat for one account. Its zero value with AppID and Secret
// is ready. It is safe for concurrent use; its fields must not change after
// the first call.
type Client struct {
	// AppID is the account's app id, such as wx0123456789abcdef.
	AppID string
	// Secret is the account's app secret, 32 hex digits.
	Secret string
	// OpenURL is where browsers go to authorize. Default: DefaultOpenURL.
	OpenURL string
	// APIURL is where the calls go. Default: DefaultAPIURL.
	APIURL string
	// Lang is the language of UserInfo: zh_CN, zh_TW or en. Default: zh_CN.
	Lang string
	// Timeout bounds one call over all, its retry and the body included.
	// Default: DefaultTimeout.
	Timeout time.Duration
	// HTTPClient makes the calls. Its CheckRedirect is not used: no redirect
	// is followed. Default: one that all Clients share, which honours
	// HTTPS_PROXY, HTTP_PROXY and NO_PROXY.
	HTTPClient *http.Client
}

// Token is what a code buys.
type Token struct {
	AccessToken  string
	RefreshToken string
	// OpenID is the user's name at this account: [A-Za-z0-9_-], 28
	// characters today, at most 128.
	OpenID string
	// UnionID is the user's name at all accounts of one open platform
	// account, of OpenID's shape. It is empty without such an account, and
	// always with ScopeBase.
	UnionID string
	// Scope is what was granted, separated by commas.
	Scope string
	// ExpiresIn is how long AccessToken lives from now on.
	ExpiresIn time.Duration
	// Snapshot says that the visitor sees the page as a snapshot (快照页):
	// OpenID and UnionID are then virtual and must bind to nothing.
	Snapshot bool
}

// UserInfo is a user as shown to others. All text in it is the user's own
// and untrusted.
type UserInfo struct {
	OpenID  string
	UnionID string
	// Nickname is valid UTF-8 of at most 1024 bytes. Control characters and
	// direction marks are still in it.
	Nickname string
	// HeadImgURL is an http or https address in printable ASCII, at most
	// 1024 bytes, or empty.
	HeadImgURL string
	// Sex, Province, City and Country are empty since October 2021.
	Sex       int
	Province  string
	City      string
	Country   string
	Privilege []string
}

// What a link may force, whatever WeChat would do by itself (网页授权, first step).
const (
	ForcePopup    = "forcePopup"    // the user is asked
	ForceSnapShot = "forceSnapShot" // the page opens as a snapshot
)

// AuthorizeURL is where the browser goes to sign in and come back to
// redirectURI with a code and state. State must be [a-zA-Z0-9]{1,128} or
// WeChat shows an error page.
//
// WeChat matches the link with a regular expression, so that the parameters
// stand in this order alone, and wants the fragment (网页授权, first step).
// Force is any of [ForcePopup] and [ForceSnapShot].
func (c *Client) AuthorizeURL(redirectURI, scope, state string, force ...string) string {
	path := pathAuthorize
	if scope == ScopeLogin {
		path = pathQRConnect
	}
	b := make([]byte, 0, usualURL)
	b = append(append(b, base(c.OpenURL, DefaultOpenURL)...), path...)
	b = appendEscaped(append(b, "?appid="...), c.AppID)
	b = appendEscaped(append(b, "&redirect_uri="...), redirectURI)
	b = append(b, "&response_type=code"...)
	b = appendEscaped(append(b, "&scope="...), scope)
	b = appendEscaped(append(b, "&state="...), state)
	for _, name := range force {
		b = append(append(append(b, '&'), name...), "=true"...)
	}
	return string(append(b, "#wechat_redirect"...))
}

// usualURL is room for most addresses, in bytes. It stands on the stack.
const usualURL = 1 << 10

// Exchange spends a code. Errors to expect: [ErrCodeUsed], [ErrInvalidCode],
// [ErrCodeExpired], [ErrInvalidSecret], [ErrInvalidAppID], [ErrUnavailable].
// After ErrUnavailable the code may have been spent. (api_snsaccesstoken)
func (c *Client) Exchange(ctx context.Context, code string) (Token, error) {
	query := "appid=" + escape(c.AppID) + "&secret=" + escape(c.Secret) +
		"&code=" + escape(code) + "&grant_type=authorization_code"
	answer, err := c.call(ctx, pathToken, query)
	if err != nil {
		return Token{}, err
	}
	return readToken(pathToken, answer)
}

// Refresh makes an access token live on. A refresh token lives 30 days.
// Errors to expect: [ErrInvalidRefreshToken], [ErrRefreshTokenExpired],
// [ErrPasswordChanged], [ErrUnavailable]. (api_snsrefreshtoken)
func (c *Client) Refresh(ctx context.Context, refreshToken string) (Token, error) {
	query := "appid=" + escape(c.AppID) + "&grant_type=refresh_token&refresh_token=" + escape(refreshToken)
	answer, err := c.call(ctx, pathRefresh, query)
	if err != nil {
		return Token{}, err
	}
	return readToken(pathRefresh, answer)
}

// UserInfo asks who openID is. The token must be one of ScopeUserInfo. Errors
// to expect: [ErrAPIUnauthorized], also for a snapshot visitor,
// [ErrAccessTokenExpired], [ErrUnavailable]. (api_snsuserinfo)
func (c *Client) UserInfo(ctx context.Context, accessToken, openID string) (UserInfo, error) {
	lang := c.Lang
	if lang == "" {
		lang = "zh_CN"
	}
	query := "access_token=" + escape(accessToken) + "&openid=" + escape(openID) + "&lang=" + escape(lang)
	answer, err := c.call(ctx, pathUserInfo, query)
	if err != nil {
		return UserInfo{}, err
	}
	return readUserInfo(pathUserInfo, answer, openID)
}

// CheckToken is nil if the access token still serves for openID. Errors to
// expect: [ErrInvalidOpenID], [ErrAccessTokenExpired], [ErrUnavailable].
// (api_snsauth)
func (c *Client) CheckToken(ctx context.Context, accessToken, openID string) error {
	query := "access_token=" + escape(accessToken) + "&openid=" + escape(openID)
	answer, err := c.call(ctx, pathCheck, query)
	if err != nil {
		return err
	}
	// Only here is errcode 0 the answer itself: an object without it is
	// somebody else's "ok".
	if _, ok := answer["errcode"]; !ok {
		return malformed(pathCheck, "errcode is missing")
	}
	return nil
}

func base(configured, standard string) string {
	if configured == "" {
		return standard
	}
	return strings.TrimRight(configured, "/")
}

// escape is JavaScript's encodeURIComponent, which WeChat documents.
func escape(s string) string { return string(appendEscaped(make([]byte, 0, usualURL), s)) }

// appendEscaped appends escape(s): url.QueryEscape's work at half its time, and with %20 for a blank.
func appendEscaped(b []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		if c := s[i]; unreserved[c] {
			b = append(b, c)
		} else {
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return b
}

// unreserved are the bytes that stand for themselves (RFC 3986).
var unreserved = func() (yes [256]bool) {
	for _, c := range []byte("-_.~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") {
		yes[c] = true
	}
	return yes
}()
