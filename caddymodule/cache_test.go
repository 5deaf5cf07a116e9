package caddymodule

import (
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/ticket"
)

// On a reload Caddy cleans the old configuration up while its last requests still run: they must neither
// meet a closed channel nor race with its closing.
func TestRequestsMayOutliveTheCache(t *testing.T) {
	for range 5 {
		c, err := newSessionCache(minCache)
		if err != nil {
			t.Fatal(err)
		}
		var running sync.WaitGroup
		begun := make(chan struct{}, 4)
		for worker := range 4 {
			running.Go(func() {
				for i := range 1500 {
					token := strconv.Itoa(worker) + " " + strconv.Itoa(i)
					c.put(newLiveSession(token, "https://shop.example.org", ticket.Session{}))
					c.get(token, "https://shop.example.org", "", time.Time{})
					if i == 500 {
						begun <- struct{}{}
					}
				}
			})
		}
		<-begun
		c.close()
		running.Wait()
	}
}
