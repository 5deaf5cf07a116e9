package integration

import (
	"bytes"
	"context"
	"fmt"
	"image/color"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/boombuler/barcode/qr"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

const desktopChrome = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"

// shell is a running xcaddy.sh.
type shell struct {
	t      *testing.T
	cmd    *exec.Cmd
	home   string // its user's home, and folder for temporary files
	dir    string // where it may write
	out    *logBuffer
	exited chan error
}

// startScript runs xcaddy.sh as an ordinary user's shell does: in a process group that gets Ctrl-C as a whole.
func startScript(t *testing.T, env []string, args ...string) *shell {
	t.Helper()
	s := &shell{t: t, home: t.TempDir(), dir: filepath.Join(t.TempDir(), "run of the demo"), out: new(logBuffer), exited: make(chan error, 1)}
	s.cmd = exec.Command("../xcaddy.sh", args...)
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH"} {
		value, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		env = append(env, name+"="+strings.TrimSpace(string(value)))
	}
	s.cmd.Env = append(os.Environ(), "WECHAT_APP_ID=", "CADDY_BIN="+caddyBinary, "WECHAT_RUN_DIR="+s.dir, "HOME="+s.home, "TMPDIR="+s.home)
	s.cmd.Env = append(s.cmd.Env, env...)
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.out
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.exited <- s.cmd.Wait() }()
	t.Cleanup(func() { _ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) })
	return s
}

// awaitAddress waits for the address that the output ends with.
func (s *shell) awaitAddress(address string) {
	s.t.Helper()
	for range 3000 {
		if strings.HasSuffix(s.out.String(), "\n  "+address+"\n") {
			return
		}
		select {
		case err := <-s.exited:
			s.t.Fatalf("ended: %v\n%s", err, s.out.String())
		case <-time.After(50 * time.Millisecond):
		}
	}
	s.t.Fatalf("no address:\n%s", s.out.String())
}

// interrupt is Ctrl-C. It fails if anything is left: an exit code, a process, a file.
func (s *shell) interrupt() {
	s.t.Helper()
	if err := syscall.Kill(-s.cmd.Process.Pid, syscall.SIGINT); err != nil {
		s.t.Fatal(err)
	}
	select {
	case err := <-s.exited:
		if err != nil {
			s.t.Errorf("after Ctrl-C: %v\n%s", err, s.out.String())
		}
	case <-time.After(20 * time.Second):
		s.t.Fatal("Ctrl-C did not end it")
	}
	if left := processesWith(s.t, "WECHAT_RUN_DIR="+s.dir); len(left) > 0 {
		s.t.Errorf("left behind: %q", left)
	}
	if left, _ := os.ReadDir(s.home); len(left) > 0 {
		s.t.Errorf("left in the home: %v", left)
	}
}

// processesWith are the command lines of processes whose environment has an entry.
func processesWith(t *testing.T, entry string) (list []string) {
	t.Helper()
	environs, _ := filepath.Glob("/proc/[0-9]*/environ")
	if runtime.GOOS == "linux" && len(environs) == 0 {
		t.Fatal("no list of processes")
	}
	for _, path := range environs {
		environ, err := os.ReadFile(path)
		if err == nil && bytes.Contains(environ, []byte(entry+"\x00")) {
			line, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
			list = append(list, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return list
}

// toLoopback leads every host to this machine, as browsers do with *.localhost.
func toLoopback(ctx context.Context, network, addr string) (net.Conn, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	return d.DialContext(ctx, network, "127.0.0.1:"+port)
}

func click(t *testing.T, b *wechattest.Browser, p *wechattest.Page, text string) *wechattest.Page {
	t.Helper()
	next, err := b.Click(t.Context(), p, text)
	if err != nil {
		t.Fatalf("%s: %v\n%s", p.URL, err, p.Body)
	}
	return next
}

// wantShown checks the page that shows who somebody is.
func wantShown(t *testing.T, p *wechattest.Page, address string, texts ...string) {
	t.Helper()
	if got := strings.TrimSuffix(p.URL.String(), "#"); got != address {
		t.Errorf("at %s, want %s", got, address)
	}
	for _, text := range append(texts, `id="no-cookie"`) {
		if !strings.Contains(string(p.Body), text) {
			t.Errorf("%s lacks %q:\n%s", address, text, p.Body)
		}
	}
}

// TestDemo clicks through the demo as a desktop browser: a silent login on the bound domain, one with the
// profile across domains.
func TestDemo(t *testing.T) {
	port, weixin := freePort(t), freePort(t)
	auth, shop := fmt.Sprintf("http://auth.localhost:%d", port), fmt.Sprintf("http://shop.localhost:%d", port)
	s := startScript(t, []string{fmt.Sprintf("WECHAT_DEMO_PORT=%d", port)}, "run", "--weixin-port", fmt.Sprint(weixin))
	s.awaitAddress(auth + "/")
	b := wechattest.NewBrowser(wechattest.BrowserOptions{UserAgent: desktopChrome, Dial: toLoopback})
	t.Cleanup(b.Close)

	p := click(t, b, open(t, b, auth+"/"), "静默登录")
	p = click(t, b, p, "李娜")
	p = click(t, b, p, "允许")
	wantShown(t, p, auth+"/me", "oSimA1-lina_", "snsapi_base", "demo_visits")

	p = click(t, b, p, "另一个域名")
	p = click(t, b, p, "登录")
	p = click(t, b, p, "允许")
	wantShown(t, p, shop+"/me", "oSimA1-lina_", "李娜🌸", "%E6%9D%8E%E5%A8%9C%F0%9F%8C%B8", "snsapi_userinfo", "avatar.svg?id=lina")

	p = click(t, b, p, "Log out")
	if !strings.HasSuffix(p.URL.Path, "/bye") {
		t.Errorf("logged out at %s", p.URL)
	}
	s.interrupt()
}

// TestDemoWithATestAccount has the simulator in the place of the real test account.
func TestDemoWithATestAccount(t *testing.T) {
	const secret = "fedcba9876543210fedcba9876543210"
	port := freePort(t)
	host := fmt.Sprintf("127.0.0.1:%d", port)
	sim := newSimulator(t, wechattest.Account{Secret: secret, Test: true, Domains: []string{host}})
	s := startScript(t, []string{"WECHAT_OPEN_URL=" + sim.url, "WECHAT_API_URL=" + sim.url},
		"run", "--port", fmt.Sprint(port), "--host", "127.0.0.1", "--test", appID, secret)
	s.awaitAddress("http://" + host + "/")

	for _, hint := range []string{"\n     " + host + "\n", "网页授权获取用户基本信息", "授权回调页面域名", "接口测试号申请", "10006"} {
		if !strings.Contains(s.out.String(), hint) {
			t.Errorf("the output lacks %q", hint)
		}
	}
	wantQR(t, s.out.String(), "http://"+host+"/")
	wantNowhere(t, secret, s.dir, s.out.String())

	b := wechattest.NewBrowser(wechattest.BrowserOptions{Simulators: []string{sim.host}, User: "lina"})
	t.Cleanup(b.Close)
	p := click(t, b, open(t, b, "http://"+host+"/"), "静默登录")
	wantShown(t, p, "http://"+host+"/me", "oSimA1-lina_", "snsapi_base")
	p = click(t, b, p, "要头像昵称")
	p = click(t, b, p, "登录")
	wantShown(t, p, "http://"+host+"/profile", "李娜🌸", "snsapi_userinfo")
	wantNowhere(t, secret, s.dir, s.out.String())
	s.interrupt()
}

// wantNowhere looks for a secret in files, output and command lines.
func wantNowhere(t *testing.T, secret, dir, output string) {
	t.Helper()
	if strings.Contains(output, secret) {
		t.Error("the secret is in the output")
	}
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if bytes.Contains(text, []byte(secret)) {
			t.Errorf("the secret is in %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range lines {
		if line, _ := os.ReadFile(path); bytes.Contains(line, []byte(secret)) {
			t.Errorf("the secret is in a command line: %q", line)
		}
	}
}

var qrLine = regexp.MustCompile("(?m)^ *\x1b\\[38;5;16;48;5;231m([ █▀▄]+)\x1b\\[0m$")

// wantQR reads the QR code off the terminal: black on white, with four modules of margin.
func wantQR(t *testing.T, output, text string) {
	t.Helper()
	code, err := qr.Encode(text, qr.M, qr.Unicode)
	if err != nil {
		t.Fatal(err)
	}
	lines := qrLine.FindAllStringSubmatch(output, -1)
	size := code.Bounds().Dx()
	if len(lines) != (size+9)/2 {
		t.Fatalf("%d lines of QR code, want %d:\n%s", len(lines), (size+9)/2, output)
	}
	for y := range size {
		row := []rune(lines[(y+4)/2][1])
		for x := range size {
			dark := strings.ContainsRune([]string{"█▀", "█▄"}[y%2], row[x+4])
			if dark != (code.At(x, y) == color.Black) {
				t.Fatalf("module %d,%d is wrong", x, y)
			}
		}
	}
}

func TestDemoSaysWhichPortIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	for _, flag := range []string{"--port", "--weixin-port"} {
		other := map[string]string{"--port": "--weixin-port", "--weixin-port": "--port"}[flag]
		s := startScript(t, nil, "run", flag, fmt.Sprint(port), other, fmt.Sprint(freePort(t)))
		if err := <-s.exited; err == nil {
			t.Error("no error")
		}
		if out := s.out.String(); !strings.Contains(out, fmt.Sprintf("port %d ", port)) || !strings.Contains(out, flag+" <n>") {
			t.Errorf("%s: %s", flag, out)
		}
		if left := processesWith(t, "WECHAT_RUN_DIR="+s.dir); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	}
}
