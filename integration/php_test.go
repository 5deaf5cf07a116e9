package integration

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// startPHP runs PHP-FPM and returns its socket. It serves as whoever runs the tests, root too. Env is what its
// applications find in their environment, as NAME=value.
func startPHP(t *testing.T, env ...string) string {
	t.Helper()
	fpm := needs(t, "php-fpm8.2", "php-fpm8.4", "php-fpm8.3", "php-fpm8.1", "php-fpm",
		"/usr/sbin/php-fpm8.2", "/usr/sbin/php-fpm8.4", "/usr/sbin/php-fpm8.3", "/usr/sbin/php-fpm8.1", "/usr/sbin/php-fpm")
	dir, err := os.MkdirTemp("", "fpm-") // short: a socket's path has 107 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "fpm.sock")
	conf := fmt.Sprintf(`[global]
error_log = /dev/stderr
daemonize = no
[shop]
listen = %s
pm = static
pm.max_children = 4
catch_workers_output = yes
php_admin_value[session.save_path] = %s
php_admin_value[error_log] = /dev/stderr
php_admin_flag[log_errors] = on
php_admin_flag[display_errors] = off
`, socket, dir)
	for _, pair := range env {
		name, value, _ := strings.Cut(pair, "=")
		conf += "env[" + name + "] = " + value + "\n"
	}
	args := []string{"-n", "-F", "-y", filepath.Join(dir, "fpm.conf")}
	if os.Getuid() == 0 {
		conf += "user = root\ngroup = root\n"
		args = append(args, "-R")
	}
	if err := os.WriteFile(filepath.Join(dir, "fpm.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	out := new(logBuffer)
	cmd := exec.Command(fpm, args...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		<-exited
		if t.Failed() || strings.Contains(out.String(), "PHP ") {
			t.Logf("PHP-FPM:\n%s", out.tail(4000))
		}
		if strings.Contains(out.String(), "PHP Warning") || strings.Contains(out.String(), "PHP Fatal") {
			t.Error("the PHP application has warnings")
		}
	})
	awaitSocket(t, socket, exited, out)
	return socket
}

func awaitSocket(t *testing.T, socket string, exited <-chan struct{}, out *logBuffer) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		select {
		case <-exited:
			t.Fatalf("PHP-FPM ended:\n%s", out.tail(4000))
		default:
		}
		if conn, err := net.Dial("unix", socket); err == nil {
			_ = conn.Close()
			return
		}
	}
	t.Fatalf("PHP-FPM did not start:\n%s", out.tail(4000))
}

// phpRoot is the application's folder.
func phpRoot(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("php")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

const phpPublic = "public /dump.php /pay/notify.php /errors/*"

// openedAliases: an operator who lets through the spellings that Caddy drops by itself.
const openedAliases = `
	servers {
		expected_underscore_headers x_wechat_* x-wechat_openid x_wechat-openid x_wechat.openid webhook_id
		expected_dot_headers x.wechat.* x-wechat.openid x.wechat-openid webhook.id
	}
`

// phpWorld is the PHP application behind the gateway, on the bound domain itself and on another.
func phpWorld(t *testing.T, globals, auth string) *world {
	t.Helper()
	socket := startPHP(t)
	return newWorld(t, wechattest.Account{Domains: []string{"auth.example.com"}}, func(w *world) string {
		site := func(first string) string {
			return first + "\n wechat_auth {\n " + phpPublic + "\n " + auth + "\n}\n root * " + phpRoot(t) + "\n php_fastcgi unix/" + socket + "\n file_server\n"
		}
		return "{\n" + w.globals() + globals + w.options("auth.example.com", "") + "}\n" +
			"auth.example.com {\n" + site("wechat_broker") + "}\n" +
			"shop.example.org {\n" + site("") + "}\n"
	})
}

var phpVar = regexp.MustCompile(`<dd id="([a-z_]+)">([^<]*)</dd>`)

// readPHP reads a page of the PHP application.
func readPHP(t *testing.T, p *wechattest.Page) map[string]string {
	t.Helper()
	wantStatus(t, p, http.StatusOK)
	vars := map[string]string{}
	for _, m := range phpVar.FindAllStringSubmatch(string(p.Body), -1) {
		vars[m[1]] = html.UnescapeString(m[2])
	}
	if vars["title"] == "" {
		t.Fatalf("%s is not a page of the PHP application:\n%.1000s", p.URL, p.Body)
	}
	return vars
}

// phpDump is PHP's view of a request: $_SERVER and the rest.
type phpDump struct {
	Server map[string]any `json:"server"`
	Cookie any            `json:"cookie"`
	Body   string         `json:"body"`
}

func readDump(t *testing.T, body []byte) phpDump {
	t.Helper()
	var d phpDump
	if err := json.Unmarshal(body, &d); err != nil {
		t.Fatalf("not a dump of PHP's: %v\n%.1000s", err, body)
	}
	return d
}

func (d phpDump) str(key string) string {
	s, _ := d.Server[key].(string)
	return s
}

// identity is what of $_SERVER could be taken for the gateway's word, whatever its spelling.
func (d phpDump) identity() map[string]string {
	found := map[string]string{}
	for key := range d.Server {
		folded := strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' {
				return r - 'a' + 'A'
			}
			if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
				return r
			}
			return -1
		}, key)
		if strings.HasPrefix(folded, "HTTPXWECHAT") || strings.HasPrefix(folded, "XWECHAT") {
			found[key] = d.str(key)
		}
	}
	return found
}

func wantIdentity(t *testing.T, d phpDump, want map[string]string) {
	t.Helper()
	got := d.identity()
	if fmt.Sprint(got) != fmt.Sprint(want) { // maps print sorted
		t.Errorf("PHP got the identity\n %v, want\n %v", got, want)
	}
	if d.str("REMOTE_USER") != want["HTTP_X_WECHAT_OPENID"] {
		t.Errorf("PHP got REMOTE_USER %q, want %q", d.str("REMOTE_USER"), want["HTTP_X_WECHAT_OPENID"])
	}
}

// baseIdentity is all that PHP gets of a user with scope snsapi_base.
func baseIdentity(w *world, user string) map[string]string {
	return map[string]string{
		"HTTP_X_WECHAT_OPENID": w.sim.OpenID(appID, user),
		"HTTP_X_WECHAT_APPID":  appID,
		"HTTP_X_WECHAT_SCOPE":  "snsapi_base",
	}
}

// raw sends bytes as they are over TLS with HTTP/1.1, and reads one answer.
func (g *gateway) raw(t *testing.T, host, request string) (*http.Response, []byte) {
	t.Helper()
	conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", g.https), &tls.Config{ServerName: host, RootCAs: g.roots(), NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, body
}

// rawGet is a GET with header lines as they are written.
func rawGet(host, uri string, lines ...string) string {
	all := append([]string{"GET " + uri + " HTTP/1.1", "Host: " + host}, lines...)
	return strings.Join(all, "\r\n") + "\r\n\r\n"
}

// sessionCookie is the browser's session at a site, as a Cookie header has it.
func sessionCookie(t *testing.T, b *wechattest.Browser, site string) string {
	t.Helper()
	for _, c := range b.Cookies(site) {
		if c.Name == "__Host-wechat_session" {
			return c.Name + "=" + c.Value
		}
	}
	t.Fatalf("no session cookie at %s: %v", site, b.Cookies(site))
	return ""
}

func TestPHPLogin(t *testing.T) {
	w := phpWorld(t, "", "")
	openid := w.sim.OpenID(appID, "lina")
	cases := []struct{ name, site, uri, title string }{
		{"a script on the bound domain", "https://auth.example.com", "/member/orders.php?x=1", "我的订单"},
		{"a script on another domain", "https://shop.example.org", "/member/orders.php?x=1&&y=%2F%20a+b&z=%e5%a5%BD&=&q", "我的订单"},
		{"a path that the front controller serves", "https://shop.example.org", "/pretty/url", "伪静态"},
		{"a path of Chinese, blanks and escapes", "https://shop.example.org", "/pretty/%E4%BD%A0%e5%a5%BD/a%20b/c+d?k=%E4%BD%A0&e=%26%3D", "伪静态"},
		{"the front page", "https://auth.example.com", "/", "首页"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := w.browser(w.sim, wechattest.BrowserOptions{User: "lina"})
			p := open(t, b, c.site+c.uri)
			got := readPHP(t, p)
			if got["uri"] != c.uri || got["title"] != c.title {
				t.Errorf("PHP served %q for %q, want %q for %q", got["title"], got["uri"], c.title, c.uri)
			}
			if got["openid"] != openid || got["remote_user"] != openid {
				t.Errorf("PHP got openid %q and REMOTE_USER %q, want %q", got["openid"], got["remote_user"], openid)
			}
			if got["uid"] != "1002" || got["level"] != "VIP" {
				t.Errorf("the user table gave %q %q for the openid", got["uid"], got["level"])
			}
			if bar := strings.TrimSuffix(p.URL.String(), "#"); bar != c.site+c.uri {
				t.Errorf("the address bar shows %s, want %s", bar, c.site+c.uri)
			}
		})
	}
}

// TestPHPTryFiles: a try_files of the operator's own runs before wechat_auth, which then sees /index.php
// for pages and for its own endpoints.
func TestPHPTryFiles(t *testing.T) {
	socket := startPHP(t)
	w := newWorld(t, wechattest.Account{Domains: []string{"auth.example.com"}}, func(w *world) string {
		return "{\n" + w.globals() + w.options("auth.example.com", "") + "}\nauth.example.com {\n wechat_broker\n}\n" +
			"shop.example.org {\n @member path /member/* /order/*\n wechat_auth @member {\n public /dump.php\n}\n root * " + phpRoot(t) +
			"\n try_files {path} /index.php\n php_fastcgi unix/" + socket + "\n}\n"
	})
	b := w.browser(w.sim, wechattest.BrowserOptions{User: "lina"})
	p := open(t, b, "https://shop.example.org/pretty/url?a=1")
	if got := readPHP(t, p); got["openid"] != "" || got["remote_user"] != "" || len(p.Redirects) != 0 {
		t.Errorf("a page outside the matcher asked for a login or had an identity: %v %v", p.Redirects, got)
	}
	p = open(t, b, "https://shop.example.org/member/no-such-file/1?b=%2F")
	if got := readPHP(t, p); got["openid"] != w.sim.OpenID(appID, "lina") || got["uri"] != "/member/no-such-file/1?b=%2F" {
		t.Errorf("a protected path that is rewritten to /index.php: %v", got)
	}
	if got := readPHP(t, open(t, b, "https://shop.example.org/pretty/url?a=1")); got["openid"] != w.sim.OpenID(appID, "lina") {
		t.Errorf("a known user is not recognised outside the matcher: %v", got)
	}
}

// TestPHPCookies: the application keeps its own cookies, byte for byte and in order; the gateway's it
// never sees, not even stale or forged ones.
func TestPHPCookies(t *testing.T) {
	w := phpWorld(t, "", "")
	b := w.browser(w.sim, wechattest.BrowserOptions{User: "lina"})
	first := readPHP(t, open(t, b, "https://shop.example.org/"))
	second := readPHP(t, open(t, b, "https://shop.example.org/"))
	if first["visits"] != "1" || second["visits"] != "2" {
		t.Errorf("PHP counted the visits of one session as %s and %s", first["visits"], second["visits"])
	}
	session := sessionCookie(t, b, "https://shop.example.org/")
	cases := []struct{ name, sent, want string }{
		{"the session alone", session, ""},
		{"first", session + "; PHPSESSID=0123abc; theme=dark", "PHPSESSID=0123abc; theme=dark"},
		{"last", `PHPSESSID=0123abc; cart="a b,c"; odd=%20+=x; ` + session, `PHPSESSID=0123abc; cart="a b,c"; odd=%20+=x`},
		{"in the middle", "b=2;a=1;  " + session + ";PHPSESSID=x; a=1", "b=2;a=1;PHPSESSID=x; a=1"},
		{
			"stale, unprefixed and forged ones", "PHPSESSID=x; wechat_session=a; " + session + "; __Host-wechat_session_login_0aB=b; wechat_session_8443=c; wechat_sessions=mine; __Host-wechat_session_guest=d",
			"PHPSESSID=x; wechat_sessions=mine",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, body := w.raw(t, "shop.example.org", rawGet("shop.example.org", "/member/dump.php", "Cookie: "+c.sent))
			d := readDump(t, body)
			if got := d.str("HTTP_COOKIE"); got != c.want {
				t.Errorf("PHP got the cookies\n %q, want\n %q", got, c.want)
			}
			wantIdentity(t, d, baseIdentity(w, "lina"))
		})
	}
}

// TestPHPProfile: the nickname arrives percent-encoded, and rawurldecode gives it back.
func TestPHPProfile(t *testing.T) {
	w := phpWorld(t, "", "scope snsapi_userinfo")
	for _, c := range []struct{ user, nickname string }{
		{"lina", "李娜🌸"},
		{"wangfang", "王芳👩‍💻"},
		{"noavatar", "没有头像"},
	} {
		t.Run(c.user, func(t *testing.T) {
			b := w.browser(w.sim, wechattest.BrowserOptions{User: c.user})
			p := open(t, b, "https://shop.example.org/member/orders.php?x=1")
			wantStatus(t, p, http.StatusOK)
			p, err := b.Click(t.Context(), p, "微信登录")
			if err != nil {
				t.Fatal(err)
			}
			got := readPHP(t, p)
			if got["nickname"] != c.nickname || got["openid"] != w.sim.OpenID(appID, c.user) || got["uri"] != "/member/orders.php?x=1" {
				t.Errorf("PHP got %q, want the nickname %q", got, c.nickname)
			}
			d := readDump(t, open(t, b, "https://shop.example.org/member/dump.php").Body)
			if d.str("HTTP_X_WECHAT_SCOPE") != "snsapi_userinfo" || d.str("HTTP_X_WECHAT_UNIONID") == "" {
				t.Errorf("PHP got the identity %v", d.identity())
			}
			if _, has := d.Server["HTTP_X_WECHAT_HEADIMGURL"]; has != (c.user != "noavatar") {
				t.Errorf("PHP got the picture: %v", has)
			}
		})
	}
}

func TestPHPPosts(t *testing.T) {
	w := phpWorld(t, "", "")
	c := w.client()
	t.Run("a payment notice reaches its public path", func(t *testing.T) {
		notice := "<xml><return_code><![CDATA[SUCCESS]]></return_code><openid><![CDATA[oSimA1-lina_0000000000000002]]></openid></xml>"
		resp, body := do(t, c, http.MethodPost, "https://shop.example.org/pay/notify.php", http.Header{"Content-Type": {"text/xml"}}, strings.NewReader(notice))
		if resp.StatusCode != http.StatusOK || !strings.Contains(body, "SUCCESS") || len(resp.Cookies()) != 0 {
			t.Errorf("the notice got %d, cookies %v: %s", resp.StatusCode, resp.Cookies(), body)
		}
	})
	b := w.browser(w.sim, wechattest.BrowserOptions{User: "lina"})
	form := url.Values{"name": {"李娜🌸"}, "note": {"a=b&c d\r\n+%"}}
	t.Run("a form without a session gets a page and reaches nobody", func(t *testing.T) {
		page := &wechattest.Page{URL: &url.URL{Scheme: "https", Host: "shop.example.org", Path: "/order/new", RawQuery: "id=7"}, Header: http.Header{}}
		p, err := b.PostForm(t.Context(), page, "/order/submit", form)
		if err != nil {
			t.Fatal(err)
		}
		wantStatus(t, p, http.StatusUnauthorized)
		if !strings.Contains(string(p.Body), "登录已结束") || !strings.Contains(p.Header.Get("Content-Type"), "text/html") {
			t.Errorf("a form's sender got %.600s", p.Body)
		}
		if len(b.Cookies("https://shop.example.org/")) != 0 {
			t.Errorf("the refusal set cookies: %v", b.Cookies("https://shop.example.org/"))
		}
		// Its button leads back to the form, through a login.
		p, err = b.Click(t.Context(), p, "返回表单页面")
		if err != nil {
			t.Fatal(err)
		}
		if got := readPHP(t, p); got["uri"] != "/order/new?id=7" || got["openid"] == "" {
			t.Errorf("the button led to %v", got)
		}
	})
	t.Run("a form with a session keeps its body", func(t *testing.T) {
		p, err := b.PostForm(t.Context(), open(t, b, "https://shop.example.org/order/new?id=7"), "/order/submit", form)
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			OpenID string            `json:"openid"`
			Post   map[string]string `json:"post"`
			Body   string            `json:"body"`
		}
		if err := json.Unmarshal(p.Body, &got); err != nil {
			t.Fatalf("%v\n%.600s", err, p.Body)
		}
		if got.OpenID != w.sim.OpenID(appID, "lina") || got.Body != form.Encode() || got.Post["name"] != form.Get("name") || got.Post["note"] != form.Get("note") {
			t.Errorf("PHP got %+v", got)
		}
	})
	t.Run("a large body arrives whole", func(t *testing.T) {
		large := strings.Repeat("0123456789abcdef", 1<<16)
		resp, body := do(t, c, http.MethodPost, "https://shop.example.org/member/dump.php",
			http.Header{"Content-Type": {"application/octet-stream"}, "Cookie": {sessionCookie(t, b, "https://shop.example.org/")}}, strings.NewReader(large))
		if d := readDump(t, []byte(body)); resp.StatusCode != http.StatusOK || d.Body != large {
			t.Errorf("status %d, %d bytes of %d", resp.StatusCode, len(d.Body), len(large))
		}
	})
	t.Run("a script without a session gets JSON", func(t *testing.T) {
		resp, body := get(t, c, "https://shop.example.org/member/orders.php", http.Header{"User-Agent": {wechattest.UserAgentAndroid}, "Accept": {"application/json"}, "Sec-Fetch-Mode": {"cors"}})
		if resp.StatusCode != http.StatusUnauthorized || !strings.Contains(body, `"code":1001`) {
			t.Errorf("%d %s", resp.StatusCode, body)
		}
	})
}

func TestPHPLogout(t *testing.T) {
	w := phpWorld(t, "", "")
	b := w.browser(w.sim, wechattest.BrowserOptions{User: "lina"})
	p := open(t, b, "https://shop.example.org/")
	stolen := sessionCookie(t, b, "https://shop.example.org/")
	p, err := b.Click(t.Context(), p, "退出")
	if err != nil {
		t.Fatal(err)
	}
	wantStatus(t, p, http.StatusOK)
	if p.URL.Path != "/_wechat/bye" || !strings.Contains(string(p.Body), "你已退出登录") {
		t.Errorf("the logout ended at %s:\n%.600s", p.URL, p.Body)
	}
	d := readDump(t, open(t, b, "https://shop.example.org/dump.php").Body)
	wantIdentity(t, d, nil)
	if !strings.HasPrefix(d.str("HTTP_COOKIE"), "PHPSESSID=") {
		t.Errorf("the application's own cookie went with the logout: %q", d.str("HTTP_COOKIE"))
	}
	_, body := w.raw(t, "shop.example.org", rawGet("shop.example.org", "/dump.php", "Cookie: "+stolen))
	wantIdentity(t, readDump(t, body), nil)
	p, err = b.Click(t.Context(), open(t, b, "https://shop.example.org/_wechat/bye"), "微信登录")
	if err != nil {
		t.Fatal(err)
	}
	if got := readPHP(t, p); got["openid"] != w.sim.OpenID(appID, "lina") || got["uri"] != "/" {
		t.Errorf("the login button led to %v", got)
	}
}

// TestPHPBasicAuth: beside basic_auth the openid is the REMOTE_USER, and an error page that PHP renders
// before wechat_auth had its turn gets no forged identity.
func TestPHPBasicAuth(t *testing.T) {
	socket := startPHP(t)
	w := newWorld(t, wechattest.Account{Domains: []string{"auth.example.com"}}, func(w *world) string {
		fastcgi := " root * " + phpRoot(t) + "\n php_fastcgi unix/" + socket + "\n"
		return "{\n" + w.globals() + openedAliases + w.options("", "") + "}\n" +
			"auth.example.com {\n basic_auth /member/* {\n bob " + hashOf(t, "secret") + "\n}\n" +
			" wechat_auth {\n " + phpPublic + "\n}\n" + fastcgi +
			" handle_errors {\n wechat_auth\n rewrite * /errors/error.php?code={err.status_code}\n" + fastcgi + "}\n}\n"
	})
	b := w.browser(w.sim, wechattest.BrowserOptions{User: "lina"})
	wantStatus(t, open(t, b, "https://auth.example.com/"), http.StatusOK)
	session := sessionCookie(t, b, "https://auth.example.com/")
	const basic = "Authorization: Basic Ym9iOnNlY3JldA==" // bob:secret

	t.Run("both: REMOTE_USER is the openid", func(t *testing.T) {
		_, body := w.raw(t, "auth.example.com", rawGet("auth.example.com", "/member/dump.php", "Cookie: "+session, basic))
		wantIdentity(t, readDump(t, body), baseIdentity(w, "lina"))
	})
	t.Run("the password alone logs nobody in", func(t *testing.T) {
		resp, _ := w.raw(t, "auth.example.com", rawGet("auth.example.com", "/member/dump.php", basic, "User-Agent: MicroMessenger", "Accept: text/html"))
		if resp.StatusCode != http.StatusFound {
			t.Errorf("status %d", resp.StatusCode)
		}
	})
	t.Run("an error page of a known user has theirs", func(t *testing.T) {
		resp, body := w.raw(t, "auth.example.com", rawGet("auth.example.com", "/member/dump.php", "Cookie: PHPSESSID=x; "+session, "X_Wechat_Openid: oSimA1-zhangwei_000000000001"))
		if resp.StatusCode != http.StatusUnauthorized {
			t.Fatalf("status %d", resp.StatusCode)
		}
		d := readDump(t, body)
		wantIdentity(t, d, baseIdentity(w, "lina"))
		if got := d.str("HTTP_COOKIE"); got != "PHPSESSID=x" {
			t.Errorf("PHP got the cookies %q", got)
		}
	})
}

// hashOf is what `caddy hash-password` makes of a password, cheaper than by default: the race detector makes that take seconds.
func hashOf(t *testing.T, password string) string {
	t.Helper()
	out, err := exec.Command(caddyBinary, "hash-password", "--bcrypt-cost", "6", "--plaintext", password).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
