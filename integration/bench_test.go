package integration

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestBenchRuns: the command that measures runs through, prints every case and every goal, and leaves nothing behind. What
// it says of time on a machine that tests is nothing to look at.
func TestBenchRuns(t *testing.T) {
	notWithRace(t)
	needs(t, "wrk")
	needs(t, "taskset")
	const patience = 10 * time.Minute
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	dir := t.TempDir()
	cmd := exec.CommandContext(ctx, "go", "run", "./bench", "-quick")
	cmd.Env = append(os.Environ(), "TMPDIR="+dir, "GOTMPDIR="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a signal to go alone would leave what it runs
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	var failed strings.Builder
	cmd.Stderr = &failed
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, failed.String())
	}
	rows := strings.Count(string(out), "\n| ")
	for _, name := range []string{
		"warm, 10 users |", "warm, 20,000 users |", "warm, 100,000 users", "warm, 10 users, 100 sites |", "warm, 10 users, 100 sites, 100 accounts |",
		"warm, HTTP/1.1 with TLS |", "warm, HTTP/2 |", "warm, HTTP/3 |", "cold: no token twice |", "spoof-laden",
		"anonymous, public path |", "anonymous, public path, HTTP/2 |", "anonymous, public path, HTTP/3 |",
		"login start |", "login start, HTTP/2 |", "login start, HTTP/3 |", "refused: junk cookie |", "refused: forged signature |",
		"callback with a code", "callback with a ticket", "a client redeems its ticket", "whole login across domains |", "login across domains, to the cookie |", "whole login on the bound domain |",
		// Of the goals:
		"warm, 10 users beside look-up handler |", "whole login across domains, CPU |", "login across domains, to the cookie, CPU |",
	} {
		if !strings.Contains(string(out), "\n| "+name) {
			t.Errorf("of %d rows none is %q", rows, name)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("%s is left behind", left[0].Name())
	}
}
