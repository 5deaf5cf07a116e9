package integration

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	sdk "github.com/silenceper/wechat/v2"
	"github.com/silenceper/wechat/v2/cache"
	"github.com/silenceper/wechat/v2/officialaccount/config"
	"github.com/silenceper/wechat/v2/officialaccount/oauth"
	"github.com/silenceper/wechat/v2/util"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// sdkSwap sends an SDK's calls of the login to the gateway, whatever its constants say: what an operator puts
// under an SDK that has nothing of its own for it. All other calls go on to WeChat.
type sdkSwap struct{ next http.RoundTripper }

func (s sdkSwap) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host == "api.weixin.qq.com" && strings.HasPrefix(r.URL.Path, "/sns/") {
		r = r.Clone(r.Context())
		r.URL.Host, r.Host = "auth.example.com", ""
	}
	return s.next.RoundTrip(r)
}

// sdkWays are how an operator points silenceper/wechat at the gateway: the hosts are constants of its own.
var sdkWays = map[string]func(c *http.Client){
	"by its URI modifier": func(*http.Client) {
		util.SetURIModifier(func(uri string) string {
			return strings.Replace(uri, "https://api.weixin.qq.com/sns/", "https://auth.example.com/sns/", 1)
		})
	},
	"by the transport under it": func(c *http.Client) { c.Transport = sdkSwap{c.Transport} },
}

// newSDK is the SDK with a client's id and secret in the app id's and app secret's place.
func newSDK(id, secret string) *oauth.Oauth {
	return sdk.NewWechat().GetOfficialAccount(&config.Config{AppID: id, AppSecret: secret, Cache: cache.NewMemory()}).GetOauth()
}

// sdkLink is where the SDK sends a browser, with the gateway's host: constants, so that the operator replaces
// the host in the address, or lets Caddy do it to the answer.
func sdkLink(t *testing.T, o *oauth.Oauth, scope, state string) string {
	t.Helper()
	w := httptest.NewRecorder()
	if err := o.Redirect(w, httptest.NewRequest(http.MethodGet, "https://client.example/shop/login", nil), sdkHome, scope, state); err != nil {
		t.Fatal(err)
	}
	link := w.Header().Get("Location")
	if !strings.HasPrefix(link, "https://open.weixin.qq.com/connect/oauth2/authorize?appid=shop&") {
		t.Fatalf("the SDK leads to %s", link)
	}
	return strings.Replace(link, "https://open.weixin.qq.com/", "https://auth.example.com/", 1)
}

func TestSDKGo(t *testing.T) {
	for name, swap := range sdkWays {
		t.Run(name, func(t *testing.T) {
			w := clientWorld(t, clientBlocks, "")
			before := util.DefaultHTTPClient
			util.DefaultHTTPClient = w.client() // DNS and certificates are the test's
			t.Cleanup(func() { util.DefaultHTTPClient = before; util.SetURIModifier(nil) })
			swap(util.DefaultHTTPClient)
			w.sdkGoLogin(t)
			w.sdkGoSnapshot(t)
			w.sdkGoDeclined(t)
		})
	}
}

func (w *world) sdkGoLogin(t *testing.T) {
	t.Helper()
	o := newSDK("shop", shopSecret)
	code := w.sdkCode(t, wechattest.BrowserOptions{User: "lina"}, sdkLink(t, o, "snsapi_userinfo", "state123"), sdkHome)
	token, err := o.GetUserAccessToken(code)
	if err != nil {
		t.Fatal(err)
	}
	openid := w.sim.OpenID(appID, "lina")
	if token.OpenID != openid || token.Scope != "snsapi_userinfo" || token.ExpiresIn != 7200 || token.UnionID == "" || token.IsSnapShotUser != 0 {
		t.Errorf("the SDK got %s of scope %s for %d s", token.OpenID, token.Scope, token.ExpiresIn)
	}
	if _, err := o.GetUserAccessToken(code); err == nil || !strings.Contains(err.Error(), "errcode=40163") {
		t.Errorf("a code twice: %v", err)
	}
	if ok, err := o.CheckAccessToken(token.AccessToken, openid); !ok || err != nil {
		t.Errorf("the token is not good: %v", err)
	}
	if ok, err := o.CheckAccessToken(token.AccessToken, "oSomebodyElse"); ok || err != nil {
		t.Errorf("the token is good for somebody else: %v", err)
	}
	refreshed, err := o.RefreshAccessToken(token.RefreshToken)
	if err != nil || refreshed.OpenID != openid {
		t.Fatalf("refreshing: %v", err)
	}
	user, err := o.GetUserInfo(refreshed.AccessToken, openid, "")
	if err != nil || user.Nickname != "李娜🌸" || user.OpenID != openid || user.Unionid != token.UnionID || user.HeadImgURL == "" {
		t.Errorf("the SDK got the user %+v: %v", user, err)
	}
}

func (w *world) sdkGoSnapshot(t *testing.T) {
	t.Helper()
	o := newSDK("shop", shopSecret)
	code := w.sdkCode(t, wechattest.BrowserOptions{User: "lina", Snapshot: true}, sdkLink(t, o, "snsapi_userinfo", "1"), sdkHome)
	token, err := o.GetUserAccessToken(code)
	if err != nil || token.IsSnapShotUser != 1 || token.OpenID == w.sim.OpenID(appID, "lina") {
		t.Errorf("a snapshot visitor: is_snapshotuser is %d: %v", token.IsSnapShotUser, err)
	}
	if _, err := o.GetUserInfo(token.AccessToken, token.OpenID, ""); err == nil || !strings.Contains(err.Error(), "errcode=48001") {
		t.Errorf("a snapshot visitor's profile: %v", err)
	}
}

// A user who declines is at WeChat and stays there; where WeChat sends users back all the same, they come
// without a code.
func (w *world) sdkGoDeclined(t *testing.T) {
	t.Helper()
	o := newSDK("shop", shopSecret)
	w.sim.Update(func(k *wechattest.Knobs) { k.Consent = wechattest.DeclineLegacy })
	p := open(t, w.browser(w.sim, wechattest.BrowserOptions{User: "lina"}), sdkLink(t, o, "snsapi_userinfo", "state456"))
	if landed(t, p, sdkHome); p.URL.RawQuery != "state=state456" {
		t.Errorf("declined, the user comes back with %s", p.URL.RawQuery)
	}
	w.sim.Update(func(k *wechattest.Knobs) { k.Consent = wechattest.DeclineNothing })
	p = open(t, w.browser(w.sim, wechattest.BrowserOptions{User: "lina"}), sdkLink(t, o, "snsapi_userinfo", "state789"))
	if p.URL.Host != w.sim.host {
		t.Errorf("declined, the user is at %s", p.URL)
	}
	w.sim.Update(func(k *wechattest.Knobs) { k.Consent = wechattest.Silent })
}

// sdkApp is a whole app on the SDK. Its only line about the gateway is the URI modifier; its link to WeChat is
// the SDK's own.
func sdkApp(t *testing.T) string {
	t.Helper()
	o := newSDK("shop", shopSecret)
	mux := http.NewServeMux()
	mux.HandleFunc("/shop/login", func(w http.ResponseWriter, r *http.Request) {
		_ = o.Redirect(w, r, sdkHome, "snsapi_userinfo", "state123")
	})
	mux.HandleFunc("/shop/callback", func(w http.ResponseWriter, r *http.Request) {
		user, err := o.GetUserInfoByCodeContext(r.Context(), r.FormValue("code"))
		if err != nil || r.FormValue("state") != "state123" {
			http.Error(w, "not logged in", http.StatusForbidden)
			return
		}
		_, _ = w.Write([]byte(user.OpenID + " " + user.Nickname))
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// An app behind Caddy need not change its link: the same line that serves apps with pass_code does it.
func TestSDKGoBehindCaddy(t *testing.T) {
	w := clientWorld(t, clientBlocks, "")
	w.mustReload(t, strings.Replace(w.brokerWith(clientBlocks, ""), "client.example, ", "", 1)+
		"client.example {\n "+passHeader+"\n reverse_proxy "+sdkApp(t)+"\n}\n")
	before := util.DefaultHTTPClient
	util.DefaultHTTPClient = w.client()
	t.Cleanup(func() { util.DefaultHTTPClient = before; util.SetURIModifier(nil) })
	sdkWays["by its URI modifier"](nil)
	p := open(t, w.browser(w.sim, wechattest.BrowserOptions{User: "lina"}), "https://client.example/shop/login")
	wantStatus(t, p, http.StatusOK)
	if want := w.sim.OpenID(appID, "lina") + " 李娜🌸"; string(p.Body) != want {
		t.Errorf("the app says %q, want %q", p.Body, want)
	}
}
