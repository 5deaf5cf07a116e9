package wechat

import "errors"

// meaning is what is known about an errcode.
type meaning struct {
	err    error
	advice string
}

// byCode is the one table of errcodes; known fills it.
var byCode = map[int]meaning{}

func known(code int, text, advice string) error {
	err := errors.New(text)
	byCode[code] = meaning{err, advice}
	return err
}

// The errcodes that WeChat documents for sns/* and, globally, for calls of
// its kind (全局返回码). The advice is for the operator.
var (
	// ErrSystemBusy is what is left when WeChat said -1 twice.
	ErrSystemBusy = known(-1, "system busy", "WeChat is overloaded: wait, and look at its status page if it lasts.")

	ErrInvalidCredential  = known(40001, "invalid credential", "Check the app secret, and that the access token is the latest.")
	ErrInvalidGrantType   = known(40002, "invalid grant type", "Check that api_url is WeChat's or speaks its protocol.")
	ErrInvalidOpenID      = known(40003, "invalid openid", "The openid belongs to another app id: check which account issued it.")
	ErrInvalidAppID       = known(40013, "invalid app id", "Compare the app id with the one in the account's console.")
	ErrInvalidAccessToken = known(40014, "invalid access token", "The user signs in again.")
	// ErrInvalidCode is an unknown code, and by most accounts an expired one.
	ErrInvalidCode         = known(40029, "invalid code", "The user signs in again; if it is always so, the code is another app id's.")
	ErrInvalidRefreshToken = known(40030, "invalid refresh token", "The user signs in again.")
	ErrInvalidSecret       = known(40125, "invalid app secret", "Copy the app secret from the account's console; a reset there makes the old one void.")
	// ErrCodeUsed is a code that was exchanged before, by us or by others.
	ErrCodeUsed     = known(40163, "code has been used", "The user signs in again; if it is frequent, look for a second consumer of the callback.")
	ErrIPNotAllowed = known(40164, "address is not on the IP whitelist", "Add this server's public address to the IP whitelist in the account's console.")
	ErrSecretFrozen = known(40243, "app secret is frozen", "Unfreeze the app secret in the account's console.")

	ErrMissingAccessToken  = known(41001, "access token is missing", "Something between here and WeChat drops the query.")
	ErrMissingAppID        = known(41002, "app id is missing", "Something between here and WeChat drops the query.")
	ErrMissingRefreshToken = known(41003, "refresh token is missing", "Something between here and WeChat drops the query.")
	ErrMissingSecret       = known(41004, "app secret is missing", "Something between here and WeChat drops the query.")
	ErrMissingCode         = known(41008, "code is missing", "The callback came without its query: look for a rewrite that drops it.")
	ErrMissingOpenID       = known(41009, "openid is missing", "Something between here and WeChat drops the query.")

	ErrAccessTokenExpired  = known(42001, "access token has expired", "The token is refreshed, or the user signs in again.")
	ErrRefreshTokenExpired = known(42002, "refresh token has expired", "The user signs in again.")
	ErrCodeExpired         = known(42003, "code has expired", "The user signs in again.")
	// ErrPasswordChanged is a user's change of the WeChat password, which
	// ends all of the user's tokens.
	ErrPasswordChanged = known(42007, "user changed the WeChat password", "The user signs in again.")

	ErrRequirePOST      = known(43002, "POST is required", "Check that api_url is WeChat's or speaks its protocol.")
	ErrRequireHTTPS     = known(43003, "HTTPS is required", "Set api_url to an https address.")
	ErrRequireSubscribe = known(43004, "user must follow the account", "The user follows the account first.")
	ErrEmptyBody        = known(44002, "request body is empty", "Check that api_url is WeChat's or speaks its protocol.")
	ErrBadFormat        = known(47001, "request is malformed", "Check that api_url is WeChat's or speaks its protocol.")

	ErrQuotaExceeded        = known(45009, "daily quota is used up", "Wait until midnight in China, or clear the quota in the console.")
	ErrTooFrequent          = known(45011, "too many calls this minute", "Wait a minute; look for a loop of logins.")
	ErrOutsideReplyWindow   = known(45015, "reply window is over", "The user writes to the account first.")
	ErrTooManyMessages      = known(45047, "too many customer messages", "The user writes to the account first.")
	ErrClientIPNotAllowed   = known(45035, "client address is not registered", "Register this server's public address in the account's console.")
	ErrClientIPUnregistered = known(61004, "client address is not registered with the platform", "Register this server's public address with the open platform.")

	// ErrAPIUnauthorized is, at sns/userinfo, a token of scope snsapi_base or
	// one of a snapshot visitor.
	ErrAPIUnauthorized = known(48001, "api is not authorized", "Check the scope, and that the account is a certified service account.")
	ErrAPIForbidden    = known(48004, "api is forbidden", "The account was sanctioned: see the notices in its console.")

	ErrUserUnauthorized = known(50001, "user has not authorized this", "The user signs in again, and agrees.")
	ErrUserLimited      = known(50002, "user is limited", "WeChat has restricted this user; nothing to do here.")
	ErrAdminConfirm     = known(89503, "administrator must confirm the call", "The account's administrator confirms the call in WeChat.")
)
