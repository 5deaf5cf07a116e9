package main

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

//go:embed wrk.lua
var wrkScript []byte

const (
	connections = 32
	wrkTimeout  = "30s" // a busy machine must not make an answer an error

	// maxRate bounds what a turn needs of lines that none may see twice, per second. Where they are used up, the
	// turn is shorter.
	maxRate = 20_000
)

// wrkLoad is traffic that wrk sends to a host over plain HTTP/1.1.
type wrkLoad struct {
	traffic
	gateway *gateway
	host    string
	refused bool   // every answer must be an error of the client's
	dir     string // the script's files: head, lines, tail
}

// newWrkLoad writes the script's files.
func newWrkLoad(g *gateway, host string, t traffic) (*wrkLoad, error) {
	dir, err := os.MkdirTemp(g.dir, "wrk-")
	if err != nil {
		return nil, err
	}
	l := &wrkLoad{traffic: t, gateway: g, host: host, dir: dir}
	for name, text := range map[string]string{"script.lua": string(wrkScript), "head": t.head(host), "tail": t.tail()} {
		if err := os.WriteFile(l.file(name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	return l, writeLines(l.file("lines"), t.lines)
}

func (l *wrkLoad) file(name string) string { return filepath.Join(l.dir, name) }

func (l *wrkLoad) prepare(ctx context.Context, d time.Duration) error {
	if l.fresh == nil {
		return nil
	}
	lines, err := l.fresh(ctx, max(10*connections, int(d.Seconds()*maxRate)))
	if err != nil {
		return err
	}
	return writeLines(l.file("lines"), lines)
}

func (l *wrkLoad) start(ctx context.Context) (sending, error) {
	if l.fresh != nil {
		return l.startWrk(ctx, linesOnce)
	}
	return l.startWrk(ctx, linesAgain)
}

// What is done behind the last line: nothing, or it begins anew.
const linesOnce, linesAgain = "once", "again"

const passPatience = 5 * time.Minute

// settle sends every line several times: who comes again is remembered then. A few lines are all sent in any turn,
// and of what is refused nothing is remembered.
func (l *wrkLoad) settle(ctx context.Context) error {
	if len(l.lines) <= connections || l.fresh != nil || l.refused {
		return nil
	}
	const passes = 4
	for range passes {
		run, err := l.startWrk(ctx, linesOnce)
		if err != nil {
			return err
		}
		if _, err := sendFor(ctx, passPatience, run); err != nil {
			return err
		}
	}
	return nil
}

// wrkRun is a running wrk. It takes whole seconds alone, and sleeps on when nothing is left to send: it is ended by a
// signal.
type wrkRun struct {
	load   *wrkLoad
	cmd    *exec.Cmd
	failed bytes.Buffer
	said   bytes.Buffer

	begun, allSent, ended chan struct{} // closed when the script says so, and when it says nothing more
}

// startWrk returns when the first requests are sent.
func (l *wrkLoad) startWrk(ctx context.Context, mode string) (*wrkRun, error) {
	run := &wrkRun{load: l, begun: make(chan struct{}), allSent: make(chan struct{}), ended: make(chan struct{})}
	run.cmd = exec.CommandContext(ctx, "wrk", "-t1", fmt.Sprintf("-c%d", connections), "-d10m", "--timeout", wrkTimeout,
		"-s", l.file("script.lua"), "http://"+l.gateway.address(l.host, l.gateway.http)+"/", "--", l.file("head"), l.file("lines"), l.file("tail"), mode)
	run.cmd.Stderr = &run.failed
	out, err := run.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := run.cmd.Start(); err != nil {
		return nil, err
	}
	go run.listen(out)
	select {
	case <-run.begun:
	case <-run.ended:
	}
	return run, nil
}

func (run *wrkRun) listen(out io.Reader) {
	defer close(run.ended)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		switch lines.Text() {
		case "begun":
			close(run.begun)
		case "spent":
			close(run.allSent)
		default:
			fmt.Fprintln(&run.said, lines.Text())
		}
	}
}

// pause has wrk send nothing until resume. What it has sent is answered for a while yet.
func (run *wrkRun) pause() error  { return run.cmd.Process.Signal(syscall.SIGSTOP) }
func (run *wrkRun) resume() error { return run.cmd.Process.Signal(syscall.SIGCONT) }

func (run *wrkRun) spent() <-chan struct{} { return run.allSent }

// finish ends wrk, which does not hear the first signal where it has not got around to sleeping yet.
func (run *wrkRun) finish() (sample, error) {
	const again = 20 * time.Millisecond
	_ = run.resume() // one that has ended says why below
	for running := true; running; {
		_ = run.cmd.Process.Signal(os.Interrupt)
		select {
		case <-run.ended:
			running = false
		case <-time.After(again):
		}
	}
	if err := run.cmd.Wait(); err != nil {
		return sample{}, fmt.Errorf("wrk: %w: %s%s", err, run.said.Bytes(), run.failed.String())
	}
	return run.load.read(run.said.Bytes())
}

// read takes what the script says of the run.
func (l *wrkLoad) read(out []byte) (sample, error) {
	var requests, errors, statuses int
	var elapsed, p50, p99 int64 // µs
	_, line, ok := bytes.Cut(out, []byte("bench "))
	if !ok {
		return sample{}, fmt.Errorf("wrk said: %s", out)
	}
	if _, err := fmt.Sscan(string(line), &requests, &elapsed, &errors, &statuses, &p50, &p99); err != nil {
		return sample{}, fmt.Errorf("reading what wrk said: %w: %s", err, line)
	}
	refused := 0
	if l.refused {
		refused = requests
	}
	if requests == 0 {
		return sample{}, errNoMore
	}
	if errors > 0 || statuses != refused {
		return sample{}, fmt.Errorf("%s: of %d requests %d failed, and %d were refused", l.host, requests, errors, statuses)
	}
	return sample{requests: requests, elapsed: micros(elapsed), p50: micros(p50), p99: micros(p99)}, nil
}

func micros(n int64) time.Duration { return time.Duration(n) * time.Microsecond }
