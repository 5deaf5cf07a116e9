//go:build unix

// Command demo shows a login with a gateway of its own: a desktop browser before a simulated WeChat, or,
// with --test, the phone beside you before a real test account. `./xcaddy.sh run` builds and starts it.
//
// Everything it writes is in --dir. caddyfile.go says what the gateway is told, upstream.go and page.html
// are the page behind it, guide.go what stands in the terminal, caddy.go runs Caddy, lan.go and qr.go lead the phone here.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// options are the command line's.
type options struct {
	caddy      string // the binary
	dir        string // for all files
	port       int    // of the sites
	weixinPort int    // of the simulator
	host       string // with test: this machine, as the phone reaches it
	test       bool
}

func readOptions(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.StringVar(&o.caddy, "caddy", "./caddy", "the Caddy binary with this plugin")
	flags.StringVar(&o.dir, "dir", ".run", "the folder for all files")
	flags.IntVar(&o.port, "port", portFrom("WECHAT_DEMO_PORT", 8080), "the sites' port")
	flags.IntVar(&o.weixinPort, "weixin-port", portFrom("WECHAT_DEMO_WEIXIN_PORT", 8081), "the simulated WeChat's port")
	flags.StringVar(&o.host, "host", "", "with -test: this machine's address, as the phone reaches it")
	flags.BoolVar(&o.test, "test", false, "log in with the real test account in WECHAT_APP_ID and WECHAT_APP_SECRET")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	var err error
	if o.caddy, err = filepath.Abs(o.caddy); err != nil {
		return o, err
	}
	if o.dir, err = filepath.Abs(o.dir); err != nil {
		return o, err
	}
	return o, os.MkdirAll(o.dir, 0o700)
}

// portFrom lets an unreadable value through as a port that cannot be listened on.
func portFrom(name string, standard int) int {
	value := os.Getenv(name)
	if value == "" {
		return standard
	}
	port, err := strconv.Atoi(value)
	if err != nil {
		return -1
	}
	return port
}

func run(ctx context.Context, args []string) error {
	o, err := readOptions(args)
	if err != nil {
		return err
	}
	show := showSimulated
	if o.test {
		show = showTestAccount
	}
	d := &demo{options: o}
	defer d.close()
	if err := show(ctx, d); err != nil && ctx.Err() == nil {
		return err
	}
	return d.wait(ctx)
}

// showSimulated starts a login between two sites and a simulated WeChat, for any browser.
func showSimulated(ctx context.Context, d *demo) error {
	weixin, err := d.startSimulator()
	if err != nil {
		return err
	}
	s := sites{
		upstream: "", storage: filepath.Join(d.dir, "storage"),
		auth:   fmt.Sprintf("http://auth.localhost:%d", d.port),
		shop:   fmt.Sprintf("http://shop.localhost:%d", d.port),
		weixin: weixin, api: fmt.Sprintf("http://127.0.0.1:%d", d.weixinPort),
	}
	up := &upstream{sites: map[string]string{host(s.auth): s.shop, host(s.shop): s.auth}, weixin: weixin}
	if s.upstream, err = d.startUpstream(up); err != nil {
		return err
	}
	if err := d.free("127.0.0.1", d.port, "port"); err != nil {
		return err
	}
	env := []string{"WECHAT_APP_ID=" + simulatedAppID, "WECHAT_APP_SECRET=" + simulatedSecret}
	if err := d.startCaddy(ctx, s.simulated(), s.auth, env); err != nil {
		return err
	}
	guideSimulated(os.Stdout, s, d.dir)
	return nil
}

// showTestAccount starts one site at this machine's own address, for the phone in the same network.
func showTestAccount(ctx context.Context, d *demo) error {
	if os.Getenv("WECHAT_APP_ID") == "" || os.Getenv("WECHAT_APP_SECRET") == "" {
		return errors.New("WECHAT_APP_ID and WECHAT_APP_SECRET are not set; start it with: ./xcaddy.sh run --test <app id> <secret>")
	}
	if d.host == "" {
		found, err := lanAddress()
		if err != nil {
			return err
		}
		d.host = found
	}
	s := sites{
		storage: filepath.Join(d.dir, "storage"), auth: fmt.Sprintf("http://%s:%d", d.host, d.port),
		weixin: os.Getenv("WECHAT_OPEN_URL"), api: os.Getenv("WECHAT_API_URL"),
	}
	var err error
	if s.upstream, err = d.startUpstream(&upstream{}); err != nil {
		return err
	}
	if err := d.free("", d.port, "port"); err != nil {
		return err
	}
	if err := d.startCaddy(ctx, s.testAccount(), s.auth, nil); err != nil {
		return err
	}
	return guideTestAccount(os.Stdout, s, d.dir)
}
