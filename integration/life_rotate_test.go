package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Three gateways share one storage, sign by three algorithms and relieve their keys every second, while requests
// go now to one and now to another, from the very first, which makes the keys: no session is refused anywhere,
// and each login ends wherever it comes back.
func TestKeysRotateUnderLoad(t *testing.T) {
	lifeTellSeed(t)
	w := &world{gateway: newGateway(t), sim: newSimulator(t, boundDomain), up: newUpstream(t), held: lifeHolds(t)}
	start := func(g *world, algorithm string) {
		g.start(g.lifeOn(w, g.lifeSites("session_key {\n algorithm "+algorithm+"\n rotate 1s\n}", "renew 1s")))
	}
	start(w, "HS256")
	others := []*world{w.lifeTwin(""), w.lifeTwin("")}
	start(others[0], "EdDSA")
	start(others[1], "ES256")
	doors := lifeDoors(w, others...)
	crew := newLifeCrew(t)
	for i, page := range []string{authPage, shopPage} {
		kept, fresh := w.lifePhone(i, page, doors...), w.lifePhone(i+2, page, doors...)
		signed := false
		crew.run("pages of "+page, func() error {
			if !signed {
				signed = true
				return kept.login()
			}
			return kept.stays()
		})
		crew.run("logins at "+page, func() error { return errors.Join(fresh.login(), fresh.stays()) })
	}
	crew.await(5)
	kinds := map[string]int{}
	lifeUntil(t, 60*time.Second, "each algorithm's key is relieved three times", func() bool {
		kinds = w.lifeKeyKinds(t)
		return t.Failed() || min(kinds["seal A256GCM"], kinds["sign HS256"], kinds["sign EdDSA"], kinds["sign ES256"]) >= 4
	})
	crew.await(5)
	crew.end()
	t.Log(kinds, crew.done)
}

// lifeKeyKinds counts the keys in storage that have begun.
func (g *gateway) lifeKeyKinds(t *testing.T) map[string]int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(g.dir, "storage", "wechat", "keys.json"))
	var file struct {
		Keys []struct {
			Use, Alg string
			From     int64
		}
	}
	if err = errors.Join(err, json.Unmarshal(b, &file)); err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, k := range file.Keys {
		if k.From <= time.Now().Unix() {
			kinds[k.Use+" "+k.Alg]++
		}
	}
	return kinds
}

// `caddy validate` provisions everything, often as root: what it wrote would be root's, and the service could
// not read it.
func TestAdaptAndValidateWriteNothing(t *testing.T) {
	w := &world{gateway: newGateway(t), sim: newSimulator(t, boundDomain), up: newUpstream(t), held: "127.0.0.1:1"}
	w.env = []string{"S1=" + strings.Repeat("s", 40)}
	w.start(w.single(""))
	signIn(t, w, w.client(), authPage) // keys and more are there
	w.stop()
	secrets := "session_key {\n secret {env.S1}\n}"
	configs := map[string]string{
		"a single site": w.single(""),
		"many sites":    w.lifeSites("", ""),
		"given secrets": w.lifeSites(secrets, ""),
		"other keys":    w.lifeSites("session_key {\n algorithm ES256\n rotate 1s\n}", "session 2000h 3000h"),
		// Without https, whose local authority is Caddy's own to make.
		"no storage yet": "{\n storage file_system " + w.dir + "/none/there\n" + w.options("", "") + "}\nhttp://auth.example.com {\n wechat_auth\n}\n",
		"no good":        w.single("") + "bad.example.com {\n wechat_broker\n}\n",
	}
	for name, config := range configs {
		path := w.write(config)
		for _, command := range []string{"adapt", "validate"} {
			if command == "adapt" && name != "many sites" {
				continue // it provisions nothing
			}
			before := lifeTree(t, w.dir)
			begun := time.Now()
			out, err := w.command(command, "--config", path, "--adapter", "caddyfile").CombinedOutput()
			if (err != nil) != (name == "no good" && command == "validate") {
				t.Errorf("%s %s: %v\n%s", command, name, err, out)
			}
			if changed := lifeChanged(before, lifeTree(t, w.dir)); len(changed) > 0 {
				t.Errorf("%s %s wrote, in %v:\n%s", command, name, time.Since(begun), strings.Join(changed, "\n"))
			}
		}
	}
}

// lifeTree is all that stands in a folder: kind, rights, owner, size and time of each file.
func lifeTree(t *testing.T, dir string) map[string]string {
	t.Helper()
	tree := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		sys := info.Sys().(*syscall.Stat_t)
		tree[path] = fmt.Sprintf("%v %d:%d %d %v", info.Mode(), sys.Uid, sys.Gid, info.Size(), info.ModTime())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func lifeChanged(before, after map[string]string) (list []string) {
	for _, path := range slices.Sorted(maps.Keys(after)) {
		if before[path] != after[path] {
			list = append(list, path+": "+before[path]+" -> "+after[path])
		}
	}
	for path := range before {
		if after[path] == "" {
			list = append(list, path+": gone")
		}
	}
	return list
}
