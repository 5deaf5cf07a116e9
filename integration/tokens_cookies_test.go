package integration

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

func TestTokensInCookies(t *testing.T) {
	w := newTokensSites(t, tokensKeyKinds[0].option, "")
	t.Run("odd ones", func(t *testing.T) { tokensInOddCookies(t, w) })
	t.Run("tossed in on http", func(t *testing.T) { tokensTossedInOnHTTP(t, w) })
	t.Run("tossed in by a sub-domain", func(t *testing.T) { tokensTossedInByASubdomain(t, w) })
}

// One true session among what else a Cookie header may hold. Two different
// sessions under one name are nobody's, in either order: one of them was tossed in.
func tokensInOddCookies(t *testing.T, w *tokensSites) {
	mine := w.login(t, "https://"+tokensShop+"/member/", "lina")
	lina := w.sim.OpenID(appID, "lina")
	k := tokensKeysOf(t, w.gateway, mine)
	theirs := k.session(t, newTokensSession("https://"+tokensShop, "oMallory"))
	ended := newTokensSession("https://"+tokensShop, "oMallory")
	ended.Iat, ended.Exp = ended.Iat-100, ended.Iat-1
	past := k.session(t, ended)
	const name = "__Host-wechat_session"
	cases := []struct{ name, lines, want string }{
		{"among others", "Cookie: a=1; NAME=MINE; b=2", lina},
		{"in quotes", `Cookie: NAME="MINE"`, lina},
		{"with spaces", "Cookie:   NAME = MINE  ; b=2", lina},
		{"with tabs", "Cookie:\tNAME\t=\tMINE\t", lina},
		{"with spaces and quotes", `Cookie: NAME = "MINE" ;`, lina},
		{"after empty pairs", "Cookie: ;;; ; =; NAME=MINE", lina},
		{"without a space between", "Cookie: a=1;NAME=MINE;b=2", lina},
		{"on a second line", "Cookie: a=1\r\nCookie: NAME=MINE", lina},
		{"in a header in capitals", "COOKIE: NAME=MINE", lina},
		{"between RFC 2109's attributes", "Cookie: $Version=1; NAME=MINE; $Path=/", lina},
		{"behind an open quote of another's", `Cookie: a="b; NAME=MINE`, lina},
		{"behind an empty one", "Cookie: NAME=; NAME=MINE", lina},
		{"before an empty one", "Cookie: NAME=MINE; NAME=", lina},
		{"behind one without a value", "Cookie: NAME; NAME=MINE", lina},
		{"twice", "Cookie: NAME=MINE; NAME=MINE", lina},
		{"twice on two lines", "Cookie: NAME=MINE\r\nCookie: NAME=MINE", lina},
		{"three times", "Cookie: NAME=MINE; NAME=MINE; NAME=MINE", lina},
		{"behind junk", "Cookie: NAME=junk; NAME=MINE", lina},
		{"before junk", "Cookie: NAME=MINE; NAME=junk", lina},
		{"behind another's that has ended", "Cookie: NAME=PAST; NAME=MINE", lina},
		{"before another's that has ended", "Cookie: NAME=MINE; NAME=PAST", lina},
		{"behind another's", "Cookie: NAME=THEIRS; NAME=MINE", tokensNobody},
		{"before another's", "Cookie: NAME=MINE; NAME=THEIRS", tokensNobody},
		{"behind another's on a line before", "Cookie: NAME=THEIRS\r\nCookie: NAME=MINE", tokensNobody},
		{"before another's on a line behind", "Cookie: NAME=MINE\r\nCookie: a=1; NAME=THEIRS", tokensNobody},
		{"between another's", "Cookie: NAME=THEIRS; NAME=MINE; NAME=THEIRS", tokensNobody},
		{"behind another's and junk", "Cookie: NAME=THEIRS; NAME=junk; NAME=MINE", tokensNobody},
		{"before junk and another's", "Cookie: NAME=MINE; NAME=junk; NAME=THEIRS", tokensNobody},
		{"with another's under the name without the prefix, before", "Cookie: wechat_session=THEIRS; NAME=MINE", lina},
		{"with another's under the name without the prefix, behind", "Cookie: NAME=MINE; wechat_session=THEIRS", lina},
		{"with another's under __Secure-", "Cookie: __Secure-wechat_session=THEIRS; NAME=MINE", lina},
		{"with another's under a prefix in other case", "Cookie: __HOST-wechat_session=THEIRS; NAME=MINE; __host-wechat_session=THEIRS", lina},
		{"with another's under another port's name", "Cookie: NAME_8443=THEIRS; NAME=MINE", lina},
		{"with another's under the guest's name", "Cookie: NAME_guest=THEIRS; NAME=MINE", lina},
		{"with another's behind a second sign", "Cookie: NAME=MINE; x=NAME=THEIRS", lina},
		{"with another's in a quoted value", `Cookie: NAME=MINE; x="; NAME=junk; y="`, lina},
		{"under the name without the prefix alone", "Cookie: wechat_session=MINE", tokensNobody},
		{"under a name in other case", "Cookie: __host-wechat_session=MINE", tokensNobody},
		{"under an encoded name", "Cookie: __Host%2Dwechat_session=MINE", tokensNobody},
		{"under a name with a dot", "Cookie: __Host-wechat.session=MINE", tokensNobody},
		{"under a name in brackets", "Cookie: NAME[]=MINE", tokensNobody},
		{"under a name in quotes", `Cookie: "NAME"=MINE`, tokensNobody},
		{"under no name", "Cookie: =NAME=MINE", tokensNobody},
		{"under an empty name", "Cookie: =MINE", tokensNobody},
		{"behind a comma", "Cookie: a=1, NAME=MINE", tokensNobody},
		{"in Authorization", "Authorization: Bearer MINE", tokensNobody},
		{"in Cookie2", "Cookie2: NAME=MINE", tokensNobody},
		{"in Set-Cookie", "Set-Cookie: NAME=MINE", tokensNobody},
		{"in X-Wechat-Session", "X-Wechat-Session: MINE", tokensNobody},
		{"with Cookie named in Connection", "Connection: keep-alive, Cookie\r\nCookie: NAME=MINE", lina},
	}
	e := w.edge(t, tokensShop)
	fill := strings.NewReplacer("NAME", name, "MINE", mine, "THEIRS", theirs, "PAST", past)
	e.judge(t, tokensShop, tokensCookie(theirs), "oMallory")
	e.judge(t, tokensShop, tokensCookie(past), tokensNobody)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { e.judge(t, tokensShop, fill.Replace(c.lines)+"\r\n", c.want) })
	}
	for _, query := range []string{"?wechat_session=MINE", "?" + name + "=MINE", "?token=MINE", "?access_token=MINE"} {
		t.Run("in the query "+query, func(t *testing.T) {
			if a := e.get(t, tokensShop, "/member/"+fill.Replace(query), ""); a.upstream != nil {
				t.Error("through")
			}
		})
	}
}

// Without the prefix of https a sibling can set cookies for a whole domain. They
// sign nobody in as somebody else, and a logout ends the person's own session all the same: it was
// ended only where it came first.
func tokensTossedInOnHTTP(t *testing.T, w *tokensSites) {
	k := tokensKeysOf(t, w.gateway, w.login(t, "https://"+tokensShop+"/member/", "lina"))
	e := w.edge(t, tokensPlain)
	session := func(openID string) string { return k.session(t, newTokensSession("http://"+tokensPlain, openID)) }
	for _, c := range []struct{ name, cookies, want string }{
		{"alone", "wechat_session=MINE", "oLina"},
		{"behind junk", "wechat_session=junk; wechat_session=MINE", "oLina"},
		{"before junk", "wechat_session=MINE; wechat_session=junk", "oLina"},
		{"behind another's", "wechat_session=THEIRS; wechat_session=MINE", tokensNobody},
		{"before another's", "wechat_session=MINE; wechat_session=THEIRS", tokensNobody},
		{"behind another's and junk", "wechat_session=THEIRS; wechat_session=junk; wechat_session=MINE", tokensNobody},
		{"behind twenty of junk", strings.Repeat("wechat_session=junk; ", 20) + "wechat_session=MINE", "oLina"},
		{"with another's under the prefix of https", "__Host-wechat_session=THEIRS; wechat_session=MINE", "oLina"},
	} {
		t.Run(c.name, func(t *testing.T) {
			mine := session("oLina")
			cookies := "Cookie: " + strings.NewReplacer("MINE", mine, "THEIRS", session("oMallory")).Replace(c.cookies) + "\r\n"
			e.judge(t, tokensPlain, cookies, c.want)
			a := e.ask(t, "POST /_wechat/logout HTTP/1.1\r\nHost: "+tokensPlain+"\r\nContent-Length: 0\r\nOrigin: http://"+tokensPlain+"\r\n"+cookies+"\r\n")
			if a.status != http.StatusSeeOther {
				t.Fatalf("logout answered %d", a.status)
			}
			e.judge(t, tokensPlain, "Cookie: wechat_session="+mine+"\r\n", tokensNobody)
		})
	}
}

// A browser in which a sub-domain and a sibling set what they can for the
// whole domain logs in as itself, stays so and can log out.
func tokensTossedInByASubdomain(t *testing.T, w *tokensSites) {
	page := "https://" + tokensShop + "/member/"
	theirs := w.login(t, page, "zhangwei")
	b := w.browser(w.sim, wechattest.BrowserOptions{User: "lina"})
	taken := 0
	for _, from := range []string{"https://evil." + tokensShop + "/", "http://" + tokensShop + "/", "https://evil.example.org/"} {
		for _, name := range []string{"__Host-wechat_session", "__Secure-wechat_session", "wechat_session", "__Host-wechat_session_login_" + tokensID(), "wechat_session_guest"} {
			for _, domain := range []string{"", tokensShop, "example.org"} {
				for _, path := range []string{"/", "/member/"} {
					ck := &http.Cookie{Name: name, Value: theirs, Domain: domain, Path: path, Secure: strings.HasPrefix(from, "https")}
					if b.SetCookie(from, ck) {
						taken++
					}
				}
			}
		}
	}
	if taken == 0 {
		t.Fatal("the browser took none of them")
	}
	for range 2 {
		if got := openID(t, open(t, b, page)); got != w.sim.OpenID(appID, "lina") {
			t.Errorf("with %d tossed cookies signed in as %q", taken, got)
		}
	}
}
