package caddymodule

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestReturnAddressIsRebuilt(t *testing.T) {
	cases := []struct{ name, address, want string }{
		{"as it is", "https://shop.example.org/member/x?a=1&b=%20#top", "https://shop.example.org/member/x?a=1&b=%20#top"},
		{"without a path", "https://shop.example.org", "https://shop.example.org/"},
		{"a default port goes", "HTTPS://Shop.Example.ORG:443/x", "https://shop.example.org/x"},
		{"another port stays", "http://shop.example.org:8080/x", "http://shop.example.org:8080/x"},
		{"Chinese is encoded", "https://shop.example.org/会员?名=值#章", "https://shop.example.org/%E4%BC%9A%E5%91%98?%E5%90%8D=%E5%80%BC#%E7%AB%A0"},
		{"an international host", "https://商店.example/x", "https://xn--czrs0t.example/x"},
		{"escapes in one spelling", "https://shop.example.org/%61%2f%7e", "https://shop.example.org/a%2F~"},
		{"an empty query", "https://shop.example.org/x?", "https://shop.example.org/x?"},
		{"an address in brackets", "http://[::1]:8080/x", "http://[::1]:8080/x"},
		{"an address of four numbers", "http://127.0.0.1:8080/x", "http://127.0.0.1:8080/x"},
		{"a name that begins as a number", "https://0x7f.1.example/", "https://0x7f.1.example/"},
		{"a name that only looks like ours", "https://shop.example.org/?tickets=1&my_state=2&a[ticket]=3", "https://shop.example.org/?tickets=1&my_state=2&a[ticket]=3"},
		{"a path that looks like a host", "https://shop.example.org//evil.example/", "https://shop.example.org//evil.example/"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if a, err := parseReturn(c.address, "ticket", "state"); err != nil || a.String() != c.want {
				t.Errorf("%s, %v, want %s", a, err, c.want)
			}
		})
	}
}

func TestReturnAddressIsRefused(t *testing.T) {
	cases := map[string]error{
		"":                                                      errNoAddress,
		"/path":                                                 errNoAddress,
		"//shop.example.org/":                                   errNoAddress,
		"shop.example.org":                                      errNoAddress,
		"javascript:alert(1)":                                   errNoAddress,
		"https:shop.example.org/":                               errNoAddress,
		"https:/shop.example.org/":                              errNoAddress,
		"https:///shop.example.org/":                            errNoAddress,
		"ftp://shop.example.org/":                               errNoAddress,
		"https://*.example.org/":                                errNoAddress,
		"https://shop.example.org./":                            errNoAddress,
		"https://shop.example.org:0/":                           errNoAddress,
		"https://shop.example.org:99999/":                       errNoAddress,
		"https://a@shop.example.org/":                           errOddAddress,
		"https://@shop.example.org/":                            errOddAddress,
		"https://shop.example.org%40evil.test":                  errNoAddress,
		`https://shop.example.org\@evil.test`:                   errOddAddress,
		`https://shop.example.org/a\b`:                          errOddAddress,
		"https://shop.example.org/a\nb":                         errOddAddress,
		"https://shop.example.org/a b":                          errOddAddress,
		"https://shop.example.org/\x7f":                         errOddAddress,
		" https://shop.example.org/":                            errOddAddress,
		"https://shop.example.org/a/../b":                       errOddAddress,
		"https://shop.example.org/a/.":                          errOddAddress,
		"https://shop.example.org/a/%2e%2E/b":                   errOddAddress,
		"https://shop.example.org/a/..%2fb":                     errOddAddress,
		"https://shop.example.org/a/..%5cb":                     errOddAddress,
		"https://shop.example.org/a/..;x/b":                     errOddAddress,
		"https://shop.example.org/a/%252e./b":                   errOddAddress,
		"https://shop.example.org/a%00":                         errOddAddress,
		"https://shop.example.org/%zz":                          errNoAddress,
		"https://shop.example.org/a/%25zz/%252e%252e/b":         errOddAddress,
		"https://shop.example.org/a/%2525252e./b":               errOddAddress,
		"https://shop.example.org/%" + strings.Repeat("25", 20): errOddAddress,
		"https://127.1/":                                        errNoAddress,
		"https://0x7f000001/":                                   errNoAddress,
		"https://127.0.0.01/":                                   errNoAddress,
		"https://2130706433/":                                   errNoAddress,
		"https://shop.example.1/":                               errNoAddress,
		"https://[0:0::1]/":                                     errNoAddress,
		"https://[::ffff:127.0.0.1]/":                           errNoAddress,
		"https://xn--zz.example/":                               errNoAddress,
		"https://shop.example.org/?ticket=x":                    errAppendedNames,
		"https://shop.example.org/?a=b&TICKET":                  errAppendedNames,
		"https://shop.example.org/?%74icket=":                   errAppendedNames,
		"https://shop.example.org/?state[]=":                    errAppendedNames,
		"https://shop.example.org/?a;state=":                    errAppendedNames,
		"https://shop.example.org/?+state=":                     errAppendedNames,
		"https://shop.example.org/?%zz=":                        errAppendedNames,
		"https://shop.example.org/?[ticket]=x":                  errAppendedNames,
		"https://shop.example.org/?%5bticket%5d%5ba%5d=x":       errAppendedNames,
		"https://shop.example.org/??ticket=x":                   errAppendedNames,
		"https://shop.example.org/?%3fticket=x":                 errAppendedNames,
		"https://shop.example.org/?%09ticket=x":                 errAppendedNames,
		"https://shop.example.org/?ticket%00x=y":                errAppendedNames,
		"https://shop.example.org/?tic\u212aet=x":               errAppendedNames,
		"https://shop.example.org/?%u0074icket=x":               errAppendedNames,
		"https://shop.example.org/" + strings.Repeat("a", 2000): errLongAddress,
	}
	for address, want := range cases {
		if a, err := parseReturn(address, "ticket", "state"); !errors.Is(err, want) || a != (returnAddress{}) {
			t.Errorf("%.60q: %v, %v, want %v", address, a, err, want)
		}
	}
}

func TestPairsAreAppended(t *testing.T) {
	const pairs = "ticket=0&state="
	cases := []struct {
		address string
		behind  bool
		want    string
	}{
		{"https://a.example/x", false, "https://a.example/x?ticket=0&state="},
		{"https://a.example/x?", false, "https://a.example/x?ticket=0&state="},
		{"https://a.example/x??", false, "https://a.example/x??&ticket=0&state="},
		{"https://a.example/x?b=1", false, "https://a.example/x?b=1&ticket=0&state="},
		{"https://a.example/x?b=1#/route", false, "https://a.example/x?b=1&ticket=0&state=#/route"},
		{"https://a.example/x?b=1#/route", true, "https://a.example/x?b=1#/route?ticket=0&state="},
		{"https://a.example/x#/route?c=2", true, "https://a.example/x#/route?c=2&ticket=0&state="},
		{"https://a.example/x", true, "https://a.example/x?ticket=0&state="},
		{"https://a.example/x#", true, "https://a.example/x#?ticket=0&state="},
	}
	for _, c := range cases {
		a, err := parseReturn(c.address, "ticket", "state")
		if got := a.with(pairs, c.behind); err != nil || got != c.want {
			t.Errorf("%s: %s, %v, want %s", c.address, got, err, c.want)
		}
	}
}

func TestReturnPatterns(t *testing.T) {
	cases := []struct {
		pattern, address string
		want             bool
	}{
		{"https://shop.example.org/*", "https://shop.example.org/", true},
		{"https://shop.example.org/*", "https://SHOP.example.org:443/a?b#c", true},
		{"https://shop.example.org/*", "http://shop.example.org/", false},
		{"https://shop.example.org/*", "https://shop.example.org:8443/", false},
		{"https://shop.example.org:8443/*", "https://shop.example.org:8443/", true},
		{"https://shop.example.org/*", "https://shop.example.org.evil.test/", false},
		{"https://shop.example.org/*", "https://evil.test/https://shop.example.org/", false},
		{"https://shop.example.org/app/*", "https://shop.example.org/app/x", true},
		{"https://shop.example.org/app/*", "https://shop.example.org/app", false},
		{"https://shop.example.org/app/*", "https://shop.example.org/application", false},
		{"https://shop.example.org/app/*", "https://shop.example.org/%61pp/x", true},
		{"https://shop.example.org/app/*", "https://shop.example.org/app%2Fx", false},
		{"https://shop.example.org/app/*", "https://shop.example.org//app/x", false},
		{"https://shop.example.org/back", "https://shop.example.org/back?a=1", true},
		{"https://shop.example.org/back", "https://shop.example.org/back/", false},
		{"https://shop.example.org/back", "https://shop.example.org/Back", false},
		{"https://shop.example.org", "https://shop.example.org/", true},
		{"https://shop.example.org", "https://shop.example.org/x", false},
		{"https://商店.example/*", "https://xn--czrs0t.example/x", true},
	}
	for _, c := range cases {
		a, err := parseReturn(c.address)
		if got := newReturnPattern(c.pattern).matches(a); err != nil || got != c.want {
			t.Errorf("%s and %s: %t, %v", c.pattern, c.address, got, err)
		}
	}
}

// The client whose pattern says most has an address: an exact one before one with a star, whatever the spelling.
func TestPatternsThatSayMoreComeFirst(t *testing.T) {
	list := []string{
		"https://shop.example.org/*", "https://shop.example.org/app/*", "https://shop.example.org/app/", "https://shop.example.org/app/%61dm%69n/*",
		"https://shop.example.org/app/a", "https://shop.example.org/ap*",
	}
	want := []string{
		"https://shop.example.org/app/admin/*", "https://shop.example.org/app/a", "https://shop.example.org/app/", "https://shop.example.org/app/*",
		"https://shop.example.org/ap*", "https://shop.example.org/*",
	}
	var patterns []returnPattern
	for _, p := range list {
		patterns = append(patterns, newReturnPattern(p))
	}
	slices.SortFunc(patterns, returnPattern.compare)
	for i, p := range patterns {
		if p.String() != want[i] {
			t.Errorf("%d is %s, want %s", i, p, want[i])
		}
	}
}

// A raw state stands alone behind its name, and brings nothing else along.
func TestRawStates(t *testing.T) {
	for _, state := range []string{"", "abc", "a=b", "100%", "ticket", "%zz", "a&b=c", "会员", "a b", "?ticket"} {
		if !isRawState(state) {
			t.Errorf("%q is refused", state)
		}
	}
	for _, state := range []string{
		"x&ticket=0", "x;ticket=0", "x&TICKET", "x&%74icket=0", "x&ticket[]=0", "x&[ticket]=0", "x& ticket=0", "x&+ticket=0", "x&error=access_denied", "x&code=0", "x&openid=o",
		"x&%zz", "x#", "x\\", "x\r\ny", "x\ny", "x\x00", "x\x7f",
	} {
		if isRawState(state) {
			t.Errorf("%q is taken", state)
		}
	}
}
