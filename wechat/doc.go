// Package wechat is WeChat's web page authorization (网页授权) as a client
// sees it: four calls and one address to send a browser to. It knows nothing
// of Caddy, sessions or tickets.
//
// A login's way through it:
//
//  1. [Client.AuthorizeURL] is where the visitor's browser goes.
//  2. WeChat sends the browser back with a code, good once and for 5 minutes.
//  3. [Client.Exchange] turns the code into a [Token]: who it is (openid), and
//     whether it is a snapshot visitor, whose openid is not a person's.
//  4. [Client.UserInfo] asks for name and picture, with scope snsapi_userinfo.
//  5. [Client.Refresh] and [Client.CheckToken] serve those who keep tokens.
//
// Files: client.go has these calls, call.go the HTTP of one call, json.go the
// reading of an answer, answer.go what an answer must be to be believed,
// errors.go all that can go wrong, errcodes.go WeChat's errcodes in one table.
//
// Errors are of three kinds. An [*Error] is WeChat saying no: it matches
// [ErrAPI] and the sentinel of its errcode. [ErrUnavailable] is everything
// that is no answer of WeChat's: network, time-out, HTML, a malformed or
// contradictory body. [ErrNotConfigured] means no call was made. No error
// text holds a secret, a code, a token or an address with a query, so all of
// them may be logged.
//
// WeChat's pages: 网页授权 (developers.weixin.qq.com/doc/service/guide/h5/auth.html)
// and api_snsaccesstoken, api_snsrefreshtoken, api_snsuserinfo, api_snsauth
// below /doc/service/api/webdev/access/.
package wechat
