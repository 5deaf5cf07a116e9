// Package redistest runs real Redis servers for tests: one alone, a Cluster, a master with Sentinels. All of them
// listen on the loopback, keep what they keep in the test's own folder and end with the test.
package redistest

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
)

// The client library says on standard error that a server which is not up yet is not up yet.
func init() { redis.SetLogger(&logging.VoidLogger{}) }

// Server is a redis-server.
type Server struct {
	// Addr is where it listens, as host:port. It stays over Start.
	Addr string

	t       testing.TB
	binary  string
	config  string // the path of its configuration
	args    []string
	options redis.Options // how the test itself talks to it
	cmd     *exec.Cmd
	exited  chan struct{}
	said    *output
}

// patience is how long anything here may take to be ready.
const patience = 30 * time.Second

// New starts a server with these lines of redis.conf on top.
func New(t testing.TB, lines ...string) *Server {
	t.Helper()
	s := prepare(t, redis.Options{}, append([]string{"save \"\"", "appendonly no"}, lines...)...)
	s.Start()
	return s
}

// NewTLS starts a server that speaks TLS alone.
func NewTLS(t testing.TB, ca *CA, lines ...string) *Server {
	t.Helper()
	s := prepare(t, redis.Options{TLSConfig: &tls.Config{RootCAs: ca.Pool, MinVersion: tls.VersionTLS12}}, append([]string{"save \"\""}, lines...)...)
	port := s.port()
	s.add("port 0", "tls-port "+port, "tls-cert-file "+ca.CertFile, "tls-key-file "+ca.KeyFile, "tls-ca-cert-file "+ca.File, "tls-auth-clients no")
	s.Start()
	return s
}

// Prepare is New without the start.
func Prepare(t testing.TB, lines ...string) *Server {
	t.Helper()
	return prepare(t, redis.Options{}, append([]string{"save \"\"", "appendonly no"}, lines...)...)
}

func prepare(t testing.TB, options redis.Options, lines ...string) *Server {
	t.Helper()
	dir := t.TempDir()
	port := freePort(t)
	s := &Server{
		Addr: fmt.Sprintf("127.0.0.1:%d", port), t: t, binary: Binary(t), config: filepath.Join(dir, "redis.conf"), options: options,
	}
	for _, line := range lines {
		if password, ok := strings.CutPrefix(line, "requirepass "); ok {
			s.options.Password = password
		}
		if line == "user default off" {
			s.options.Username, s.options.Password = "redistest", "redistest"
			s.add("user redistest on >redistest ~* &* +@all")
		}
	}
	s.options.Addr, s.options.Protocol, s.options.DisableIdentity = s.Addr, 2, true
	s.options.DialTimeout, s.options.DialerRetries, s.options.MaxRetries = time.Second, 1, -1
	s.add(fmt.Sprintf("port %d", port), "bind 127.0.0.1", "dir "+dir, "daemonize no", "enable-debug-command yes")
	s.add(lines...)
	return s
}

// add adds lines to its configuration.
func (s *Server) add(lines ...string) {
	s.t.Helper()
	f, err := os.OpenFile(s.config, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(strings.Join(lines, "\n") + "\n")
		_ = f.Close()
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// Binary returns the path of redis-server. Where there is none it skips the test, or fails it where all tests
// must run.
func Binary(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"redis-server", "/usr/sbin/redis-server", "/usr/local/bin/redis-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	say := t.Skip
	if os.Getenv("WECHAT_TEST_ALL") == "1" {
		say = t.Fatal
	}
	say("not installed: redis-server; ./xcaddy.sh test installs what the tests need")
	return ""
}

// Start starts it, again after Kill, and waits until it answers.
func (s *Server) Start() {
	s.t.Helper()
	if s.cmd == nil {
		s.t.Cleanup(s.Kill)
	}
	s.said = new(output)
	s.cmd = exec.Command(s.binary, append([]string{s.config}, s.args...)...)
	s.cmd.Stdout, s.cmd.Stderr = s.said, s.said
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	exited := make(chan struct{})
	s.exited = exited
	go func(cmd *exec.Cmd) {
		_ = cmd.Wait()
		close(exited)
	}(s.cmd)
	s.Await("it answers", func(c *redis.Client) bool {
		select {
		case <-exited:
			s.t.Fatalf("redis-server ended:\n%s", s.said)
		default:
		}
		return c.Ping(s.t.Context()).Err() == nil
	})
}

// Kill ends it at once, as a crash does.
func (s *Server) Kill() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	<-s.exited
}

// Freeze makes it hang; Thaw lets it go on.
func (s *Server) Freeze() { _ = s.cmd.Process.Signal(syscall.SIGSTOP) }

// Thaw lets a frozen server go on.
func (s *Server) Thaw() { _ = s.cmd.Process.Signal(syscall.SIGCONT) }

// Client is a client of the test's own, with every right.
func (s *Server) Client() *redis.Client {
	options := s.options
	c := redis.NewClient(&options)
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}

// Do runs a command that must go well.
func (s *Server) Do(args ...any) any {
	s.t.Helper()
	options := s.options
	c := redis.NewClient(&options)
	defer c.Close()
	v, err := c.Do(context.Background(), args...).Result()
	if err != nil {
		s.t.Fatalf("redis %s: %v", s.Addr, err)
	}
	return v
}

// Await waits until done is true.
func (s *Server) Await(what string, done func(*redis.Client) bool) {
	s.t.Helper()
	options := s.options
	c := redis.NewClient(&options)
	defer c.Close()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !done(c); <-tick.C {
		if time.Now().After(deadline) {
			s.t.Fatalf("redis %s: not within %v: %s\n%s", s.Addr, patience, what, s.said)
		}
	}
}

func (s *Server) port() string {
	_, port, _ := net.SplitHostPort(s.Addr)
	return port
}

// Cluster starts a Cluster of three masters.
func Cluster(t testing.TB, lines ...string) []*Server {
	t.Helper()
	var nodes []*Server
	for range 3 {
		s := Prepare(t, append([]string{"cluster-enabled yes", "cluster-node-timeout 2000"}, lines...)...)
		s.add(fmt.Sprintf("cluster-port %d", freePort(t)))
		s.Start()
		nodes = append(nodes, s)
	}
	const slots = 16384
	for i, s := range nodes {
		s.Do("CLUSTER", "SET-CONFIG-EPOCH", i+1)
		s.Do("CLUSTER", "ADDSLOTSRANGE", i*slots/len(nodes), (i+1)*slots/len(nodes)-1)
	}
	for _, s := range nodes[1:] {
		_, bus, _ := strings.Cut(fmt.Sprint(s.Do("CONFIG", "GET", "cluster-port")), "cluster-port")
		nodes[0].Do("CLUSTER", "MEET", "127.0.0.1", s.port(), strings.Trim(bus, " :]"))
	}
	for _, s := range nodes {
		s.Await("the Cluster is whole", func(c *redis.Client) bool {
			info := c.ClusterInfo(t.Context()).Val()
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:3")
		})
	}
	return nodes
}

// Sentinels is a master with a replica, watched by three Sentinels.
type Sentinels struct {
	Name            string // of the master
	Master, Replica *Server
	Watchers        []*Server
}

// NewSentinels starts one. password is Redis' own, watch lines of the Sentinels' configuration.
func NewSentinels(t testing.TB, password string, watch ...string) *Sentinels {
	t.Helper()
	s := &Sentinels{Name: "main"}
	s.Master = New(t, "requirepass "+password, "masterauth "+password)
	s.Replica = New(t, "requirepass "+password, "masterauth "+password, "replicaof 127.0.0.1 "+s.Master.port(), "repl-diskless-sync-delay 0")
	s.Replica.Await("the replica follows", func(c *redis.Client) bool {
		return strings.Contains(c.Info(t.Context(), "replication").Val(), "master_link_status:up")
	})
	for range 3 {
		w := prepare(t, redis.Options{}, watch...)
		w.args = []string{"--sentinel"}
		w.strip("enable-debug-command", "save")
		w.add("sentinel monitor "+s.Name+" 127.0.0.1 "+s.Master.port()+" 2", "sentinel auth-pass "+s.Name+" "+password,
			"sentinel down-after-milliseconds "+s.Name+" 800", "sentinel failover-timeout "+s.Name+" 4000")
		w.Start()
		s.Watchers = append(s.Watchers, w)
	}
	for _, w := range s.Watchers {
		w.Await("the Sentinels know each other", func(c *redis.Client) bool {
			all := fmt.Sprint(c.Do(t.Context(), "SENTINEL", "MASTER", s.Name).Val())
			return strings.Contains(all, "num-other-sentinels:2") && strings.Contains(all, "num-slaves:1") ||
				strings.Contains(all, "num-other-sentinels 2") && strings.Contains(all, "num-slaves 1")
		})
	}
	return s
}

// Addresses are the Sentinels'.
func (s *Sentinels) Addresses() []string { return Addresses(s.Watchers) }

// Addresses are where servers listen.
func Addresses(servers []*Server) (list []string) {
	for _, s := range servers {
		list = append(list, s.Addr)
	}
	return list
}

// strip removes lines from the configuration that begin with a word.
func (s *Server) strip(words ...string) {
	b, err := os.ReadFile(s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	var kept strings.Builder
	for line := range strings.Lines(string(b)) {
		word, _, _ := strings.Cut(line, " ")
		if !strings.Contains(" "+strings.Join(words, " ")+" ", " "+word+" ") {
			kept.WriteString(line)
		}
	}
	if err := os.WriteFile(s.config, []byte(kept.String()), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// freePort finds a port below those that the system hands out, and so low that nothing else here looks there.
func freePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 4000 + rand.IntN(5900)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// output is what a server says.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
