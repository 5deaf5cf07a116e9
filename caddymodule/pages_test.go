package caddymodule

import (
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var languages = map[string]string{"zh-CN": "zh-CN,zh;q=0.9,en;q=0.8", "en": "en-GB,en;q=0.9"}

// everyPage is each page as the gateway answers with it, by a name that is a sentence.
func everyPage() map[string]page {
	login := "/_wechat/login?return=%2Fmember%2F%3Fa%3D1&scope=snsapi_userinfo"
	pages := map[string]page{
		"open on a desktop":  {Name: "open", Status: 403, Address: "https://member.example.com/a?b=c&d=e", Code: 4001},
		"open on a phone":    {Name: "open", Status: 403, Address: "https://member.example.com/a?b=c&d=e", Phone: true, Code: 4001},
		"login":              {Name: "login", Status: 200, Action: login},
		"form":               {Name: "form", Status: 401, Action: "/member/form", Code: 1001},
		"declined":           {Name: "declined", Status: 200, Action: login, Ref: "6f1c9a2e40d7"},
		"snapshot":           {Name: "snapshot", Status: 200},
		"snapshot denied":    {Name: "denied", Status: 403, Code: 1002},
		"cookies are off":    {Name: "cookies", Status: 400, Action: login, Code: 4002, Ref: "6f1c9a2e40d7"},
		"too many attempts":  {Name: "attempts", Status: 429, Action: login, RetryAfter: 60, Ref: "6f1c9a2e40d7"},
		"signed out":         {Name: "bye", Status: 200, Action: "/_wechat/login?return=%2F"},
		"asking to sign out": {Name: "logout", Status: 200, Action: "/_wechat/logout?return=%2F"},
	}
	statuses := map[string]int{
		"expired": 400, "foreign": 400, "malformed": 400, "host": 400, "unavailable": 502, "toosoon": 425, "storage": 500, "waiting": 502,
	}
	for reason, status := range statuses {
		pages["error "+reason] = page{Name: "error", Reason: reason, Status: status, Action: login, Code: -1, Ref: "6f1c9a2e40d7"}
	}
	return pages
}

func answer(p page, method, language string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "https://member.example.com/", nil)
	r.Header.Set("Accept-Language", language)
	w := httptest.NewRecorder()
	p.write(w, r)
	return w
}

func bodyOf(p page, language string) string { return answer(p, http.MethodGet, language).Body.String() }

func forEveryPage(t *testing.T, check func(t *testing.T, p page, tag, header string)) {
	t.Helper()
	for name, p := range everyPage() {
		for tag, header := range languages {
			t.Run(name+" in "+tag, func(t *testing.T) { check(t, p, tag, header) })
		}
	}
}

func TestEveryPageHasItsHeaders(t *testing.T) {
	forEveryPage(t, func(t *testing.T, p page, tag, header string) {
		res := answer(p, http.MethodGet, header)
		if res.Code != p.Status {
			t.Errorf("status %d, want %d", res.Code, p.Status)
		}
		want := map[string]string{
			"Content-Type":           "text/html; charset=utf-8",
			"Content-Language":       tag,
			"Content-Length":         strconv.Itoa(len(bodyOf(p, header))),
			"Vary":                   "Accept-Language",
			"Cache-Control":          "no-store",
			"X-Robots-Tag":           "noindex",
			"X-Frame-Options":        "DENY",
			"X-Content-Type-Options": "nosniff",
			"Referrer-Policy":        "no-referrer",
			"Retry-After":            "",
		}
		if p.Name == "logout" {
			want["Referrer-Policy"] = "same-origin" // or the form's Origin would be "null", and the POST refused
		}
		if p.RetryAfter > 0 {
			want["Retry-After"] = strconv.Itoa(p.RetryAfter)
		}
		for name, value := range want {
			if got := res.Header().Get(name); got != value {
				t.Errorf("%s: %q, want %q", name, got, value)
			}
		}
	})
}

// A page that needs more than its policy allows looks broken in a browser, and in no other test.
func TestEveryPageKeepsToItsPolicy(t *testing.T) {
	styleElement := regexp.MustCompile(`(?s)<style>(.*?)</style>`)
	forEveryPage(t, func(t *testing.T, p page, _, header string) {
		policy := answer(p, http.MethodGet, header).Header().Get("Content-Security-Policy")
		body := bodyOf(p, header)
		styles := styleElement.FindAllStringSubmatch(body, -1)
		if len(styles) != 1 {
			t.Fatalf("%d style elements, want 1", len(styles))
		}
		sum := sha256.Sum256([]byte(styles[0][1]))
		want := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
			"'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
		if policy != want {
			t.Errorf("policy %q, want %q", policy, want)
		}
		for _, bad := range []string{"<script", "style=", "javascript:", "<img", "<link", "url(", "@import", "ZgotmplZ", "\r"} {
			if strings.Contains(strings.ToLower(body), strings.ToLower(bad)) {
				t.Errorf("page contains %q", bad)
			}
		}
		if on := regexp.MustCompile(`(?i)\son[a-z]+=`).FindString(body); on != "" {
			t.Errorf("page has an event handler %q", on)
		}
		rest := strings.ReplaceAll(body, "https://member.example.com/", "")
		if outside := regexp.MustCompile(`(?i)//[a-z]`).FindString(rest); outside != "" {
			t.Errorf("an outside address %q", outside)
		}
	})
}

func TestEveryPageIsWhole(t *testing.T) {
	forEveryPage(t, func(t *testing.T, p page, tag, header string) {
		body := bodyOf(p, header)
		for _, part := range []string{
			`<html lang="` + tag + `">`, `<meta name="viewport"`, `<meta name="robots" content="noindex">`,
			"<title>", "<main>", "<h1>", `<p class="lead">`, "</html>",
		} {
			if strings.Count(body, part) != 1 {
				t.Errorf("page has %d of %q, want 1", strings.Count(body, part), part)
			}
		}
		wanted := !slices.Contains([]string{"open", "snapshot", "denied"}, p.Name)
		if got := strings.Count(body, `class="button"`); (got == 1) != wanted || got > 1 {
			t.Errorf("%d buttons", got)
		}
		if p.Name != "logout" && strings.Contains(body, "<form") {
			t.Error("a form on a page that is not for signing out")
		}
		if p.Ref != "" && !strings.Contains(body, "<code>"+p.Ref+"</code>") {
			t.Error("the reference is missing")
		}
		if p.Code != 0 && !strings.Contains(body, "<code>"+strconv.Itoa(p.Code)+"</code>") {
			t.Error("the code is missing")
		}
		if hasFooter := strings.Contains(body, "<footer>"); hasFooter != (p.Ref != "" || p.Code != 0) {
			t.Errorf("footer: %v", hasFooter)
		}
	})
}

func TestWordsAreWhole(t *testing.T) {
	for name, m := range messages {
		for language, words := range map[string]text{"zh": m.zh, "en": m.en} {
			if words.Title == "" || words.Lead == "" {
				t.Errorf("%s in %s has no title or no sentence", name, language)
			}
		}
		if (m.zh.Button == "") != (m.en.Button == "") || (m.zh.Hint == "") != (m.en.Hint == "") {
			t.Errorf("%s does not say the same in both languages", name)
		}
		if icons[m.icon] == "" {
			t.Errorf("%s has no icon", name)
		}
	}
}

func TestHeadGetsTheHeadersOfGetAndNoBody(t *testing.T) {
	p := everyPage()["open on a phone"]
	get, head := answer(p, http.MethodGet, "en"), answer(p, http.MethodHead, "en")
	if head.Code != get.Code || !maps.EqualFunc(head.Header(), get.Header(), slices.Equal) {
		t.Errorf("HEAD answers %d with %v", head.Code, head.Header())
	}
	if head.Body.Len() != 0 {
		t.Error("HEAD got a body")
	}
}

// A name, reason or status nobody thought of must not panic or read as a promise.
func TestUnknownPagesSayNotAvailable(t *testing.T) {
	for _, p := range []page{{}, {Name: "nosuch"}, {Name: "error"}, {Name: "error", Reason: "nosuch"}} {
		if got := answer(p, http.MethodGet, "en").Code; got != http.StatusInternalServerError {
			t.Errorf("%+v: status %d", p, got)
		}
		if !strings.Contains(bodyOf(p, "en"), "<h1>"+messages["error/unavailable"].en.Title+"</h1>") {
			t.Errorf("%+v: not the page for \"not available\"", p)
		}
	}
}

// The page is shown on the site's own origin: a link or a reference that breaks out of its place runs as the site.
func TestHostileValuesStayText(t *testing.T) {
	hostile := `https://evil.test/"><script>alert(1)</script><img src=x onerror=alert(1)>`
	for name, p := range everyPage() {
		p.Address, p.Ref, p.Action = hostile, `"><script>alert(2)</script>`, `/a"><script>alert(3)</script>?b='onclick=alert(4)`
		body := bodyOf(p, "en")
		for _, bad := range []string{"<script", "<img", "'onclick"} {
			if strings.Contains(body, bad) {
				t.Errorf("%s: page contains %q", name, bad)
			}
		}
	}
}

// Browsers read all of the refused ones as another site, or as something other than a link.
func TestButtonsLeadNowhereElse(t *testing.T) {
	refused := []string{
		"", "//evil.test/", "https://evil.test/", "javascript:alert(1)", "evil", `/\evil.test`, `\\evil.test`,
		"/\t/evil.test", "/\n/evil.test", "\t//evil.test", "/a\x00", "/a\x7f", "?a", "#a",
	}
	for _, action := range refused {
		for _, name := range []string{"login", "logout"} {
			body := bodyOf(page{Name: name, Status: 200, Action: action}, "en")
			if strings.Contains(body, "href=") || strings.Contains(body, "action=") || strings.Contains(body, "evil") {
				t.Errorf("%s: %q is on the page", name, action)
			}
		}
	}
	for _, action := range []string{"/", "/_wechat/login?return=%2Fa%3Fb%3Dc&scope=snsapi_base", "/会员/", "/a//b"} {
		if !isLocalPath(action) {
			t.Errorf("%q is a path on this site and was refused", action)
		}
	}
	body := bodyOf(page{Name: "login", Action: "/l?return=%2Fa%3Fb&scope=c"}, "en")
	if !strings.Contains(body, `href="/l?return=%2Fa%3Fb&amp;scope=c"`) {
		t.Error("the button's address is not what it was given")
	}
}

func TestPhonesCopyFirstAndOthersScanFirst(t *testing.T) {
	for _, phone := range []bool{true, false} {
		body := bodyOf(page{Name: "open", Status: 403, Address: "https://a.example/", Phone: phone}, "en")
		scan, copied := strings.Index(body, `<svg class="qr"`), strings.Index(body, `class="address"`)
		if scan < 0 || copied < 0 || (copied < scan) != phone {
			t.Errorf("phone %v: code at %d, address at %d", phone, scan, copied)
		}
	}
}

func TestAnAddressTooLongToDrawIsShownAlone(t *testing.T) {
	address := "https://a.example/?" + strings.Repeat("a", qrMaxBytes)
	body := bodyOf(page{Name: "open", Status: 403, Address: address}, "en")
	if strings.Contains(body, `class="qr"`) || strings.Contains(body, "qr-label") || !strings.Contains(body, address) {
		t.Error("want the address and nothing of a code")
	}
}

func TestPreferChinese(t *testing.T) {
	const wechat = "Mozilla/5.0 (iPhone) MicroMessenger/8.0.50(0x18003237) NetType/WIFI Language/"
	tests := map[string]struct {
		accept, agent string
		want          bool
	}{
		"nothing said":                         {"", "", false},
		"Chinese first":                        {"zh-CN,zh;q=0.9,en;q=0.8", "", true},
		"English first":                        {"en-US,en;q=0.9,zh-CN;q=0.8", "", false},
		"Chinese last in order, highest in q":  {"en;q=0.5, zh-TW;q=0.7", "", true},
		"a tie goes to the earlier, Chinese":   {"zh,en", "", true},
		"a tie goes to the earlier, English":   {"en,zh", "", false},
		"Chinese refused":                      {"zh;q=0", "", false},
		"capitals and blanks":                  {" ZH-Hans-CN ; Q=1.0 , en ; q=0.9", "", true},
		"any language is no wish":              {"*, zh;q=0.5", "", true},
		"any language alone":                   {"*", "", false},
		"another language that begins with zh": {"zha", "", false},
		"a weight that is no number":           {"zh;q=NaN, en;q=0.1", "", false},
		"a weight above one":                   {"zh;q=2, en;q=0.1", "", false},
		"another parameter":                    {"zh;v=1, en;q=0.1", "", false},
		"rubbish":                              {",;;,=,q", "", false},
		"WeChat in Chinese, without header":    {"", wechat + "zh_CN", true},
		"WeChat in English, without header":    {"", wechat + "en", false},
		"the header wins over WeChat":          {"en", wechat + "zh_CN", false},
		"a blank header is none":               {" ", wechat + "zh_HK", true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Header.Set("User-Agent", test.agent)
			if test.accept != "" {
				r.Header.Set("Accept-Language", test.accept)
			}
			if got := preferChinese(r); got != test.want {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}

func BenchmarkOpenPage(b *testing.B) {
	p := everyPage()["open on a desktop"]
	r := httptest.NewRequest(http.MethodHead, "/", nil)
	b.ReportAllocs()
	for b.Loop() {
		p.write(httptest.NewRecorder(), r)
	}
}
