package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// What a stranger puts into a request, each with a word to find it by: "never" stands in places of which
// nothing comes back, "path" in addresses that a page's button or text leads back to.
var leakAttacks = []string{
	`"><script>zqWORD</script>`, `'zqWORD'`, `{{"zqWORD"}}`, `{env.HOME}zqWORD`, "zqWORD\r\nX-Zq: 1\r\n\r\n<b>", `javascript:zqWORD`, "zqWORD\u2028", "\x00zqWORD\x7f", `</style><svg onload=zqWORD>`,
}

var leakNames = []string{"login", "state", "code", "ticket", "error", "scope", "retry", "openid", "x"}

// leakRequest is one request to the gateway, with an attack everywhere.
type leakRequest struct {
	method, site, path string
	kind               http.Header
	host               string // instead of the site's
}

func leakRequests() (list []leakRequest) {
	outside := with(navigation, "User-Agent", wechattest.UserAgentOutside)
	inside := with(navigation, "User-Agent", wechattest.UserAgentAndroid)
	form, form2 := with(formPost, "User-Agent", wechattest.UserAgentAndroid), with(formPost, "User-Agent", wechattest.UserAgentOutside)
	posted := with(form, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site")
	same := with(inside, "Sec-Fetch-Site", "same-origin")
	for _, site := range []string{"auth.example.com", "shop.example.org", "profile.example.org"} {
		for _, end := range []string{"login", "callback", "logout", "userinfo", "bye", "jwks.json", "unknown", "PATH"} {
			for _, h := range []http.Header{outside, inside, with(script, "User-Agent", wechattest.UserAgentAndroid)} {
				list = append(list, leakRequest{"GET", site, "/_wechat/" + end, h, ""})
			}
			list = append(list, leakRequest{"POST", site, "/_wechat/" + end, posted, ""}, leakRequest{"DELETE", site, "/_wechat/" + end, inside, ""})
		}
		for _, h := range []http.Header{outside, inside, script} {
			list = append(list, leakRequest{"GET", site, "/member/PATH", h, ""}, leakRequest{"GET", site, "/member/PATH", h, "other.zqnever.example"})
		}
		list = append(list,
			leakRequest{"POST", site, "/member/PATH", form, ""}, leakRequest{"POST", site, "/member/PATH", form2, ""}, leakRequest{"POST", site, "/_wechat/logout", form, ""},
			leakRequest{"GET", site, "/_wechat/logout", same, ""}, leakRequest{"GET", site, "/_wechat/login", inside, "other.zqnever.example"},
			leakRequest{"GET", site, "/_wechat/callback", inside, "other.zqnever.example"}, leakRequest{"GET", site, "/MP_verify_PATH.txt", inside, ""},
		)
	}
	return append(list, leakRequest{"GET", "bound.example.net", "/_wechat/callback", inside, ""}, leakRequest{"HEAD", "bound.example.net", "/_wechat/callback", inside, ""})
}

// newLeakWorld has a broker and a site on the bound domain, one on another, one that asks for a profile, a bound domain
// without a site, and one site that takes any host, so that a wrong one reaches it.
func newLeakWorld(t *testing.T) *world {
	t.Helper()
	return newWorld(t, wechattest.Account{Domains: []string{"auth.example.com", "bound.example.net"}}, func(w *world) string {
		options := strings.Replace(w.options("auth.example.com bound.example.net", "verify_file MP_verify_0123456789abcdef.txt\n"), "wechat {", "wechat {\n session_key {\n algorithm EdDSA\n}\n", 1)
		site := func(address, auth string) string {
			return address + " {\n tls internal\n wechat_auth {\n public /open/*\n" + auth + "}\n respond \"the upstream\" 200 {\n close\n}\n}\n"
		}
		return "{\n" + w.globals() + options + "}\n" +
			strings.Replace(site("auth.example.com", ""), " wechat_auth", " wechat_broker\n wechat_auth", 1) + site("shop.example.org", "") + site("profile.example.org", "scope snsapi_userinfo\n") +
			"bound.example.net {\n wechat_broker\n}\n" + site("https://, stray.example.net", "origin https://any.example.org\n")
	})
}

func (q leakRequest) send(t *testing.T, c *http.Client, attack string, cookies string) (*http.Response, string) {
	t.Helper()
	never, path := strings.ReplaceAll(attack, "WORD", "never"), strings.ReplaceAll(attack, "WORD", "path")
	address := &url.URL{Scheme: "https", Host: q.site, Path: strings.ReplaceAll(q.path, "PATH", path)}
	if strings.HasPrefix(q.path, "/_wechat/") {
		address.Path = strings.ReplaceAll(q.path, "PATH", never)
		query := url.Values{never: {never}, "return": {"/back/" + path + "?q=" + path}}
		for _, name := range leakNames {
			query.Set(name, never)
		}
		if q.kind.Get("Sec-Fetch-Mode") == "cors" { // most parameters alone, so that none is refused for another's sake
			query = url.Values{"return": {path}, "login": {never}}
		}
		address.RawQuery = query.Encode()
	} else {
		address.RawQuery = url.QueryEscape(path) + "=" + url.QueryEscape(path)
	}
	req, err := http.NewRequestWithContext(t.Context(), q.method, address.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = q.kind.Clone()
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, never)
	req.Header.Set("Referer", "https://"+q.site+"/from/"+strings.ReplaceAll(clean, "never", "path"))
	req.Header.Set("User-Agent", q.kind.Get("User-Agent")+" "+clean)
	req.Header.Set("Accept-Language", "en, "+clean)
	for _, name := range []string{"X-Forwarded-Host", "X-Forwarded-For", "Forwarded", "X-Original-Url", "X-Rewrite-Url", "X-Wechat-Openid", "X-Request-Id", "Sec-Fetch-User"} {
		req.Header.Set(name, clean)
	}
	req.Header["Cookie"] = []string{"zq" + clean + "=1; __Host-wechat_session=" + clean + "; __Host-wechat_session_login_" + strings.Repeat("0", 32) + "=" + clean + cookies}
	if q.host != "" {
		req.Host = q.host
	}
	return send(t, c, req)
}

// TestNothingIsReflected: a stranger's words come back in no answer of the gateway's, but for the address of
// a page in the button or the text that leads back to it, where they are data and nothing else.
func TestNothingIsReflected(t *testing.T) {
	w := newLeakWorld(t)
	c := w.client()
	callback, cookies := begin(t, w, c, authPage) // a login that is real, its callback with junk beside it
	shown := 0
	for _, q := range leakRequests() {
		for i, attack := range leakAttacks {
			resp, body := q.send(t, c, attack, "")
			what := fmt.Sprintf("%s %s%s (Host %s), attack %q, %s", q.method, q.site, q.path, q.host, attack, q.kind.Get("Sec-Fetch-Mode"))
			for _, fault := range leakReflections(w, resp, body) {
				t.Errorf("%s: status %d: %s", what, resp.StatusCode, fault)
			}
			if strings.Contains(body, "zqpath") {
				shown++
			}
			if resp.StatusCode >= 500 && i == 0 {
				t.Errorf("%s: status %d", what, resp.StatusCode)
			}
		}
	}
	if shown < 50 {
		t.Errorf("%d answers show an address: the words do not get where they should", shown)
	}
	for _, attack := range leakAttacks {
		junk := url.QueryEscape(strings.ReplaceAll(attack, "WORD", "never"))
		for _, address := range []string{callback + "&code=" + junk, callback + "&error=" + junk, withQuery(t, callback, "code", junk), withQuery(t, callback, "state", junk)} {
			resp, body := get(t, c, address, pageHeader(nil))
			for _, fault := range append(leakReflections(w, resp, body), leakReflectionsOf(get(t, c, address, pageHeader(cookies)))...) {
				t.Errorf("callback with %q: %s", attack, fault)
			}
		}
	}
}

func leakReflectionsOf(resp *http.Response, body string) []string {
	return leakReflections(nil, resp, body)
}

var (
	leakEncoded  = regexp.MustCompile(`^[A-Za-z0-9/_.~%?=&+#:()!*'@,;$-]*$`)
	leakElements = strings.Fields("html head meta title style body main svg path h1 h2 p a form button section div span code footer strong")
)

// leakReflections says what a request's words did in its answer.
func leakReflections(w *world, resp *http.Response, body string) (faults []string) {
	for name, lines := range resp.Header {
		for _, line := range lines {
			low := strings.ToLower(name + ": " + line)
			back := name == "Location" && strings.HasPrefix(line, "https://"+resp.Request.URL.Host+"/")
			if strings.Contains(low, "zqnever") || strings.Contains(low, "zqpath") && !back || name == "X-Zq" {
				faults = append(faults, low)
			}
		}
	}
	low := strings.ToLower(body)
	if strings.Contains(low, "zqnever") {
		faults = append(faults, "the body has it: "+leakAround(low, "zqnever"))
	}
	if w != nil && strings.Contains(body, w.dir) {
		faults = append(faults, "a placeholder was resolved: "+leakAround(body, w.dir))
	}
	switch {
	case body == "":
	case strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json"):
		faults = append(faults, leakJSONFaults(body)...)
	case strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html"):
		faults = append(faults, leakHTMLFaults(body)...)
	}
	return faults
}

func leakAround(text, word string) string {
	at := strings.Index(text, word)
	return text[max(0, at-60):min(len(text), at+60)]
}

func leakJSONFaults(body string) (faults []string) {
	var answer map[string]any
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		return []string{"not JSON: " + body}
	}
	for name, value := range answer {
		if !slices.Contains([]string{"code", "msg", "login_url", "keys"}, name) {
			faults = append(faults, "the answer has "+name)
		}
		if s, ok := value.(string); ok && name == "login_url" && !leakEncoded.MatchString(s) {
			faults = append(faults, "login_url is "+s)
		}
	}
	return faults
}

// leakHTMLFaults reads a page as a browser does: what a stranger wrote makes no element and no attribute,
// and leads nowhere but to this site.
func leakHTMLFaults(body string) (faults []string) {
	root, err := html.Parse(strings.NewReader(body))
	if err != nil {
		return []string{err.Error()}
	}
	for n := range root.Descendants() {
		switch {
		case n.Type == html.CommentNode:
			faults = append(faults, "a comment "+n.Data)
		case n.Type == html.ElementNode && !slices.Contains(leakElements, n.Data):
			faults = append(faults, "an element "+n.Data)
		case n.Type == html.TextNode && strings.Contains(n.Data, "zq") && (n.Parent.Data == "style" || n.Parent.Data == "title"):
			faults = append(faults, "in "+n.Parent.Data)
		}
		for _, a := range n.Attr {
			leads := a.Key == "href" || a.Key == "action"
			if strings.HasPrefix(a.Key, "on") || strings.Contains(a.Key, "zq") || strings.Contains(a.Val, "zq") && !leads {
				faults = append(faults, fmt.Sprintf("attribute %s=%q", a.Key, a.Val))
			}
			if leads && (!strings.HasPrefix(a.Val, "/") || strings.HasPrefix(a.Val, "//") || !leakEncoded.MatchString(a.Val)) && n.Data != "form" {
				faults = append(faults, fmt.Sprintf("%s leads to %q", n.Data, a.Val))
			}
		}
	}
	return faults
}

// Words that are let through must be seen, or the test above sees nothing.
func TestLeakReflectionsAreSeen(t *testing.T) {
	page := func(body string) []string {
		return leakReflectionsOf(&http.Response{Request: &http.Request{URL: new(url.URL)}, Header: http.Header{"Content-Type": {"text/html"}}}, body)
	}
	for _, body := range []string{
		`<p>zqnever</p>`, `<p>a</p><script>1</script>`, `<p onclick="x">`, `<a href="javascript:x">`, `<a href="//evil">`, `<!-- x -->`, `<title>zqpath</title>`, `<div class="zqpath">`,
	} {
		if len(page(body)) == 0 {
			t.Errorf("not seen: %s", body)
		}
	}
	if faults := page(`<p>&lt;script&gt;zqpath</p><a href="/x?return=%2Fzqpath">go</a>`); len(faults) > 0 {
		t.Errorf("%q", faults)
	}
}
