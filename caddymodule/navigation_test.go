package caddymodule

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func TestKindOf(t *testing.T) {
	const html = "text/html,application/xhtml+xml,*/*;q=0.8"
	const form = "application/x-www-form-urlencoded"
	cases := []struct {
		name    string
		method  string
		headers string
		want    requestKind
	}{
		{"a navigation", "GET", "Sec-Fetch-Mode: navigate|Sec-Fetch-Dest: document", kindPageLoad},
		{"a navigation that names no destination", "HEAD", "Sec-Fetch-Mode: navigate", kindPageLoad},
		{"a frame", "GET", "Sec-Fetch-Mode: navigate|Sec-Fetch-Dest: iframe|Accept: " + html, kindOther},
		{"fetch that accepts pages", "GET", "Sec-Fetch-Mode: cors|Accept: " + html, kindOther},
		{"an old browser's navigation", "GET", "Accept: " + html, kindPageLoad},
		{"WeChat on Android", "GET", "Accept: " + html + "|X-Requested-With: com.tencent.mm", kindPageLoad},
		{"XMLHttpRequest", "GET", "Accept: " + html + "|X-Requested-With: xmlhttprequest", kindOther},
		{"a script that takes anything", "GET", "Accept: */*", kindOther},
		{"one that refuses pages", "GET", "Accept: text/html;q=0.0, application/json", kindOther},
		{"a web socket", "GET", "Accept: " + html + "|Upgrade: websocket", kindOther},
		{"no header at all", "GET", "", kindOther},
		{"a form", "POST", "Sec-Fetch-Mode: navigate", kindForm},
		{"an old browser's form", "POST", "Accept: " + html + "|Content-Type: " + form, kindForm},
		{"an upload", "POST", "Accept: " + html + "|Content-Type: multipart/form-data; boundary=x", kindForm},
		{"a posting script", "POST", "Sec-Fetch-Mode: cors|Accept: " + html + "|Content-Type: " + form, kindOther},
		{"an API call", "POST", "Accept: " + html + "|Content-Type: application/json", kindOther},
		{"another method", "PUT", "Sec-Fetch-Mode: navigate|Accept: " + html, kindOther},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest(c.method, "/", nil)
			for line := range strings.SplitSeq(c.headers, "|") {
				if name, value, ok := strings.Cut(line, ": "); ok {
					r.Header.Set(name, value)
				}
			}
			if got := kindOf(r); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}

func TestReturnPath(t *testing.T) {
	s := &site{path: "/_wechat"}
	long := "/" + strings.Repeat("a", 1000)
	cases := []struct{ in, want string }{
		{"/", "/"},
		{"/member/?a=1&b=%2F#top", "/member/?a=1&b=%2F#top"},
		{"/a b?c d", "/a%20b?c%20d"},
		{"", "/"},
		{"member", "/"},
		{"//evil.example/", "/"},
		{"/\\evil.example", "/"},
		{"/a\\b", "/"},
		{"/\t/evil.example", "/"},
		{"/a\r\nSet-Cookie: x=1", "/"},
		{"/\x00", "/"},
		{"/\x7f", "/"},
		{"https://evil.example/", "/"},
		{"javascript:alert(1)", "/"},
		{"/_wechat/login?return=/x", "/"},
		{"/_wechat/logout", "/"},
		{"/_wech%61t/callback?x", "/"},
		{"/x/../_wechat/login", "/"},
		{"/_wechat/%2E/callback?x", "/"},
		{"/_wechat//%2e%2e/logout", "/"},
		{"/_wechat/a%2fb/../login#x", "/"},
		{"/../..//_wechat/login", "/../..//_wechat/login"},
		{"/_wechat/userinfo", "/_wechat/userinfo"},
		{"/_wechat//login", "/_wechat//login"},
		{"/_wechat/login/../..", "/_wechat/login/../.."},
		{"/.//../x", "/.//../x"},
		{"/会员?名=值", "/会员?名=值"},
		{long + "?" + strings.Repeat("b", 1100), long},
		{long + strings.Repeat("a", 1100) + "?b", "/"},
		{"/" + strings.Repeat("a", 1999), "/" + strings.Repeat("a", 1999)},
	}
	for _, c := range cases {
		if got := s.returnPath(c.in); got != c.want {
			t.Errorf("%.80q became %.80q, want %.80q", c.in, got, c.want)
		}
	}
}

func TestPublicPathsAreWhatEveryUpstreamReadsAlike(t *testing.T) {
	public := caddyhttp.MatchPath{"/static/*", "/pay/notify.php"}
	cases := []struct {
		path string
		want bool
	}{
		{"/static/app.css", true},
		{"/static/%E5%9B%BE.png", true},
		{"/static/a%20b", true},
		{"/pay/notify.php", true},
		{"/pay/notify.php/x", false},
		{"/static/..;/member", false},
		{"/static/../member", false},
		{"/static/%2e%2e/member", false},
		{"/static/%2E%2e%2Fmember", false},
		{"/static//member", false},
		{"/static/x;/member", false},
		{"/static/%5c..%5cmember", false},
		{"/static/%00", false},
		{"/static/%252e", false},
		{"/static/a%", false},
		{"/member", false},
		{"/robots.txt", true},
		{"/favicon.ico", true},
		{"/MP_verify_0123456789abcdef.txt", true},
		{"/WW_verify_a.txt", true},
		{"/MP_verify_a/b.txt", false},
		{"/MP_verify_a.php", false},
		{"/robots.txt/", false},
	}
	for _, c := range cases {
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.Path, r.URL.RawPath = unescaped(c.path), c.path
		r = caddyhttp.PrepareRequest(r, newTestReplacer(), nil, nil)
		if got := isPublic(public, r); got != c.want {
			t.Errorf("%s: %v, want %v", c.path, got, c.want)
		}
	}
}
