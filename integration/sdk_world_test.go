package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// sdkHome is where the SDKs' users come back to.
const sdkHome = "https://client.example/shop/callback"

// authorizeLink is WeChat's own link at the gateway, as SDKs write it.
func authorizeLink(appid, to, scope, state string, more ...string) string {
	return broker + "/connect/oauth2/authorize?appid=" + url.QueryEscape(appid) + "&redirect_uri=" + url.QueryEscape(to) +
		"&response_type=code&scope=" + scope + "&state=" + url.QueryEscape(state) + strings.Join(more, "") + "#wechat_redirect"
}

// sdkCode lets somebody log in at WeChat and returns the code that the client gets.
func (w *world) sdkCode(t *testing.T, opts wechattest.BrowserOptions, link, home string) string {
	t.Helper()
	code := landed(t, open(t, w.browser(w.sim, opts), link), home).Get("code")
	if len(code) != 32 {
		t.Fatalf("the code %q is not shaped as WeChat's", code)
	}
	canaryOf(t).addParts(canaryTicket, code)
	return code
}

// snsAnswer is all that WeChat's calls answer.
type snsAnswer struct {
	Errcode      *int     `json:"errcode"`
	Errmsg       string   `json:"errmsg"`
	AccessToken  string   `json:"access_token"`
	ExpiresIn    int      `json:"expires_in"`
	RefreshToken string   `json:"refresh_token"`
	OpenID       string   `json:"openid"`
	UnionID      string   `json:"unionid"`
	Scope        string   `json:"scope"`
	Snapshot     int      `json:"is_snapshotuser"`
	Nickname     string   `json:"nickname"`
	HeadImgURL   string   `json:"headimgurl"`
	Privilege    []string `json:"privilege"`
}

// code is the errcode; 0 where there is none.
func (a snsAnswer) code() int {
	if a.Errcode == nil {
		return 0
	}
	return *a.Errcode
}

// sns asks the gateway, or WeChat itself, as a backend does.
func (w *world) sns(t *testing.T, method, address string) (*http.Response, string, snsAnswer) {
	t.Helper()
	req := httptest.NewRequest(method, address, nil)
	req.RequestURI = ""
	resp, body := send(t, w.client(), req)
	var a snsAnswer
	if body != "" && resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal([]byte(body), &a); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
	}
	if strings.HasPrefix(address, broker) {
		w.keepSNS(t, a, body)
	}
	return resp, body, a
}

// keepSNS has the canary look for the gateway's own tokens, and looks itself for WeChat's: they never leave
// the gateway.
func (w *world) keepSNS(t *testing.T, a snsAnswer, body string) {
	t.Helper()
	canaryOf(t).addParts(canaryToken, a.AccessToken)
	canaryOf(t).addParts(canaryToken, a.RefreshToken)
	for _, x := range w.sim.Issued() {
		if x.Kind != "code" && strings.Contains(body, x.Value) {
			t.Errorf("the client got WeChat's %s", x.Kind)
		}
	}
	if strings.Contains(body, appSecret) {
		t.Error("the client got the app secret")
	}
}

// The calls, as WeChat documents them.
func snsToken(at, appid, secret, code string) string {
	return fmt.Sprintf("%s/sns/oauth2/access_token?appid=%s&secret=%s&code=%s&grant_type=authorization_code", at, appid, secret, code)
}

func snsRefresh(at, appid, token string) string {
	return fmt.Sprintf("%s/sns/oauth2/refresh_token?appid=%s&grant_type=refresh_token&refresh_token=%s", at, appid, token)
}

func snsUser(at, token, openid string) string {
	return fmt.Sprintf("%s/sns/userinfo?access_token=%s&openid=%s&lang=zh_CN", at, token, openid)
}

func snsCheck(at, token, openid string) string {
	return fmt.Sprintf("%s/sns/auth?access_token=%s&openid=%s", at, token, openid)
}

// wantSNS fails unless the gateway answers the call with that errcode.
func (w *world) wantSNS(t *testing.T, what, address string, errcode int) snsAnswer {
	t.Helper()
	_, body, a := w.sns(t, http.MethodGet, address)
	if a.code() != errcode {
		t.Errorf("%s: errcode %d, want %d: %.300s", what, a.code(), errcode, body)
	}
	return a
}
