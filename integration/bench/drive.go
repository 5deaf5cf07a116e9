package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// errNoMore ends a lane: the run is being finished, or what was prepared is used up. Of a turn it says that nothing was
// answered.
var errNoMore = errors.New("nothing was left to send, or nothing was answered")

// laneRun runs each lane again and again until it is finished.
type laneRun struct {
	ctx    context.Context
	begun  time.Time
	times  [][]time.Duration // of each lane
	failed []error
	gate   sync.RWMutex // lanes hold it for reading while they send, and a pause for writing
	paused bool
	ending atomic.Bool
	ended  chan struct{} // closed when no lane sends any more
}

func drive(ctx context.Context, lanes []func() error) *laneRun {
	run := &laneRun{
		ctx: ctx, begun: time.Now(), times: make([][]time.Duration, len(lanes)), failed: make([]error, len(lanes)), ended: make(chan struct{}),
	}
	var wg sync.WaitGroup
	for i, lane := range lanes {
		wg.Go(func() {
			for run.failed[i] == nil {
				run.failed[i] = run.once(i, lane)
			}
		})
	}
	go func() {
		wg.Wait()
		close(run.ended)
	}()
	return run
}

// once runs a lane once; an error says that it has ended.
func (run *laneRun) once(i int, lane func() error) error {
	run.gate.RLock()
	defer run.gate.RUnlock()
	if err := run.ctx.Err(); err != nil {
		return err
	}
	if run.ending.Load() {
		return errNoMore
	}
	at := time.Now()
	if err := lane(); err != nil {
		return err
	}
	run.times[i] = append(run.times[i], time.Since(at))
	return nil
}

// pause returns when all that was sent is answered.
func (run *laneRun) pause() error {
	run.gate.Lock()
	run.paused = true
	return nil
}

func (run *laneRun) resume() error {
	run.paused = false
	run.gate.Unlock()
	return nil
}

func (run *laneRun) spent() <-chan struct{} { return run.ended }

func (run *laneRun) finish() (sample, error) {
	run.ending.Store(true)
	if run.paused {
		_ = run.resume()
	}
	<-run.ended
	elapsed := time.Since(run.begun)
	for _, err := range run.failed {
		if !errors.Is(err, errNoMore) {
			return sample{}, err
		}
	}
	all := slices.Concat(run.times...)
	if len(all) == 0 {
		return sample{}, errNoMore
	}
	slices.Sort(all)
	return sample{requests: len(all), elapsed: elapsed, p50: quantile(all, 0.5), p99: quantile(all, 0.99)}, nil
}
