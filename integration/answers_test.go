package integration

import (
	"encoding/json"
	"html"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

var (
	navigation = http.Header{"Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"document"}, "Accept": {"text/html"}}
	formPost   = http.Header{"Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"document"}, "Accept": {"text/html"}, "Content-Type": {"application/x-www-form-urlencoded"}, "Referer": {"https://auth.example.com/form?x=1"}}
	script     = http.Header{"Sec-Fetch-Mode": {"cors"}, "Accept": {"*/*"}, "Referer": {"https://auth.example.com/app?y=2"}}
)

func with(h http.Header, pairs ...string) http.Header {
	h = h.Clone()
	for i := 0; i < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return h
}

// TestAnswersWithoutASession is the table of what a request that needs a login gets.
func TestAnswersWithoutASession(t *testing.T) {
	const inside, outside = wechattest.UserAgentAndroid, wechattest.UserAgentOutside
	cases := []struct {
		name    string
		options string
		ua      string
		method  string
		header  http.Header
		status  int
		want    string // in the Location or the body
	}{
		{"a page load in WeChat goes there", "", inside, "GET", navigation, 302, "/connect/oauth2/authorize?appid=" + appID + "&redirect_uri=https%3A%2F%2Fauth.example.com%2F_wechat%2Fcallback%3Flogin%3D"},
		{"HEAD too", "", inside, "HEAD", navigation, 302, "/connect/oauth2/authorize"},
		{"a profile is asked for by a press", "scope snsapi_userinfo", inside, "GET", navigation, 200, `href="/_wechat/login?return=%2Fmember%2F&amp;scope=snsapi_userinfo"`},
		{"a form's sender is told", "", inside, "POST", formPost, 401, `href="/form?x=1"`},
		{"a script gets JSON", "", inside, "GET", script, 401, `{"code":1001,"msg":"not logged in","login_url":"/_wechat/login?return=%2Fapp%3Fy%3D2"}`},
		{"a script's POST too", "", inside, "POST", script, 401, `"code":1001`},
		{"in Chinese", "", inside, "GET", with(script, "Accept-Language", "zh-CN,zh;q=0.9,en;q=0.8"), 401, `"msg":"未登录"`},
		{"another site's Referer is not returned to", "", inside, "GET", with(script, "Referer", "https://auth.example.com.evil.example/x"), 401, `"login_url":"/_wechat/login?return=%2F"`},
		{"a page load outside", "", outside, "GET", navigation, 403, "https://auth.example.com/member/"},
		{"a form outside", "", outside, "POST", formPost, 403, "in WeChat"},
		{"a script outside", "", outside, "GET", script, 403, `"code":4001`},
		{"WeCom is outside", "", inside + " wxwork/4.1", "GET", navigation, 403, "微信"},
		{"a page load outside, redirect", "outside_wechat redirect", outside, "GET", navigation, 302, "/connect/oauth2/authorize"},
		{"a page load outside, pass", "outside_wechat pass", outside, "GET", navigation, 200, `"URI":"/member/"`},
		{"a POST outside, pass", "outside_wechat pass", outside, "POST", formPost, 200, `"Method":"POST"`},
		{"a page load inside, pass", "outside_wechat pass", inside, "GET", navigation, 302, "/connect/oauth2/authorize"},
	}
	worlds := map[string]*world{}
	for _, c := range cases {
		if worlds[c.options] == nil {
			worlds[c.options] = singleWorld(t, c.options)
		}
		t.Run(c.name, func(t *testing.T) {
			w := worlds[c.options]
			resp, body := do(t, w.client(), c.method, "https://auth.example.com/member/", with(c.header, "User-Agent", c.ua), nil)
			if resp.StatusCode != c.status || !strings.Contains(resp.Header.Get("Location")+body, c.want) {
				t.Errorf("status %d, want %d; Location %q\nwant %s\nin %.3000s", resp.StatusCode, c.status, resp.Header.Get("Location"), c.want, body)
			}
			if c.status != 200 || strings.Contains(c.want, "href") {
				wantOwnAnswer(t, resp)
			}
			if (c.status == 401 || c.status == 403) && len(resp.Header["Set-Cookie"]) > 0 {
				t.Errorf("set %q", resp.Header["Set-Cookie"])
			}
		})
	}
}

func TestEndpoints(t *testing.T) {
	w := singleWorld(t, "public /open/*")
	c := w.client()
	token := signIn(t, w, c, authPage)
	mine := []*http.Cookie{{Name: "__Host-wechat_session", Value: token}}
	const base = "https://auth.example.com/_wechat"
	cases := []struct {
		name    string
		method  string
		url     string
		header  http.Header
		cookies []*http.Cookie
		status  int
		want    string
	}{
		{"userinfo without a session", "GET", base + "/userinfo", script, nil, 401, `"code":1001`},
		{"userinfo", "GET", base + "/userinfo", script, mine, 200, `{"openid":"` + openIDOf(t, token) + `","unionid":"","appid":"` + appID + `","scope":"snsapi_base","nickname":"","headimgurl":"","expires_at":`},
		{"userinfo by another method", "POST", base + "/userinfo", script, mine, 405, ""},
		{"an unknown endpoint", "GET", base + "/unknown", navigation, mine, 404, ""},
		{"no public keys for HS256", "GET", base + "/jwks.json", script, nil, 404, ""},
		{"login of somebody signed in goes on", "GET", base + "/login?return=%2Fx%3Fy", navigation, mine, 303, "https://auth.example.com/x?y#"},
		{"login to another site goes home", "GET", base + "/login?return=https://evil.example/", navigation, mine, 303, "https://auth.example.com/#"},
		{"login outside WeChat", "GET", base + "/login?return=/x", with(navigation, "User-Agent", wechattest.UserAgentOutside), nil, 403, "/_wechat/login?return=%2Fx"},
		{"login to a profile steps up", "GET", base + "/login?return=/x&scope=snsapi_userinfo", with(navigation, "User-Agent", wechattest.UserAgentAndroid), mine, 302, "scope=snsapi_userinfo"},
		{"callback by HEAD spends nothing", "HEAD", base + "/callback?x", navigation, nil, 405, ""},
		{"bye", "GET", base + "/bye", navigation, nil, 200, `/_wechat/login?return=%2F"`},
		{"a GET that nobody pressed asks first", "GET", base + "/logout", navigation, mine, 200, `method="post"`},
		{"another site's POST", "POST", base + "/logout", with(formPost, "Origin", "https://evil.example"), mine, 403, `"code":1002`},
		{"a sibling's POST", "POST", base + "/logout", with(formPost, "Sec-Fetch-Site", "same-site"), mine, 403, `"code":1002`},
		{"a POST without an origin", "POST", base + "/logout", with(formPost, "Origin", "null"), mine, 403, `"code":1002`},
		{"still signed in after all that", "GET", base + "/userinfo", script, mine, 200, `"openid"`},
		{"logout to a public page", "POST", base + "/logout?return=/open/page", with(formPost, "Origin", "https://auth.example.com", "Sec-Fetch-Site", "same-origin"), mine, 303, "https://auth.example.com/open/page#"},
		{"the session is gone, whoever copied it", "GET", base + "/userinfo", script, mine, 401, `"code":1001`},
		{"logout of nobody", "GET", base + "/logout?return=/member/", with(navigation, "Sec-Fetch-Site", "same-origin"), nil, 303, base + "/bye#"},
	}
	for _, x := range cases {
		t.Run(x.name, func(t *testing.T) {
			h := x.header.Clone()
			for _, ck := range x.cookies {
				h.Add("Cookie", ck.Name+"="+ck.Value)
			}
			resp, body := do(t, c, x.method, x.url, h, nil)
			if resp.StatusCode != x.status || !strings.Contains(resp.Header.Get("Location")+body, x.want) {
				t.Errorf("status %d, want %d; Location %q\nwant %s\nin %.2000s", resp.StatusCode, x.status, resp.Header.Get("Location"), x.want, body)
			}
			wantOwnAnswer(t, resp)
		})
	}
}

// signIn logs somebody in without a browser and returns the session's token.
func signIn(t *testing.T, w *world, c *http.Client, page string) string {
	t.Helper()
	callback, cookies := begin(t, w, c, page)
	token := follow(t, c, callback, cookies)
	if token == "" {
		t.Fatal("not signed in")
	}
	return token
}

func TestPublicKeysVerifySessions(t *testing.T) {
	for _, alg := range []string{"EdDSA", "ES256"} {
		t.Run(alg, func(t *testing.T) {
			w := newWorld(t, wechattest.Account{Domains: []string{"auth.example.com"}}, func(w *world) string {
				return "{\n" + w.globals() + strings.Replace(w.options("", ""), "wechat {", "wechat {\n session_key {\n algorithm "+alg+"\n}\n", 1) +
					"}\nauth.example.com {\n wechat_auth {\n token_header X-Session\n}\n reverse_proxy " + w.up.addr + "\n}\n"
			})
			c := w.client()
			token := signIn(t, w, c, authPage)
			_, body := get(t, c, "https://auth.example.com/_wechat/jwks.json", nil)
			var set struct {
				Keys []map[string]string `json:"keys"`
			}
			if err := json.Unmarshal([]byte(body), &set); err != nil || len(set.Keys) != 1 || set.Keys[0]["alg"] != alg {
				t.Fatalf("key set %s: %v", body, err)
			}
			verifyWithJWK(t, token, set.Keys[0])
			_, body = get(t, c, authPage, pageHeader([]*http.Cookie{{Name: "__Host-wechat_session", Value: token}}))
			if got := readSeen(t, []byte(body)).Header.Get("X-Session"); got != token {
				t.Errorf("the upstream got the token %q", got)
			}
		})
	}
}

func hrefs(body string) (list []string) {
	for part := range strings.SplitSeq(body, `href="`) {
		if href, _, ok := strings.Cut(part, `"`); ok && strings.HasPrefix(href, "/") {
			list = append(list, html.UnescapeString(href))
		}
	}
	return list
}

// Snapshot visitors have virtual ids, a page that ignores clicks and cookies of their own.
func TestSnapshotVisitors(t *testing.T) {
	for mode, want := range map[string]int{"page": 200, "guest": 200, "deny": 403} {
		both(t, "snapshot "+mode, func(t *testing.T, w *world, page string) {
			t.Run(mode, func(t *testing.T) {
				for _, noCookies := range []bool{false, true} {
					b := w.browser(w.sim, wechattest.BrowserOptions{Snapshot: true, NoCookies: noCookies})
					p := open(t, b, page)
					if noCookies && mode == "guest" {
						continue // without cookies a guest cannot be told from a stranger: the loop's end is tested elsewhere
					}
					wantStatus(t, p, want)
					if mode == "guest" {
						s := readSeen(t, p.Body)
						for name := range s.Header {
							if strings.HasPrefix(name, "X-Wechat") || name == "Cookie" {
								t.Errorf("a guest reached the upstream with %s: %q", name, s.Header[name])
							}
						}
						post, err := b.Fetch(t.Context(), "POST", page, nil, nil)
						if err != nil || post.Status != 401 {
							t.Errorf("a guest's POST: %v %v", post, err)
						}
					} else if !strings.Contains(string(p.Body), "使用完整服务") {
						t.Errorf("the page does not point at 使用完整服务\n%s", p.Body)
					}
					for _, c := range b.Cookies(page) {
						if c.Name == "__Host-wechat_session" {
							t.Error("a snapshot visitor has a session")
						}
					}
				}
			})
		})
	}
}

// WeChat's own calls carry no cookie: the log names the line that lets them through.
func TestRefusedNoticeIsLogged(t *testing.T) {
	w := singleWorld(t, "")
	for range 3 {
		do(t, w.client(), "POST", "https://auth.example.com/push?signature=a&timestamp=1&nonce=b", http.Header{"User-Agent": {"Mozilla/4.0"}}, strings.NewReader("<xml/>"))
	}
	if n := strings.Count(w.log.String(), `"line":"public /push"`); !w.logged(`"line":"public /push"`) || n > 1 {
		t.Errorf("the log says it %d times", n)
	}
}
