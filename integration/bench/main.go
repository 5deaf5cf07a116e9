// Command bench measures what the gateway costs beside what it stands in for: plain reverse_proxy and redir, and
// handlers that do nothing or the least. README.md says how to read its table.
//
// cases.go says what is compared, measure.go and interleave.go how they take turns, stats.go and report.go what is made of it, profile.go
// what a turn is spent on. gateway.go and caddyfile.go run the Caddy that is measured (its main package is in gateway/),
// roles.go and upstream.go what stands behind it. Load comes from wrk (traffic.go, wrk.go, wrk.lua), and from Go where wrk
// cannot: protocols.go over TLS, walker.go for logins, both driven by drive.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) == 2 && (os.Args[1] == roleUpstream || os.Args[1] == roleWeChat) {
		exitOn(playRole(os.Args[1]))
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	exitOn(run(ctx, os.Args[1:]))
}

func exitOn(err error) {
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is a run.
type bench struct {
	pairs int
	turn  time.Duration // how long each has in a pair

	profiles string // the folder for profiles; none: they are not taken

	cpus             cpus
	dir              string // everything that is written; removed at the end
	binary           string // the gateway's
	upstream, wechat string // addresses
	running          *gateway
	full             bool // running is full of a case's logins
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	pairs := flags.Int("pairs", 24, "how often a case and its limits take turns")
	seconds := flags.Float64("seconds", 0.75, "how long a turn is")
	only := flags.String("case", "", "a regular expression: the cases to run (default all)")
	quick := flags.Bool("quick", false, "every case as short as can be, with fewer users: shows that it runs, and measures nothing")
	profiles := flags.String("profile", "", "a folder: for a CPU and an allocation profile of the gateway in each case, taken after its turns")
	list := flags.Bool("list", false, "print the cases' names, and end")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *pairs < 1 || *seconds <= 0 {
		return errors.New("-pairs and -seconds must be more than 0")
	}
	b := &bench{pairs: *pairs, turn: time.Duration(*seconds * float64(time.Second)), profiles: *profiles}
	cases, err := chosen(*only)
	if err != nil {
		return err
	}
	if *list {
		for _, c := range cases {
			fmt.Println(c.name)
		}
		return nil
	}
	if *quick {
		b.makeQuick(cases)
	}
	return b.run(ctx, cases)
}

// chosen are the cases whose name matches.
func chosen(only string) (cases []benchCase, err error) {
	pattern, err := regexp.Compile(only)
	if err != nil {
		return nil, fmt.Errorf("-case: %w", err)
	}
	for _, c := range allCases() {
		if pattern.MatchString(c.name) {
			cases = append(cases, c)
		}
	}
	if len(cases) == 0 {
		return nil, errors.New("-case: no case is called that; -list names them")
	}
	return cases, nil
}

func (b *bench) makeQuick(cases []benchCase) {
	const users, turn = 100, 50 * time.Millisecond
	b.pairs, b.turn = 1, turn
	for i := range cases {
		cases[i].setting.users = min(users, cases[i].setting.users)
	}
}

func (b *bench) run(ctx context.Context, cases []benchCase) (err error) {
	if _, err := exec.LookPath("wrk"); err != nil {
		return errors.New("wrk is not installed; `./xcaddy.sh bench` installs it, or: apt-get install wrk")
	}
	if b.dir, err = os.MkdirTemp("", "caddy-wechat-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	fmt.Fprintln(os.Stderr, "building the gateway …")
	b.binary = filepath.Join(b.dir, "caddy")
	if err := buildGateway(ctx, b.binary); err != nil {
		return err
	}
	b.cpus = pin()
	for role, address := range map[string]*string{roleUpstream: &b.upstream, roleWeChat: &b.wechat} {
		at, stop, err := startRole(ctx, role)
		if err != nil {
			return err
		}
		defer stop()
		*address = at
	}
	defer b.stopGateway()
	return b.runCases(ctx, cases)
}

// runCases prints each case once it is measured: what a run that is ended early has shown stays.
func (b *bench) runCases(ctx context.Context, cases []benchCase) error {
	b.printHead(os.Stdout)
	var results []*result
	for _, c := range cases {
		fmt.Fprint(os.Stderr, c.name, " ")
		r, err := b.measure(ctx, c)
		if err != nil {
			return fmt.Errorf("%s: %w%s", c.name, err, b.lastWords())
		}
		fmt.Fprintln(os.Stderr)
		r.printRows(os.Stdout)
		results = append(results, r)
	}
	printGoals(os.Stdout, cases, results)
	return nil
}

// lastWords is what the running gateway logged last.
func (b *bench) lastWords() string {
	if b.running == nil {
		return ""
	}
	return "\nthe gateway's log ends:\n" + b.running.logTail()
}

// cpuModel is the processor's name, as the system has it.
func cpuModel() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	_, after, ok := strings.Cut(string(b), "model name")
	if !ok {
		return "an unknown kind"
	}
	name, _, _ := strings.Cut(after, "\n")
	return strings.TrimSpace(strings.TrimLeft(name, "\t :"))
}
