package caddymodule

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/ticket"
)

// countingStore counts what is stored, and under how many keys.
type countingStore struct {
	ticket.Store
	stored atomic.Int64
	keys   sync.Map
}

func (s *countingStore) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	s.stored.Add(1)
	s.keys.Store(key, nil)
	return s.Store.Put(ctx, key, value, ttl)
}

func (s *countingStore) Count(ctx context.Context, key string, ttl time.Duration) (int64, error) {
	s.stored.Add(1)
	s.keys.Store(key, nil)
	return s.Store.Count(ctx, key, ttl)
}

func (s *countingStore) entries() (n int) {
	s.keys.Range(func(any, any) bool { n++; return true })
	return n
}

// clientBroker is a broker with clients, and what counts what it stores.
func clientBroker(t *testing.T) (*Broker, *countingStore) {
	t.Helper()
	t.Setenv("BENCH_APP_SECRET", "0123456789abcdef0123456789abcdef")
	t.Setenv("BENCH_CLIENT_SECRET", "client-secret-0123456789")
	app := provision(t, `{
		log default {
			output discard
		}
		storage file_system `+t.TempDir()+`
		wechat {
			account {
				app_id wx0123456789abcdef
				app_secret {env.BENCH_APP_SECRET}
				domain http://auth.example.com
				api_url http://127.0.0.1:1
			}
		}
	}
	http://auth.example.com {
		wechat_broker {
			client shop {
				secret {env.BENCH_CLIENT_SECRET}
				return_to https://shop.example.org/*
				pass_code
			}
			client old {
				public
				return_to https://old.example.org/*
				token 0123abcd https://old.example.org/in
			}
		}
	}`)
	b := app.brokers[defaultAccount]
	g := b.app.gateway
	store := &countingStore{Store: g.tickets.Store}
	g.tickets.Store, g.codes.Store, g.profiles.Store = store, store, store
	return b, store
}

// A stranger starts logins and guesses, as often as he likes: the gateway remembers nothing of it.
func TestClientsOfStrangersAreNotRemembered(t *testing.T) {
	const times = 20_000
	const back = "redirect_uri=https%3A%2F%2Fshop.example.org%2F"
	clientSecret := "client-secret-0123456789"
	cases := []struct {
		name   string
		target func(i int) string
		status int
	}{
		{"logins by tickets", func(i int) string { return fmt.Sprint("/auth/wx0123456789abcdef?params=", i, "&", back) }, 302},
		{"logins by an SDK", func(i int) string { return fmt.Sprint(pathAuthorize, "?appid=shop&state=", i, "&", back) }, 302},
		{"logins by codes that are passed on", func(i int) string {
			return fmt.Sprint(pathAuthorize, "?appid=wx0123456789abcdef&state=", i, "&", back)
		}, 302},
		{"logins that are refused", func(i int) string {
			return fmt.Sprint("/auth/wx0123456789abcdef?redirect_uri=https%3A%2F%2Fevil.example%2F", i)
		}, 400},
		{"tickets", func(i int) string { return fmt.Sprintf("/ticket/%032x", i) }, 404},
		{"codes", func(i int) string {
			return fmt.Sprintf("/sns/oauth2/access_token?appid=shop&secret=%s&grant_type=authorization_code&code=%032x", clientSecret, i)
		}, 200},
		{"codes with wrong secrets", func(i int) string {
			return fmt.Sprintf("/sns/oauth2/access_token?appid=shop&secret=%d&grant_type=authorization_code&code=%032x", i, i)
		}, 200},
		{"refresh tokens", func(i int) string {
			return fmt.Sprintf("/sns/oauth2/refresh_token?appid=shop&grant_type=refresh_token&refresh_token=%x", i)
		}, 200},
		{"access tokens", func(i int) string { return fmt.Sprintf("/sns/userinfo?access_token=73686f70.%x&openid=o", i) }, 200},
		{"users", func(i int) string { return fmt.Sprintf("/user/wx0123456789abcdef/o%d", i) }, 404},
		{"arrivals of no token", func(i int) string { return fmt.Sprintf("/?code=%d&state=%08x", i, i) }, 200},
		{"arrivals of no code", func(i int) string { return fmt.Sprintf("/?code=%%20%d&state=0123abcd", i) }, 400},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b, store := clientBroker(t)
			for i := range times / len(cases) * 2 {
				if w := serveAt(t, b, "http://auth.example.com"+c.target(i), nil); w.Code != c.status {
					t.Fatalf("%s: %d", c.target(i), w.Code)
				}
			}
			if n := store.stored.Load(); n != 0 {
				t.Errorf("%d entries were stored", n)
			}
		})
	}
}

// issuedTo logs a user in through WeChat's own interface for a client.
func issuedTo(t *testing.T, b *Broker, scope string) map[string]any {
	t.Helper()
	v := ticket.Voucher{
		Identity: ticket.Identity{OpenID: "oLina", AppID: "wx0123456789abcdef", Scope: scope, Nickname: "lina"},
		Profile:  &ticket.Profile{}, Client: "shop", Login: ticket.NewLoginID(), At: time.Now().UnixMilli(),
	}
	code, err := b.app.gateway.tickets.IssueCode(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	return askSNS(t, b, "oauth2/access_token", url.Values{"appid": {"shop"}, "secret": {"client-secret-0123456789"}, "grant_type": {"authorization_code"}, "code": {code}})
}

func askSNS(t *testing.T, b *Broker, call string, q url.Values) map[string]any {
	t.Helper()
	var answer map[string]any
	if err := json.Unmarshal(serveAt(t, b, "http://auth.example.com/sns/"+call+"?"+q.Encode(), nil).Body.Bytes(), &answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

// A client that refreshes on every page keeps one profile for a login, not one for each time.
func TestRefreshingKeepsOneProfile(t *testing.T) {
	b, store := clientBroker(t)
	granted := issuedTo(t, b, ticket.ScopeUserInfo)
	q := url.Values{"appid": {"shop"}, "grant_type": {"refresh_token"}, "refresh_token": {fmt.Sprint(granted["refresh_token"])}}
	askSNS(t, b, "oauth2/refresh_token", q)
	before := store.entries()
	for range 50 {
		if a := askSNS(t, b, "oauth2/refresh_token", q); a["openid"] != "oLina" {
			t.Fatalf("%v", a)
		}
	}
	if after := store.entries(); after != before {
		t.Errorf("the store grew from %d to %d entries", before, after)
	}
	for _, token := range []any{granted["access_token"], askSNS(t, b, "oauth2/refresh_token", q)["access_token"]} {
		if a := askSNS(t, b, "userinfo", url.Values{"access_token": {fmt.Sprint(token)}, "openid": {"oLina"}}); a["nickname"] != "lina" {
			t.Errorf("%v", a)
		}
	}
}

// A client that may no longer have an account, a scope or a secret has no token of that either.
func TestTokensEndWithWhatTheirClientMayHave(t *testing.T) {
	for name, change := range map[string]func(*client){
		"another account": func(c *client) { c.accounts = []*account{{appID: "wxfedcba9876543210"}} },
		"a lesser scope":  func(c *client) { c.Scope = ticket.ScopeBase },
		"another secret":  func(c *client) { c.secret[0]++ },
		"public":          func(c *client) { c.Public = true },
	} {
		t.Run(name, func(t *testing.T) {
			b, _ := clientBroker(t)
			granted := issuedTo(t, b, ticket.ScopeUserInfo)
			refresh := url.Values{"appid": {"shop"}, "grant_type": {"refresh_token"}, "refresh_token": {fmt.Sprint(granted["refresh_token"])}}
			access := url.Values{"access_token": {fmt.Sprint(granted["access_token"])}, "openid": {"oLina"}}
			if a := askSNS(t, b, "auth", access); a["errcode"] != 0.0 {
				t.Fatalf("%v", a)
			}
			change(b.clients["shop"])
			answers := []map[string]any{askSNS(t, b, "userinfo", access)}
			if name != "a lesser scope" { // then the rest goes on
				answers = append(answers, askSNS(t, b, "oauth2/refresh_token", refresh), askSNS(t, b, "auth", access))
			}
			for _, a := range answers {
				if a["errcode"] == nil || a["errcode"] == 0.0 {
					t.Errorf("%v", a)
				}
			}
		})
	}
}

// A token is no other kind's, and no other client's.
func TestTokensOfClientsAreNotMixed(t *testing.T) {
	b, _ := clientBroker(t)
	granted := issuedTo(t, b, ticket.ScopeBase)
	access, refresh := fmt.Sprint(granted["access_token"]), fmt.Sprint(granted["refresh_token"])
	_, sealed, _ := strings.Cut(access, ".")
	other := *b.clients["shop"]
	other.id = "other"
	b.clients["other"] = &other
	for name, q := range map[string]url.Values{
		"a refresh token":       {"access_token": {refresh}, "openid": {"oLina"}},
		"another's openid":      {"access_token": {access}, "openid": {"oMallory"}},
		"under another client":  {"access_token": {"6f74686572." + sealed}, "openid": {"oLina"}},
		"without its client":    {"access_token": {sealed}, "openid": {"oLina"}},
		"a character is gone":   {"access_token": {access[:len(access)-1]}, "openid": {"oLina"}},
		"of a scope for no one": {"access_token": {access}, "openid": {""}},
	} {
		if a := askSNS(t, b, "auth", q); a["errcode"] == nil || a["errcode"] == 0.0 {
			t.Errorf("%s: %v", name, a)
		}
	}
	if a := askSNS(t, b, "userinfo", url.Values{"access_token": {access}, "openid": {"oLina"}}); a["errcode"] != 48001.0 {
		t.Errorf("the profile of a silent login: %v", a)
	}
	for name, q := range map[string]url.Values{
		"an access token":    {"appid": {"shop"}, "refresh_token": {access}, "grant_type": {"refresh_token"}},
		"of another client":  {"appid": {"other"}, "refresh_token": {refresh}, "grant_type": {"refresh_token"}},
		"of a public client": {"appid": {"old"}, "refresh_token": {refresh}, "grant_type": {"refresh_token"}},
	} {
		if a := askSNS(t, b, "oauth2/refresh_token", q); a["errcode"] == nil || a["access_token"] != nil {
			t.Errorf("%s: %v", name, a)
		}
	}
}
