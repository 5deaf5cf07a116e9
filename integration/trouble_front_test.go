package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// troubleFront is api.weixin.qq.com by TLS: the simulator behind a network that does as it is told, and a
// record of every code and token that went over it.
type troubleFront struct {
	addr string
	sim  http.Handler

	mu      sync.Mutex
	l       net.Listener
	cert    tls.Certificate
	tcp     func(net.Conn)            // instead of TLS
	raw     map[string]func(net.Conn) // instead of an answer, by path
	asked   map[string]int            // by path
	secrets map[string]bool
}

// troubleCerts are certificates of the front: only good is one that the gateway trusts for it.
type troubleCerts struct{ good, nobodys, other, expired tls.Certificate }

// newTroubleFront stands before a simulator, of which the browser knows the open side alone.
func newTroubleFront(t *testing.T, cert tls.Certificate) (*troubleFront, *simulator) {
	t.Helper()
	sim := wechattest.New(wechattest.Account{AppID: appID, Secret: appSecret, Domains: []string{"auth.example.com"}})
	f := &troubleFront{sim: sim, cert: cert, asked: map[string]int{}, secrets: map[string]bool{}, addr: "127.0.0.1:0"}
	f.up(t)
	t.Cleanup(f.down)
	server := httptest.NewServer(http.HandlerFunc(f.open))
	t.Cleanup(server.Close)
	return f, &simulator{sim, server.URL, server.Listener.Addr().String()}
}

// up listens, where it did before.
func (f *troubleFront) up(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	f.l, f.addr = l, l.Addr().String()
	f.mu.Unlock()
	cfg := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		return &f.cert, nil
	}, SessionTicketsDisabled: true} // a resumed session shows no certificate
	srv := &http.Server{Handler: f, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = srv.Serve(tls.NewListener(troubleListener{l, f}, cfg)) }()
}

func (f *troubleFront) down() {
	f.mu.Lock()
	defer f.mu.Unlock()
	_ = f.l.Close()
}

// calm ends all trouble that change makes.
func (f *troubleFront) calm(good tls.Certificate) {
	f.change(func() { f.cert, f.tcp, f.raw = good, nil, nil })
}

func (f *troubleFront) change(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// askedFor is how often a path was called since the last askedFor of any.
func (f *troubleFront) askedFor(path string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.asked[path]
	clear(f.asked)
	return n
}

var troubleToken = regexp.MustCompile(`[AR]T_[A-Za-z0-9]{40,}`)

func (f *troubleFront) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.asked[r.URL.Path]++
	f.secrets[r.URL.Query().Get("code")] = true
	raw := f.raw[r.URL.Path]
	f.mu.Unlock()
	if raw == nil {
		f.sim.ServeHTTP(&troubleWriter{w, f}, r)
		return
	}
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		defer conn.Close()
		raw(conn)
	}
}

// troubleWriter notes the tokens of an answer.
type troubleWriter struct {
	http.ResponseWriter
	f *troubleFront
}

func (w *troubleWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *troubleWriter) Write(b []byte) (int, error) {
	if len(b) < 4096 {
		w.f.change(func() {
			for _, token := range troubleToken.FindAllString(string(b), -1) {
				w.f.secrets[token] = true
			}
		})
	}
	return w.ResponseWriter.Write(b)
}

type troubleListener struct {
	net.Listener
	f *troubleFront
}

func (l troubleListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		l.f.mu.Lock()
		tcp := l.f.tcp
		l.f.mu.Unlock()
		if tcp == nil {
			return conn, nil
		}
		go func() {
			defer conn.Close()
			tcp(conn)
		}()
	}
}

// makeTroubleCerts writes the authority that the gateway is to trust into a file.
func makeTroubleCerts(t *testing.T, file string) (c troubleCerts) {
	t.Helper()
	const day = 24 * time.Hour
	authority := troubleCert(t, "", day, nil)
	c.good = troubleCert(t, "127.0.0.1", day, &authority)
	c.nobodys = troubleCert(t, "127.0.0.1", day, nil)
	c.other = troubleCert(t, "127.0.0.2", day, &authority)
	c.expired = troubleCert(t, "127.0.0.1", -day, &authority)
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Certificate[0]})
	if err := os.WriteFile(file, block, 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

func troubleCert(t *testing.T, address string, life time.Duration, parent *tls.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "trouble \r\n\x1b[31m"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(life),
		BasicConstraintsValid: true, IsCA: parent == nil,
	}
	if address != "" {
		template.IPAddresses = []net.IP{net.ParseIP(address)}
	}
	signer, by := template, any(key)
	if parent != nil {
		signer, by = parent.Leaf, parent.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// troubleCode is a code on its way to the browser: some never reach the front.
var troubleCode = regexp.MustCompile(`[?&]code=([A-Za-z0-9]+)`)

// open is open.weixin.qq.com, which plain http serves here.
func (f *troubleFront) open(w http.ResponseWriter, r *http.Request) {
	f.sim.ServeHTTP(w, r)
	if m := troubleCode.FindStringSubmatch(w.Header().Get("Location")); m != nil {
		f.change(func() { f.secrets[m[1]] = true })
	}
}
