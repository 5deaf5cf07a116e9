package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Cookies as they may stand in a line. The gateway's are those of its names at any port, prefixed or not.
var (
	forgeOwnCookies = []string{
		"wechat_session=a", "__Host-wechat_session_guest=b", "wechat_session_guest=", "__Secure-wechat_session=c", "wechat_session_8443=d",
		"__Host-wechat_session_login_0aB=e", "__Host-wechat_session_8443_login_1=f=g", "wechat_session_login_2=\"h\"", "wechat_session",
	}
	forgeOtherCookies = []string{
		"PHPSESSID=0123abc", "theme=dark", "cart=\"a b,c\"", "odd=%20+=x", "", "=nameless", "valueless", "a=1", "a=2", "name=\xe5\xbc\xa0",
		"wechat_sessions=mine", "wechat_session_id=2", "my_wechat_session=3", "Wechat_Session=4", "wechat_session_x8443=5", "__host-wechat_session=6", "b\t=\t7",
	}
)

// tryCookies sends lines of cookies, and over HTTP/2 and HTTP/3 crumbs of them (RFC 9113, 8.2.3), which the
// server puts together.
func (f *forgeWorld) tryCookies(t *testing.T, protocol string) {
	user := f.users[forgeOne]
	c := f.forgeSpeak(t, protocol, f.https, forgeOne)
	for range 10 * forgeTimes {
		n := int(f.cases.Add(1))
		r := forgeRequest{method: "GET", host: forgeOne, uri: fmt.Sprintf("/member/x?case=%d", n)}
		lines := f.cookieLines(user.cookie)
		for _, line := range lines {
			r.fields = append(r.fields, forgeField{"cookie", line})
		}
		if protocol != "HTTP/1.1" {
			lines = []string{strings.Join(lines, "; ")}
		}
		if _, err := c.send(r); err != nil {
			t.Fatal(err)
		}
		seen := f.raw.of(n)
		if len(seen) != 1 {
			t.Fatalf("%q: came through %d times", lines, len(seen))
		}
		if err := (forgeWant{family: forgeUsual, identity: user.identity()}).judgeIdentity(seen[0]); err != nil {
			t.Fatalf("%q:\n%v", lines, err)
		}
		var want []string
		for _, line := range lines {
			want = append(want, forgeWithout(strings.Trim(line, forgeBlank), user.cookie))
		}
		if got, want := forgeTidy(seen[0].values("Cookie")), forgeTidy(want); !slices.Equal(got, want) {
			t.Fatalf("of the cookies\n %q the upstream got\n %q, want\n %q", lines, got, want)
		}
	}
}

// forgeBlank is what HTTP does not count at the ends of a value.
const forgeBlank = " \t"

// forgeTidy takes away what is no cookie: empty lines, and what separates the last cookie from nothing.
func forgeTidy(lines []string) (list []string) {
	for _, line := range lines {
		if line = strings.TrimLeft(strings.TrimRight(line, forgeBlank+";"), forgeBlank); line != "" {
			list = append(list, line)
		}
	}
	return list
}

// cookieLines are one to three lines of cookies, the session among them.
func (f *forgeWorld) cookieLines(session string) []string {
	lines := make([]string, 1+f.rng.IntN(3))
	at := f.rng.IntN(len(lines))
	for i := range lines {
		var parts []string
		for range 1 + f.rng.IntN(6) {
			from := forgeOtherCookies
			if f.rng.IntN(2) == 0 {
				from = forgeOwnCookies
			}
			parts = append(parts, from[f.rng.IntN(len(from))])
		}
		if i == at {
			parts = slices.Insert(parts, f.rng.IntN(len(parts)+1), session)
		}
		for j, part := range parts {
			if j > 0 {
				lines[i] += []string{"; ", "; ", ";", ";  ", " ;\t"}[f.rng.IntN(5)]
			}
			lines[i] += part
		}
	}
	return lines
}

// forgeWithout is a line of cookies less the gateway's; where some went, the blank before the first goes.
func forgeWithout(line, session string) string {
	own := append(slices.Clone(forgeOwnCookies), session)
	var kept []string
	parts := strings.Split(line, ";")
	for _, part := range parts {
		if !slices.Contains(own, strings.Trim(part, forgeBlank)) {
			kept = append(kept, part)
		}
	}
	if len(kept) == len(parts) {
		return line
	}
	return strings.TrimPrefix(strings.Join(kept, ";"), " ")
}
