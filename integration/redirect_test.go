package integration

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"slices"
	"sync"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// TestNoRedirectLeavesHome holds every way on which the gateway names an address against what a browser makes of it: the
// site's own origin, WeChat's and the bound domain are home, and nothing else is.
func TestNoRedirectLeavesHome(t *testing.T) {
	node := needs(t, "node")
	x := newRedirectWorld(t, node)
	t.Run("the payloads do leave where nothing is done about them", x.payloadsHaveTeeth)
	t.Run("payload", x.entries)
	t.Run("return path", x.returnPaths)
	t.Run("origin", x.origins)
	t.Run("HTTP/2", x.http2)
}

// redirectWorld is one gateway with a site for every place where a return path may be bent.
type redirectWorld struct {
	*world
	node string
	port int // of the site that has one of its own

	mu    sync.Mutex // guards found
	found []redirectFound
}

// redirectFound is an address that an answer named.
type redirectFound struct {
	Base    string `json:"base"`
	Address string `json:"address"`
	payload string
	home    []string // the origins that it may lead to
}

// redirectVerdict is what the WHATWG parser makes of it.
type redirectVerdict struct{ Href, Origin, User, Path, Query, Error string }

func newRedirectWorld(t *testing.T, node string) *redirectWorld {
	t.Helper()
	x := &redirectWorld{node: node, port: freePort(t)}
	account := wechattest.Account{Domains: slices.Clone(redirectHosts)}
	x.world = newWorld(t, account, func(w *world) string { x.world = w; return x.caddyfile() })
	return x
}

// redirectEach runs f for every item, on a few connections at once.
func redirectEach[T any](x *redirectWorld, items []T, f func(w *redirectWire, item T)) {
	var wg sync.WaitGroup
	queue := make(chan T)
	for range 6 {
		wg.Go(func() {
			w := x.redirectWire()
			defer w.close()
			for item := range queue {
				f(w, item)
			}
		})
	}
	for _, item := range items {
		queue <- item
	}
	close(queue)
	wg.Wait()
}

// note keeps an address until it is judged.
func (x *redirectWorld) note(payload, base, address string, home ...string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.found = append(x.found, redirectFound{base, address, payload, append([]string{base}, home...)})
}

// judge has Node read the addresses that were found since the last time, and returns how many there were.
func (x *redirectWorld) judge(t *testing.T) int {
	t.Helper()
	found := x.found
	x.found = nil
	wrong := 0
	for i, v := range redirectVerdicts(t, x.node, found) {
		f := found[i]
		if v.Error != "" || v.User != "" || !slices.Contains(f.home, v.Origin) {
			if wrong++; wrong <= 10 {
				t.Errorf("%.200q led to %.200q, which is %s%.200s at %q; home is %q", f.payload, f.Address, v.Error, v.Href, v.Origin, f.home)
			}
		}
	}
	if wrong > 10 {
		t.Errorf("and %d more", wrong-10)
	}
	return len(found)
}

func redirectVerdicts(t *testing.T, node string, found []redirectFound) (verdicts []redirectVerdict) {
	t.Helper()
	in, err := json.Marshal(append([]redirectFound{}, found...))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(node, "browser/judge.mjs")
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node: %v\n%s", err, stderr.String())
	}
	if err := json.Unmarshal(out, &verdicts); err != nil || len(verdicts) != len(found) {
		t.Fatalf("%d verdicts on %d addresses: %v", len(verdicts), len(found), err)
	}
	return verdicts
}
