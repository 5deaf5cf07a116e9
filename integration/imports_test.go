package integration

import (
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/caddy-wechat/caddy-wechat/"

// TestImports holds what the layout promises: what vouches (ticket) and what speaks to WeChat (wechat) know neither
// Caddy nor each other. The linter says so too, earlier.
func TestImports(t *testing.T) {
	cases := []struct {
		packages  string
		forbidden []string
	}{
		{"ticket/...", []string{"github.com/caddyserver/", module + "wechat", module + "caddymodule", module + "integration"}},
		{"wechat/...", []string{"github.com/caddyserver/", module + "ticket", module + "caddymodule", module + "integration"}},
		{"caddymodule/...", []string{module + "wechat/wechattest", module + "integration"}},
	}
	for _, c := range cases {
		t.Run(c.packages, func(t *testing.T) {
			for _, path := range dependencies(t, c.packages) {
				for _, prefix := range c.forbidden {
					if strings.HasPrefix(path, prefix) {
						t.Errorf("%s depends on %s", c.packages, path)
					}
				}
			}
		})
	}
}

// dependencies are all packages that these are built from.
func dependencies(t *testing.T, packages string) []string {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", module+packages)
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))
}
