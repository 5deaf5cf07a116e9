package caddymodule

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

// The goldens are written as Caddy's own are: a Caddyfile, a line of ten dashes, the JSON or the error that
// comes of it. A file that begins with "=== " holds several, each below its name.
const (
	goldenPattern   = "testdata/caddyfile/*.caddyfiletest"
	goldenSeparator = "\n----------\n"
	goldenName      = "=== "
)

var update = flag.Bool("update", false, "write the goldens' results instead of comparing them")

type golden struct{ name, caddyfile, result string }

func TestCaddyfile(t *testing.T) {
	for path, goldens := range readGoldens(t) {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".caddyfiletest"), func(t *testing.T) {
			for i, g := range goldens {
				got := adapt(t, g)
				if *update {
					goldens[i].result = got
				} else if got != g.result {
					t.Errorf("%s:\ngot:\n%s\nwant:\n%s", g.name, got, g.result)
				}
			}
			if *update {
				writeGoldens(t, path, goldens)
			}
		})
	}
}

// adapt returns what comes of a golden's Caddyfile: indented JSON, or the error.
func adapt(t *testing.T, g golden) string {
	t.Helper()
	result, warnings, err := adaptCaddyfile(g.caddyfile)
	if err != nil {
		return err.Error()
	}
	if len(warnings) > 0 {
		t.Errorf("%s: warnings %v", g.name, warnings) // such as that it is not formatted
	}
	var out bytes.Buffer
	if err := json.Indent(&out, result, "", "\t"); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func adaptCaddyfile(caddyfile string) ([]byte, []caddyconfig.Warning, error) {
	return caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
}

func readGoldens(t testing.TB) map[string][]golden {
	t.Helper()
	paths, err := filepath.Glob(goldenPattern)
	if err != nil || len(paths) == 0 {
		t.Fatal("no goldens", err)
	}
	all := map[string][]golden{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all[path] = parseGoldens(strings.ReplaceAll(string(data), "\r\n", "\n"))
	}
	return all
}

func parseGoldens(data string) []golden {
	rest, several := strings.CutPrefix(data, goldenName)
	if !several {
		return []golden{parseGolden("", data)}
	}
	var goldens []golden
	for part := range strings.SplitSeq(rest, "\n"+goldenName) {
		name, body, _ := strings.Cut(part, "\n")
		goldens = append(goldens, parseGolden(name, body))
	}
	return goldens
}

func parseGolden(name, body string) golden {
	caddyfile, result, _ := strings.Cut(body, goldenSeparator)
	return golden{name, strings.TrimSpace(caddyfile) + "\n", strings.TrimSpace(result)}
}

func writeGoldens(t *testing.T, path string, goldens []golden) {
	t.Helper()
	var parts []string
	for _, g := range goldens {
		part := strings.TrimSpace(g.caddyfile) + goldenSeparator + g.result + "\n"
		if g.name != "" {
			part = goldenName + g.name + "\n" + part
		}
		parts = append(parts, part)
	}
	if err := os.WriteFile(path, []byte(strings.Join(parts, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Every option, once given to a parser, must also stand in a golden.
func TestCaddyfileGoldensHaveEveryOption(t *testing.T) {
	var all strings.Builder
	for _, goldens := range readGoldens(t) {
		for _, g := range goldens {
			all.WriteString(g.caddyfile)
		}
	}
	app := new(App)
	broker := &brokerParser{Broker: new(Broker), app: app}
	for block, known := range map[string]options{
		"wechat":        (&appParser{App: app}).options(),
		"account":       new(Account).options(),
		"wechat_auth":   (&authParser{Auth: new(Auth), app: app}).options(),
		"wechat_broker": broker.options(),
		"client":        broker.clientOptions(new(Client)),
	} {
		for name := range known {
			if !regexp.MustCompile(`(?m)^\t+` + name + `\b`).MatchString(all.String()) {
				t.Errorf("option %s of %s is in no golden", name, block)
			}
		}
	}
}

// No error shows a secret: errors end in logs, tickets and screenshots.
func TestCaddyfileErrorsShowNoSecret(t *testing.T) {
	for _, goldens := range readGoldens(t) {
		for _, g := range goldens {
			if !strings.HasPrefix(g.result, "{") && strings.Contains(g.result, "s3cret") {
				t.Errorf("%s: %s", g.name, g.result)
			}
		}
	}
}

// FuzzCaddyfile adapts whatever comes: without a panic, and what is accepted passes the checks that are run when
// it is loaded.
func FuzzCaddyfile(f *testing.F) {
	for _, goldens := range readGoldens(f) {
		for _, g := range goldens {
			f.Add(g.caddyfile)
		}
	}
	f.Fuzz(func(t *testing.T, caddyfile string) {
		if strings.Contains(caddyfile, "import") && strings.ContainsAny(caddyfile, "/*") {
			return // an import may read files
		}
		result, _, err := adaptCaddyfile(caddyfile)
		if err != nil {
			return
		}
		var config struct {
			Apps struct {
				Wechat *App `json:"wechat"`
			} `json:"apps"`
		}
		if err := json.Unmarshal(result, &config); err != nil {
			t.Fatal(err)
		}
		if app := config.Apps.Wechat; app != nil {
			if err := firstError(app.check, app.available); err != nil {
				t.Errorf("adapted, and then: %v", err)
			}
		}
	})
}
