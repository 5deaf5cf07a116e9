package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// lifeShift is the clock of a gateway whose clock can be set: the wall clock alone, as when somebody sets it.
// The monotonic reading in the same value goes on; a time.Time keeps the wall's seconds at bit 30.
const lifeShift = `package %s

import (
	"os"
	"strconv"
	"strings"
	"time"
	"unsafe"
)

func lifeShiftedNow() time.Time {
	b, _ := os.ReadFile(os.Getenv("LIFE_CLOCK"))
	shift, _ := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	t := time.Now()
	*(*uint64)(unsafe.Pointer(&t)) += uint64(shift) << 30
	return t
}
`

// lifeClockBinary builds the gateway with a clock that can be set: nothing of that is in what is published.
func lifeClockBinary(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	overlay := map[string]string{}
	for _, pkg := range []string{"ticket", "caddymodule"} {
		folder, err := filepath.Abs(filepath.Join("..", pkg))
		if err != nil {
			t.Fatal(err)
		}
		files, _ := filepath.Glob(filepath.Join(folder, "*.go"))
		found := 0
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			n := strings.Count(string(b), "time.Now()")
			if n == 0 || strings.HasSuffix(file, "_test.go") {
				continue
			}
			found += n
			overlay[file] = lifeWrite(t, filepath.Join(dir, pkg+"_"+filepath.Base(file)), strings.ReplaceAll(string(b), "time.Now()", "lifeShiftedNow()"))
		}
		if found < 2 {
			t.Fatalf("%s asks for the time in %d places: the clock has moved, and this test must find it", pkg, found)
		}
		overlay[filepath.Join(folder, "life_shift.go")] = lifeWrite(t, filepath.Join(dir, pkg+"_shift.go"), fmt.Sprintf(lifeShift, pkg))
	}
	b, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "caddy")
	args := []string{"build", "-overlay", lifeWrite(t, filepath.Join(dir, "overlay.json"), string(b)), "-o", binary}
	if raceEnabled {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "./caddy")...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}

func lifeWrite(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// lifeSet sets the clock of a gateway that lifeClockBinary built.
func (g *gateway) lifeSet(shift time.Duration) {
	g.t.Helper()
	path := filepath.Join(g.dir, "clock")
	lifeWrite(g.t, path+".new", strconv.Itoa(int(shift.Seconds())))
	if err := os.Rename(path+".new", path); err != nil { // a request must not read half of it
		g.t.Fatal(err)
	}
}

// lifeTwin is a gateway by another binary on the storage of w, with the same sites.
func (w *world) lifeTwin(binary string) *world {
	w.t.Helper()
	twin := &world{gateway: newGateway(w.t), sim: w.sim, up: w.up, held: w.held}
	twin.binary = binary
	twin.env = []string{"LIFE_CLOCK=" + filepath.Join(twin.dir, "clock")}
	return twin
}

// lifeOn returns a Caddyfile of w's that keeps everything in another's storage.
func (w *world) lifeOn(other *world, caddyfile string) string {
	return strings.Replace(caddyfile, w.dir+"/storage", other.dir+"/storage", 1)
}

// Two gateways on one storage, the clock of one a minute off or jumping: logins wander between them, and every
// session of either is good at both. A day off is more than anybody promises: there nothing may break, nobody
// may become somebody else, and with the clock right again all is as before.
func TestClockThatIsOff(t *testing.T) {
	lifeTellSeed(t)
	binary := lifeClockBinary(t)
	for _, shift := range []time.Duration{time.Minute, -time.Minute} {
		t.Run(fmt.Sprintf("by %v from the start", shift), func(t *testing.T) {
			w := &world{gateway: newGateway(t), sim: newSimulator(t, boundDomain), up: newUpstream(t), held: lifeHolds(t)}
			twin := w.lifeTwin(binary)
			twin.lifeSet(shift)
			// Keys that are relieved every two seconds, tokens that are renewed on every page load.
			w.start(w.lifeSites("session_key {\n rotate 2s\n}", "renew 1ms"))
			twin.start(twin.lifeOn(w, twin.lifeSites("session_key {\n rotate 2s\n}", "renew 1ms")))
			lifeWander(t, w, twin)
			if shift < 0 {
				return
			}
			lifeJump(t, w, twin)
		})
	}
}

// lifeWander has people log in, page and log out, each request at either gateway.
func lifeWander(t *testing.T, w, twin *world) {
	t.Helper()
	doors := lifeDoors(w, twin)
	crew := newLifeCrew(t)
	for i, page := range []string{authPage, shopPage} {
		kept := w.lifePhone(i, page, doors...)
		if err := kept.login(); err != nil {
			t.Fatal(err)
		}
		crew.run("pages of "+page, kept.stays)
		crew.run("logins at "+page, w.lifePhone(i+2, page, doors...).login)
	}
	crew.await(20)
	crew.end()
	t.Log(crew.done)
	if t.Failed() {
		t.FailNow()
	}
	p := w.lifePhone(4, shopPage, doors...)
	if err := p.login(); err != nil {
		t.Fatal(err)
	}
	token := p.token()
	if status, err := p.logout(); status != 303 {
		t.Fatalf("logout: %d %v", status, err)
	}
	for _, door := range doors {
		lifeUntil(t, 30*time.Second, "the logout reaches both", func() bool {
			resp, _ := get(t, door, shopPage, pageHeader(holding(token)))
			return resp.StatusCode == 302
		})
	}
}

// lifeDoors leads to the one gateway and to the other.
func lifeDoors(w *world, others ...*world) []*http.Client {
	doors := []*http.Client{lifeAgain(w.client())}
	for _, o := range others {
		doors = append(doors, lifeAgain(o.clientTrusting(w.roots())))
	}
	return doors
}

// lifeJump sets the twin's clock while it runs.
func lifeJump(t *testing.T, w, twin *world) {
	t.Helper()
	doors := lifeDoors(w, twin)
	kept := w.lifePhone(0, authPage, doors...)
	twin.lifeSet(0)
	if err := kept.login(); err != nil {
		t.Fatal(err)
	}
	for _, shift := range []time.Duration{time.Minute, -time.Minute, 0} {
		twin.lifeSet(shift)
		p := w.lifePhone(1, shopPage, doors...)
		for range 5 {
			if err := errors.Join(kept.stays(), p.login(), p.stays()); err != nil {
				t.Fatalf("clock set to %v: %v", shift, err)
			}
		}
	}
	token := kept.token()
	there := doors[1:]
	for _, shift := range []time.Duration{24 * time.Hour, -24 * time.Hour} {
		twin.lifeSet(shift)
		deadline := time.Now().Add(3 * time.Second) // keys are looked after every second
		for i := 0; time.Now().Before(deadline); i++ {
			p := w.lifePhone(i, authPage, there...)
			if err := p.login(); err != nil {
				t.Fatalf("clock set to %v: %v", shift, err)
			}
			resp, body := get(t, there[0], authPage, pageHeader(holding(token)))
			if resp.StatusCode != 302 && kept.isMe(resp, body) != nil {
				t.Fatalf("clock set to %v: %v", shift, kept.isMe(resp, body))
			}
		}
	}
	twin.lifeSet(0)
	kept.jar["__Host-wechat_session"] = token
	p := w.lifePhone(1, shopPage, doors...)
	for range 10 {
		if err := errors.Join(kept.stays(), p.login(), p.stays()); err != nil {
			t.Fatalf("with the clock right again: %v", err)
		}
	}
}
