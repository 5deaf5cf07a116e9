package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// The command runs itself again for what must not share a process with the load.
const (
	roleUpstream = "serve-upstream"
	roleWeChat   = "serve-wechat"
)

// playRole serves until its input ends, as it does when whoever started it is gone. It says first where it listens.
func playRole(role string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	failed := make(chan error, 1)
	go func() {
		if role == roleUpstream {
			failed <- serveUpstream(l)
			return
		}
		failed <- http.Serve(l, newWeChat())
	}()
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		ended <- err
	}()
	select {
	case err = <-failed:
	case err = <-ended:
	}
	return err
}

// newWeChat knows every account that a configuration here has, and lets everybody in without asking.
func newWeChat() http.Handler {
	sim := wechattest.New(wechattest.Account{AppID: clientsAppID, Secret: appSecret, Domains: []string{clientsHost}, Test: true})
	for i := range manySites {
		sim.AddAccount(wechattest.Account{AppID: appID(i), Secret: appSecret, Domains: []string{brokerHost}, Test: true})
	}
	return sim
}

// startRole returns the address of a role in a process of its own, which ends with ctx.
func startRole(ctx context.Context, role string) (address string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	cmd := exec.CommandContext(ctx, self, role)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		_ = in.Close()
		_ = cmd.Wait()
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("starting %s: %w", role, err)
	}
	return strings.TrimSpace(line), stop, nil
}
