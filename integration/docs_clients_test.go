package integration

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

const documentedSecret = "harmless-value-of-more-than-32-bytes"

// The PHP of the page for wxauth's users, as it stands but for the test's proxy and a last line that says who
// is signed in.
func TestDocumentedPHP(t *testing.T) {
	g := newGateway(t)
	proxy := legacyProxy(t, g)
	text := documentedBlock(t, "php", "docs/wxauth.md", "Client by client")
	text = strings.Replace(text, "['http' => [", "['http' => ['proxy' => 'tcp://"+proxy+"', ", 1) + "echo json_encode($_SESSION);\n"
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "login.php"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	socket := startPHP(t, "env[SHOP_SECRET] = "+documentedSecret, "php_admin_value[openssl.cafile] = "+g.root())
	w := documentedWorldOf(t, g, "docs/wxauth.md", "The Caddyfile", "shop.example.org {\n root "+root+"\n respond /other \"welcome back\"\n php_fastcgi unix/"+socket+"\n}\n", documentedHome, "respond home")
	b := w.browser(w.sim, wechattest.BrowserOptions{User: "lina"})
	var said struct{ OpenID string }
	legacyPage(t, b, "https://shop.example.org/login.php", &said)
	if said.OpenID != w.sim.OpenID(appID, "lina") {
		t.Errorf("signed in as %q", said.OpenID)
	}
	if p := legacyPage(t, b, "https://shop.example.org/login.php", &said); len(p.Redirects) != 0 {
		t.Errorf("a second visit led to %v", p.Redirects)
	}
	// Attack: somebody's own ticket, brought to the visitor's browser.
	mallory := landed(t, open(t, w.browser(w.sim, wechattest.BrowserOptions{User: "mallory"}), startV2("https://shop.example.org/other", "x")), "https://shop.example.org/other")
	p := open(t, w.browser(w.sim, wechattest.BrowserOptions{User: "lina"}), "https://shop.example.org/login.php?ticket="+mallory.Get("ticket")+"&state=x")
	canaryOf(t).spent(mallory.Get("ticket"))
	if strings.Contains(string(p.Body), "openid") {
		t.Errorf("signed in by somebody's ticket: %s", p.Body)
	}
}

// And its Python.
func TestDocumentedPython(t *testing.T) {
	w := documentedWorld(t, "docs/wxauth.md", "The Caddyfile", "shop.example.org {\n respond \"welcome back\"\n}\n", documentedHome, "respond home")
	q := landed(t, open(t, w.browser(w.sim, wechattest.BrowserOptions{User: "lina"}), startV2("https://shop.example.org/x", "1")), "https://shop.example.org/x")
	file := filepath.Join(t.TempDir(), "client.py")
	text := documentedBlock(t, "python", "docs/wxauth.md", "Client by client") +
		"\nimport sys\nprint(json.dumps([user_of(sys.argv[1]), user_of(sys.argv[1])]))\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(needs(t, "/usr/bin/python3", "python3"), file, q.Get("ticket"))
	cmd.Env = []string{"https_proxy=http://" + legacyProxy(t, w.gateway), "SSL_CERT_FILE=" + w.root(), "SHOP_SECRET=" + documentedSecret}
	out, err := cmd.Output()
	var users []map[string]any
	if err == nil {
		err = json.Unmarshal(out, &users)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if users[0]["openid"] != w.sim.OpenID(appID, "lina") || users[1] != nil {
		t.Errorf("Python has %v", users)
	}
}
