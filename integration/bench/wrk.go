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
	"sync"
	"time"
)

//go:embed wrk.lua
var wrkScript []byte

const (
	connections = 32
	wrkTimeout  = "30s" // a busy machine must not make an answer an error

	// maxRate bounds what a slice needs of lines that none may see twice, per second. Where they are used up, the
	// slice is shorter.
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

func (l *wrkLoad) run(ctx context.Context, d time.Duration) (sample, error) {
	mode := "again"
	if l.fresh != nil {
		mode = "once"
	}
	return l.send(ctx, d, mode)
}

const passPatience = 5 * time.Minute

// settle sends every line several times: who comes again is remembered then. A few lines are all sent in any slice,
// and of what is refused nothing is remembered.
func (l *wrkLoad) settle(ctx context.Context) error {
	if len(l.lines) <= connections || l.fresh != nil || l.refused {
		return nil
	}
	const passes = 4
	for range passes {
		if _, err := l.send(ctx, passPatience, "once"); err != nil {
			return err
		}
	}
	return nil
}

// send runs wrk, and ends it when its time is up or the script says that its lines are spent: wrk takes whole
// seconds alone, and sleeps on when nothing is left to send.
func (l *wrkLoad) send(ctx context.Context, d time.Duration, mode string) (sample, error) {
	cmd := exec.CommandContext(ctx, "wrk", "-t1", fmt.Sprintf("-c%d", connections), "-d10m", "--timeout", wrkTimeout,
		"-s", l.file("script.lua"), "http://"+loopback(l.gateway.http)+"/", "--", l.file("head"), l.file("lines"), l.file("tail"), mode)
	var failed bytes.Buffer
	cmd.Stderr = &failed
	out, err := cmd.StdoutPipe()
	if err != nil {
		return sample{}, err
	}
	if err := cmd.Start(); err != nil {
		return sample{}, err
	}
	said := watchWrk(cmd.Process, out, d)
	if err := cmd.Wait(); err != nil {
		return sample{}, fmt.Errorf("wrk: %w: %s%s", err, said, failed.String())
	}
	return l.read(said)
}

// watchWrk ends wrk d after it has begun, and returns what it said. It does not hear the first signal where it has
// not got around to sleeping yet.
func watchWrk(wrk *os.Process, out io.Reader, d time.Duration) []byte {
	const again = 20 * time.Millisecond
	ended := make(chan struct{})
	end := sync.OnceFunc(func() {
		go func() {
			for {
				_ = wrk.Signal(os.Interrupt)
				select {
				case <-ended:
					return
				case <-time.After(again):
				}
			}
		}()
	})
	defer close(ended)
	var said bytes.Buffer
	for lines := bufio.NewScanner(out); lines.Scan(); {
		switch lines.Text() {
		case "begun":
			defer time.AfterFunc(d, end).Stop()
		case "spent":
			end()
		default:
			fmt.Fprintln(&said, lines.Text())
		}
	}
	return said.Bytes()
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
