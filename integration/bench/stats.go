package main

import (
	"cmp"
	"slices"
)

// spread is a median with its quartiles.
type spread struct{ low, median, high float64 }

func spreadOf(values []float64) spread {
	sorted := slices.Sorted(slices.Values(values))
	return spread{quantile(sorted, 0.25), quantile(sorted, 0.5), quantile(sorted, 0.75)}
}

// scatter is how far the quartiles are apart, as a share of the median.
func (s spread) scatter() float64 { return (s.high - s.low) / s.median }

// quantile returns the value that a share q of sorted does not exceed.
func quantile[T cmp.Ordered](sorted []T, q float64) T {
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// of collects a figure of every round.
func (r *result) of(figure func(round []sample) float64) spread { return spreadOver(r.rounds, figure) }

func spreadOver(rounds [][]sample, figure func(round []sample) float64) spread {
	values := make([]float64, len(rounds))
	for i, round := range rounds {
		values[i] = figure(round)
	}
	return spreadOf(values)
}

// ratio is how an arm stands beside another: 1 is as good, 0.9 a tenth fewer requests per second, or CPU time for a
// tenth fewer of them.
type ratio struct{ rate, cost spread }

func (r *result) ratio(a, beside int) ratio {
	return ratio{
		rate: r.of(func(round []sample) float64 { return round[a].rate() / round[beside].rate() }),
		cost: r.of(func(round []sample) float64 { return round[beside].cost() / round[a].cost() }),
	}
}

// beside is the subject's ratio to a limit, and aa the control's.
func (r *result) beside(limit int) ratio { return r.ratio(r.subject(), limit) }
func (r *result) aa() ratio              { return r.ratio(r.control(), 0) }

const (
	maxScatter = 0.03 // of requests per second; beyond it CPU per request decides
	saturated  = 0.9  // of its CPU; a gateway that waits for load is not what requests per second tell of
)

// verdict is the ratio that counts, less what the control shows, and which of the two it was.
func (r *result) verdict(limit int) (value float64, by string) {
	s, aa := r.beside(limit), r.aa()
	idle := min(r.busy(r.subject()), r.busy(limit)) < saturated
	if idle || s.rate.scatter() > maxScatter || aa.rate.scatter() > maxScatter {
		return s.cost.median / aa.cost.median, "CPU"
	}
	return s.rate.median / aa.rate.median, "req/s"
}

func (r *result) busy(a int) float64 {
	return r.of(func(round []sample) float64 { return round[a].busy() }).median
}
