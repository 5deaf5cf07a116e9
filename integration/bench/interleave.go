package main

import (
	"context"
	"time"
)

const (
	interleave = 12 * time.Millisecond // how long an arm has the gateway to itself before the next one does
	drain      = 5 * time.Millisecond  // what is under way when it pauses is answered by then
)

func isWrk(arms []arm) bool {
	for _, a := range arms {
		if _, ok := a.load.(*wrkLoad); !ok {
			return false
		}
	}
	return true
}

// interleaved is a round in which the arms share out their turns among each other, a little of each at a time: where
// others have the processor's caches, a request takes twice as long for some tenths of a second, and then all have a
// part of that.
func (b *bench) interleaved(ctx context.Context, g *gateway, r *result, backwards bool) ([]sample, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends what an error leaves
	runs, round := make([]*wrkRun, len(r.arms)), make([]sample, len(r.arms))
	for i, a := range r.arms {
		l := a.load.(*wrkLoad)
		if err := l.prepare(ctx, b.slices); err != nil {
			return nil, err
		}
		err := round[i].add(g, func() (err error) {
			if runs[i], err = l.start(ctx, l.mode()); err != nil {
				return err
			}
			return runs[i].pause()
		})
		if err != nil {
			return nil, err
		}
	}
	for turn := time.Duration(0); turn < b.slices; turn += interleave {
		for _, i := range r.order(backwards) {
			if err := round[i].add(g, runs[i].aWhile); err != nil {
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

func (run *wrkRun) aWhile() error {
	if err := run.resume(); err != nil {
		return err
	}
	time.Sleep(interleave)
	return run.pause()
}
