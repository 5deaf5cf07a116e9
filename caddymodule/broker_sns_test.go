package caddymodule

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/ticket"
)

// snsBroker is a broker with a client of WeChat's own interface.
func snsBroker(t *testing.T) *Broker {
	t.Helper()
	app := provision(t, `{
		log default {
			output discard
		}
		storage file_system `+t.TempDir()+`
		wechat {
			account {
				app_id wx0123456789abcdef
				app_secret 0123456789abcdef0123456789abcdef
				domain auth.example.com
			}
		}
	}
	http://auth.example.com {
		wechat_broker {
			client shop {
				secret shop-secret-0123456789
				return_to https://client.example/*
			}
		}
	}`)
	return app.brokers[defaultAccount]
}

// snsReply is all that WeChat's calls answer.
type snsReply struct {
	Errcode      int
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	OpenID       string
	Nickname     string
}

func snsCall(t *testing.T, b *Broker, call string) (reply snsReply) {
	t.Helper()
	w := serveAt(t, b, "https://auth.example.com"+call, func(r *http.Request) { r.TLS = &tls.ConnectionState{HandshakeComplete: true} })
	if w.Code != http.StatusOK {
		t.Fatalf("%s: status %d", call, w.Code)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &reply); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	return reply
}

// snsLogin is a user's first tokens.
func snsLogin(t *testing.T, b *Broker) snsReply {
	t.Helper()
	code, err := b.app.gateway.tickets.IssueCode(t.Context(), ticket.Voucher{
		Client: "shop", Login: ticket.NewLoginID(),
		Identity: ticket.Identity{
			OpenID: "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", UnionID: "o6_bmasdasdsad6_2sgVt7hMZOPfL", AppID: "wx0123456789abcdef",
			Scope: ticket.ScopeUserInfo, Nickname: strings.Repeat("🌸", 32), HeadImgURL: "https://thirdwx.qlogo.cn/" + strings.Repeat("x", 200) + "/132",
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return snsCall(t, b, "/sns/oauth2/access_token?appid=shop&secret=shop-secret-0123456789&grant_type=authorization_code&code="+code)
}

func (r snsReply) userInfo() string {
	return "/sns/userinfo?access_token=" + r.AccessToken + "&openid=" + r.OpenID
}

func (r snsReply) refresh() string {
	return "/sns/oauth2/refresh_token?appid=shop&grant_type=refresh_token&refresh_token=" + r.RefreshToken
}

func TestClientsTokensEnd(t *testing.T) {
	b := snsBroker(t) // Caddy's own goroutines stay outside
	synctest.Test(t, func(t *testing.T) {
		first := snsLogin(t, b)
		if n := len(first.AccessToken); n == 0 || n > 512 {
			t.Errorf("an access token has %d characters", n)
		}
		time.Sleep(2*time.Hour - 2*time.Second)
		if got := snsCall(t, b, first.userInfo()); got.Nickname == "" {
			t.Errorf("before two hours: %+v", got)
		}
		time.Sleep(2 * time.Second)
		if got := snsCall(t, b, first.userInfo()); got.Errcode != 42001 {
			t.Errorf("after two hours: %+v", got)
		}
		time.Sleep(30*24*time.Hour - 2*time.Hour - 2*time.Second)
		last := snsCall(t, b, first.refresh())
		if last.RefreshToken != first.RefreshToken || snsCall(t, b, last.userInfo()).Nickname == "" {
			t.Errorf("before thirty days: %+v", last)
		}
		time.Sleep(2 * time.Second)
		if got := snsCall(t, b, first.refresh()); got.Errcode != 42002 {
			t.Errorf("after thirty days: %+v", got)
		}
	})
}

// A client that refreshes without end must not fill the store: others could not log in.
func TestRefreshingTakesNoStore(t *testing.T) {
	b := snsBroker(t)
	store := ticket.NewMemory()
	b.app.gateway.profiles.Store = store.Limited(1 << 20)
	tokens := snsLogin(t, b)
	before := store.Bytes()
	for range 50 {
		tokens = snsCall(t, b, tokens.refresh())
	}
	if after := store.Bytes(); before == 0 || after > before {
		t.Errorf("50 times refreshed, the store has %d bytes more", after-before)
	}
	if got := snsCall(t, b, tokens.userInfo()); got.Nickname == "" {
		t.Errorf("refreshed, the profile is gone: %+v", got)
	}
}

// The operator takes an account or a scope from a client: what it holds of that is worth nothing any more.
func TestTokensFollowWhatTheirClientMay(t *testing.T) {
	b := snsBroker(t)
	tokens := snsLogin(t, b)
	c := b.clients["shop"]
	c.Scope = ticket.ScopeBase
	if got := snsCall(t, b, tokens.userInfo()); got.Errcode != 48001 {
		t.Errorf("a profile for a client of base scope: %+v", got)
	}
	accounts := c.accounts
	c.accounts = nil
	for call, want := range map[string]int{tokens.userInfo(): 40001, tokens.refresh(): 40030} {
		if got := snsCall(t, b, call); got.Errcode != want {
			t.Errorf("%.30s… of an account that is not the client's: %+v", call, got)
		}
	}
	if got := snsLogin(t, b); got.Errcode != 40029 {
		t.Errorf("a code of an account that is not the client's: %+v", got)
	}
	c.Scope, c.accounts = ticket.ScopeUserInfo, accounts
	if got := snsCall(t, b, tokens.userInfo()); got.Nickname == "" {
		t.Errorf("given back: %+v", got)
	}
}
