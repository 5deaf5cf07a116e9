package caddymodule

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"
)

func withCookies(lines ...string) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header["Cookie"] = lines
	return r
}

func TestReadCookiesFindsOwnOnes(t *testing.T) {
	https := newCookieNames("wechat_session", "", true)
	port := newCookieNames("wechat_session", "8443", true)
	plain := newCookieNames("wechat_session", "", false)
	cases := []struct {
		name  string
		names cookieNames
		lines []string
		want  [2]string
		more  bool
	}{
		{"one among others", https, []string{"a=1; __Host-wechat_session=tok; b=2"}, [2]string{"tok"}, false},
		{"on a second line", https, []string{"a=1", "__Host-wechat_session=tok"}, [2]string{"tok"}, false},
		{"quoted and spaced", https, []string{" \t__Host-wechat_session = \"tok\" ;b=2"}, [2]string{"tok"}, false},
		{"an unprefixed one is never read on https", https, []string{"wechat_session=tossed"}, [2]string{}, false},
		{"a prefixed one is not read on http", plain, []string{"__Host-wechat_session=x; wechat_session=tok"}, [2]string{"tok"}, false},
		{"another port's is another's", port, []string{"__Host-wechat_session=x; __Host-wechat_session_8443=tok"}, [2]string{"tok"}, false},
		{"two of one name are both kept", plain, []string{"wechat_session=a; wechat_session=b"}, [2]string{"a", "b"}, false},
		{"the same twice is one", plain, []string{"wechat_session=a; wechat_session=a"}, [2]string{"a"}, false},
		{"three are too many", plain, []string{"wechat_session=a; wechat_session=b; wechat_session=c"}, [2]string{"a", "b"}, true},
		{"a case variant is not ours", plain, []string{"Wechat_Session=a"}, [2]string{}, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			own := c.names.readCookies(c.lines)
			if own.session != c.want || (len(own.more) > 0) != c.more {
				t.Errorf("got %q more=%v, want %q more=%v", own.session, own.more, c.want, c.more)
			}
		})
	}
}

func TestReadCookiesIsBounded(t *testing.T) {
	n := newCookieNames("wechat_session", "", true)
	own := n.readCookies([]string{strings.Repeat("__Host-wechat_session_login_"+strings.Repeat("0", 32)+"=1; ", 1000)})
	if len(own.logins) != maxLoginCookies {
		t.Errorf("%d login cookies were kept", len(own.logins))
	}
	own = n.readCookies([]string{"__Host-wechat_session_login_=1; __Host-wechat_session_login_x=1; __Host-wechat_session_login_" + strings.Repeat("0", 33) + "=1"})
	if len(own.logins) > 0 {
		t.Errorf("kept as login cookies: %q", own.logins)
	}
	var tossed strings.Builder // a logout verifies each
	for i := range 1000 {
		fmt.Fprintf(&tossed, "__Host-wechat_session=%d; ", i)
	}
	if own = n.readCookies([]string{tossed.String()}); len(own.more) != maxTossed {
		t.Errorf("%d further session cookies were kept", len(own.more))
	}
}

func TestReadCookiesAllocatesNothing(t *testing.T) {
	n := newCookieNames("wechat_session", "", true)
	lines := []string{"a=1; PHPSESSID=abc; __Host-wechat_session=tok; theme=dark"}
	if got := testing.AllocsPerRun(100, func() { n.readCookies(lines) }); got > 0 {
		t.Errorf("%v allocations", got)
	}
}

func TestHideCookiesLeavesTheOthersByteForByte(t *testing.T) {
	bases := newCookieBases("wechat_session", "other", "my_login_x", "port_80")
	cases := []struct{ in, want []string }{
		{[]string{"a=1; __Host-wechat_session=x; b=2"}, []string{"a=1; b=2"}},
		{[]string{"__Host-wechat_session=x; b=2"}, []string{"b=2"}},
		{[]string{"a=1;  odd = \"q;b=2;wechat_session=x"}, []string{"a=1;  odd = \"q;b=2"}},
		{[]string{"wechat_session=x", "c=3"}, []string{"c=3"}},
		{[]string{"__Host-wechat_session_login_0123=x; wechat_session_guest=y; wechat_session_8443=z; __Host-wechat_session_8443_login_1=q"}, nil},
		{[]string{"wechat_sessions=1; wechat_session_id=2; my_wechat_session=3"}, []string{"wechat_sessions=1; wechat_session_id=2; my_wechat_session=3"}},
		{[]string{"a=1; "}, []string{"a=1; "}},
		{[]string{"a=1; __Host-other_8443=another site's; b=2"}, []string{"a=1; b=2"}},
		{[]string{"my_login_x=1; my_login_x_443_login_0=2; port_80=3; port_80_80_guest=4; __Secure-other=5"}, nil},
		{[]string{"my_login_=1; port=2; port_8=3; other_80_80=4; other_guest_login_0=5; other_x_login_0=6; __other=7; =8"}, []string{"my_login_=1; port=2; port_8=3; other_80_80=4; other_guest_login_0=5; other_x_login_0=6; __other=7; =8"}},
	}
	for _, c := range cases {
		r := withCookies(c.in...)
		bases.hide(r.Header)
		if got := r.Header["Cookie"]; !reflect.DeepEqual(got, c.want) && len(got)+len(c.want) > 0 {
			t.Errorf("%q became %q, want %q", c.in, got, c.want)
		}
	}
}

func TestSetCookieAttributes(t *testing.T) {
	https, plain := newCookieNames("s", "8443", true), newCookieNames("s", "", false)
	if got, want := https.header(https.session, "v", time.Hour), "__Host-s_8443=v; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax; Secure"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := plain.header(plain.guest, "", -1), "s_guest=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
