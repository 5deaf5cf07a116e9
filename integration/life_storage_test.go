package integration

import (
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// lifeDisk mounts a disk of a megabyte as the gateway's storage. Whoever may not mount runs the test again as
// root of a user namespace of its own; then it reports false, and there is nothing left to do.
func (g *gateway) lifeDisk() bool {
	g.t.Helper()
	mount, umount := needs(g.t, "mount"), needs(g.t, "umount")
	dir := filepath.Join(g.dir, "storage")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		g.t.Fatal(err)
	}
	out, err := exec.Command(mount, "-t", "tmpfs", "-o", "size=1m", "none", dir).CombinedOutput()
	if err == nil {
		g.t.Cleanup(func() { _ = exec.Command(umount, "-l", dir).Run() })
		return true
	}
	if os.Getenv("LIFE_UNSHARED") == "1" || exec.Command(needs(g.t, "unshare"), "-rm", "true").Run() != nil {
		g.t.Logf("mount: %v %s", err, out)
		needs(g.t, "the right to mount a tmpfs")
	}
	again := exec.Command("unshare", "-rm", os.Args[0], "-test.run=^"+g.t.Name()+"$", "-test.count=1", "-test.v")
	again.Env = append(os.Environ(), "LIFE_UNSHARED=1", "CADDY_BIN="+caddyBinary)
	if out, err := again.CombinedOutput(); err != nil {
		g.t.Errorf("%v\n%s", err, out)
	}
	return false
}

// lifeFill writes until the disk is full.
func (g *gateway) lifeFill() {
	g.t.Helper()
	f, err := os.Create(filepath.Join(g.dir, "storage", "fill"))
	if err != nil {
		g.t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{4096, 1} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			g.t.Fatal(err)
		}
	}
}

func (g *gateway) lifeRemount(mode string) {
	g.t.Helper()
	if out, err := exec.Command("mount", "-o", "remount,bind,"+mode, filepath.Join(g.dir, "storage")).CombinedOutput(); err != nil {
		g.t.Fatalf("%v %s", err, out)
	}
}

// lifeTroubles are what befalls a disk, and how it passes.
var lifeTroubles = map[string]struct {
	begin, end func(*testing.T, *gateway)
}{
	"full": {
		func(_ *testing.T, g *gateway) { g.lifeFill() },
		func(t *testing.T, g *gateway) { lifeRemove(t, filepath.Join(g.dir, "storage", "fill")) },
	},
	"read-only": {
		func(_ *testing.T, g *gateway) { g.lifeRemount("ro") },
		func(_ *testing.T, g *gateway) { g.lifeRemount("rw") },
	},
}

// With a disk that is full or read-only no key can be made: 502, a line for the operator, nobody is let in and
// nothing is signed. When it can be written again, all goes on without a restart.
func TestDiskThatTakesNoKeys(t *testing.T) {
	w := &world{gateway: newGateway(t), sim: newSimulator(t, boundDomain), up: newUpstream(t)}
	if !w.lifeDisk() {
		return
	}
	w.start(w.single("public /open"))
	c := w.client()
	for name, trouble := range lifeTroubles {
		w.log.mark()
		trouble.begin(t, w.gateway)
		for range 3 {
			resp, body := get(t, c, authPage, pageHeader(nil))
			if resp.StatusCode != 502 || resp.Header.Get("Retry-After") == "" || len(resp.Header["Set-Cookie"]) > 0 || resp.Header.Get("Location") != "" {
				t.Errorf("%s: status %d %v\n%.500s", name, resp.StatusCode, resp.Header, body)
			}
		}
		if resp, _ := get(t, c, "https://auth.example.com/open", pageHeader(nil)); resp.StatusCode != 200 {
			t.Errorf("%s: a public page got %d", name, resp.StatusCode)
		}
		lifeUntil(t, 10*time.Second, "a line that says what to see to", func() bool {
			return lifeSays(w.log.since(), `"level":"error"`, "logins do not work", "can be written")
		})
		if _, err := os.Stat(filepath.Join(w.dir, "storage", "wechat", "keys.json")); err == nil {
			t.Errorf("%s: there is a key file", name)
		}
		trouble.end(t, w.gateway)
		lifeUntil(t, 20*time.Second, "logins go on", func() bool {
			resp, _ := get(t, c, authPage, pageHeader(nil))
			return resp.StatusCode == 302
		})
		signIn(t, w, c, authPage)
		w.kill() // and once more without keys
		lifeRemove(t, filepath.Join(w.dir, "storage", "wechat"))
		w.start(w.single("public /open"))
		c = w.client()
	}
}

// With keys made before, a disk that is full or read-only, or storage that is gone, stops nobody: sessions
// and logins go on, keys stay as they are. A logout that cannot be written says so, and can be had again.
func TestStorageThatFailsWhileRunning(t *testing.T) {
	w := &world{gateway: newGateway(t), sim: newSimulator(t, boundDomain), up: newUpstream(t)}
	if !w.lifeDisk() {
		return
	}
	storage := filepath.Join(w.dir, "storage")
	keys := filepath.Join(storage, "wechat")
	away := filepath.Join(w.dir, "storage", "wechat.away")
	troubles := map[string]struct {
		begin, end func(*testing.T, *gateway)
	}{"gone": {
		func(t *testing.T, _ *gateway) {
			if err := errors.Join(os.Rename(keys, away), os.WriteFile(keys, nil, 0o600)); err != nil {
				t.Fatal(err)
			}
		},
		func(t *testing.T, _ *gateway) {
			lifeRemove(t, keys)
			if err := os.Rename(away, keys); err != nil {
				t.Fatal(err)
			}
		},
	}}
	for name, trouble := range lifeTroubles {
		troubles[name] = trouble
	}
	caddyfile := strings.Replace(w.single("renew 1ms"), "wechat {", "wechat {\n session_key {\n rotate 2s\n}\n", 1)
	w.start(caddyfile)
	c := w.client()
	kept := w.lifePhone(0, authPage, c)
	if err := kept.login(); err != nil {
		t.Fatal(err)
	}
	for name, trouble := range troubles {
		ending := w.lifePhone(1, authPage, c)
		if err := ending.login(); err != nil {
			t.Fatal(err)
		}
		token := ending.token()
		w.log.mark()
		trouble.begin(t, w.gateway)
		for range 2 { // the second must not claim what the first could not do
			ending.jar["__Host-wechat_session"] = token
			if status, err := ending.logout(); status != 500 || err != nil {
				t.Errorf("%s: a logout got %d, %v", name, status, err)
			}
		}
		if resp, _ := get(t, c, authPage, pageHeader(holding(token))); resp.StatusCode != 302 {
			t.Errorf("%s: the session goes on where it was ended: %d", name, resp.StatusCode)
		}
		lifeUntil(t, 30*time.Second, name+": a line about the keys", func() bool { return lifeSays(w.log.since(), `"level":"error"`, "keys cannot be maintained") })
		fresh := w.lifePhone(2, authPage, c)
		for range 5 {
			if err := errors.Join(kept.stays(), fresh.login(), fresh.stays()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		trouble.end(t, w.gateway)
		lifeUntil(t, 30*time.Second, name+": keys are looked after again", func() bool { return lifeSays(w.log.since(), "keys are maintained again") })
		ending.jar["__Host-wechat_session"] = token
		if status, err := ending.logout(); status != 303 || err != nil {
			t.Errorf("%s: the logout again got %d, %v", name, status, err)
		}
		w.kill()
		w.start(caddyfile)
		c = w.client()
		kept.doors = []*http.Client{c}
		if resp, _ := get(t, c, authPage, pageHeader(holding(token))); resp.StatusCode != 302 {
			t.Errorf("%s: the session lives again: %d", name, resp.StatusCode)
		}
		if err := kept.stays(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// lifeSays reports whether one line of the log has all the words.
func lifeSays(log string, words ...string) bool {
	for line := range strings.Lines(log) {
		all := true
		for _, word := range words {
			all = all && strings.Contains(line, word)
		}
		if all {
			return true
		}
	}
	return false
}

// The whole storage is moved away, and what is answered meanwhile is written to an empty folder that Caddy makes
// in its place. A logout that was answered must hold when the storage is back, over the next start as well.
func TestStorageMovedAwayAndBack(t *testing.T) {
	w := singleWorld(t, "")
	c := w.client()
	kept, ending := w.lifePhone(0, authPage, c), w.lifePhone(1, authPage, c)
	if err := errors.Join(kept.login(), ending.login()); err != nil {
		t.Fatal(err)
	}
	storage, away := filepath.Join(w.dir, "storage"), filepath.Join(w.dir, "away")
	if err := os.Rename(storage, away); err != nil {
		t.Fatal(err)
	}
	token := ending.token()
	status, err := ending.logout()
	if err != nil || status != 303 && status != 500 {
		t.Fatalf("a logout got %d, %v", status, err)
	}
	if err := kept.stays(); err != nil {
		t.Error(err)
	}
	lifeRemove(t, storage)
	if err := os.Rename(away, storage); err != nil {
		t.Fatal(err)
	}
	lifeUntil(t, 30*time.Second, "the ended session is written where it belongs", func() bool {
		found, _ := filepath.Glob(filepath.Join(storage, "wechat", "revoked", "*", "*-"+jti(t, token)))
		return len(found) > 0
	})
	w.kill()
	w.start(w.single(""))
	kept.doors = []*http.Client{w.client()}
	if err := kept.stays(); err != nil {
		t.Error(err)
	}
	if resp, _ := get(t, kept.doors[0], authPage, pageHeader(holding(token))); resp.StatusCode != 302 {
		t.Errorf("the session lives again: %d", resp.StatusCode)
	}
}

// Storage that cannot be read at the start is a refusal that names the file and the mend. What was readable
// but empty of keys would be worse: new keys would be made over it, and everybody signed out.
func TestStorageThatCannotBeReadRefusesTheStart(t *testing.T) {
	sim, up := newSimulator(t, boundDomain), newUpstream(t)
	const good = `{"life":2592600,"keys":[{"kid":"00112233","use":"seal","alg":"A256GCM","key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","from":1}]}`
	files := map[string]string{
		"is empty": "", "is cut off": good[:len(good)-20], "is not JSON": "hello", "is of another version": `{"version":2,"sealed":"AAAA"}`,
		"is null": "null", "is a list": "[]", "has no keys": `{"life":2592600,"keys":[]}`, "has a key cut short": strings.Replace(good, "AAAAAAAA", "", 1),
		"has something behind it": good + good, "is NUL bytes": strings.Repeat("\x00", 200),
	}
	refused := func(t *testing.T, prepare func(storage string) error) {
		t.Helper()
		w := &world{gateway: newGateway(t), sim: sim, up: up}
		storage := filepath.Join(w.dir, "storage")
		if err := errors.Join(os.MkdirAll(filepath.Join(storage, "wechat"), 0o700), prepare(storage)); err != nil {
			t.Fatal(err)
		}
		out, err := w.validate(w.single(""))
		if err == nil || !lifeSays(out, "wechat/", "see that") {
			t.Errorf("%v\n%s", err, out)
		}
	}
	for name, text := range files {
		t.Run("the key file "+name, func(t *testing.T) {
			refused(t, func(s string) error {
				return os.WriteFile(filepath.Join(s, "wechat", "keys.json"), []byte(text), 0o600)
			})
		})
	}
	t.Run("the key file is a folder", func(t *testing.T) {
		refused(t, func(s string) error { return os.Mkdir(filepath.Join(s, "wechat", "keys.json"), 0o700) })
	})
	t.Run("the folder of keys is a file", func(t *testing.T) {
		refused(t, func(s string) error {
			return errors.Join(os.Remove(filepath.Join(s, "wechat")), os.WriteFile(filepath.Join(s, "wechat"), nil, 0o600))
		})
	})
}
