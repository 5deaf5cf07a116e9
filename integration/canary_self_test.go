package integration

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// A canary that sings at nothing guards nothing: each of these is a leak that must be seen.

func TestCanaryScannerFindsWhatStringsFinds(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	letters := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = "ab"[r.IntN(2)] // few letters, so that prefixes overlap
		}
		return string(b)
	}
	for range 200 {
		var secrets []canarySecret
		for range 30 {
			secrets = append(secrets, canarySecret{text: letters(14 + r.IntN(8))})
		}
		text := letters(400)
		for i := range 5 { // one at the very beginning, one at the very end
			at := []int{0, 400, 100, 200, 300}[i]
			text = text[:at] + secrets[i].text + text[at:]
		}
		found := map[string]bool{}
		for _, f := range newCanaryScanner(secrets).find(text) {
			found[f.text] = true
			if !strings.HasPrefix(text[f.at:], f.text) {
				t.Fatalf("%q is not at %d", f.text, f.at)
			}
		}
		for _, s := range secrets {
			if want := len(s.text) >= canaryMin && strings.Contains(text, s.text); found[s.text] != want {
				t.Fatalf("%q in %q: found %v", s.text, text, found[s.text])
			}
		}
	}
}

// plantedCanary is a canary that knows one secret of each kind.
func plantedCanary(t *testing.T) (*canary, map[canaryKind]string) {
	t.Helper()
	c := canaryOf(t)
	planted := map[canaryKind]string{}
	for _, kind := range []canaryKind{canaryPending, canaryLogin, canaryRetry} {
		planted[kind] = fmt.Sprintf("%064x", sha256.Sum256([]byte(kind)))
		c.addParts(kind, planted[kind])
	}
	key := sha256.Sum256([]byte("key"))
	c.addKey(key[:])
	planted[canaryKey] = base64.RawURLEncoding.EncodeToString(key[:])
	mac := hmac.New(sha256.New, key[:])
	signed := "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJvQSJ9"
	mac.Write([]byte(signed))
	planted[canarySession] = signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	c.addToken(planted[canarySession])
	c.readCaddyfile("app_secret {env.PLANTED}\nsession_key {\n secret a-literal-secret-of-at-least-32-bytes old-literal-secret-of-at-least-32-bytes\n}\n", []string{"PLANTED=an odd/secret&of the operator"})
	planted[canaryConfigured] = "an odd/secret&of the operator"
	sim := newSimulator(t, wechattest.Account{Domains: []string{"auth.example.com"}})
	client := &http.Client{Transport: c.watch(http.DefaultTransport), CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	link := "/connect/oauth2/authorize?appid=" + appID + "&redirect_uri=https%3A%2F%2Fauth.example.com%2F&response_type=code&scope=snsapi_base&state=0"
	resp, _ := get(t, client, sim.url+link, http.Header{"User-Agent": {wechattest.UserAgentAndroid}})
	planted[canaryCode] = queryOf(t, resp.Header.Get("Location")).Get("code")
	exchange := url.Values{"appid": {appID}, "secret": {appSecret}, "grant_type": {"authorization_code"}}
	resp, _ = get(t, client, sim.url+link, http.Header{"User-Agent": {wechattest.UserAgentAndroid}})
	exchange.Set("code", queryOf(t, resp.Header.Get("Location")).Get("code"))
	_, body := get(t, client, sim.url+wechattest.PathToken+"?"+exchange.Encode(), nil)
	_, token, _ := strings.Cut(body, `"access_token":"`)
	planted[canaryToken], _, _ = strings.Cut(token, `"`)
	planted[canaryTicket] = strings.Repeat("0123abcd", 4)
	c.readLocation("https://shop.example.org/_wechat/callback?ticket=" + planted[canaryTicket] + "&state=x&login=y")
	return c, planted
}

func TestCanarySeesAPlantedLeak(t *testing.T) {
	c, planted := plantedCanary(t)
	if len(planted) != 9 {
		t.Fatalf("planted %v", planted)
	}
	sees := func(logger, text string) bool {
		for _, found := range c.scanner().find(text) {
			if !c.mayLog(logger, found.canarySecret) {
				return true
			}
		}
		return false
	}
	for kind, text := range planted {
		line := `{"level":"info","msg":"a line with ` + text + ` in it"}`
		if text == "" || !sees("wechat", line) || !sees("http.handlers.wechat_auth", line) || !sees("", line) {
			t.Errorf("a %s in the gateway's own log is not seen", kind)
		}
		if mayStand := kind == canaryLogin || kind == canaryRetry; sees("http.log.access", line) == mayStand {
			t.Errorf("a %s in Caddy's access log: seen %v", kind, !mayStand)
		}
	}
	for what, text := range map[string]string{
		"a secret in an address":     url.QueryEscape(planted[canaryConfigured]),
		"a secret in base64":         base64.StdEncoding.EncodeToString([]byte(planted[canaryConfigured])),
		"a key in hex":               fmt.Sprintf("%x", sha256.Sum256([]byte("key"))),
		"the first half of a ticket": planted[canaryTicket][:16],
		"a shortened WeChat token":   planted[canaryToken][:24],
		"the end of a login cookie":  planted[canaryPending][40:],
		"a token's signature":        strings.Split(planted[canarySession], ".")[2],
		"a literal secret":           "a-literal-secret-of-at-least-32-bytes",
		"an old literal secret":      "old-literal-secret-of-at-least-32-bytes",
	} {
		if !sees("wechat", "x"+text+"x") {
			t.Errorf("%s is not seen", what)
		}
	}
	if got := c.signedHere("x " + planted[canarySession] + " x"); len(got) != 1 {
		t.Errorf("a token that nobody saw: %q", got)
	}
}

// What is dead may stand in Caddy's own log, and never in the gateway's.
func TestCanaryTellsTheDeadFromTheLiving(t *testing.T) {
	c, planted := plantedCanary(t)
	redeem, err := http.NewRequest(http.MethodGet, "https://shop.example.org/_wechat/callback?ticket="+planted[canaryTicket], nil)
	if err != nil {
		t.Fatal(err)
	}
	may := func(logger string) bool {
		found := c.scanner().find(planted[canaryTicket])
		return len(found) > 0 && c.mayLog(logger, found[0].canarySecret)
	}
	if may("http.log.access") {
		t.Error("a living ticket may stand in Caddy's log")
	}
	c.readRequest(redeem, http.StatusSeeOther)
	if !may("http.log.access") || may("wechat") {
		t.Error("a dead ticket: in Caddy's log alone")
	}
}

func TestCanaryJudgesAnswers(t *testing.T) {
	answer := func(method string, status int, body string, header http.Header) *http.Response {
		return &http.Response{StatusCode: status, Header: header, Request: &http.Request{Method: method, URL: &url.URL{Path: "/_wechat/bye"}}}
	}
	w := singleWorld(t, "")
	resp, page := get(t, w.client(), "https://auth.example.com/_wechat/bye", navigation)
	if faults, ours := canaryJudge(resp, []byte(page)); !ours || len(faults) > 0 {
		t.Fatalf("a good page: %v %q", ours, faults)
	}
	for _, name := range []string{"Cache-Control", "Content-Security-Policy", "X-Frame-Options", "X-Robots-Tag", "X-Content-Type-Options", "Referrer-Policy", "Content-Type", "Vary"} {
		h := resp.Header.Clone()
		h.Del(name)
		if faults, _ := canaryJudge(answer("GET", 200, page, h), []byte(page)); len(faults) == 0 {
			t.Errorf("a page without %s passes", name)
		}
	}
	for _, policy := range []string{"'unsafe-inline'", "'unsafe-eval'", "*", "data:", "https://cdn.example.org"} {
		h := resp.Header.Clone()
		h.Set("Content-Security-Policy", strings.Replace(h.Get("Content-Security-Policy"), "style-src ", "style-src "+policy+" ", 1))
		if faults, _ := canaryJudge(answer("GET", 200, page, h), []byte(page)); len(faults) == 0 {
			t.Errorf("a policy with %s passes", policy)
		}
	}
	for what, bad := range map[string]*http.Response{
		"a redirect to a login that may be kept":  answer("GET", 302, "", http.Header{"Location": {"https://x/connect/oauth2/authorize?appid=a&redirect_uri=b%2Fcallback%3Flogin%3D"}}),
		"a redirect to a ticket that may be kept": answer("GET", 302, "", http.Header{"Location": {"https://x/_wechat/callback?ticket=0a&state=" + strings.Repeat("0", 32) + "&login="}, "Cache-Control": {"private"}}),
		"the end of a login that may be kept":     answer("GET", 303, "", http.Header{"Location": {"https://x/#"}}),
		"a cookie that others get":                answer("GET", 200, "", http.Header{"Set-Cookie": {"wechat_session=a"}, "Cache-Control": {"no-cache"}}),
	} {
		if faults, _ := canaryJudge(bad, nil); len(faults) == 0 {
			t.Errorf("%s passes", what)
		}
	}
}
