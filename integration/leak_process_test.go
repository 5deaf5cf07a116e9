package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Arguments show in lists of processes, to every user of the machine; the environment does not. xcaddy.sh
// gets the secret of a test account as an argument (it says so) and may hand it on by the environment alone.
func TestLeakNoSecretInArguments(t *testing.T) {
	const secret = "5ec3e700000000000000000000000001"
	for name, args := range map[string][]string{"run": {"run"}, "build": {"build"}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			said := filepath.Join(dir, "arguments")
			// In the place of Caddy and of Go stands what writes down its arguments.
			fake := "#!/bin/sh\nprintf '%s\\n' \"$0\" \"$@\" >>'" + said + "'\n"
			for _, program := range []string{"caddy", "go"} {
				if err := os.WriteFile(filepath.Join(dir, program), []byte(fake), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.Command("../xcaddy.sh", args...)
			cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "CADDY_BIN="+filepath.Join(dir, "caddy"),
				"WECHAT_RUN_DIR="+dir, "HOME="+dir, "WECHAT_APP_ID="+appID, "WECHAT_APP_SECRET="+secret)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			got, err := os.ReadFile(said)
			if err != nil || len(got) == 0 {
				t.Fatalf("nothing was run: %v\n%s", err, out)
			}
			if strings.Contains(string(got)+string(out), secret) {
				t.Errorf("the secret is an argument, or was printed:\n%s\n%s", got, out)
			}
		})
	}
}
