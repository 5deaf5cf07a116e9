package integration

import (
	"fmt"
	"slices"
	"strings"
)

// redirectEvil are the places that must never be reached, as they are written behind slashes.
var redirectEvil = []string{
	"evil.example",
	"evil.example:8443/x?y",
	"user:word@evil.example/",
	"shop.example.org@evil.example",
	"shop.example.org.evil.example/",
	"evil.example\\@shop.example.org/",
	"evil.example#@shop.example.org",
	"evil.example?@shop.example.org",
	"evil.example;@shop.example.org/",
	"evil%2Eexample/%2e%2e",
	"[::ffff:1.2.3.4]/",
	"[fe80::1%25eth0]",
	"0x01020304",
	"evil\u3002example",
	"\uff45\uff56\uff49\uff4c.example",
	"ev\u00adil.example/",
	"xn--vil-6la.example",
	"EVIL.EXAMPLE.:443",
}

// redirectLeads are what parsers take for the beginning of another host's address, or nearly.
func redirectLeads() []string {
	leads := []string{
		"//", "///", "////", "//////////", "/\\", "\\/", "\\\\", "\\", "/\\/", "/\\\\", "//\\", "\\//", "/\\/\\/",
		"/%2f", "/%2F/", "/%5c", "/%5C/", "%2f%2f", "%2F/", "%5c%5c", "/%252f", "/%255c", "%252f%252f", "/%25%32%66",
		"/.//", "/./", "/.\\", "/..//", "/../", "/..\\/", "/%2e//", "/%2e%2e//", "/%2E%2E/%2F", "/.%2e//", "/x/..//", "/x/%2e%2e//",
		"/x/../\\", "/x/..\\..//", "/x//..//", "/a/b/../../..//", "..//", ".//", "./\\", "../", "x/..//",
		"/;/", "/;//", "/;@", "//;@", "/;x=1//", ";//", "/@", "//@", "@", "/:@", "/:80@", ":80@", ":@", ":443//", "/:/", ".", "-", "%40", "%2e", "%00@",
		"/?//", "?//", "?/\\", "/#//", "#//", "/?@", "?", "&//", "/&return=//", "/?return=//", "/?x=1&y=//", "/?/..//", "/#/..//",
		" //", "\t//", "\n//", "\r\n//", "\v//", "\f//", "\x00//", "\x7f//", "\u00a0//", "\u3000//", "\ufeff//", "\u2028//", "\x85//",
		"/ /", "/  /", "/%20/", "/+/", "/%09/", "/%0a/", "/%0d/", "/%0d%0a/", "/%00/", "/%0b/", "/%7f/", "/%c0%af/", "/%e2%80%8b/", "/%u002f", "/%",
		"/\u00ad/", "/\u200b/", "/\u200d/", "/\u2060/", "/\ufeff/", "/\u202e/", "/\u2028/",
		"\uff0f\uff0f", "/\uff0f", "//\uff0f", "\uff3c\uff3c", "/\uff3c", "/\u2044", "/\u2215", "/\u29f8", "/\ufe68", "/\u2571", "/\u3002/", "\u3002",
		"/\x80/", "/\xff/", "/\xc0\xaf", "/\xe0\x80\xaf", "/\xa0/", "/\xad/", "/\xe3\x80",
		"*", "*//", "/*//", "&#47;&#47;", "/&#x2f;", "/\\u002f", "/\\x2f", "'//", "/'//", "\"//", "/\">//", "<//", "/<a href=//", "${//", "/{http.request.host}//", "{{//",
	}
	for c := range byte(0x20) {
		leads = append(leads, "/"+string(rune(c))+"/", "/"+string(rune(c))+"\\", string(rune(c))+"//")
	}
	return append(leads, "/\x7f/", "/\x7f\\")
}

var redirectSchemes = []string{
	"http", "https", "HtTpS", "ftp", "ws", "wss", "file", "blob:https", "view-source:https", "weixin", "intent", "javascript", "JaVaScRiPt", "java\tscript",
	"java\nscript", "\x01javascript", " javascript", "data", "vbscript", "about", "http\u017f", "\u212a", "ht\ttps", "//https", "/https", "/javascript",
}

var redirectForms = []string{
	":evil.example", ":/evil.example", "://evil.example", ":///evil.example", ":\\\\evil.example", ":/\\evil.example/", "://shop.example.org@evil.example/",
	"%3a//evil.example", ":alert(1)//%0aalert(1)", "://shop.example.org.evil.example/a",
}

// redirectOdd are those that fit no combination.
var redirectOdd = []string{
	"", "*", "evil.example", "/", "?", "#", ".", "..", "/.", "/..", "/%2e%2e", "///", "\\", "%", "%2", "%zz", "\x00", "\xff", "\u202e", "shop.example.org", "://", ":", "@", "/@",
	"data:text/html,<script>alert(1)</script>", "data:text/html;base64,PHNjcmlwdD4=", "blob:null/1", "about:blank", "about:srcdoc", "intent://evil.example#Intent;scheme=https;end", "weixin://dl/business/?t=x",
	"javascript:/*--></title></style></textarea></script><svg/onload='+/\"/+/onmouseover=1/+/[*/[]/+alert(1)//'>", "javascript://%0aalert(1)", "javascript:alert(1)#/member/",
	"http://evil.example", "https://evil.example/member/", "HTTPS://EVIL.EXAMPLE:443/", "http://[::1]/", "http://2130706433/", "http://0177.1/", "https:evil.example", "https:/evil.example",
	"https://auth.example.com.evil.example/", "https://auth.example.com@evil.example/", "https://evil.example/https://shop.example.org/", "https://shop.example.org:443@evil.example:443/",
	"https://shop.example.org\\.evil.example/", "https://shop.example.org%2eevil.example/", "https://shop.example.org%00.evil.example/", "https://shop.example.org\uff0eevil.example", "https://shop.example.org\u3002evil.example/",
	"https://shop.example.org%0d%0a.evil.example/", "https://shop.example.org&@evil.example#", "https://evil.example/#https://shop.example.org/", "https://shop.example.org:evil.example/", "https://shop.example.org;@evil.example/", ":8443@evil.example/",
	".evil.example/", "-evil.example/", "@evil.example/", ":pass@evil.example/", ":443.evil.example/", "%2eevil.example/", "%00.evil.example/", "\t.evil.example/", "%0d%0aevil.example/", "\\.evil.example/", "\\@evil.example/",
	"/\r\nLocation: https://evil.example/", "/\nLocation: https://evil.example/", "/\rLocation: https://evil.example/", "/%0d%0aLocation:%20https://evil.example/", "/%0aLocation:%20//evil.example", "/%250d%250aLocation:%20//evil.example",
	"/\r\nSet-Cookie: __Host-wechat_session=evil", "/%0d%0aSet-Cookie:%20redirect=evil", "/\u560d\u560aSet-Cookie:redirect=evil", "/%E5%98%8D%E5%98%8ASet-Cookie:redirect=evil", "/x\r\n\r\n<script>alert(1)</script>", "/x%0d%0a%0d%0a<svg/onload=alert(1)>", "/\u2028Location: //evil.example",
	"/\"><a href=//evil.example>", "/'><base href='//evil.example/'>", "/\"onclick=location='//evil.example'", "/<meta http-equiv=refresh content=0;url=//evil.example>", "/</a><form action=//evil.example>", "/&quot;&gt;&lt;base href=//evil.example&gt;",
	"/_wechat/login", "/_wechat/login?return=//evil.example", "/_wechat/callback", "/_wechat/callback?login=x", "/_wechat/logout", "/_wechat/logout?return=//evil.example", "/_wechat/../_wechat/login", "/_wechat/./logout", "/_wechat//../login", "/_wechat/a%2fb/../callback", "/../_wechat/login", "/..//_wechat/login", "/_wechat/%2E%2e/_wechat/login", "/_wechat/../member/", "/_wechat/%2e%2e/member/x", "/x/%2e./member/", "/member/", "/_wechat/%2e/callback?code=1", "/x/../_wechat/logout",
	"/_wech%61t/login", "/_wechat/%6cogin?x", "/_wechat//login", "/_wechat/login/", "/_wechat/userinfo", "/_WECHAT/LOGIN", "/%2e/_wechat/logout#x", "/./_wechat/login?return=/./_wechat/login",
	"/?code=x&state=y", "/?login=x&ticket=y", "/?return=https://evil.example/&scope=x", "/#wechat_redirect", "/?#", "/?", "/??", "/?&", "/a?b?c", "/a;b?c;d", "/a&b", "/a=b", "/a+b c", "/a%20b",
}

// redirectLong are those that bounds and buffers are tried with.
func redirectLong() (list []string) {
	for _, n := range []int{1990, 1998, 1999, 2000, 2001, 2048, 3500} {
		list = append(list, "/"+strings.Repeat("a", n-1), "/a?"+strings.Repeat("b", n-3), "//evil.example/"+strings.Repeat("c", n-15), "/"+strings.Repeat("d", n-15)+"//evil.example",
			"/"+strings.Repeat("../", (n-14)/3)+"/evil.example", strings.Repeat("/", n-12)+"evil.example", "/a#"+strings.Repeat("e", n-3), "//evil.example?"+strings.Repeat("f", n-15))
	}
	return list
}

// redirectPayloads are all, each once and in one order: every lead before some of the places, every scheme in every form.
func redirectPayloads() []string {
	list := slices.Clone(redirectOdd)
	for i, lead := range redirectLeads() {
		for j := range 3 {
			list = append(list, lead+redirectEvil[(i*7+j*5)%len(redirectEvil)])
		}
	}
	for i, place := range redirectEvil {
		list = append(list, "//"+place, "/\\"+place, "/%09/"+place, "/.//"+place, "https://"+place, fmt.Sprintf("/%d//%s", i, place))
	}
	for i, scheme := range redirectSchemes {
		for j := range 4 {
			list = append(list, scheme+redirectForms[(i+j*3)%len(redirectForms)])
		}
	}
	list = append(list, redirectLong()...)
	slices.Sort(list)
	return slices.Compact(list)
}
