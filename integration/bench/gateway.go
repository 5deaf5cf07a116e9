package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const gatewayPackage = "github.com/caddy-wechat/caddy-wechat/integration/bench/gateway"

// buildGateway builds the Caddy that is measured, as it is shipped: without the race detector.
func buildGateway(ctx context.Context, path string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", path, gatewayPackage)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("building the gateway: %w", err)
	}
	return nil
}

// gateway is a running Caddy of one setting.
type gateway struct {
	setting
	dir              string // all its files
	http, https      int    // ports, on addresses of the loopback
	upstream, wechat string // addresses
	tokens           []string
	secureTokens     []string // of the same many people on https

	cmd    *exec.Cmd
	exited chan struct{}
}

// secureUsers are signed in on https, where the number of users is not what is asked.
const secureUsers = 10

// startGateway runs the binary on a CPU of its own, and returns once it serves.
func (b *bench) startGateway(ctx context.Context, s setting) (g *gateway, err error) {
	g = &gateway{setting: s, upstream: b.upstream, wechat: b.wechat, exited: make(chan struct{})}
	if g.dir, err = os.MkdirTemp(b.dir, "gateway-"); err != nil {
		return nil, err
	}
	if g.http, g.https, err = twoFreePorts(); err != nil {
		return nil, err
	}
	if g.tokens, err = newTokens(ctx, "http://"+shopHost, s.users); err != nil {
		return nil, err
	}
	if g.secureTokens, err = newTokens(ctx, "https://"+shopHost, secureUsers); err != nil {
		return nil, err
	}
	if err := writeLines(g.path("tokens"), g.tokens); err != nil {
		return nil, err
	}
	if err := os.WriteFile(g.path("Caddyfile"), []byte(g.caddyfile()), 0o600); err != nil {
		return nil, err
	}
	if err := g.run(ctx, b.cpus.gateway(b.binary, "run", "--config", g.path("Caddyfile"), "--adapter", "caddyfile")); err != nil {
		return nil, err
	}
	if err := g.await(ctx); err != nil {
		g.stop()
		return nil, err
	}
	return g, nil
}

func (g *gateway) path(name string) string { return filepath.Join(g.dir, name) }

func (g *gateway) run(ctx context.Context, args []string) error {
	log, err := os.Create(g.path("log"))
	if err != nil {
		return err
	}
	defer log.Close()
	g.cmd = exec.CommandContext(ctx, args[0], args[1:]...)
	g.cmd.Env = append(os.Environ(), "HOME="+g.dir, "XDG_DATA_HOME="+g.dir, "XDG_CONFIG_HOME="+g.dir,
		"BENCH_APP_SECRET="+appSecret, "BENCH_SESSION_SECRET="+sessionSecret, "BENCH_CLIENT_SECRET="+clientSecret)
	g.cmd.Stdout, g.cmd.Stderr = log, log
	if err := g.cmd.Start(); err != nil {
		return err
	}
	go func() {
		_ = g.cmd.Wait()
		close(g.exited)
	}()
	return nil
}

const (
	startPatience = 2 * time.Minute // certificates are made meanwhile, on a machine that may be busy
	startPause    = 20 * time.Millisecond
	stopPatience  = 10 * time.Second
)

// await returns once every site has its certificate and answers.
func (g *gateway) await(ctx context.Context) error {
	deadline := time.Now().Add(startPatience)
	for _, host := range []string{plainHost, shopHost, redirHost, freshHost, brokerHost, clientsHost} {
		for {
			err := g.answers(host)
			if err == nil {
				break
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-g.exited:
				return errors.New("the gateway ended:\n" + g.logTail())
			case <-time.After(startPause):
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("the gateway does not serve: %w\n%s", err, g.logTail())
			}
		}
	}
	return nil
}

func (g *gateway) answers(host string) error {
	l := g.secureLane(host)
	defer l.close()
	_, err := l.get(host, publicPath, "")
	return err
}

// logTail is what Caddy said last.
func (g *gateway) logTail() string {
	const tail = 4000
	b, _ := os.ReadFile(g.path("log"))
	return string(b[max(0, len(b)-tail):])
}

func (g *gateway) stop() {
	_ = g.cmd.Process.Signal(os.Interrupt)
	select {
	case <-g.exited:
	case <-time.After(stopPatience):
		_ = g.cmd.Process.Kill()
		<-g.exited
	}
	_ = os.RemoveAll(g.dir)
}

// lane leads to a host over http, secureLane over https.
func (g *gateway) lane(host string) *lane {
	return &lane{dial: func() (net.Conn, error) { return net.Dial("tcp", g.address(host, g.http)) }}
}

func (g *gateway) secureLane(host string) *lane {
	return &lane{dial: func() (net.Conn, error) {
		return tls.Dial("tcp", g.address(host, g.https), tlsConfig(host))
	}}
}

// tlsConfig trusts whoever answers: it is our own child on the loopback.
func tlsConfig(host string) *tls.Config {
	return &tls.Config{ServerName: host, InsecureSkipVerify: true}
}

// cpu is the time that the gateway has used, by its process's clock.
func (g *gateway) cpu() (time.Duration, error) {
	const ofProcess = 2 // as clock_getcpuclockid(3) makes a clock's id
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^g.cmd.Process.Pid<<3|ofProcess), &t); err != nil {
		return 0, fmt.Errorf("reading the gateway's CPU time: %w", err)
	}
	return time.Duration(t.Nano()), nil
}

// resident is what the gateway has in memory, in MiB.
func (g *gateway) resident() float64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.cmd.Process.Pid))
	_, after, _ := strings.Cut(string(b), "VmRSS:")
	var kib float64
	_, _ = fmt.Sscan(after, &kib)
	return kib / 1024
}

const loopback = "127.0.0.1"

// twoFreePorts finds ports below those that the system hands out to others.
func twoFreePorts() (first, second int, err error) {
	const low, many, tries = 10_000, 20_000, 100
	for range tries {
		port := low + 2*rand.IntN(many/2)
		if isFree(port) && isFree(port+1) {
			return port, port + 1, nil
		}
	}
	return 0, 0, errors.New("no two ports are free")
}

func isFree(port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort(loopback, strconv.Itoa(port)))
	if err != nil {
		return false
	}
	_ = l.Close()
	return true
}
