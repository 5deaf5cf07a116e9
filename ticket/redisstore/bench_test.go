package redisstore

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-wechat/caddy-wechat/ticket"
	"github.com/caddy-wechat/caddy-wechat/ticket/storetest/redistest"
)

// benchSlice is how many pairs are measured before the others have their turn: whatever else the machine does
// meets all of them alike.
const benchSlice = 200

// BenchmarkTickets issues and redeems tickets, in memory and in Redis, beside a bare SET and GETDEL of the same
// size through the same client on the same server, slice by slice. An operation is a slice of each kind.
func BenchmarkTickets(b *testing.B) {
	server := redistest.New(b)
	store := New(Config{Addresses: []string{server.Addr}, KeyPrefix: testPrefix})
	b.Cleanup(func() { _ = store.Close() })
	memory := ticket.NewMemory().Limited(1 << 30) // what is redeemed stays for ten minutes
	kinds := []benchKind{
		{"bare SET+GETDEL", bare(store.client)},
		{"client tickets on Redis", clients(store)},
		{"site tickets on Redis", sites(store)},
		{"client tickets in memory", clients(memory)},
		{"site tickets in memory", sites(memory)},
	}
	for _, lanes := range []int{1, 16} {
		b.Run(fmt.Sprintf("%d at once", lanes), func(b *testing.B) { benchKinds(b, kinds, lanes) })
	}
}

type benchKind struct {
	name string
	once func(context.Context) error
}

func benchKinds(b *testing.B, kinds []benchKind, lanes int) {
	took := make([]time.Duration, len(kinds))
	for b.Loop() {
		for i, kind := range kinds {
			begun := time.Now()
			var wg sync.WaitGroup
			for range lanes {
				wg.Go(func() {
					for range benchSlice / lanes {
						if err := kind.once(b.Context()); err != nil {
							b.Errorf("%s: %v", kind.name, err)
							return
						}
					}
				})
			}
			wg.Wait()
			took[i] += time.Since(begun)
		}
	}
	for i, kind := range kinds {
		each := float64(b.N*(benchSlice/lanes*lanes)) / took[i].Seconds()
		b.Logf("%-26s %9.0f a second, %.2f of bare", kind.name, each, took[0].Seconds()/took[i].Seconds())
	}
	b.ReportMetric(took[0].Seconds()/took[1].Seconds(), "client/bare")
	b.ReportMetric(took[0].Seconds()/took[2].Seconds(), "site/bare")
}

var benchVoucher = ticket.Voucher{
	Identity: ticket.Identity{OpenID: "oSimA1-lina_0000000000000002", AppID: "wx0123456789abcdef", Scope: "snsapi_base"},
	At:       1_796_029_977_301, Client: "shop", State: "0123456789abcdef",
}

// bare is what a ticket costs at least.
func bare(client redis.UniversalClient) func(context.Context) error {
	value := fmt.Sprintf("%0150d", 0)
	var n atomic.Int64
	return func(ctx context.Context) error {
		i := n.Add(1)
		key := fmt.Sprintf("%s{%016x}%064x", testPrefix, i, i)
		if err := client.SetNX(ctx, key, value, time.Minute).Err(); err != nil {
			return err
		}
		return client.GetDel(ctx, key).Err()
	}
}

func clients(store ticket.Store) func(context.Context) error {
	tickets := ticket.Tickets{Store: store}
	return func(ctx context.Context) error {
		tkt, err := tickets.IssueTo(ctx, ticket.Terms{}, benchVoucher, time.Minute)
		if err == nil {
			_, err = tickets.RedeemBy(ctx, tkt, "shop")
		}
		return err
	}
}

// sites issues and redeems as the gateway does: a login, a ticket. What was redeemed is remembered.
func sites(store ticket.Store) func(context.Context) error {
	tickets := ticket.Tickets{Store: store}
	return func(ctx context.Context) error {
		owner := ticket.Owner{Account: "default", Origin: "https://shop.example.org", Login: ticket.NewLoginID()}
		v := benchVoucher
		v.Client, v.State = "", ""
		tkt, err := tickets.Issue(ctx, owner, v, time.Minute)
		if err == nil {
			_, err = tickets.Redeem(ctx, tkt, owner)
		}
		return err
	}
}
