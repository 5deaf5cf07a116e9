//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

const (
	simulatedAppID  = "wxdemo0123456789ab"
	simulatedSecret = "a-secret-of-the-simulator-only"
)

// demo is what runs. Its parts are closed in the reverse order.
type demo struct {
	options
	closers []func()
	gateway *process
}

func (d *demo) close() {
	for i := len(d.closers) - 1; i >= 0; i-- {
		d.closers[i]()
	}
}

// wait returns when the demo is told to end, or when Caddy has ended by itself.
func (d *demo) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		fmt.Println("\n再见 · stopped")
		return nil
	case <-d.gateway.exited:
		return d.gateway.why()
	}
}

// startSimulator returns the simulated WeChat's address.
func (d *demo) startSimulator() (string, error) {
	listener, err := d.listen("127.0.0.1", d.weixinPort, "weixin-port")
	if err != nil {
		return "", err
	}
	address := fmt.Sprintf("http://weixin.localhost:%d", d.weixinPort)
	sim := wechattest.New(wechattest.Account{
		AppID: simulatedAppID, Secret: simulatedSecret, Name: "演示 Demo", Test: true,
		Domains: []string{fmt.Sprintf("auth.localhost:%d", d.port)},
	})
	sim.Update(func(k *wechattest.Knobs) {
		k.AnyBrowser, k.Consent, k.AvatarBase = true, wechattest.AskPage, address
	})
	d.serve(listener, sim)
	return address, nil
}

// startUpstream returns the upstream's host and port.
func (d *demo) startUpstream(up http.Handler) (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	d.serve(listener, up)
	return listener.Addr().String(), nil
}

func (d *demo) serve(listener net.Listener, handler http.Handler) {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }()
	d.closers = append(d.closers, func() { _ = server.Close() })
}

func (d *demo) listen(address string, port int, flag string) (net.Listener, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(address, fmt.Sprint(port)))
	if err != nil {
		return nil, fmt.Errorf("port %d cannot be listened on (%w); choose another: ./xcaddy.sh run --%s <n>", port, reason(err), flag)
	}
	return listener, nil
}

func reason(err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return errors.New("it is taken")
	}
	return err
}

// free says which port is taken before Caddy says it in its log.
func (d *demo) free(address string, port int, flag string) error {
	listener, err := d.listen(address, port, flag)
	if err != nil {
		return err
	}
	return listener.Close()
}

// process is the running Caddy.
type process struct {
	cmd    *exec.Cmd
	log    string
	exited chan struct{}
}

// startCaddy runs Caddy and waits until address answers. Secrets are in env, never in the Caddyfile.
func (d *demo) startCaddy(ctx context.Context, caddyfile, address string, env []string) error {
	path := filepath.Join(d.dir, "Caddyfile")
	if err := os.WriteFile(path, []byte(caddyfile), 0o600); err != nil {
		return err
	}
	p := &process{log: filepath.Join(d.dir, "caddy.log"), exited: make(chan struct{})}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	p.cmd = exec.Command(d.caddy, "run", "--config", path, "--adapter", "caddyfile")
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = d.dir, out, out
	p.cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+filepath.Join(d.dir, "data"), "XDG_CONFIG_HOME="+filepath.Join(d.dir, "config"))
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us to pass on
	if err := p.cmd.Start(); err != nil {
		return err
	}
	go func() {
		_ = p.cmd.Wait() // why tells from ProcessState
		close(p.exited)
	}()
	d.gateway = p
	d.closers = append(d.closers, p.stop)
	return p.await(ctx, address)
}

// await asks for the site by its name at this machine's own address: not every resolver knows *.localhost.
func (p *process) await(ctx context.Context, address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		if answers(ctx, u) {
			return nil
		}
		select {
		case <-p.exited:
			return p.why()
		case <-ctx.Done(): // also Ctrl-C
			return fmt.Errorf("caddy did not answer at %s; see %s", address, p.log)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func answers(ctx context.Context, u *url.URL) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:"+u.Port()+"/robots.txt", nil)
	if err != nil {
		return false
	}
	req.Host = u.Host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// why is the end of Caddy's log, which says it.
func (p *process) why() error {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err
	}
	return fmt.Errorf("caddy ended (%s):\n%s", p.cmd.ProcessState, text[max(0, len(text)-2000):])
}

// stop ends Caddy and whatever it started: in order, then by force.
func (p *process) stop() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(10 * time.Second):
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.exited
	}
}
