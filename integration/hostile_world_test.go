package integration

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// hostileBlocks are clients that can be taken for one another, and one for each option that an attacker would turn
// against it.
const hostileBlocks = clientBlocks + `
		client wide {
			secret {env.SHOP_SECRET}
			return_to https://client.example/app/* https://client.example/a/b
		}
		client narrow {
			secret {env.BLOG_SECRET}
			return_to https://client.example/app/admin/* https://client.example/app/x https://client.example/a/*
		}
		client raw {
			secret {env.SHOP_SECRET}
			return_to https://raw.example/*
			token feedbeef https://raw.example/in
			raw_state
		}
		client frag {
			public
			return_to https://frag.example/*
			fragment_append
		}
		client asks {
			secret {env.SHOP_SECRET}
			return_to https://asks.example/*
			ask
		}
		client nets {
			public
			return_to https://nets.example/*
			redeem_from 192.0.2.0/24
		}
		client fixed {
			secret {env.SHOP_SECRET}
			return_to https://fixed.example/*
			redeem_from 192.0.2.7
		}
		client again {
			secret {env.SHOP_SECRET}
			return_to https://again.example/*
			reuse
		}`

func hostileWorld(t *testing.T) *world { return clientWorld(t, hostileBlocks, "") }

// hostileBack starts a login in a browser and brings it back from WeChat: the address at which its client gets it.
func hostileBack(h *hijacker, start string) string {
	h.t.Helper()
	return hostileLanding(h, h.begin(start))
}

func hostileLanding(h *hijacker, callback string) string {
	h.t.Helper()
	resp, body := h.get(callback)
	to := resp.Header.Get("Location")
	if resp.StatusCode != http.StatusFound || strings.HasPrefix(to, h.w.sim.url) {
		h.t.Fatalf("the broker answered %d %s\n%.600s", resp.StatusCode, to, body)
	}
	return to
}

// hostileQuery is the query of an address.
func hostileQuery(t *testing.T, address string) url.Values {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query()
}

// hostileTicket logs a new browser in for a client's address, and returns the ticket.
func hostileTicket(t *testing.T, w *world, to string) string {
	t.Helper()
	tkt := hostileQuery(t, hostileBack(hijackBrowser(t, w, "lina"), startV2(to, "s"))).Get("ticket")
	if len(tkt) != 32 {
		t.Fatalf("no ticket for %s", to)
	}
	return tkt
}

// hostileEach runs f for every item, a few at once.
func hostileEach[T any](items []T, f func(item T)) {
	var wg sync.WaitGroup
	queue := make(chan T)
	for range 6 {
		wg.Go(func() {
			for item := range queue {
				f(item)
			}
		})
	}
	for _, item := range items {
		queue <- item
	}
	close(queue)
	wg.Wait()
}

// hostileStatus is what a ticket's redemption is answered with.
func hostileStatus(t *testing.T, w *world, tkt, id, secret string) int {
	t.Helper()
	resp, _ := w.redeem(t, tkt, id, secret)
	return resp.StatusCode
}

// hostileSDK is the address at which an SDK starts a login.
func hostileSDK(id, to, state string, more ...string) string {
	return broker + wechattest.PathAuthorize + "?appid=" + id + "&redirect_uri=" + url.QueryEscape(to) + "&response_type=code&scope=snsapi_userinfo&state=" + url.QueryEscape(state) + strings.Join(more, "")
}

func hostileJSON(t *testing.T, body string) map[string]any {
	t.Helper()
	var answer map[string]any
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Errorf("not JSON: %.200s", body)
	}
	return answer
}
