package integration

import (
	"bufio"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

func readExample(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../Caddyfile.example")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// mustValidate validates a Caddyfile without any change, as a user would.
func mustValidate(t *testing.T, caddyfile string) {
	t.Helper()
	g := newGateway(t)
	g.env = []string{"WECHAT_APP_ID=" + appID}
	if out, err := g.validate(caddyfile); err != nil {
		t.Errorf("caddy validate: %v\n%s\n%s", err, out, caddyfile)
	}
}

func TestExampleIsValid(t *testing.T) {
	mustValidate(t, readExample(t))
}

// block is a ```caddyfile block of a document.
type block struct {
	where string
	text  string
}

// TestDocumentedCaddyfilesAreValid validates every ```caddyfile block of the documents. The rule for what is
// no whole Caddyfile, by the block's first line that is no comment:
//
//   - a block with <placeholders> is a syntax reference, and is not for loading;
//   - "{" begins a whole Caddyfile;
//   - an address (it has a dot or a colon before its "{") or a snippet begins sites; global options of a
//     broker at auth.example.com are put in front;
//   - "wechat {" and what stands inside it, such as "account {", is put into global options;
//   - anything else is directives, put into a site shop.example.org (auth.example.com for a wechat_broker).
func TestDocumentedCaddyfilesAreValid(t *testing.T) {
	for _, b := range documentedBlocks(t) {
		if reference.MatchString(b.text) {
			continue
		}
		t.Run(b.where, func(t *testing.T) { mustValidate(t, wrap(b.text)) })
	}
}

var (
	reference = regexp.MustCompile(`<[a-z][a-z0-9 -]*>`)
	address   = regexp.MustCompile(`^\(|^[^ {]*[.:][^{]*\{$`)
)

func documentedBlocks(t *testing.T) []block {
	t.Helper()
	files, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	var list []block
	for _, path := range append(files, "../README.md", "../README.zh-CN.md") {
		text, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, blocksOf(filepath.Base(path), string(text))...)
	}
	return list
}

func blocksOf(name, text string) (list []block) {
	var current *block
	lines := bufio.NewScanner(strings.NewReader(text))
	heading := ""
	for lines.Scan() {
		line := lines.Text()
		fence := strings.TrimSpace(line)
		switch {
		case current == nil && fence == "```caddyfile":
			current = &block{where: name + " " + heading}
		case current != nil && fence == "```":
			list, current = append(list, *current), nil
		case current != nil:
			current.text += line + "\n"
		case strings.HasPrefix(line, "#"):
			heading = strings.TrimLeft(line, "# ")
		}
	}
	return list
}

const brokerOptions = "wechat {\n account {\n app_id {env.WECHAT_APP_ID}\n app_secret {env.WECHAT_APP_SECRET}\n domain auth.example.com\n}\n}\n"

// wrap makes a whole Caddyfile of a block.
func wrap(text string) string {
	first := firstLine(text)
	word, _, _ := strings.Cut(first, " ")
	switch {
	case strings.HasPrefix(first, "{"):
		return text
	case address.MatchString(first):
		return "{\n" + brokerOptions + "}\n" + text
	case word == "wechat":
		return "{\n" + text + "}\n"
	case word == "account":
		return "{\nwechat {\n" + text + "}\n}\n"
	case word == "store" || word == "session_key" || word == "cache":
		return "{\n" + strings.TrimSuffix(brokerOptions, "}\n") + text + "}\n}\n"
	case strings.Contains(text, "wechat_broker"):
		return "{\n" + brokerOptions + "}\nauth.example.com {\n" + text + "}\n"
	}
	return "{\n" + brokerOptions + "}\nshop.example.org {\n" + text + "}\n"
}

func firstLine(text string) string {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			return line
		}
	}
	return ""
}

// exampleWorld runs Caddyfile.example with what a test must say otherwise: ports, certificates, storage,
// WeChat's stand-in, and the upstream of www.example.com. Nothing listens behind staff.example.net.
func exampleWorld(t *testing.T) *world {
	t.Helper()
	account := wechattest.Account{Domains: []string{"auth.example.com", "www.example.com"}}
	return newWorld(t, account, func(w *world) string {
		w.env = []string{"WECHAT_APP_ID=" + appID}
		globals := strings.NewReplacer("debug\n", "", "log {\n\t\tlevel DEBUG\n\t}\n", "").Replace(w.globals())
		text := strings.Replace(readExample(t), "\n{\n", "\n{\n"+globals, 1)
		stand := "app_secret {env.WECHAT_APP_SECRET}\n open_url " + w.sim.url + "\n api_url " + w.sim.url + "\n"
		text = strings.Replace(text, "app_secret {env.WECHAT_APP_SECRET}\n", stand, 1)
		return strings.Replace(text, "localhost:9000", w.up.addr, 1)
	})
}

// Whoever reads the logs of Caddyfile.example must not find what a login is made of: codes and tickets are
// dead by then, but a state or a sealed login tells one visitor's way from another's, and the openid who it was.
func TestExampleLogsNoSecrets(t *testing.T) {
	w := exampleWorld(t)
	b := w.browser(w.sim, wechattest.BrowserOptions{User: "lina"})
	p := open(t, b, "https://www.example.com/member?a=1")
	wantStatus(t, p, http.StatusOK)
	secrets := secretsOf(p)
	login := open(t, b, "https://staff.example.net/post?b=2")
	p, err := b.Click(t.Context(), login, "登录")
	if err != nil {
		t.Fatal(err)
	}
	wantStatus(t, p, http.StatusForbidden) // lina is not on the list
	secrets = append(secrets, secretsOf(p)...)
	if len(secrets) < 7 {
		t.Fatalf("the logins showed too few secrets: %q", secrets)
	}
	get(t, w.client(), "https://www.example.com/_wechat/login?retry=sealed-retry&return=/", http.Header{
		"Referer": {"https://www.example.com/_wechat/callback?code=referer-code&state=referer-state&ticket=referer-ticket&login=referer-login&retry=referer-retry"},
	})
	w.stop()
	secrets = append(secrets, "sealed-retry", "referer-", appSecret, w.sim.OpenID(appID, "lina"))
	for _, secret := range secrets {
		if at := strings.Index(w.log.String(), secret); at >= 0 {
			t.Errorf("the log has %q:\n%.600s", secret, w.log.String()[max(0, at-300):])
		}
	}
	for _, kept := range []string{"/_wechat/callback?code=-&login=-&state=-", "/_wechat/callback?login=-&state=-&ticket=-", "/member?a=1", "/post?b=2", `"user_id":"`} {
		if !strings.Contains(w.log.String(), kept) {
			t.Errorf("the log lacks %s, by which it is of use", kept)
		}
	}
}

// secretsOf are the values in the URLs that a page load went through.
func secretsOf(p *wechattest.Page) (list []string) {
	urls := []*url.URL{p.URL}
	for _, hop := range p.Redirects {
		urls = append(urls, hop.URL)
	}
	for _, u := range urls {
		q := u.Query()
		if inner, err := url.Parse(q.Get("redirect_uri")); err == nil {
			q["login"] = append(q["login"], inner.Query().Get("login"))
		}
		for _, name := range []string{"code", "state", "ticket", "login", "retry"} {
			for _, value := range q[name] {
				if len(value) > 8 {
					list = append(list, value)
				}
			}
		}
	}
	return list
}
