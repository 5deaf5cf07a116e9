package wechattest

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
)

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestJarTakes(t *testing.T) {
	for name, c := range map[string]struct {
		from, line string
		want       bool
	}{
		"an ordinary cookie":                 {"https://a.shop.test/", "n=v", true},
		"Secure over https":                  {"https://a.shop.test/", "n=v; Secure", true},
		"no Secure over http":                {"http://a.shop.test/", "n=v; Secure", false},
		"__Host- as it must be":              {"https://a.shop.test/", "__Host-n=v; Secure; Path=/", true},
		"no __Host- without Secure":          {"https://a.shop.test/", "__Host-n=v; Path=/", false},
		"no __Host- with a domain":           {"https://a.shop.test/", "__Host-n=v; Secure; Path=/; Domain=a.shop.test", false},
		"no __Host- with a path":             {"https://a.shop.test/", "__Host-n=v; Secure; Path=/x", false},
		"no __host- in small letters either": {"https://a.shop.test/", "__host-n=v; Path=/", false},
		"no __Secure- without Secure":        {"https://a.shop.test/", "__Secure-n=v", false},
		"a parent's domain":                  {"https://a.shop.test/", "n=v; Domain=.shop.test", true},
		"no domain of others":                {"https://a.shop.test/", "n=v; Domain=evil.test", false},
		"no sibling's domain":                {"https://a.shop.test/", "n=v; Domain=b.shop.test", false},
		"no top-level domain":                {"https://a.shop.test/", "n=v; Domain=test", false},
		"no SameSite=None without Secure":    {"https://a.shop.test/", "n=v; SameSite=None", false},
		"nothing above 4096 bytes":           {"https://a.shop.test/", "n=" + fmt.Sprintf("%04096d", 0), false},
		"a value of 4095 bytes":              {"https://a.shop.test/", "n=" + fmt.Sprintf("%04095d", 0), true},
	} {
		t.Run(name, func(t *testing.T) {
			cookie, err := http.ParseSetCookie(c.line)
			if err != nil {
				t.Fatal(err)
			}
			if got := new(jar).set(mustURL(t, c.from), cookie); got != c.want {
				t.Errorf("taken: %v", got)
			}
		})
	}
}

func TestJarSends(t *testing.T) {
	for name, c := range map[string]struct {
		from, line, to string
		r              request
		want           bool
	}{
		"to another port of the host":        {"https://a.test:1/", "n=v", "https://a.test:2/", request{true, true}, true},
		"to the host alone":                  {"https://a.test/", "n=v", "https://b.a.test/", request{true, true}, false},
		"to subdomains of a domain":          {"https://shop.a.test/", "n=v; Domain=a.test", "https://b.a.test/", request{true, true}, true},
		"no Secure to http":                  {"https://a.test/", "n=v; Secure", "http://a.test/", request{true, true}, false},
		"below the path":                     {"https://a.test/", "n=v; Path=/x", "https://a.test/x/y", request{true, true}, true},
		"not beside the path":                {"https://a.test/", "n=v; Path=/x", "https://a.test/xy", request{true, true}, false},
		"below the setting address's folder": {"https://a.test/x/y", "n=v", "https://a.test/z", request{true, true}, false},
		"Lax on a cross-site GET":            {"https://a.test/", "n=v; SameSite=Lax", "https://a.test/", request{false, true}, true},
		"no Lax on a cross-site POST":        {"https://a.test/", "n=v; SameSite=Lax", "https://a.test/", request{false, false}, false},
		"Lax if nothing is said":             {"https://a.test/", "n=v", "https://a.test/", request{false, false}, false},
		"no Strict on a cross-site GET":      {"https://a.test/", "n=v; SameSite=Strict", "https://a.test/", request{false, true}, false},
		"None always":                        {"https://a.test/", "n=v; SameSite=None; Secure", "https://a.test/", request{false, false}, true},
		"nothing that Max-Age=0 removed":     {"https://a.test/", "n=v; Max-Age=0", "https://a.test/", request{true, true}, false},
		"Max-Age before Expires":             {"https://a.test/", "n=v; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "https://a.test/", request{true, true}, true},
		"nothing that has expired":           {"https://a.test/", "n=v; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "https://a.test/", request{true, true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			j := &jar{}
			old, _ := http.ParseSetCookie("n=old; Max-Age=60")
			if c.line == "n=v; Max-Age=0" {
				j.set(mustURL(t, c.from), old)
			}
			cookie, err := http.ParseSetCookie(c.line)
			if err != nil {
				t.Fatal(err)
			}
			j.set(mustURL(t, c.from), cookie)
			if got := len(j.match(mustURL(t, c.to), c.r)) == 1; got != c.want {
				t.Errorf("sent: %v", got)
			}
		})
	}
}

func TestJarKeepsSecureCookiesAndForgetsTheOldest(t *testing.T) {
	j := &jar{}
	j.set(mustURL(t, "https://a.test/"), &http.Cookie{Name: "s", Value: "1", Secure: true})
	if j.set(mustURL(t, "http://a.test/"), &http.Cookie{Name: "s", Value: "2"}) {
		t.Error("http replaced a Secure cookie")
	}
	for i := range maxPerDomain {
		j.set(mustURL(t, "https://a.test/"), &http.Cookie{Name: fmt.Sprint("n", i), Value: "1"})
	}
	got := j.match(mustURL(t, "https://a.test/"), request{true, true})
	if len(got) != maxPerDomain || got[0].Name != "n0" {
		t.Errorf("%d cookies, the first is %s", len(got), got[0].Name)
	}
	j.clear([]string{"a.test"})
	if len(j.match(mustURL(t, "https://a.test/"), request{true, true})) != 0 {
		t.Error("not cleared")
	}
}

func TestResolveReadsAsABrowser(t *testing.T) {
	from := mustURL(t, "https://shop.test/a/b?c")
	for address, want := range map[string]string{
		"/x":                    "https://shop.test/x",
		"x?y#z":                 "https://shop.test/a/x?y#z",
		"?q":                    "https://shop.test/a/b?q",
		"//evil.test/x":         "https://evil.test/x",
		"///evil.test/x":        "https://evil.test/x",
		`/\evil.test/x`:         "https://evil.test/x",
		`\\evil.test`:           "https://evil.test",
		" \t//evil.test":        "https://evil.test",
		"/\t/evil.test":         "https://evil.test",
		"/x?a=//evil.test\\":    `https://shop.test/x?a=//evil.test\`,
		"https:evil.test":       "https://shop.test/a/evil.test",
		"http:evil.test":        "http://evil.test",
		"https:/evil.test":      "https://evil.test",
		`https:\\evil.test\x`:   "https://evil.test/x",
		"HTTPS://EVIL.test/X":   "https://evil.test/X",
		"javascript:alert(1)":   "",
		"weixin://dl/business/": "",
	} {
		u, err := resolve(from, address)
		if got := fmt.Sprint(u); err == nil && got != want || err != nil && want != "" {
			t.Errorf("%q: got %v (%v), want %q", address, u, err, want)
		}
	}
}
