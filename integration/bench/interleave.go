package main

import (
	"context"
	"slices"
	"time"
)

const (
	slice = 100 * time.Millisecond // how long an arm has the gateway to itself before the next one does
	drain = 10 * time.Millisecond  // what is under way when wrk pauses is answered by then
)

// interleaved is a round in which the arms share out their turns among each other, a little of each at a time: where
// others have the processor's caches, a request takes half as long again for some tenths of a second, and then all have
// a part of that.
func (b *bench) interleaved(ctx context.Context, g *gateway, r *result, backwards bool) ([]sample, error) {
	return longer(b.turn, func(turn time.Duration) ([]sample, error) { return interleave(ctx, g, r, backwards, turn) })
}

func interleave(ctx context.Context, g *gateway, r *result, backwards bool, turn time.Duration) ([]sample, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends a wrk that an error leaves
	runs, round := make([]sending, len(r.arms)), make([]sample, len(r.arms))
	for i, a := range r.arms {
		if err := a.load.prepare(ctx, turn); err != nil {
			return nil, err
		}
		err := round[i].add(g, func() (err error) {
			if runs[i], err = a.load.start(ctx); err != nil {
				return err
			}
			return runs[i].pause()
		})
		if err != nil {
			return nil, err
		}
	}
	for at := time.Duration(0); at < turn && !anySpent(runs); at += slice {
		for _, i := range r.order(backwards) {
			if err := round[i].add(g, func() error { return aWhile(runs[i]) }); err != nil {
				return nil, err
			}
		}
		backwards = !backwards
	}
	for i, run := range runs {
		err := round[i].add(g, func() error {
			s, err := run.finish()
			round[i].requests = s.requests
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return round, nil
}

// add counts what the gateway does because of send to a sample.
func (s *sample) add(g *gateway, send func() error) error {
	before, err := g.cpu()
	if err != nil {
		return err
	}
	begun := time.Now()
	if err := send(); err != nil {
		return err
	}
	time.Sleep(drain)
	s.elapsed += time.Since(begun) // with the drain, in which the gateway is idle for a part: CPU decides
	after, err := g.cpu()
	s.cpu += after - before
	return err
}

// aWhile sends for a slice.
func aWhile(run sending) error {
	if err := run.resume(); err != nil {
		return err
	}
	time.Sleep(slice)
	return run.pause()
}

func anySpent(runs []sending) bool {
	return slices.ContainsFunc(runs, func(run sending) bool {
		select {
		case <-run.spent():
			return true
		default:
			return false
		}
	})
}
