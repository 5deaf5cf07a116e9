package wechattest

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

const (
	testApp    = "wx0123456789abcdef"
	testSecret = "0123456789abcdef0123456789abcdef"
	goodLink   = PathAuthorize + "?appid=" + testApp + "&redirect_uri=https%3A%2F%2Fauth.shop.test%2Fcb" +
		"&response_type=code&scope=snsapi_base&state=abc123"
)

func newServer() *Server {
	return New(
		Account{AppID: testApp, Secret: testSecret, Domains: []string{"auth.shop.test", "wx.shop.test/mp", "10.0.0.1"}},
		Account{AppID: "wxtest", Secret: testSecret, Test: true, Domains: []string{"127.0.0.1:8443"}, Scopes: []string{"snsapi_base"}},
		Account{AppID: "wxalone", Secret: testSecret, Unbound: true, Domains: []string{"auth.shop.test"}},
	)
}

func get(s *Server, host, target string, change ...func(*http.Request)) *http.Response {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	r.Host = host
	r.Header.Set("User-Agent", UserAgentAndroid)
	for _, f := range change {
		f(r)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w.Result()
}

func bodyOf(t *testing.T, res *http.Response) string {
	t.Helper()
	var b strings.Builder
	if err := res.Write(&b); err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(b.String(), "\r\n\r\n")
	return body
}

func linkTo(redirect string) string {
	return strings.Replace(goodLink, "https%3A%2F%2Fauth.shop.test%2Fcb", url.QueryEscape(redirect), 1)
}

func codeFrom(t *testing.T, res *http.Response) string {
	t.Helper()
	u, err := res.Location()
	if err != nil || res.StatusCode != http.StatusFound {
		t.Fatalf("no redirect: %d %v", res.StatusCode, err)
	}
	return u.Query().Get("code")
}

func TestAuthorizeRefuses(t *testing.T) {
	with := func(old, new string) string { return strings.Replace(goodLink, old, new, 1) }
	for name, c := range map[string]struct {
		link string
		want string
	}{
		"a host that is not bound":                  {linkTo("https://www.shop.test/cb"), "10003"},
		"a subdomain of a bound host":               {linkTo("https://a.auth.shop.test/cb"), "10003"},
		"a parent of a bound host":                  {linkTo("https://shop.test/cb"), "10003"},
		"a bound host in capitals":                  {linkTo("https://AUTH.shop.test/cb"), "10003"},
		"a port":                                    {linkTo("https://auth.shop.test:8443/cb"), "10003"},
		"the standard port":                         {linkTo("https://auth.shop.test:443/cb"), "10003"},
		"an empty port":                             {linkTo("https://auth.shop.test:/cb"), "10003"},
		"an address, even a bound one":              {linkTo("https://10.0.0.1/cb"), "10003"},
		"a user in the address":                     {linkTo("https://auth.shop.test@evil.test/cb"), "10003"},
		"another scheme":                            {linkTo("ftp://auth.shop.test/cb"), "10003"},
		"a path outside the bound one":              {linkTo("https://wx.shop.test/mpx/cb"), "10003"},
		"a relative address":                        {linkTo("/cb"), "10003"},
		"a scope that does not exist":               {with("snsapi_base", "snsapi_all"), "10005"},
		"the scope of websites":                     {with("snsapi_base", "snsapi_login"), "10005"},
		"a scope the account has not":               {with(testApp, "wxtest"), "10003"},
		"an empty scope":                            {with("snsapi_base", ""), "10010"},
		"a missing scope":                           {with("&scope=snsapi_base", ""), "10010"},
		"a missing address":                         {with("&redirect_uri=https%3A%2F%2Fauth.shop.test%2Fcb", ""), "10011"},
		"an empty app id":                           {with(testApp, ""), "10012"},
		"a missing state":                           {with("&state=abc123", ""), "10013"},
		"an unknown app id":                         {with(testApp, "wxunknown"), "AppID"},
		"a state with a hyphen":                     {with("abc123", "abc-123"), "state"},
		"a state of 129 bytes":                      {with("abc123", strings.Repeat("a", 129)), "state"},
		"a state with a percent sign":               {with("abc123", "abc%20"), "state"},
		"state before scope":                        {with("scope=snsapi_base&state=abc123", "state=abc123&scope=snsapi_base"), "顺序"},
		"app id behind the address":                 {PathAuthorize + "?redirect_uri=https%3A%2F%2Fauth.shop.test%2Fcb&appid=" + testApp + "&response_type=code&scope=snsapi_base&state=a", "顺序"},
		"response_type token":                       {with("response_type=code", "response_type=token"), "顺序"},
		"no response_type":                          {with("&response_type=code", ""), "顺序"},
		"an address that is not encoded":            {with("https%3A%2F%2Fauth.shop.test%2Fcb", "https://auth.shop.test/cb"), "顺序"},
		"an extra parameter in the middle":          {with("&scope", "&forcePopup=true&scope"), "顺序"},
		"an extra parameter that nobody knows":      {goodLink + "&foo=1", "顺序"},
		"an app id twice":                           {goodLink + "&appid=wxtest", "顺序"},
		"an address cut off at its own, raw, query": {with("%2Fcb", "%2Fcb?a=1&b=2"), "顺序"},
	} {
		t.Run(name, func(t *testing.T) {
			res := get(newServer(), "open.weixin.qq.com", c.link)
			if body := bodyOf(t, res); res.StatusCode != http.StatusOK || !strings.Contains(body, c.want) {
				t.Errorf("status %d, want a page with %q; Location %q", res.StatusCode, c.want, res.Header.Get("Location"))
			}
		})
	}
}

func TestAuthorizeSendsBack(t *testing.T) {
	for name, c := range map[string]struct{ redirect, want string }{
		"code and state, in this order":        {"https://auth.shop.test/cb", `^https://auth\.shop\.test/cb\?code=[a-zA-Z0-9]{32}&state=abc123$`},
		"behind the address's own query":       {"https://auth.shop.test/cb?a=%2F&b", `^https://auth\.shop\.test/cb\?a=%2F&b&code=\w{32}&state=abc123$`},
		"before the fragment":                  {"https://auth.shop.test/cb?a=1#/x?y", `^https://auth\.shop\.test/cb\?a=1&code=\w{32}&state=abc123#/x\?y$`},
		"without a parameter openId":           {"https://auth.shop.test/cb?openId=o1&a=1", `^https://auth\.shop\.test/cb\?a=1&code=\w{32}&state=abc123$`},
		"to plain http":                        {"http://auth.shop.test/cb", `^http://auth\.shop\.test/cb\?code=\w{32}&state=abc123$`},
		"to a host with no path":               {"https://auth.shop.test", `^https://auth\.shop\.test\?code=\w{32}&state=abc123$`},
		"below a bound path":                   {"https://wx.shop.test/mp/cb", `^https://wx\.shop\.test/mp/cb\?code=\w{32}&state=abc123$`},
		"with a code beside one of somebody's": {"https://auth.shop.test/cb?code=x", `^https://auth\.shop\.test/cb\?code=x&code=\w{32}&state=abc123$`},
	} {
		t.Run(name, func(t *testing.T) {
			res := get(newServer(), "open.weixin.qq.com", linkTo(c.redirect))
			if got := res.Header.Get("Location"); res.StatusCode != http.StatusFound || !regexp.MustCompile(c.want).MatchString(got) {
				t.Errorf("got %d %q, want %s", res.StatusCode, got, c.want)
			}
		})
	}
	t.Run("a test account to an address with a port", func(t *testing.T) {
		res := get(newServer(), "open.weixin.qq.com", strings.Replace(linkTo("http://127.0.0.1:8443/cb"), testApp, "wxtest", 1))
		codeFrom(t, res)
	})
	t.Run("with known parameters behind state", func(t *testing.T) {
		codeFrom(t, get(newServer(), "open.weixin.qq.com", goodLink+"&connect_redirect=1&forcePopup=true&uin=MQ%3D%3D&key=k&pass_ticket=p&version=28003257"))
	})
	t.Run("a new code every time", func(t *testing.T) {
		s := newServer()
		if codeFrom(t, get(s, "open.weixin.qq.com", goodLink)) == codeFrom(t, get(s, "open.weixin.qq.com", goodLink)) {
			t.Error("the same code twice")
		}
	})
}

func TestAuthorizeOutsideWeChat(t *testing.T) {
	for _, ua := range []string{UserAgentOutside, "", "Mozilla/5.0 wxwork/4.1.30 MicroMessenger/7.0.1"} {
		s := newServer()
		outside := func(r *http.Request) { r.Header.Set("User-Agent", ua) }
		if body := bodyOf(t, get(s, "open.weixin.qq.com", goodLink, outside)); !strings.Contains(body, "请在微信客户端打开链接") {
			t.Errorf("%q was let in", ua)
		}
		s.Update(func(k *Knobs) { k.AnyBrowser = true })
		codeFrom(t, get(s, "open.weixin.qq.com", goodLink, outside))
	}
}

func TestDecline(t *testing.T) {
	s := newServer()
	s.Update(func(k *Knobs) { k.Consent = DeclineNothing })
	if res := get(s, "open.weixin.qq.com", goodLink); res.StatusCode != http.StatusOK || res.Header.Get("Location") != "" {
		t.Error("a refusal redirected")
	}
	s.Update(func(k *Knobs) { k.Consent = DeclineLegacy })
	if got := get(s, "open.weixin.qq.com", goodLink).Header.Get("Location"); got != "https://auth.shop.test/cb?state=abc123" {
		t.Errorf("a refusal of old went to %q", got)
	}
}

func TestTooOftenAndInjectedPages(t *testing.T) {
	s := newServer()
	s.Update(func(k *Knobs) { k.TooOften = true })
	if !strings.Contains(bodyOf(t, get(s, "open.weixin.qq.com", goodLink)), "10009") {
		t.Error("no page 10009")
	}
	s.Update(func(k *Knobs) { k.TooOften = false; k.Faults[PathAuthorize] = Fault{Errcodes: []int{10006}} })
	if !strings.Contains(bodyOf(t, get(s, "open.weixin.qq.com", goodLink)), "10006") {
		t.Error("no page 10006")
	}
	codeFrom(t, get(s, "open.weixin.qq.com", goodLink))
}

func TestConsentPage(t *testing.T) {
	s := newServer()
	s.Update(func(k *Knobs) { k.Consent = AskPage })
	asked := strings.Replace(goodLink, "snsapi_base", "snsapi_userinfo", 1)
	open := func(target string, cookies ...*http.Cookie) (*http.Response, *Page) {
		res := get(s, "open.weixin.qq.com", target, func(r *http.Request) {
			for _, c := range cookies {
				r.AddCookie(c)
			}
		})
		return res, &Page{Body: []byte(bodyOf(t, res))}
	}
	href := func(p *Page, text string) string {
		t.Helper()
		for _, l := range p.Links() {
			if strings.Contains(l.Text, text) {
				return l.Href
			}
		}
		t.Fatalf("no link %q in %v", text, p.Links())
		return ""
	}
	_, page := open(goodLink)
	if !strings.Contains(string(page.Body), "模拟") {
		t.Error("the page does not say that it is a simulation")
	}
	_, page = open(href(page, "李娜"))
	allowed, _ := open(href(page, "允许"))
	t.Run("the chosen person gets the code", func(t *testing.T) {
		codeFrom(t, allowed)
		if calls := s.Calls(); calls[len(calls)-1].User != "lina" {
			t.Errorf("the code is %q's", calls[len(calls)-1].User)
		}
	})
	remembered := allowed.Cookies()[0]
	t.Run("later base logins are silent and the same person's", func(t *testing.T) {
		res, _ := open(goodLink, remembered)
		codeFrom(t, res)
		if calls := s.Calls(); calls[len(calls)-1].User != "lina" {
			t.Errorf("the code is %q's", calls[len(calls)-1].User)
		}
	})
	t.Run("a login for the profile asks again, and can be handed over", func(t *testing.T) {
		res, page := open(asked, remembered)
		if res.StatusCode != http.StatusOK {
			t.Fatal("not asked")
		}
		_, page = open(href(page, "换一个人"), remembered)
		href(page, "张伟")
	})
	t.Run("a follower's login for the profile is silent", func(t *testing.T) {
		res, _ := open(asked, holds(User{ID: "wangfang"}))
		codeFrom(t, res)
	})
	t.Run("declining stays, and can go back as of old", func(t *testing.T) {
		res, declined := open(href(page, "拒绝"))
		if res.StatusCode != http.StatusOK {
			t.Fatal("declining redirected")
		}
		legacy, _ := open(href(declined, "旧版"))
		if got := legacy.Header.Get("Location"); got != "https://auth.shop.test/cb?state=abc123" {
			t.Errorf("went to %q", got)
		}
	})
	t.Run("the page's own links are judged again", func(t *testing.T) {
		bad := strings.Replace(href(page, "允许"), "auth.shop.test", "evil.test", 1)
		res, refused := open(bad)
		if res.StatusCode != http.StatusOK || !strings.Contains(string(refused.Body), "10003") {
			t.Errorf("got %d %q", res.StatusCode, res.Header.Get("Location"))
		}
	})
	t.Run("nicknames are escaped", func(t *testing.T) {
		s.AddUser(User{ID: "xss", Nickname: `<script>alert(1)</script>`})
		_, page := open(goodLink)
		if strings.Contains(string(page.Body), "<script") {
			t.Error("a nickname became markup")
		}
	})
}
