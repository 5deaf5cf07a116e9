package integration

import (
	"bytes"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// canaryForm is what an answer of the gateway's own is recognised by: its content, so that a header that is
// missing is missed.
type canaryForm int

const (
	canaryForeign canaryForm = iota
	canaryPage
	canaryJSON
	canaryRedirect
)

var (
	canaryJSONShape  = regexp.MustCompile(`^\{"code":-?\d+,"msg":"|^\{"openid":"[^"]*","unionid":"[^"]*","appid":"`)
	canaryStarts     = regexp.MustCompile(`/connect/oauth2/authorize\?appid=[^&]*&redirect_uri=[^&]*callback%3Flogin%3D`)
	canaryGoesBack   = regexp.MustCompile(`/callback\?(?:ticket|error)=[a-z0-9]*&state=[0-9a-f]{32}&login=`)
	canaryPolicyRule = regexp.MustCompile(`^(?:default-src 'none'|style-src 'sha256-[A-Za-z0-9+/]{43}='|form-action 'self'|base-uri 'none'|frame-ancestors 'none')$`)
)

func canaryFormOf(resp *http.Response, body []byte) canaryForm {
	location := resp.Header.Get("Location")
	switch {
	case resp.StatusCode == http.StatusSeeOther && strings.HasSuffix(location, "#"),
		canaryStarts.MatchString(location), canaryGoesBack.MatchString(location):
		return canaryRedirect
	case bytes.Contains(body, []byte(`<meta name="robots" content="noindex">`)) && bytes.Contains(body, []byte(`<svg class="icon"`)):
		return canaryPage
	case canaryJSONShape.Match(body):
		return canaryJSON
	case resp.Request.Method == http.MethodHead && strings.Contains(resp.Header.Get("Content-Security-Policy"), "default-src 'none'; style-src 'sha256-"):
		return canaryPage
	}
	return canaryForeign
}

// canaryJudge says what is wrong with an answer, and whether it is one of the gateway's own.
func canaryJudge(resp *http.Response, body []byte) (faults []string, ours bool) {
	if slices.ContainsFunc(resp.Cookies(), canaryOurs) && leakMayBeShared(resp.StatusCode, resp.Header) {
		faults = append(faults, "a shared cache may keep it with a cookie of the gateway's: "+leakCacheHeaders(resp.Header))
	}
	form := canaryFormOf(resp, body)
	if form == canaryForeign {
		return faults, false
	}
	h := resp.Header
	want := func(name string, values ...string) {
		if got := h[http.CanonicalHeaderKey(name)]; len(got) != 1 || !slices.Contains(values, got[0]) {
			faults = append(faults, name+" is "+strings.Join(got, " | "))
		}
	}
	want("Cache-Control", "no-store")
	switch form {
	case canaryRedirect:
		want("Referrer-Policy", "no-referrer")
		if len(body) > 0 {
			faults = append(faults, "a redirect has a body")
		}
	case canaryJSON:
		want("Referrer-Policy", "no-referrer")
		want("Content-Type", "application/json; charset=utf-8")
	case canaryPage:
		want("Referrer-Policy", "no-referrer", "same-origin")
		want("Content-Type", "text/html; charset=utf-8")
		want("X-Frame-Options", "DENY")
		want("X-Robots-Tag", "noindex")
		faults = append(faults, canaryPolicyFaults(h["Content-Security-Policy"])...)
	}
	if form != canaryRedirect {
		want("X-Content-Type-Options", "nosniff")
		if !slices.Contains(canaryList(h["Vary"]), "accept-language") {
			faults = append(faults, "it is in the reader's language, and Vary is "+strings.Join(h["Vary"], " | "))
		}
	}
	return faults, true
}

// canaryPolicyFaults lets nothing into the policy but what is known to be harmless: unsafe-inline, a
// wildcard, data: and any host are all unknown to it.
func canaryPolicyFaults(policies []string) (faults []string) {
	if len(policies) != 1 {
		return []string{"not one Content-Security-Policy"}
	}
	rules := strings.Split(policies[0], "; ")
	for _, rule := range rules {
		if !canaryPolicyRule.MatchString(rule) {
			faults = append(faults, "the policy says "+rule)
		}
	}
	if len(rules) != 5 {
		faults = append(faults, "the policy is short: "+policies[0])
	}
	return faults
}

func canaryList(lines []string) (list []string) {
	for part := range strings.SplitSeq(strings.ToLower(strings.Join(lines, ",")), ",") {
		list = append(list, strings.TrimSpace(part))
	}
	return list
}
