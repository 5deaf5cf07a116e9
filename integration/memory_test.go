//go:build !race

package integration

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// What the race detector would distort; ./xcaddy.sh test runs it on its own.

// A started login leaves nothing on the server: its memory is flat.
func TestStartedLoginsCostNoMemory(t *testing.T) {
	w := singleWorldQuiet(t)
	c := w.client()
	start := func(n int) {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range n / 8 {
					if resp, _ := get(t, c, authPage, pageHeader(nil)); resp.StatusCode != 302 {
						t.Errorf("status %d", resp.StatusCode)
						return
					}
				}
			})
		}
		wg.Wait()
	}
	start(20_000) // the heap grows to its working size
	before := w.resident()
	start(100_000)
	after := w.resident()
	t.Logf("resident: %d KiB before, %d KiB after 100,000 started logins", before, after)
	if after > before+before/4 {
		t.Errorf("100,000 started logins took %d KiB", after-before)
	}
}

// singleWorldQuiet is a single world without its debug log.
func singleWorldQuiet(t *testing.T) *world {
	t.Helper()
	return newWorld(t, wechattest.Account{Domains: []string{"auth.example.com"}}, func(w *world) string {
		s := w.single("")
		return strings.Replace(strings.Replace(s, "\tdebug\n", "", 1), "level DEBUG", "level INFO", 1)
	})
}

// resident returns the gateway's resident set in KiB.
func (g *gateway) resident() int {
	g.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.cmd.Process.Pid))
	if err != nil {
		g.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var kib int
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
			return kib
		}
	}
	g.t.Fatal("no VmRSS")
	return 0
}
