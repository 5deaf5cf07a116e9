package main

import (
	"fmt"
	"io"
	"runtime"
	"time"
)

// goal is what a case is to reach beside one of its limits.
type goal struct {
	limit   string
	atLeast float64
}

// maxLoginCost is the most that a whole login may cost the gateway, in µs of CPU.
const maxLoginCost = 350

func (b *bench) printHead(w io.Writer) {
	fmt.Fprintf(w, "%s, %s/%s, %s, %d CPUs of %s; %s.\n", time.Now().Format(time.DateOnly), runtime.GOOS, runtime.GOARCH,
		runtime.Version(), runtime.NumCPU(), cpuModel(), b.cpus)
	fmt.Fprintf(w, "%d pairs, %s each; %d connections.\n\n", b.pairs, b.turn, connections)
	fmt.Fprintln(w, "| case | beside | req/s ratio | A/A | CPU ratio | A/A | req/s | CPU µs | beside: µs | p50 ms | p99 ms | beside: p99 | MiB |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---:|---:|---:|---:|---:|---:|---:|")
}

// printRows prints a row for each limit of a case.
func (r *result) printRows(w io.Writer) {
	aa := r.aa()
	for i := range r.limits() {
		s := r.beside(i)
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s | %.0f | %.1f | %.1f | %.2f | %.2f | %.2f | %.0f |\n",
			r.name, r.arms[i].name, s.rate, aa.rate, s.cost, aa.cost, r.usual(r.subject(), sample.rate), r.cost(r.subject()), r.cost(i),
			r.usual(r.subject(), sample.p50ms), r.usual(r.subject(), sample.p99ms), r.usual(i, sample.p99ms), r.resident)
	}
}

// cost is in µs of CPU.
func (r *result) cost(a int) float64 { return r.usual(a, sample.cost) }

// usual is the median of an arm's turns without a break.
func (r *result) usual(a int, figure func(sample) float64) float64 {
	return spreadOver(r.unbroken, func(round []sample) float64 { return figure(round[a]) }).median
}

func (s sample) p50ms() float64 { return s.p50.Seconds() * 1000 }
func (s sample) p99ms() float64 { return s.p99.Seconds() * 1000 }

func (s spread) String() string { return fmt.Sprintf("%.3f [%.3f, %.3f]", s.median, s.low, s.high) }

// printGoals says of each goal whether it was reached.
func printGoals(w io.Writer, cases []benchCase, results []*result) {
	fmt.Fprintln(w, "\n| goal | wanted | got | by | reached |\n|---|---:|---:|---|---|")
	for i, r := range results {
		for _, goal := range cases[i].goals {
			for limit := range r.limits() {
				if r.arms[limit].name == goal.limit {
					got, by := r.verdict(limit)
					printGoal(w, r.name+" beside "+goal.limit, fmt.Sprintf("≥ %.2f", goal.atLeast), fmt.Sprintf("%.3f", got), by, got >= goal.atLeast)
				}
			}
		}
		if cases[i].login {
			cost := r.cost(r.subject())
			printGoal(w, r.name+", CPU", fmt.Sprintf("≤ %d µs", maxLoginCost), fmt.Sprintf("%.0f µs", cost), "CPU", cost <= maxLoginCost)
		}
	}
}

func printGoal(w io.Writer, name, wanted, got, by string, reached bool) {
	answer := "yes"
	if !reached {
		answer = "**no**"
	}
	fmt.Fprintf(w, "| %s | %s | %s | %s | %s |\n", name, wanted, got, by, answer)
}
