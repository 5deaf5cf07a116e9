package integration

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// The broker's clients in most tests: two with secrets, one of old without, one that exchanges for itself.
const (
	shopSecret = "shop-secret-0123456789"
	blogSecret = "blog-secret-0123456789"

	clientBlocks = `
		client shop {
			secret {env.SHOP_SECRET}
			return_to https://client.example/shop/* https://client.example/exact
		}
		client blog {
			secret {env.BLOG_SECRET}
			return_to https://blog.example/*
			scope snsapi_base
		}
		client old {
			public
			return_to https://old.example/*
			scope snsapi_base
		}
		client own {
			secret {env.SHOP_SECRET}
			return_to https://own.example/*
			pass_code
		}
		client tokens {
			secret {env.BLOG_SECRET}
			token 0123ABCD https://tokens.example/in?from=wechat
			openid
		}`

	broker = "https://auth.example.com"
)

// clientWorld is a bound domain with a broker and clients, a site of its own behind it, and a page for the
// clients' users to come back to.
func clientWorld(t *testing.T, clients, site string) *world {
	t.Helper()
	w := &world{gateway: newGateway(t), sim: newSimulator(t, boundDomain), up: newUpstream(t)}
	w.env = append(w.env, "SHOP_SECRET="+shopSecret, "BLOG_SECRET="+blogSecret)
	w.start(w.brokerWith(clients, site))
	return w
}

// brokerWith is the Caddyfile of clientWorld.
func (w *world) brokerWith(clients, site string) string {
	return "{\n" + w.globals() + w.options("auth.example.com", "") + "}\n" +
		"auth.example.com, http://auth.example.com {\n wechat_broker {\n" + clients + "\n}\n" + site + "\n reverse_proxy " + w.up.addr + "\n}\n" +
		"client.example, blog.example, old.example, own.example, tokens.example {\n respond \"welcome back\"\n}\n"
}

// startV2 is the address at which a client starts a login, of wxauth's V2.
func startV2(to, params string, more ...string) string {
	return broker + "/auth/" + appID + "?redirect_uri=" + url.QueryEscape(to) + "&params=" + url.QueryEscape(params) + strings.Join(more, "")
}

// landed is the query with which a user came back to a client, byte for byte.
func landed(t *testing.T, p *wechattest.Page, at string) url.Values {
	t.Helper()
	wantStatus(t, p, http.StatusOK)
	if got := p.URL.Scheme + "://" + p.URL.Host + p.URL.Path; got != at {
		t.Fatalf("landed at %s, want %s", p.URL, at)
	}
	return p.URL.Query()
}

// redeem asks the broker whom a ticket stands for.
func (w *world) redeem(t *testing.T, tkt, id, secret string) (*http.Response, map[string]any) {
	t.Helper()
	req := httptest.NewRequest(http.MethodGet, broker+"/ticket/"+tkt, nil)
	req.RequestURI = ""
	if id != "" {
		req.SetBasicAuth(id, secret)
	}
	resp, body := send(t, w.client(), req)
	var user map[string]any
	if resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal([]byte(body), &user); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
	} else if body != "" {
		t.Errorf("status %d with a body: %s", resp.StatusCode, body)
	}
	return resp, user
}
