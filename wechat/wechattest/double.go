package wechattest

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"sync"
	"time"
)

// doubleGap is how far apart the two callbacks came in a log of 2016.
const doubleGap = 19 * time.Millisecond

// isCallback: the simulator sends the browser back with a code.
func (b *Browser) isCallback(from, to *url.URL) bool {
	return b.isSimulator(from) && !b.isSimulator(to) && to.Query().Get("code") != ""
}

// double sends a callback ahead of the one that the navigation goes on with,
// and returns the address of the latter.
func (b *Browser) double(ctx context.Context, n *navigation, callback *url.URL) (*url.URL, error) {
	switch b.Double {
	case SameCode:
		aborted, abort := context.WithCancel(ctx)
		defer abort()
		var sent <-chan struct{}
		n.twin, sent = b.ahead(aborted, n, callback)
		<-sent // on a busy machine the gap alone might be over before that
		sleep(ctx, doubleGap)
		return callback, nil
	case TwoCodes:
		second, err := b.authorizeAgain(ctx, n)
		if err != nil {
			return nil, err
		}
		n.twin, _ = b.ahead(ctx, n, callback)
		return second, nil
	}
	return callback, nil
}

// authorizeAgain asks the simulator for another code for the same state.
func (b *Browser) authorizeAgain(ctx context.Context, n *navigation) (*url.URL, error) {
	again := *n
	again.chain, again.page = slices.Clone(n.chain), Page{}
	res, err := b.load(ctx, &again)
	if err != nil {
		return nil, err
	}
	second, err := again.step(res)
	if err == nil && second == nil {
		err = errors.New("the simulator did not authorize twice")
	}
	return second, err
}

// ahead loads a callback at the same time as the navigation goes on. Cookies
// that it brings are kept, as in a browser, if its headers come in time. The
// second channel is closed when the request is on its way, or has failed.
func (b *Browser) ahead(ctx context.Context, n *navigation, callback *url.URL) (chan *Hop, <-chan struct{}) {
	first := *n
	first.method, first.body, first.url, first.chain = http.MethodGet, "", callback, append(slices.Clone(n.chain), callback)
	result, sent := make(chan *Hop, 1), make(chan struct{})
	closeSent := sync.OnceFunc(func() { close(sent) })
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteRequest: func(httptrace.WroteRequestInfo) { closeSent() },
	})
	go func() {
		defer closeSent()
		res, err := b.load(ctx, &first)
		if err != nil {
			result <- nil
			return
		}
		result <- &Hop{callback, res.status, res.header.Get("Location"), res.header}
	}()
	return result, sent
}

// awaitTwin leaves no goroutine behind.
func (n *navigation) awaitTwin() {
	if n.twin != nil {
		n.page.Twin = <-n.twin
	}
}
