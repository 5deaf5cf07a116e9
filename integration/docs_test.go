package integration

import (
	"encoding/json"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// mustValidate validates a Caddyfile without any change, as a user would.
func mustValidate(t *testing.T, caddyfile string) {
	t.Helper()
	g := newGateway(t)
	g.env = environmentOf(caddyfile)
	if out, err := g.validate(caddyfile); err != nil {
		t.Errorf("caddy validate: %v\n%s\n%s", err, out, caddyfile)
	}
}

var environmentName = regexp.MustCompile(`\{env\.(\w+)\}`)

// environmentOf gives every environment variable that a Caddyfile names a value long enough for any secret.
func environmentOf(caddyfile string) (env []string) {
	for _, m := range environmentName.FindAllStringSubmatch(caddyfile, -1) {
		value := "harmless-value-of-more-than-32-bytes"
		switch m[1] {
		case "WECHAT_APP_ID":
			value = appID
		case "WECHAT_APP_SECRET":
			value = appSecret
		}
		env = append(env, m[1]+"="+value)
	}
	return env
}

// The client in Caddyfile.example is a comment; without its "# " it is right as well.
func TestExampleClientIsValid(t *testing.T) {
	text := readExample(t)
	start, end := strings.Index(text, "\t# wechat_broker {\n"), strings.LastIndex(text, "\n\t# }\n")
	if start < 0 || end < start {
		t.Fatal("Caddyfile.example shows no client")
	}
	client := strings.ReplaceAll(text[start:end]+"\n\t# }\n", "\t# ", "\t")
	mustValidate(t, strings.Replace(text[:start], "\twechat_broker\n", "", 1)+client+text[end+len("\n\t# }\n"):])
}

// block is a ``` block of a document.
type block struct {
	where string
	text  string
}

// TestDocumentedCaddyfilesAreValid validates every ```caddyfile block of the documents. The rule for what is
// no whole Caddyfile, by the block's first line that is no comment:
//
//   - "{" begins a whole Caddyfile;
//   - an address (it has a dot or a colon before its "{") or a snippet begins sites; global options of a
//     broker at auth.example.com are put in front;
//   - "wechat {" and what stands inside it, such as "account {", is put into global options;
//   - "client …" is put into a wechat_broker;
//   - anything else is directives, put into a site shop.example.org (auth.example.com for a wechat_broker).
//
// What is not for loading is a ```caddyfile-syntax block.
func TestDocumentedCaddyfilesAreValid(t *testing.T) {
	for name, text := range documents(t) {
		for _, b := range blocksOf("caddyfile", name, text) {
			t.Run(b.where, func(t *testing.T) { mustValidate(t, wrap(b.text)) })
		}
	}
}

// The two languages of a page show the same Caddyfiles, but for their comments.
func TestDocumentedCaddyfilesAreTheSameInBothLanguages(t *testing.T) {
	all := documents(t)
	for name, text := range all {
		other, chinese := strings.CutSuffix(name, ".zh-CN.md")
		if name == "README.md" || name == "README.zh-CN.md" || chinese {
			if chinese && all[other+".md"] == "" {
				t.Errorf("%s has no English page", name)
			}
			continue // the Chinese README shows fewer
		}
		zh := blocksOf("caddyfile", "", all[strings.TrimSuffix(name, ".md")+".zh-CN.md"])
		en := blocksOf("caddyfile", "", text)
		if !slices.EqualFunc(en, zh, func(a, b block) bool { return withoutComments(a.text) == withoutComments(b.text) }) {
			t.Errorf("%s: %d Caddyfiles in English and %d in Chinese, or they differ", name, len(en), len(zh))
		}
	}
}

// What is shown for applications has no mistake that its language finds by itself.
func TestDocumentedCodeIsCode(t *testing.T) {
	checks := map[string]func(t *testing.T, text string){
		"go": func(t *testing.T, text string) {
			t.Helper()
			if !strings.HasPrefix(text, "package ") {
				text = "package app\n" + text
			}
			if _, err := parser.ParseFile(token.NewFileSet(), "", text, parser.SkipObjectResolution); err != nil {
				t.Error(err)
			}
		},
		"json": func(t *testing.T, text string) {
			t.Helper()
			if !json.Valid([]byte(text)) {
				t.Errorf("no JSON: %s", text)
			}
		},
		"php":    runs(".php", []string{"-l"}, "php", "php8.2", "php8.4"),
		"js":     runs(".mjs", []string{"--check"}, "node"), // README's fetch awaits outside of a function
		"python": runs(".py", []string{"-c", "import sys; compile(open(sys.argv[1]).read(), '', 'exec')"}, "/usr/bin/python3", "python3"),
	}
	all := documents(t)
	for language, check := range checks {
		t.Run(language, func(t *testing.T) {
			n := 0
			for name, text := range all {
				for _, b := range blocksOf(language, name, text) {
					n++
					t.Run(b.where, func(t *testing.T) { check(t, b.text) })
				}
			}
			if n < 2 { // in two languages
				t.Errorf("%d blocks were found", n)
			}
		})
	}
}

// runs is a check that has a program read the text as a file.
func runs(extension string, args []string, programs ...string) func(t *testing.T, text string) {
	return func(t *testing.T, text string) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "block"+extension)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(needs(t, programs...), append(args, file)...).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s\n%s", err, out, text)
		}
	}
}

var (
	comment = regexp.MustCompile(`(?m)\s*(^|\s)#\s.*$`)
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
)

func withoutComments(text string) string { return comment.ReplaceAllString(text, "") }

// A link to a file of this repository leads to one, and to a heading of it.
func TestDocumentsLinkToWhatIsThere(t *testing.T) {
	all := documents(t)
	for name, text := range all {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			path, anchor, _ := strings.Cut(m[1], "#")
			path = filepath.Join(filepath.Dir(name), path)
			if anchor != "" && m[1][0] == '#' {
				path = name
			}
			if _, err := os.Stat(filepath.Join("..", path)); err != nil {
				t.Errorf("%s links to %s: %v", name, m[1], err)
			}
			if anchor != "" && !slices.Contains(anchorsOf(all[path]), anchor) {
				t.Errorf("%s links to %s, and there is no such heading", name, m[1])
			}
		}
	}
}

var notInAnchor = regexp.MustCompile(`[^\p{L}\p{N} _-]`)

// anchorsOf are a document's headings as addresses name them.
func anchorsOf(text string) (anchors []string) {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") {
			heading := strings.ToLower(strings.TrimSpace(strings.TrimLeft(line, "#")))
			anchors = append(anchors, strings.ReplaceAll(notInAnchor.ReplaceAllString(heading, ""), " ", "-"))
		}
	}
	return anchors
}

// documents are the texts by their names, such as docs/sdk.md.
func documents(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, path := range append(files, "../README.md", "../README.zh-CN.md") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimPrefix(filepath.ToSlash(path), "../")] = string(text)
	}
	if len(all) < 12 {
		t.Errorf("too few documents were found: %q", slices.Sorted(maps.Keys(all)))
	}
	return all
}

// blocksOf are a document's blocks in one language.
func blocksOf(language, name, text string) (list []block) {
	var current *block
	heading := ""
	for line := range strings.Lines(text) {
		fence := strings.TrimSpace(line)
		switch {
		case current == nil && fence == "```"+language:
			current = &block{where: name + " " + heading}
		case current != nil && fence == "```":
			list, current = append(list, *current), nil
		case current != nil:
			current.text += line
		case strings.HasPrefix(line, "#"):
			heading = strings.TrimSpace(strings.TrimLeft(line, "#"))
		}
	}
	return list
}

var address = regexp.MustCompile(`^\(|^[^ {]*[.:][^{]*\{$`)

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
	case word == "client":
		return "{\n" + brokerOptions + "}\nauth.example.com {\nwechat_broker {\n" + text + "}\n}\n"
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
