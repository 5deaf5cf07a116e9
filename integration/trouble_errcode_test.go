package integration

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// troubleErrcodes are WeChat's refusals: whether the user begins anew (400) or waits (502), and what the operator
// is told to do.
var troubleErrcodes = []struct {
	errcode int
	status  int
	advice  string
}{
	{-1, 502, "WeChat is overloaded"},
	{40001, 502, "app secret"},
	{40002, 502, "api_url"},
	{40003, 502, "another app id"},
	{40013, 502, "app id"},
	{40014, 502, "signs in again"},
	{40029, 400, "signs in again"},
	{40030, 502, "signs in again"},
	{40125, 502, "Copy the app secret"},
	{40163, 400, "second consumer of the callback"},
	{40164, 502, "IP whitelist"},
	{40243, 502, "Unfreeze"},
	{41001, 502, "drops the query"},
	{41002, 502, "drops the query"},
	{41003, 502, "drops the query"},
	{41004, 502, "drops the query"},
	{41008, 502, "without its query"},
	{41009, 502, "drops the query"},
	{42001, 502, "signs in again"},
	{42002, 502, "signs in again"},
	{42003, 400, "signs in again"},
	{42007, 502, "signs in again"},
	{43002, 502, "api_url"},
	{43003, 502, "https"},
	{43004, 502, "follows the account"},
	{44002, 502, "api_url"},
	{45009, 502, "midnight"},
	{45011, 502, "a minute"},
	{45015, 502, "writes to the account"},
	{45035, 502, "public address"},
	{45047, 502, "writes to the account"},
	{47001, 502, "api_url"},
	{48001, 502, "certified service account"},
	{48004, 502, "sanctioned"},
	{50001, 502, "agrees"},
	{50002, 502, "restricted"},
	{61004, 502, "public address"},
	{89503, 502, "administrator"},
	{99999, 502, ""}, // WeChat has many more
	{-2, 502, ""},
	{2147483647, 502, ""},
}

// TestTroubleErrcodes: each refusal, at each call, on the bound domain and across domains: a page that says so, one
// line in the log, as many calls as make sense, and a button that leads on.
func TestTroubleErrcodes(t *testing.T) {
	x := newTrouble(t, time.Minute)
	x.during(t, func() {
		for _, path := range []string{wechattest.PathToken, wechattest.PathUserInfo} {
			for _, c := range troubleErrcodes {
				t.Run(strconv.Itoa(c.errcode)+" at "+path, func(t *testing.T) {
					times := 1
					if c.errcode == -1 {
						times = 2 // asked again, once
					}
					x.refuses(t, path, slices.Repeat([]int{c.errcode}, times), troubleEnd{c.status, c.errcode, path + ": errcode " + strconv.Itoa(c.errcode) + ": ", c.advice})
				})
			}
			t.Run("-1, then another, at "+path, func(t *testing.T) {
				x.refuses(t, path, []int{-1, 40125}, troubleEnd{502, 40125, path + ": errcode 40125: ", "app secret"})
			})
			t.Run("-1 once, then good, at "+path, func(t *testing.T) {
				for _, l := range troubleReaching(path) {
					x.sim.Update(func(k *wechattest.Knobs) { k.Faults[path] = wechattest.Fault{Errcodes: []int{-1}} })
					x.front.askedFor(path)
					wantStatus(t, open(t, x.visitor(t), l.address()), 200)
					if n := x.front.askedFor(path); n != 2 {
						t.Errorf("WeChat was asked %d times, want 2", n)
					}
				}
			})
		}
	})
}

// refuses has WeChat refuse logins with these errcodes, one a call, and wants each of them to end so.
func (x *trouble) refuses(t *testing.T, path string, errcodes []int, want troubleEnd) {
	t.Helper()
	for _, l := range troubleReaching(path) {
		x.sim.Update(func(k *wechattest.Knobs) { k.Faults[path] = wechattest.Fault{Errcodes: errcodes} })
		x.front.askedFor(path)
		b := x.visitor(t)
		p := open(t, b, l.address())
		x.wantEnd(t, b, p, want) // a script repeats the callback
		if n := x.front.askedFor(path); n != len(errcodes) {
			t.Errorf("WeChat was asked %d times, want %d", n, len(errcodes))
		}
		x.wantRetry(t, b, p)
	}
}
