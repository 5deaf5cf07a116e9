package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// load is what can be sent for some time.
type load interface {
	prepare(ctx context.Context, d time.Duration) error // what a turn of d needs, and is not measured
	start(ctx context.Context) (sending, error)
}

// sending is a load under way.
type sending interface {
	pause() error // sends nothing until resume
	resume() error
	spent() <-chan struct{} // closed where all that was prepared is sent
	finish() (sample, error)
}

// sample is what one turn showed.
type sample struct {
	requests int
	elapsed  time.Duration
	p50, p99 time.Duration
	cpu      time.Duration // of the gateway
}

func (s sample) rate() float64 { return float64(s.requests) / s.elapsed.Seconds() }

// cost is the gateway's CPU time for one request, in µs.
func (s sample) cost() float64 { return float64(s.cpu.Nanoseconds()) / 1000 / float64(s.requests) }

// busy is the share of its CPU that the gateway had use for.
func (s sample) busy() float64 { return s.cpu.Seconds() / s.elapsed.Seconds() }

// arm is one of those that take turns in a case.
type arm struct {
	name string
	load load
}

// result is a case as measured: in each round a sample of each arm, the limits first, then the subject, then the
// first limit again, as the control.
type result struct {
	name     string
	arms     []arm
	rounds   [][]sample
	unbroken [][]sample // rounds of turns without a break: what is no ratio is taken from them
	resident float64    // MiB, at the end
}

func (r *result) limits() int  { return len(r.arms) - 2 }
func (r *result) subject() int { return len(r.arms) - 2 }
func (r *result) control() int { return len(r.arms) - 1 }

// measure lets the arms of a case take turns. Every other round goes backwards, so that a machine that becomes
// slower or faster meanwhile favours nobody.
func (b *bench) measure(ctx context.Context, c benchCase) (*result, error) {
	if c.alone || b.full {
		b.stopGateway()
	}
	b.full = c.alone
	g, err := b.gatewayOf(ctx, c.setting)
	if err != nil {
		return nil, err
	}
	arms, err := c.arms(g)
	if err != nil {
		return nil, err
	}
	arms = append(arms, arms[0])
	defer closeLoads(arms)
	r := &result{name: c.name, arms: arms}
	if err := b.warmUp(ctx, g, r); err != nil {
		return nil, fmt.Errorf("warming up: %w", err)
	}
	if r.unbroken, err = b.rounds(ctx, min(b.pairs, unbroken), g, r, b.round); err != nil {
		return nil, err
	}
	if r.rounds, err = b.rounds(ctx, b.pairs, g, r, b.interleaved); err != nil {
		return nil, err
	}
	r.resident = g.resident()
	if b.profiles != "" {
		return r, b.profile(ctx, g, r)
	}
	return r, nil
}

// unbroken is how many turns without a break each has.
const unbroken = 5

// rounds takes n rounds of one kind, every other one backwards.
func (b *bench) rounds(ctx context.Context, n int, g *gateway, r *result, take takeRound) (rounds [][]sample, err error) {
	for i := range n {
		round, err := take(ctx, g, r, i%2 == 1)
		if err != nil {
			return nil, err
		}
		rounds = append(rounds, round)
		fmt.Fprint(os.Stderr, ".")
	}
	return rounds, nil
}

type takeRound func(ctx context.Context, g *gateway, r *result, backwards bool) ([]sample, error)

// warmUp has every connection made, every cache filled and the heap grown to its size.
func (b *bench) warmUp(ctx context.Context, g *gateway, r *result) error {
	for _, a := range r.arms[:r.control()] {
		if l, ok := a.load.(*wrkLoad); ok && a.name == subjectName {
			if err := l.settle(ctx); err != nil {
				return err
			}
		}
		if _, err := b.whole(ctx, g, a); err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
	}
	return nil
}

func (b *bench) round(ctx context.Context, g *gateway, r *result, backwards bool) ([]sample, error) {
	round := make([]sample, len(r.arms))
	for _, i := range r.order(backwards) {
		var err error
		if round[i], err = b.whole(ctx, g, r.arms[i]); err != nil {
			return nil, fmt.Errorf("%s: %w", r.arms[i].name, err)
		}
	}
	return round, nil
}

func (r *result) order(backwards bool) []int {
	order := make([]int, len(r.arms))
	for i := range order {
		order[i] = i
	}
	if backwards {
		slices.Reverse(order)
	}
	return order
}

// whole gives an arm a turn without a break.
func (b *bench) whole(ctx context.Context, g *gateway, a arm) (sample, error) {
	return longer(b.turn, func(turn time.Duration) (sample, error) { return turnOf(ctx, g, a, turn) })
}

// longer takes a turn again, longer, where nothing was answered in it on a machine that is busy.
func longer[T any](turn time.Duration, take func(time.Duration) (T, error)) (taken T, err error) {
	const tries, times = 6, 3
	for range tries {
		if taken, err = take(turn); !errors.Is(err, errNoMore) {
			break
		}
		turn *= times
	}
	return taken, err
}

func turnOf(ctx context.Context, g *gateway, a arm, d time.Duration) (sample, error) {
	if err := a.load.prepare(ctx, d); err != nil {
		return sample{}, err
	}
	before, err := g.cpu()
	if err != nil {
		return sample{}, err
	}
	run, err := a.load.start(ctx)
	if err != nil {
		return sample{}, err
	}
	s, err := sendFor(ctx, d, run)
	if err != nil {
		return sample{}, err
	}
	after, err := g.cpu()
	s.cpu = after - before
	return s, err
}

// sendFor ends a run after d, or when it is spent.
func sendFor(ctx context.Context, d time.Duration, run sending) (sample, error) {
	select {
	case <-time.After(d):
	case <-run.spent():
	case <-ctx.Done():
	}
	return run.finish()
}

func closeLoads(arms []arm) {
	for _, a := range arms {
		if l, ok := a.load.(interface{ close() }); ok {
			l.close()
		}
	}
}

// gatewayOf returns a gateway of that setting, the running one if it is. There is one at a time: what another does in
// the background would be measured, too.
func (b *bench) gatewayOf(ctx context.Context, s setting) (*gateway, error) {
	if b.running != nil && b.running.setting == s {
		return b.running, nil
	}
	b.stopGateway()
	g, err := b.startGateway(ctx, s)
	if err != nil {
		return nil, err
	}
	b.running = g
	return g, g.checkIdentity()
}

func (b *bench) stopGateway() {
	if b.running != nil {
		b.running.stop()
		b.running = nil
	}
}

// checkIdentity looks at the upstream whether those who are compared do their work.
func (g *gateway) checkIdentity() error {
	cookie := "Cookie: " + cookieBefore + g.tokens[0] + cookieAfter + "\r\n"
	for host, known := range map[string]bool{plainHost: false, emptyHost: false, lookupHost: true, shopHost: true} {
		l := g.lane(host)
		a, err := l.get(host, whoami, browser+cookie)
		l.close()
		if err != nil {
			return err
		}
		if a.status != 200 || (a.body != "") != known {
			return fmt.Errorf("%s answers %d, and the upstream sees the openid %q", host, a.status, a.body)
		}
	}
	return nil
}
