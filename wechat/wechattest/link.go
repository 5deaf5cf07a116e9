package wechattest

import (
	"net/url"
	"regexp"
	"strings"
)

// linkOrder is the link WeChat matches ("正则强匹配校验"): this order, the
// address percent-encoded, and nothing behind it but the parameters that
// WeChat and its apps add themselves.
var linkOrder = regexp.MustCompile(`^appid=[^&]*&redirect_uri=[A-Za-z0-9_.~!*'()%+-]*&response_type=code&scope=[^&]*&state=[^&]*` +
	`(&(connect_redirect|forcePopup|forceSnapShot|uin|key|pass_ticket|version|component_appid|agentid)=[^&]*)*$`)

// linkState is what WeChat documents for state: "a-zA-Z0-9的参数值，最多128字节".
var linkState = regexp.MustCompile(`^[a-zA-Z0-9]{1,128}$`)

// Codes of error pages that WeChat shows without a number.
const (
	pageBadLink  = 1
	pageBadState = 2
	pageBadAppID = 3
)

// link is an authorize link that WeChat would accept.
type link struct {
	raw      string
	account  Account
	redirect string
	scope    string
	state    string
	force    url.Values // forcePopup and forceSnapShot
}

// readLink returns the code of an error page if the link is refused.
func (s *Server) readLink(raw string) (link, int) {
	q, err := url.ParseQuery(raw)
	if err != nil {
		return link{}, pageBadLink
	}
	for _, p := range []param{{"appid", 10012}, {"redirect_uri", 10011}, {"scope", 10010}, {"state", 10013}} {
		if q.Get(p.name) == "" {
			return link{}, p.missing
		}
	}
	l := link{raw: raw, redirect: q.Get("redirect_uri"), scope: q.Get("scope"), state: q.Get("state"), force: q}
	var ok bool
	l.account, ok = s.account(q.Get("appid"))
	target, err := url.Parse(l.redirect)
	switch {
	case !linkOrder.MatchString(raw):
		return link{}, pageBadLink
	case !ok:
		return link{}, pageBadAppID
	case !linkState.MatchString(l.state):
		return link{}, pageBadState
	case err != nil || !l.account.bound(target):
		return link{}, 10003
	case !l.account.allows(l.scope):
		return link{}, 10005
	}
	return l, 0
}

// back is the redirect_uri with code and state behind its own query, and its
// fragment behind that. A declined login has no code. WeChat drops a query
// parameter of the address that is called openId.
func (l link) back(code string) string {
	address, fragment, hasFragment := strings.Cut(l.redirect, "#")
	address, query, _ := strings.Cut(address, "?")
	var kept []string
	for part := range strings.SplitSeq(query, "&") {
		if name, _, _ := strings.Cut(part, "="); part != "" && name != "openId" {
			kept = append(kept, part)
		}
	}
	if code != "" {
		kept = append(kept, "code="+code)
	}
	kept = append(kept, "state="+l.state)
	address += "?" + strings.Join(kept, "&")
	if hasFragment {
		address += "#" + fragment
	}
	return address
}
