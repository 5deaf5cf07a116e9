package integration

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// lifeSites is a bound domain that is a broker and a site, and a shop on another domain. What stands under
// /held/ of the bound domain goes to an upstream that keeps its answers open.
func (w *world) lifeSites(global, auth string) string {
	return "{\n" + w.globals() + strings.Replace(w.options("auth.example.com", ""), "wechat {", "wechat {\n"+global, 1) + "}\n" +
		"auth.example.com {\n wechat_broker {\n ticket_ttl 10m\n}\n wechat_auth {\n" + auth + "\n}\n" +
		" reverse_proxy /held/* " + w.held + " {\n stream_close_delay 10m\n}\n reverse_proxy " + w.up.addr + "\n}\n" +
		"shop.example.org {\n wechat_auth {\n" + auth + "\n}\n reverse_proxy " + w.up.addr + "\n}\n"
}

func lifeWorld(t *testing.T, global string) *world {
	t.Helper()
	return newWorld(t, boundDomain, func(w *world) string {
		w.held = lifeHolds(t)
		return w.lifeSites(global, "")
	})
}

// lifeReload is a configuration that a running gateway gets, and whether it must be refused.
type lifeReload struct {
	name    string
	config  string // a Caddyfile, or JSON
	refused string // what the refusal says
}

// lifeReloads are good configurations and ones that are refused at every place where one can be.
func lifeReloads(t *testing.T, w *world) []lifeReload {
	t.Helper()
	good := w.lifeSites("", "")
	after := func(handler string) string {
		return strings.Replace(good, "reverse_proxy /held/*", "route {\n wechat_auth\n "+handler+"\n}\n reverse_proxy /held/*", 1)
	}
	small := strings.Replace(string(w.lifeAdapt(t, good)), `"wechat":{`, `"wechat":{"store":{"store":"memory","size":1000},`, 1)
	taken, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	return []lifeReload{
		{name: "the same again", config: good},
		{name: "other options of a site", config: w.lifeSites("", "public /open\n token_header X-Session")},
		{name: "another size of cache", config: w.lifeSites("cache 1MiB", "")},
		{name: "another size of store", config: w.lifeSites("store memory 8MiB", "")},
		{name: "other session times", config: w.lifeSites("", "session 100h 600h\n renew 1s")},
		{name: "another time of service for keys", config: w.lifeSites("session_key {\n rotate 24h\n}", "")},
		{name: "tokens by EdDSA", config: w.lifeSites("session_key {\n algorithm EdDSA\n}", "")},
		{name: "tokens by ES256", config: w.lifeSites("session_key {\n algorithm ES256\n}", "")},
		{name: "the app secret from another place", config: strings.Replace(good, "{env.WECHAT_APP_SECRET}", "{file."+w.dir+"/app_secret}", 1)},
		{"our broker refuses in Provision", good + "bad.example.com {\n wechat_broker\n}\n", "no account names this site"},
		{"our app refuses in Provision, its store taken", strings.Replace(good, "wechat {", "wechat {\n session_key {\n secret {env.NO_SUCH}\n}\n", 1), "NO_SUCH"},
		{"a handler behind ours refuses in Provision", after("reverse_proxy localhost:1 {\n transport http {\n tls_trust_pool file /no/such.pem\n}\n}"), "no/such.pem"},
		{"our store refuses in Validate", small, "too small"},
		{"a handler behind ours refuses in Validate", after("map {path} {x} {\n /a 1\n /a 2\n}"), "duplicate input"},
		{"Caddy refuses in Start, its port taken", good + "https://shop.example.org:" + strconv.Itoa(taken.Addr().(*net.TCPAddr).Port) + " {\n tls internal\n respond hello\n}\n", "address already in use"},
	}
}

// lifeLoad hands Caddy a configuration over its admin endpoint: a process for each of fifty would cost more
// than what is tested.
func (g *gateway) lifeLoad(r lifeReload) {
	g.t.Helper()
	canaryOf(g.t).readCaddyfile(r.config, g.command().Env)
	body, err := g.lifeAdmin("/load", r.config)
	switch {
	case r.refused == "" && err != nil:
		g.t.Fatalf("%s: %v", r.name, err)
	case r.refused != "" && (err == nil || !strings.Contains(err.Error(), r.refused)):
		g.t.Fatalf("%s: want a refusal that says %q, not %v %s", r.name, r.refused, err, body)
	}
}

func (g *gateway) lifeAdapt(t *testing.T, caddyfile string) json.RawMessage {
	t.Helper()
	body, err := g.lifeAdmin("/adapt", caddyfile)
	if err != nil {
		t.Fatal(err)
	}
	var adapted struct{ Result json.RawMessage }
	if err := json.Unmarshal(body, &adapted); err != nil {
		t.Fatal(err)
	}
	return adapted.Result
}

func (g *gateway) lifeAdmin(path, config string) ([]byte, error) {
	req, err := http.NewRequest(http.MethodPost, fmt.Sprintf("http://localhost:%d%s", g.admin, path), strings.NewReader(config))
	if err != nil {
		return nil, err
	}
	req.Close = true // the admin endpoint is replaced on each load
	req.Header.Set("Cache-Control", "must-revalidate")
	req.Header.Set("Content-Type", "text/caddyfile")
	if json.Valid([]byte(config)) {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := again{http.DefaultTransport}.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", resp.StatusCode, body)
	}
	return body, err
}

// Fifty configurations, good ones and refused ones, while people page, log in, and hold connections open.
func TestReloadsUnderLoadLoseNobody(t *testing.T) {
	lifeTellSeed(t)
	w := lifeWorld(t, "")
	if err := os.WriteFile(filepath.Join(w.dir, "app_secret"), []byte(appSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	c := lifeAgain(w.client())
	waiting, cookies := begin(t, w, c, shopPage)
	waiting = siteCallback(t, c, waiting) // its ticket waits over all that comes
	ended := signIn(t, w, c, authPage)
	logout(t, c, authPage, ended)
	crew := newLifeCrew(t)
	w.lifeLoadUp(crew)
	crew.await(3)
	before := w.lifeFootprint()
	list := lifeReloads(t, w)
	rnd := rand.New(rand.NewPCG(lifeSeed(), 50))
	for i := range 50 {
		if i%len(list) == 0 {
			rnd.Shuffle(len(list), func(a, b int) { list[a], list[b] = list[b], list[a] })
		}
		w.lifeLoad(list[i%len(list)])
		if t.Failed() {
			t.Fatalf("after %q", list[i%len(list)].name)
		}
		if i%10 == 9 {
			crew.await(1)
		}
	}
	crew.end()
	t.Logf("meanwhile: %v", crew.done)
	if follow(t, c, waiting, cookies) == "" {
		t.Error("a ticket was lost")
	}
	if resp, _ := get(t, c, authPage, pageHeader(holding(ended))); resp.StatusCode != 302 {
		t.Errorf("a session that had ended lives again: %d", resp.StatusCode)
	}
	w.lifeWantFootprint(before)
}

// lifeLoadUp has people page, log in on the bound domain and across domains, and hold a web socket and a long answer.
func (w *world) lifeLoadUp(crew *lifeCrew) {
	for i, page := range []string{authPage, shopPage} {
		kept := w.lifePhone(i, page, lifeAgain(w.client()))
		if err := kept.login(); err != nil {
			w.t.Fatal(err)
		}
		crew.run("pages of "+page, kept.stays)
		fresh := w.lifePhone(i+2, page, lifeAgain(w.client()))
		crew.run("logins at "+page, fresh.login)
		if i == 0 {
			crew.run("words over a web socket", w.lifeSocket(kept.token()))
			crew.run("lines of a long answer", w.lifeStream(kept.token()))
		}
	}
}

// A configuration without the plugin, and back: sessions and ended sessions are as before. And with a wrong
// app secret logins fail, nobody who is signed in notices, and with the right one they go on.
func TestReloadsThatTakeThePluginAway(t *testing.T) {
	w := lifeWorld(t, "")
	c := lifeAgain(w.client())
	good := w.lifeSites("", "")
	kept, ended := signIn(t, w, c, shopPage), signIn(t, w, c, shopPage)
	logout(t, c, shopPage, ended)
	callback, cookies := begin(t, w, c, shopPage)
	as := func(token string, status int) {
		t.Helper()
		if resp, _ := get(t, c, shopPage, pageHeader(holding(token))); resp.StatusCode != status {
			t.Errorf("status %d, want %d", resp.StatusCode, status)
		}
	}
	bare := "{\n" + w.globals() + "}\nauth.example.com, shop.example.org {\n respond bare\n}\n"
	for range 2 {
		w.lifeLoad(lifeReload{name: "without the plugin", config: bare})
		if _, body := get(t, c, shopPage, pageHeader(holding(kept))); body != "bare" {
			t.Errorf("the plugin still answers: %.200s", body)
		}
		w.lifeLoad(lifeReload{name: "with it again", config: good})
		as(kept, 200)
		as(ended, 302)
	}
	if follow(t, c, callback, cookies) == "" {
		t.Error("a login begun before was lost")
	}
	w.lifeLoad(lifeReload{name: "a wrong secret", config: strings.Replace(good, "{env.WECHAT_APP_SECRET}", strings.Repeat("f", 32), 1)})
	as(kept, 200)
	callback, cookies = begin(t, w, c, shopPage)
	if resp, _ := get(t, c, siteCallback(t, c, callback), pageHeader(cookies)); follow(t, c, callback, cookies) != "" {
		t.Errorf("signed in with a wrong secret, at last with %d", resp.StatusCode)
	}
	w.lifeLoad(lifeReload{name: "the right one", config: good})
	as(kept, 200)
	signIn(t, w, c, shopPage)
}

// The operator's secret is replaced, the old one listed behind it, time and again.
func TestSessionSecretsReplacedUnderLoad(t *testing.T) {
	w := &world{gateway: newGateway(t), sim: newSimulator(t, boundDomain), up: newUpstream(t), held: lifeHolds(t)}
	for _, name := range []string{"S0", "S1", "S2", "S3", "S4"} {
		w.env = append(w.env, name+"="+strings.Repeat(name, 20))
	}
	secrets := func(list string) string { return w.lifeSites("session_key {\n secret "+list+"\n}", "") }
	w.start(secrets("{env.S0}"))
	crew := newLifeCrew(t)
	w.lifeLoadUp(crew)
	list := "{env.S0}"
	for i := 1; i <= 4; i++ {
		list = fmt.Sprintf("{env.S%d} %s", i, list)
		w.lifeLoad(lifeReload{name: "another secret", config: secrets(list)})
		crew.await(2)
	}
	crew.end()
	t.Log(crew.done)
	// And what the operator strikes off the list is worth nothing any more.
	c := lifeAgain(w.client())
	token := signIn(t, w, c, authPage)
	w.lifeLoad(lifeReload{name: "without the last secret", config: secrets("{env.S0}")})
	if resp, _ := get(t, c, authPage, pageHeader(holding(token))); resp.StatusCode != 302 {
		t.Errorf("a session by a secret that was struck off got %d", resp.StatusCode)
	}
}

// A logout that could not be written holds in this process, whatever is loaded or refused meanwhile.
func TestUnwrittenLogoutHoldsOverReloads(t *testing.T) {
	w := lifeWorld(t, "")
	c := lifeAgain(w.client())
	token := signIn(t, w, c, authPage)
	if err := os.WriteFile(filepath.Join(w.dir, "storage", "wechat", "revoked"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h := with(formPost, "Origin", "https://auth.example.com", "Sec-Fetch-Site", "same-origin")
	h.Set("Cookie", "__Host-wechat_session="+token)
	if resp, _ := do(t, c, "POST", "https://auth.example.com/_wechat/logout", h, nil); resp.StatusCode != 500 {
		t.Fatalf("status %d", resp.StatusCode)
	}
	for _, r := range lifeReloads(t, w) {
		if strings.Contains(r.name, "app secret") {
			continue // its file is not there
		}
		w.lifeLoad(r)
		if resp, _ := get(t, c, authPage, pageHeader(holding(token))); resp.StatusCode != 302 {
			t.Fatalf("the session lives again after %q: %d", r.name, resp.StatusCode)
		}
	}
}

// lifeFootprint is what a gateway takes.
type lifeFootprint struct{ goroutines, heap int }

var (
	lifeStacks = regexp.MustCompile(`(?m)^(\d+) @ `)
	lifeHeap   = regexp.MustCompile(`# HeapAlloc = (\d+)`)
)

// lifeFootprint leaves out the idle connections to upstreams: Caddy keeps those of old configurations for
// minutes.
func (g *gateway) lifeFootprint() (f lifeFootprint) {
	g.t.Helper()
	profile := func(path string) string {
		resp, err := http.Get(fmt.Sprintf("http://localhost:%d/debug/pprof/%s", g.admin, path))
		if err != nil {
			g.t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return string(body)
	}
	for block := range strings.SplitSeq(profile("goroutine?debug=1"), "\n\n") {
		if m := lifeStacks.FindStringSubmatch(block); m != nil && !strings.Contains(block, "net/http.(*persistConn)") {
			n, _ := strconv.Atoi(m[1])
			f.goroutines += n
		}
	}
	if m := lifeHeap.FindStringSubmatch(profile("heap?gc=1&debug=1")); m != nil {
		f.heap, _ = strconv.Atoi(m[1])
	}
	if f.goroutines == 0 || f.heap == 0 {
		g.t.Fatal("no footprint")
	}
	return f
}

// lifeWantFootprint: a configuration that goes takes its goroutines and its memory along. before was taken
// under load; a goroutine or half a megabyte for each of the fifty would be over the bounds.
func (g *gateway) lifeWantFootprint(before lifeFootprint) {
	g.t.Helper()
	var now lifeFootprint
	for range 100 {
		if now = g.lifeFootprint(); now.goroutines <= before.goroutines+10 && now.heap <= before.heap+20<<20 {
			g.t.Logf("before %+v, after %+v", before, now)
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	g.t.Errorf("before %+v, after fifty reloads %+v", before, now)
}

// lifeHolds is an upstream that echoes over a web socket's connection, and sends numbered lines without end.
func lifeHolds(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			for i := 0; r.Context().Err() == nil; i++ {
				_, _ = fmt.Fprintf(w, "%d %s\n", i, r.Header.Get("X-Wechat-Openid"))
				_ = http.NewResponseController(w).Flush()
				time.Sleep(20 * time.Millisecond)
			}
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(conn, rw)
	}))
	t.Cleanup(server.CloseClientConnections)
	return strings.TrimPrefix(server.URL, "http://")
}

// lifeHold opens a connection of its own to the upstream that holds.
func (w *world) lifeHold(token, header string) (*tls.Conn, *bufio.Reader) {
	w.t.Helper()
	conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", w.https), &tls.Config{RootCAs: w.roots(), ServerName: "auth.example.com"})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	_, _ = fmt.Fprintf(conn, "GET /held/x HTTP/1.1\r\nHost: auth.example.com\r\nCookie: __Host-wechat_session=%s\r\n%s\r\n", token, header)
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 101 && resp.StatusCode != 200 {
		w.t.Fatalf("held: %v %v", resp, err)
	}
	if resp.StatusCode == 200 {
		r = bufio.NewReader(resp.Body)
	}
	return conn, r
}

func (w *world) lifeSocket(token string) func() error {
	conn, r := w.lifeHold(token, "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n")
	word := bytes.Repeat([]byte("word"), 16)
	return func() error {
		time.Sleep(5 * time.Millisecond) // the load is to be the others'
		if _, err := conn.Write(word); err != nil {
			return err
		}
		got := make([]byte, len(word))
		if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, word) {
			return fmt.Errorf("%q came back: %w", got, err)
		}
		return nil
	}
}

func (w *world) lifeStream(token string) func() error {
	_, r := w.lifeHold(token, "")
	n := 0
	return func() error {
		line, err := r.ReadString('\n')
		if want := fmt.Sprintf("%d %s\n", n, w.sim.OpenID(appID, lifePeople[0])); err != nil || line != want {
			return fmt.Errorf("%q, want %q: %w", line, want, err)
		}
		n++
		return nil
	}
}
