package integration

import (
	"bufio"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// TestChromium plays the scenarios of browser/*.mjs in a real Chromium, each as a subtest. Pictures of the
// gateway's pages go to output/screenshots, or where WECHAT_SCREENSHOTS says.
func TestChromium(t *testing.T) {
	chromium := needs(t, "chromium", "chromium-browser", "google-chrome")
	node := needs(t, "node")
	needsModule(t, "browser", "playwright-core")
	w := newChromiumWorld(t)
	d := startDriver(t, node, map[string]any{
		"chromium":    chromium,
		"resolve":     w.resolverRules(),
		"issuer":      w.issuerKey(),
		"control":     w.control(),
		"screenshots": screenshotDir(t),
		"openids":     w.openIDs(),
		"zbarimg":     zbarimg(t),
	})
	for _, name := range d.scenarios {
		t.Run(name, func(t *testing.T) {
			for _, failure := range d.play(t, name) {
				t.Error(failure)
			}
		})
	}
}

// needsModule skips a test where `npm ci` has not been run in the folder, or fails it where all tests must run.
func needsModule(t *testing.T, folder, name string) {
	t.Helper()
	module, err := filepath.Abs(filepath.Join(folder, "node_modules", name, "package.json"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(module); err != nil {
		needs(t, name+" (npm ci in integration/"+folder+")")
	}
}

// zbarimg reads QR codes off screenshots; without it they are only drawn.
func zbarimg(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("zbarimg")
	if err != nil && os.Getenv("WECHAT_TEST_ALL") == "1" {
		return needs(t, "zbarimg")
	}
	if err != nil {
		t.Log("not installed: zbarimg; the QR codes are not read; ./xcaddy.sh test installs what the tests need")
	}
	return path
}

func screenshotDir(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("WECHAT_SCREENSHOTS")
	if dir == "" {
		dir = filepath.Join("output", "screenshots")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// chromiumWorld is one gateway with a site for each subject, WeChat's stand-in on https behind the same
// Caddy, and somebody else's site.
type chromiumWorld struct {
	*gateway
	sim *simulator
}

const chromiumSites = `
auth.example.com {
	wechat_broker {
		client campaign {
			public
			return_to https://campaign.example.org/client/*
			scope snsapi_base
		}
		client lottery {
			public
			return_to https://lottery.example.org/client/*
		}
		client office {
			secret {env.CLIENT_SECRET}
			return_to https://office.example.org/client/*
			ask
		}
	}
	wechat_auth {
		public /open/*
	}
	reverse_proxy {upstream}
}
shop.example.org {
	wechat_auth {
		public /open/*
	}
	reverse_proxy {upstream}
}
profile.example.org {
	wechat_auth {
		scope snsapi_userinfo
		public /open/*
	}
	reverse_proxy {upstream}
}
guest.example.org {
	wechat_auth {
		snapshot guest
		public /open/*
	}
	reverse_proxy {upstream}
}
deny.example.org {
	wechat_auth {
		snapshot deny
		public /open/*
	}
	reverse_proxy {upstream}
}
named.example.org, alias.example.org {
	wechat_auth {
		origin https://named.example.org
	}
	reverse_proxy {upstream}
}
campaign.example.org, lottery.example.org, office.example.org {
	reverse_proxy {upstream}
}
other.example.net {
	reverse_proxy {upstream}
}
weixin.example.net {
	reverse_proxy {simulator}
}
`

func newChromiumWorld(t *testing.T) *chromiumWorld {
	t.Helper()
	w := &chromiumWorld{gateway: newGateway(t), sim: newSimulator(t, wechattest.Account{Domains: []string{"auth.example.com"}})}
	upstream := httptest.NewServer(http.HandlerFunc(serveShop))
	t.Cleanup(upstream.Close)
	w.env = append(w.env, "CLIENT_SECRET="+shopSecret)
	w.start("{\n" + w.globals() + "wechat {\n account {\n app_id " + appID + "\n app_secret {env.WECHAT_APP_SECRET}\n domain auth.example.com\n" +
		" open_url https://weixin.example.net\n api_url " + w.sim.url + "\n}\n}\n}\n" +
		strings.NewReplacer("{upstream}", upstream.Listener.Addr().String(), "{simulator}", w.sim.host).Replace(chromiumSites))
	return w
}

// resolverRules lead Chromium's connections to the gateway, and all others nowhere.
func (w *chromiumWorld) resolverRules() string {
	var rules []string
	for _, line := range strings.Split(chromiumSites, "\n") {
		if addresses, ok := strings.CutSuffix(line, " {"); ok && !strings.HasPrefix(line, "\t") {
			for host := range strings.SplitSeq(addresses, ", ") {
				rules = append(rules, fmt.Sprintf("MAP %s:443 127.0.0.1:%d", host, w.https))
			}
		}
	}
	return strings.Join(append(rules, "MAP * ~NOTFOUND"), ",")
}

// issuerKey is the hash by which Chromium knows the key that signed the gateway's certificates.
func (w *chromiumWorld) issuerKey() string {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.dir, "storage", "pki", "authorities", "local", "intermediate.crt"))
	if err != nil {
		w.t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		w.t.Fatal("no certificate")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		w.t.Fatal(err)
	}
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}

func (w *chromiumWorld) openIDs() map[string]string {
	ids := map[string]string{}
	for _, u := range w.sim.Users() {
		ids[u.ID] = w.sim.OpenID(appID, u.ID)
	}
	return ids
}

// control lets the scenarios turn the simulator's knobs (null turns all back) and read its record and the
// gateway's log.
func (w *chromiumWorld) control() string {
	w.t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /knobs", func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if string(body) == "null" {
			w.sim.ResetCalls()
			w.sim.Update(func(k *wechattest.Knobs) { *k = wechattest.Knobs{} })
			return
		}
		w.sim.Update(func(k *wechattest.Knobs) {
			if strings.Contains(string(body), `"Faults"`) {
				k.Faults = nil // JSON would add to it
			}
			if err == nil {
				err = json.Unmarshal(body, k)
			}
		})
		if err != nil {
			http.Error(rw, err.Error(), http.StatusBadRequest)
		}
	})
	mux.HandleFunc("GET /calls", func(rw http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(rw).Encode(w.sim.Calls())
	})
	mux.HandleFunc("GET /log", func(rw http.ResponseWriter, r *http.Request) {
		if !strings.Contains(w.log.String(), r.FormValue("has")) {
			http.NotFound(rw, r)
		}
	})
	server := httptest.NewServer(mux)
	w.t.Cleanup(server.Close)
	return server.URL
}

// shopHTML is what the sites behind the gateway show: what they got of the request, a form, ways out.
var shopHTML = template.Must(template.New("shop").Parse(`<!DOCTYPE html>
<html lang="zh-CN"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><link rel="icon" href="data:,"><title>商店</title></head>
<body><h1>商店</h1><pre id="seen">{{.}}</pre>
<form id="order" method="post" action="/order/submit"><input name="note" value="你好"><button>下单</button></form>
<a id="logout" href="/_wechat/logout">退出</a>
<form id="logout-form" method="post" action="/_wechat/logout"><button>退出</button></form>
<form id="logout-open" method="post" action="/_wechat/logout"><input type="hidden" name="return" value="/open/bye"><button>退出</button></form>
</body></html>`))

const attackHTML = `<!DOCTYPE html><meta charset="utf-8"><link rel="icon" href="data:,"><title>other</title>
<a id="link" href="https://shop.example.org/_wechat/logout">link</a>
<form id="form" method="post" action="https://shop.example.org/_wechat/logout"><button>form</button></form>`

// noisyHTML does all that the gateway's pages must not do, to see that it is noticed.
const noisyHTML = `<!DOCTYPE html><meta charset="utf-8"><link rel="icon" href="data:,">
<meta http-equiv="Content-Security-Policy" content="script-src 'nonce-a'"><script>document.title = 'never'</script>
<script nonce="a">
addEventListener('load', () => setTimeout(() => document.title = 'done', 0));
new Image().src = 'https://foreign.invalid/x.png';
throw new Error('on purpose');
</script>`

func serveShop(w http.ResponseWriter, r *http.Request) {
	html := "text/html; charset=utf-8"
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	got, _ := json.Marshal(struct {
		seen
		Body string
	}{seen{r.Method, r.RequestURI, r.Host, r.Header, r.Trailer}, string(body)})
	switch {
	case strings.HasPrefix(r.URL.Path, "/api/"):
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(got)
	case r.URL.Path == "/attack":
		w.Header().Set("Content-Type", html)
		_, _ = io.WriteString(w, attackHTML)
	case r.URL.Path == "/client/page.html" || r.URL.Path == "/client/slash.html":
		http.ServeFile(w, r, "clients/page.html")
	case r.URL.Path == "/noisy":
		w.Header().Set("Content-Type", html)
		_, _ = io.WriteString(w, noisyHTML)
	default:
		w.Header().Set("Content-Type", html)
		w.Header().Set("Cache-Control", "no-store") // as PHP says with session_start; else the back button shows old pages
		_ = shopHTML.Execute(w, string(got))
	}
}

// driver is browser/run.mjs, which plays the scenarios one by one.
type driver struct {
	scenarios []string
	in        io.Writer
	lines     chan []byte
	log       *logBuffer
}

func startDriver(t *testing.T, node string, config map[string]any) *driver {
	t.Helper()
	settings, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	d := &driver{lines: make(chan []byte), log: new(logBuffer)}
	cmd := exec.Command(node, "run.mjs")
	cmd.Dir, cmd.Stderr = "browser", d.log
	cmd.Env = append(os.Environ(), "WECHAT_BROWSER_TESTS="+string(settings))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(d.lines)
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			d.lines <- append([]byte(nil), scanner.Bytes()...)
		}
	}()
	t.Cleanup(func() {
		_ = in.Close() // it ends by itself, and Chromium with it
		timer := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		for range d.lines {
		}
		<-read
		_ = cmd.Wait()
		timer.Stop()
		if t.Failed() {
			t.Logf("the driver's errors:\n%s", d.log.tail(4000))
		}
	})
	d.in = in
	var hello struct{ Scenarios []string }
	d.read(t, &hello)
	d.scenarios = hello.Scenarios
	return d
}

// play runs one scenario and returns what failed.
func (d *driver) play(t *testing.T, name string) []string {
	t.Helper()
	if _, err := io.WriteString(d.in, name+"\n"); err != nil {
		t.Fatal(err)
	}
	var result struct {
		Name     string
		Failures []string
	}
	d.read(t, &result)
	if result.Name != name {
		t.Fatalf("the driver played %q", result.Name)
	}
	return result.Failures
}

func (d *driver) read(t *testing.T, v any) {
	t.Helper()
	select {
	case line, ok := <-d.lines:
		if !ok {
			t.Fatalf("the driver ended:\n%s", d.log.tail(4000))
		}
		if err := json.Unmarshal(line, v); err != nil {
			t.Fatalf("%v: %.500s", err, line)
		}
	case <-time.After(2 * time.Minute):
		t.Fatalf("the driver does not answer:\n%s", d.log.tail(4000))
	}
}
