package integration

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

const troubleCrowd = 300

// heap is what the gateway's heap holds after a collection, in KiB.
func (x *trouble) heap(t *testing.T) int {
	t.Helper()
	_, profile := get(t, http.DefaultClient, fmt.Sprintf("http://localhost:%d/debug/pprof/heap?debug=1&gc=1", x.admin), nil)
	var bytes int
	if _, after, ok := strings.Cut(profile, "\n# HeapAlloc = "); ok {
		fmt.Sscan(after, &bytes)
	}
	if bytes == 0 {
		t.Fatalf("no heap profile: %.300s", profile)
	}
	return bytes >> 10
}

// wantHeap waits until the heap is where it was, but for the outcomes that are kept for ten minutes.
func (x *trouble) wantHeap(t *testing.T, before int) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		after := x.heap(t)
		if after <= before+4<<10 {
			t.Logf("heap: %d KiB before, %d KiB after", before, after)
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("the heap had %d KiB before, %d after", before, after)
			return
		}
	}
}

// peak is the most that the gateway had resident, in KiB; forgetPeak begins anew.
func (x *trouble) peak(t *testing.T) (kib int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", x.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if _, after, ok := strings.Cut(string(b), "VmHWM:"); ok {
		fmt.Sscanf(after, " %d kB", &kib)
	}
	return kib
}

func (x *trouble) forgetPeak(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", x.cmd.Process.Pid), []byte("5"), 0); err != nil {
		t.Skipf("the peak cannot be measured here: %v", err)
	}
}

// crowd brings callbacks all at once, each of a login of its own, and returns the pages' statuses.
func (x *trouble) crowd(t *testing.T, page string, during func(ended *atomic.Int64)) map[int]int {
	t.Helper()
	c := x.client()
	c.Timeout = 2 * time.Minute // it is what WeChat does that ends these
	defer c.CloseIdleConnections()
	type callback struct {
		address string
		cookies []*http.Cookie
	}
	list := make([]callback, troubleCrowd)
	for i := range list {
		list[i].address, list[i].cookies = begin(t, x.world, c, page)
	}
	var ended atomic.Int64
	var wg sync.WaitGroup
	statuses := make([]int, len(list))
	for i, cb := range list {
		wg.Go(func() {
			defer ended.Add(1)
			statuses[i] = troubleWalk(c, cb.address, cb.cookies)
		})
	}
	during(&ended)
	wg.Wait()
	count := map[int]int{}
	for _, s := range statuses {
		count[s]++
	}
	return count
}

// troubleWalk is the status at which a callback ends, 0 without an answer.
func troubleWalk(c *http.Client, address string, cookies []*http.Cookie) int {
	for range 2 {
		req, err := http.NewRequest("GET", address, nil)
		if err != nil {
			return 0
		}
		req.Header = pageHeader(cookies)
		resp, err := c.Do(req)
		if err != nil {
			return 0
		}
		_ = resp.Body.Close()
		if address = resp.Header.Get("Location"); !strings.Contains(address, "error=") {
			return resp.StatusCode
		}
	}
	return http.StatusFound // the broker sent it back, and there it went on
}

// TestTroubleCrowdThatWaits: while many logins hang at WeChat, whoever is signed in and whoever begins a login does
// not notice, and WeChat is not called without bound.
func TestTroubleCrowdThatWaits(t *testing.T) {
	x := newTrouble(t, time.Minute)
	c := x.client()
	token := signIn(t, x.world, c, authPage)
	x.during(t, func() {
		var now, most atomic.Int64
		release := make(chan struct{})
		x.front.change(func() {
			x.front.raw = map[string]func(net.Conn){wechattest.PathToken: func(net.Conn) {
				most.Store(max(most.Load(), now.Add(1)))
				<-release
				now.Add(-1)
			}}
		})
		before := x.heap(t)
		statuses := x.crowd(t, shopPage, func(ended *atomic.Int64) {
			defer close(release)
			x.until(t, func() bool { return now.Load() >= 128 })
			for range 10 {
				if resp, _ := get(t, c, authPage, pageHeader(holding(token))); resp.StatusCode != http.StatusOK {
					t.Errorf("somebody who is signed in got %d", resp.StatusCode)
				}
				if resp, _ := get(t, c, shopPage, pageHeader(nil)); resp.StatusCode != http.StatusFound {
					t.Errorf("a login could not be begun: %d", resp.StatusCode)
				}
			}
			if now.Load() < 100 { // a starved machine may have given up on some
				t.Errorf("%d logins ended before WeChat answered", ended.Load())
			}
		})
		if most.Load() > 128 || statuses[http.StatusBadGateway] != troubleCrowd {
			t.Errorf("WeChat had %d connections at once, the logins ended with %v", most.Load(), statuses)
		}
		x.wantHeap(t, before)
		x.front.calm(x.certs.good)
		signIn(t, x.world, c, shopPage)
		c.CloseIdleConnections()
	})
}

// TestTroubleCrowd: many logins whose time-out comes, most of them while they wait for their turn.
func TestTroubleCrowd(t *testing.T) {
	x := newTrouble(t, troubleTimeout)
	c := x.client()
	signIn(t, x.world, c, authPage)
	x.during(t, func() {
		x.front.change(func() {
			x.front.raw = map[string]func(net.Conn){wechattest.PathToken: func(c net.Conn) { io.Copy(io.Discard, c) }}
		})
		before := x.heap(t)
		if statuses := x.crowd(t, authPage, func(*atomic.Int64) {}); statuses[http.StatusBadGateway] != troubleCrowd {
			t.Errorf("the logins ended with %v", statuses)
		}
		x.wantHeap(t, before)
		x.front.calm(x.certs.good)
		signIn(t, x.world, c, authPage)
		c.CloseIdleConnections()
	})
}

// until waits for a condition.
func (x *trouble) until(t *testing.T, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Error("it does not come to that")
			return
		}
	}
}

// TestTroubleCrowdOfLargeAnswers: what WeChat answers is bounded for each login, and so for many.
func TestTroubleCrowdOfLargeAnswers(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector takes memory of its own")
	}
	x := newTrouble(t, time.Minute)
	c := x.client()
	signIn(t, x.world, c, authPage)
	const most = 64 << 10 // that is read
	for is, raw := range map[string]string{
		"a megabyte of control bytes": `{"errmsg":"` + strings.Repeat("\x01", 1<<20-100) + `"}`,
		"many keys":                   `{` + troubleKeys(most-100) + `"errcode":0}`,
	} {
		t.Run(is, func(t *testing.T) {
			x.sim.Update(func(k *wechattest.Knobs) { k.Faults[wechattest.PathToken] = wechattest.Fault{Raw: raw} })
			before := x.heap(t)
			x.forgetPeak(t)
			low := x.peak(t)
			statuses := x.crowd(t, authPage, func(*atomic.Int64) {})
			high := x.peak(t)
			t.Logf("resident: %d KiB before, %d KiB at most", low, high)
			if statuses[http.StatusBadGateway] != troubleCrowd {
				t.Errorf("the logins ended with %v", statuses)
			}
			if high > low+256<<10 {
				t.Errorf("%d answers took %d KiB", troubleCrowd, high-low)
			}
			x.wantHeap(t, before)
		})
	}
}

func troubleKeys(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n-16; i++ {
		fmt.Fprintf(&b, `"%d":1,`, i)
	}
	return b.String()
}
