package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// errNoMore ends a lane before its time: what was prepared is used up. Of a whole slice it says that nothing was answered.
var errNoMore = errors.New("nothing was left to send, or nothing was answered")

// drive runs each lane again and again for d.
func drive(ctx context.Context, d time.Duration, lanes []func() error) (sample, error) {
	begun := time.Now()
	times := make([][]time.Duration, len(lanes))
	failed := make([]error, len(lanes))
	var wg sync.WaitGroup
	for i, lane := range lanes {
		wg.Go(func() {
			times[i], failed[i] = driveLane(ctx, begun.Add(d), lane)
		})
	}
	wg.Wait()
	elapsed := time.Since(begun)
	all := slices.Concat(times...)
	if err := errors.Join(failed...); err != nil {
		return sample{}, err
	}
	if len(all) == 0 {
		return sample{}, errNoMore
	}
	slices.Sort(all)
	return sample{requests: len(all), elapsed: elapsed, p50: quantile(all, 0.5), p99: quantile(all, 0.99)}, nil
}

func driveLane(ctx context.Context, until time.Time, lane func() error) (times []time.Duration, err error) {
	for at := time.Now(); at.Before(until) && ctx.Err() == nil; {
		if err := lane(); err != nil {
			if errors.Is(err, errNoMore) {
				return times, nil
			}
			return nil, err
		}
		now := time.Now()
		times = append(times, now.Sub(at))
		at = now
	}
	return times, ctx.Err()
}
