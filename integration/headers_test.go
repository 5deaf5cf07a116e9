package integration

import (
	"net/http"
	"testing"
	"time"
)

// TestRenewal: a due token is renewed on a page load, never for a script, never on an answer that a
// shared cache may keep.
func TestRenewal(t *testing.T) {
	w := singleWorld(t, "session 1h 2h\nrenew 1s")
	c := w.client()
	token := signIn(t, w, c, authPage)
	time.Sleep(2200 * time.Millisecond) // tokens count whole seconds
	cases := []struct {
		name    string
		query   string
		header  http.Header
		renews  bool
		control string
	}{
		{"a page load", "", pageHeader(nil), true, "private"},
		{"a script", "", script, false, ""},
		{"a page for shared caches", "?cache-control=public,max-age=60", pageHeader(nil), false, "public,max-age=60"},
		{"a page that has expired", "?expires=0", pageHeader(nil), true, "private"},
		{"a page that expires later", "?expires=Fri,%2031%20Dec%202060%2023:59:59%20GMT", pageHeader(nil), false, ""},
		{"a page of no age", "?cache-control=max-age=0,must-revalidate", pageHeader(nil), true, "private, max-age=0,must-revalidate"},
		{"a private page", "?cache-control=private,max-age=60", pageHeader(nil), true, "private,max-age=60"},
		{"a page nobody keeps", "?cache-control=no-store", pageHeader(nil), true, "no-store"},
		{"a page for shared caches by age", "?cache-control=s-maxage=9", pageHeader(nil), false, "s-maxage=9"},
	}
	var renewed string
	for _, x := range cases {
		t.Run(x.name, func(t *testing.T) {
			h := x.header.Clone()
			h.Set("Cookie", "__Host-wechat_session="+token)
			resp, _ := get(t, c, authPage+x.query, h)
			next := sessionOf(resp)
			if resp.StatusCode != 200 || (next != "") != x.renews || resp.Header.Get("Cache-Control") != x.control {
				t.Fatalf("status %d, Cache-Control %q, renewed %v", resp.StatusCode, resp.Header.Get("Cache-Control"), next != "")
			}
			if next != "" {
				renewed = next
				old, now := claims(t, token), claims(t, next)
				if old["jti"] != now["jti"] || old["auth_time"] != now["auth_time"] || old["iat"] == now["iat"] {
					t.Errorf("renewed %v to %v", old, now)
				}
			}
		})
	}
	// A logout ends the renewed token too, and the old one, whichever is presented.
	logout(t, c, authPage, token)
	for _, s := range []string{token, renewed} {
		if resp, _ := get(t, c, authPage, pageHeader(holding(s))); resp.StatusCode != 302 {
			t.Errorf("a token of an ended session got %d", resp.StatusCode)
		}
	}
}
