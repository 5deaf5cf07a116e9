package integration

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// costPlace is a gateway whose logins are measured.
type costPlace struct {
	name string
	page string
	w    *world
	b    *wechattest.Browser

	logins int
	wall   time.Duration
	cpu    float64 // of the gateway, in µs
}

// What a complete login costs, from the first request to the signed-in page: through a broker beside one on the bound
// domain itself, in memory and on Redis. They take turns, so that whatever else the machine does meets all alike.
func TestWhatLoginsCost(t *testing.T) {
	notWithRace(t)
	var places []*costPlace
	for _, onRedis := range []bool{false, true} {
		for _, through := range []bool{false, true} {
			places = append(places, newCostPlace(t, onRedis, through))
		}
	}
	for _, p := range places {
		p.slice(t, 50) // the first ones make keys and connections
		p.logins, p.wall, p.cpu = 0, 0, 0
	}
	for range 8 {
		for _, p := range places {
			p.slice(t, 50)
		}
	}
	first := places[0]
	for _, p := range places {
		n := float64(p.logins)
		t.Logf("%-44s %d logins: CPU %6.0f µs each (%.2f of the first), %6.2f ms of time (%.2f)", p.name, p.logins,
			p.cpu/n, p.cpu/first.cpu, p.wall.Seconds()*1000/n, p.wall.Seconds()/first.wall.Seconds())
	}
	// One request more, and a ticket: it must not cost another login.
	for i := 0; i < len(places); i += 2 {
		if ratio := places[i+1].cpu / places[i].cpu; ratio > 2 {
			t.Errorf("%s: %.2f times the CPU of %s", places[i+1].name, ratio, places[i].name)
		}
	}
}

// newCostPlace is a gateway over plain http, so that the figures are its own and not TLS's.
func newCostPlace(t *testing.T, onRedis, through bool) *costPlace {
	t.Helper()
	p := &costPlace{name: "on the bound domain itself", page: "http://auth.example.com/member/"}
	sites := "http://auth.example.com {\n wechat_auth\n reverse_proxy UPSTREAM\n}\n"
	if through {
		p.name, p.page = "through the broker", "http://"+cheapShop+"/member/"
		sites = "http://auth.example.com {\n wechat_broker\n}\nhttp://" + cheapShop + " {\n wechat_auth\n reverse_proxy UPSTREAM\n}\n"
	}
	p.w = redisWorld(t)
	s := "{\n" + p.w.globals() + p.w.options("http://auth.example.com", "") + "}\n" + strings.ReplaceAll(sites, "UPSTREAM", p.w.up.addr)
	s = strings.Replace(strings.Replace(s, "\tdebug\n", "", 1), "level DEBUG", "level INFO", 1)
	if onRedis {
		p.name += ", on Redis"
		s = p.w.onRedis(s, newRedis(t))
	} else {
		p.name += ", in memory"
	}
	p.w.start(s)
	p.b = wechattest.NewBrowser(wechattest.BrowserOptions{User: "lina", Dial: p.w.dial, Simulators: []string{p.w.sim.host}})
	t.Cleanup(p.b.Close)
	return p
}

// slice logs in n times.
func (p *costPlace) slice(t *testing.T, n int) {
	t.Helper()
	cpu, begun := p.w.cpu(), time.Now()
	for range n {
		p.b.ClearCookies()
		if page := open(t, p.b, p.page); page.Status != http.StatusOK || len(page.Redirects) < 3 {
			t.Fatalf("%s: %d after %d redirects\n%.700s", p.name, page.Status, len(page.Redirects), page.Body)
		}
	}
	p.wall += time.Since(begun)
	p.cpu += p.w.cpu() - cpu
	p.logins += n
}
