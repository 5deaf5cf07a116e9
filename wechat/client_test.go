package wechat_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat"
	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

const (
	appID  = "wx0123456789abcdef"
	secret = "5ec2e75ec2e75ec2e75ec2e75ec2e700"
	origin = "https://auth.shop.test"
)

// simulated is a client of a simulator.
func simulated(t *testing.T) (*wechat.Client, *wechattest.Server) {
	t.Helper()
	sim := wechattest.New(wechattest.Account{AppID: appID, Secret: secret, Domains: []string{"auth.shop.test"}})
	ts := httptest.NewServer(sim)
	t.Cleanup(ts.Close)
	return &wechat.Client{AppID: appID, Secret: secret, OpenURL: ts.URL, APIURL: ts.URL + "/"}, sim
}

// authorize gets a code as a browser would.
func authorize(t *testing.T, c *wechat.Client, sim *wechattest.Server, scope string) string {
	t.Helper()
	link, err := url.Parse(c.AuthorizeURL(origin+"/cb?a=1&b=2", scope, "state123"))
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, link.RequestURI(), nil)
	r.Header.Set("User-Agent", wechattest.UserAgentIOS)
	w := httptest.NewRecorder()
	sim.ServeHTTP(w, r)
	back, err := w.Result().Location()
	if err != nil || back.Query().Get("code") == "" {
		t.Fatalf("no code: %v %s", err, w.Body)
	}
	return back.Query().Get("code")
}

func TestAuthorizeURL(t *testing.T) {
	c := &wechat.Client{AppID: appID}
	t.Run("has WeChat's order and fragment", func(t *testing.T) {
		want := "https://open.weixin.qq.com/connect/oauth2/authorize?appid=" + appID +
			"&redirect_uri=https%3A%2F%2Fauth.shop.test%2Fcb%3Fa%3D%20%26b%23f&response_type=code&scope=snsapi_base&state=s1#wechat_redirect"
		if got := c.AuthorizeURL(origin+"/cb?a= &b#f", wechat.ScopeBase, "s1"); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
	t.Run("goes to the QR code for a website's scope", func(t *testing.T) {
		if got := c.AuthorizeURL(origin, wechat.ScopeLogin, "s1"); !strings.HasPrefix(got, "https://open.weixin.qq.com/connect/qrconnect?appid=") {
			t.Errorf("got %s", got)
		}
	})
	t.Run("has what is forced behind the state, where WeChat reads it", func(t *testing.T) {
		if got := c.AuthorizeURL(origin, wechat.ScopeBase, "s1", wechat.ForcePopup, wechat.ForceSnapShot); !strings.HasSuffix(got, "&state=s1&forcePopup=true&forceSnapShot=true#wechat_redirect") {
			t.Errorf("got %s", got)
		}
	})
	t.Run("lets no parameter break out", func(t *testing.T) {
		if got := c.AuthorizeURL(origin, wechat.ScopeBase, "s&appid=evil#"); !strings.HasSuffix(got, "&state=s%26appid%3Devil%23#wechat_redirect") {
			t.Errorf("got %s", got)
		}
	})
}

func TestLogin(t *testing.T) {
	c, sim := simulated(t)
	sim.Update(func(k *wechattest.Knobs) { k.User = "lina" })
	token, err := c.Exchange(t.Context(), authorize(t, c, sim, wechat.ScopeUserInfo))
	if err != nil {
		t.Fatal(err)
	}
	t.Run("the token is the user's", func(t *testing.T) {
		if token.OpenID != sim.OpenID(appID, "lina") || token.UnionID == "" || token.Snapshot ||
			token.Scope != "snsapi_userinfo" || token.ExpiresIn.Hours() != 2 {
			t.Errorf("got %+v", token)
		}
	})
	t.Run("the profile is the user's", func(t *testing.T) {
		info, err := c.UserInfo(t.Context(), token.AccessToken, token.OpenID)
		if err != nil || info.Nickname != "李娜🌸" || info.OpenID != token.OpenID || info.UnionID != token.UnionID || info.HeadImgURL == "" {
			t.Errorf("got %+v, %v", info, err)
		}
	})
	t.Run("the token is good for its openid alone", func(t *testing.T) {
		if err := c.CheckToken(t.Context(), token.AccessToken, token.OpenID); err != nil {
			t.Error(err)
		}
		if err := c.CheckToken(t.Context(), token.AccessToken, "oOther"); !errors.Is(err, wechat.ErrInvalidOpenID) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("the token can be refreshed", func(t *testing.T) {
		again, err := c.Refresh(t.Context(), token.RefreshToken)
		if err != nil || again.OpenID != token.OpenID {
			t.Errorf("got %+v, %v", again, err)
		}
	})
	t.Run("a code is good once", func(t *testing.T) {
		code := authorize(t, c, sim, wechat.ScopeBase)
		if _, err := c.Exchange(t.Context(), code); err != nil {
			t.Fatal(err)
		}
		_, err := c.Exchange(t.Context(), code)
		var refusal *wechat.Error
		if !errors.Is(err, wechat.ErrCodeUsed) || !errors.As(err, &refusal) || refusal.RequestID == "" || refusal.Endpoint != wechattest.PathToken {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a base token has no profile", func(t *testing.T) {
		token, err := c.Exchange(t.Context(), authorize(t, c, sim, wechat.ScopeBase))
		if err != nil || token.UnionID != "" {
			t.Fatalf("got %+v, %v", token, err)
		}
		if _, err := c.UserInfo(t.Context(), token.AccessToken, token.OpenID); !errors.Is(err, wechat.ErrAPIUnauthorized) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a snapshot visitor is told apart", func(t *testing.T) {
		sim.Update(func(k *wechattest.Knobs) { k.Snapshot = true })
		token, err := c.Exchange(t.Context(), authorize(t, c, sim, wechat.ScopeBase))
		if err != nil || !token.Snapshot {
			t.Errorf("got %+v, %v", token, err)
		}
	})
}

func TestEveryErrcode(t *testing.T) {
	for code, want := range map[int]error{
		40001: wechat.ErrInvalidCredential, 40002: wechat.ErrInvalidGrantType, 40003: wechat.ErrInvalidOpenID,
		40013: wechat.ErrInvalidAppID, 40014: wechat.ErrInvalidAccessToken, 40029: wechat.ErrInvalidCode,
		40030: wechat.ErrInvalidRefreshToken, 40125: wechat.ErrInvalidSecret, 40163: wechat.ErrCodeUsed,
		40164: wechat.ErrIPNotAllowed, 40243: wechat.ErrSecretFrozen, 41001: wechat.ErrMissingAccessToken,
		41002: wechat.ErrMissingAppID, 41003: wechat.ErrMissingRefreshToken, 41004: wechat.ErrMissingSecret,
		41008: wechat.ErrMissingCode, 41009: wechat.ErrMissingOpenID, 42001: wechat.ErrAccessTokenExpired,
		42002: wechat.ErrRefreshTokenExpired, 42003: wechat.ErrCodeExpired, 42007: wechat.ErrPasswordChanged,
		43002: wechat.ErrRequirePOST, 43003: wechat.ErrRequireHTTPS, 43004: wechat.ErrRequireSubscribe,
		44002: wechat.ErrEmptyBody, 47001: wechat.ErrBadFormat, 45009: wechat.ErrQuotaExceeded,
		45011: wechat.ErrTooFrequent, 45015: wechat.ErrOutsideReplyWindow, 45047: wechat.ErrTooManyMessages,
		48001: wechat.ErrAPIUnauthorized, 48004: wechat.ErrAPIForbidden, 50001: wechat.ErrUserUnauthorized,
		50002: wechat.ErrUserLimited, 61004: wechat.ErrClientIPUnregistered, 45035: wechat.ErrClientIPNotAllowed,
		89503: wechat.ErrAdminConfirm,
	} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			c, sim := simulated(t)
			sim.Update(func(k *wechattest.Knobs) { k.Faults[wechattest.PathToken] = wechattest.Fault{Errcodes: []int{code}} })
			_, err := c.Exchange(t.Context(), "code")
			var refusal *wechat.Error
			if !errors.Is(err, want) || !errors.Is(err, wechat.ErrAPI) || errors.Is(err, wechat.ErrUnavailable) || !errors.As(err, &refusal) {
				t.Fatalf("got %v", err)
			}
			if refusal.Code != code || refusal.RequestID == "" || refusal.Advice() == "" || refusal.Meaning() != want.Error() {
				t.Errorf("got %+v, %q", refusal, refusal.Advice())
			}
			if sim.CountCalls(wechattest.PathToken) != 1 {
				t.Error("asked more than once")
			}
		})
	}
	t.Run("an unknown one matches ErrAPI alone", func(t *testing.T) {
		c, sim := simulated(t)
		sim.Update(func(k *wechattest.Knobs) { k.Faults[wechattest.PathToken] = wechattest.Fault{Errcodes: []int{12345}} })
		_, err := c.Exchange(t.Context(), "code")
		var refusal *wechat.Error
		if !errors.Is(err, wechat.ErrAPI) || !errors.As(err, &refusal) || refusal.Code != 12345 || errors.Is(err, wechat.ErrInvalidCode) {
			t.Errorf("got %v", err)
		}
	})
}

func TestSystemBusy(t *testing.T) {
	for name, c := range map[string]struct {
		errcodes []int
		calls    int
		want     error
	}{
		"once is asked again":          {[]int{-1}, 2, nil},
		"twice is an error":            {[]int{-1, -1}, 2, wechat.ErrSystemBusy},
		"then another is that other":   {[]int{-1, 40029}, 2, wechat.ErrInvalidCode},
		"after another is not reached": {[]int{45011, -1}, 1, wechat.ErrTooFrequent},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, sim := simulated(t)
			code := authorize(t, client, sim, wechat.ScopeBase)
			sim.Update(func(k *wechattest.Knobs) { k.Faults[wechattest.PathToken] = wechattest.Fault{Errcodes: c.errcodes} })
			_, err := client.Exchange(t.Context(), code)
			if !errors.Is(err, c.want) || sim.CountCalls(wechattest.PathToken) != c.calls {
				t.Errorf("%d calls, %v", sim.CountCalls(wechattest.PathToken), err)
			}
		})
	}
	t.Run("no time is left for a second try", func(t *testing.T) {
		client, sim := simulated(t)
		client.Timeout = 100e6
		sim.Update(func(k *wechattest.Knobs) { k.Faults[wechattest.PathToken] = wechattest.Fault{Errcodes: []int{-1, -1}} })
		if _, err := client.Exchange(t.Context(), "c"); !errors.Is(err, wechat.ErrSystemBusy) {
			t.Errorf("got %v", err)
		}
	})
}

func TestNotConfigured(t *testing.T) {
	ts := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a call was made") }))
	defer ts.Close()
	for _, c := range []*wechat.Client{{AppID: appID, APIURL: ts.URL}, {Secret: secret, APIURL: ts.URL}} {
		if _, err := c.Exchange(t.Context(), "code"); !errors.Is(err, wechat.ErrNotConfigured) {
			t.Errorf("got %v", err)
		}
	}
}
