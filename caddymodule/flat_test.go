package caddymodule

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// manyApp is a gateway with n accounts on one bound domain, each with a verify file, and with n sites beside it,
// each with a cookie name of its own.
func manyApp(t *testing.T, n int) *App {
	t.Helper()
	var accounts, sites strings.Builder
	for i := range n {
		fmt.Fprintf(&accounts, `account a%d {
			app_id wx%016d
			app_secret 0123456789abcdef0123456789abcdef
			domain http://auth.example.com
			verify_file MP_verify_%016d.txt
		}
		`, i, i, i)
		fmt.Fprintf(&sites, `
		http://shop%d.example.org {
			wechat_auth {
				account a%d
				cookie wechat_session_%d_of_many
			}
		}`, i, i, i)
	}
	return provision(t, `{
		log default {
			output discard
		}
		storage file_system `+t.TempDir()+`
		wechat {
			`+accounts.String()+`
		}
	}
	http://auth.example.com {
		wechat_broker {
			client shop {
				secret shop-secret-0123456789
				return_to https://client.example/*
			}
		}
	}`+sites.String())
}

// A domain has one file of a name: two accounts may both name it, if they mean the same.
func TestBrokerHasOneVerifyFileOfAName(t *testing.T) {
	for second, refused := range map[string]bool{"": false, "0123456789abcdef": false, "something-else": true} {
		_, err := tryProvision(t, `{
			log default {
				output discard
			}
			storage file_system `+t.TempDir()+`
			wechat {
				account a {
					app_id wx0123456789abcdef
					app_secret 0123456789abcdef0123456789abcdef
					domain auth.example.com
					verify_file MP_verify_0123456789abcdef.txt
				}
				account b {
					app_id wx0000000000000000
					app_secret 0123456789abcdef0123456789abcdef
					domain auth.example.com
					verify_file MP_verify_0123456789abcdef.txt `+second+`
				}
			}
		}
		http://auth.example.com {
			wechat_broker
		}`)
		const want = "verify_file MP_verify_0123456789abcdef.txt of account b says something else"
		if refused != (err != nil) || refused && !strings.Contains(err.Error(), want) {
			t.Errorf("a second account's file says %q: %v", second, err)
		}
	}
}

// What a request costs is not a matter of how many accounts and sites there are: 300 cost what 3 do.
func TestAccountsAndSitesCostNoTime(t *testing.T) {
	withoutRace(t)
	few, many := manyApp(t, 3), manyApp(t, 300)
	brokerOf := func(app *App) caddyhttp.MiddlewareHandler { return app.brokers["a1"] }
	siteOf := func(app *App) caddyhttp.MiddlewareHandler {
		for _, s := range app.sites {
			if s.account.name == "a1" {
				return s.auths[0]
			}
		}
		return nil
	}
	for _, c := range []struct {
		name, host, target string
		handler            func(*App) caddyhttp.MiddlewareHandler
	}{
		{"a page of the site behind the broker", "auth.example.com", "/member/", brokerOf},
		{"a verify file of the broker's", "auth.example.com", "/MP_verify_0000000000000001.txt", brokerOf},
		{"a page of a site", "shop1.example.org", "/robots.txt", siteOf},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBenchRequestTo(t, c.target, "")
			b.r.Host = c.host
			fastest := func(h caddyhttp.MiddlewareHandler, sofar time.Duration) time.Duration {
				begun := time.Now()
				for range 500 {
					b.serve(t, h, httptest.NewRecorder(), done)
				}
				return min(sofar, time.Since(begun))
			}
			ofThree, ofAll := c.handler(few), c.handler(many)
			ofFew, ofMany := time.Hour, time.Hour
			for range 20 { // by turns: the fastest of each is what nobody disturbed
				ofFew, ofMany = fastest(ofThree, ofFew), fastest(ofAll, ofMany)
			}
			t.Logf("%v with few, %v with many", ofFew/500, ofMany/500)
			if ofMany > 2*ofFew {
				t.Errorf("%v a request with many accounts, %v with few", ofMany/500, ofFew/500)
			}
		})
	}
}
