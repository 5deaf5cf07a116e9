package integration

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// forgeSeen is one request as an upstream's socket got it, byte for byte.
type forgeSeen struct {
	line     string // GET /x HTTP/1.1
	lines    []string
	body     string
	trailers []string
}

// values returns the values of the lines of exactly that name.
func (s *forgeSeen) values(name string) (list []string) {
	for _, line := range s.lines {
		if n, v, _ := strings.Cut(line, ":"); n == name {
			list = append(list, strings.TrimPrefix(v, " "))
		}
	}
	return list
}

// forgeUpstream keeps every request under the number that its address carries.
type forgeUpstream struct {
	addr string

	mu      sync.Mutex
	seen    map[int][]*forgeSeen // guarded by mu
	strange []string             // guarded by mu: what nobody sent as a request of its own
}

var forgeCase = regexp.MustCompile(`[?&]case=([0-9]+)`)

func newForgeUpstream(t *testing.T) *forgeUpstream {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	u := &forgeUpstream{addr: l.Addr().String(), seen: map[int][]*forgeSeen{}}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go u.serve(c)
		}
	}()
	return u
}

// serve reads request after request as one who trusts the proxy: what follows a request is the next one.
func (u *forgeUpstream) serve(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		_ = c.SetDeadline(time.Now().Add(10 * forgePatience))
		s, err := forgeReadRequest(in)
		if err != nil {
			if s != nil && s.line != "" {
				u.note(s)
			}
			return
		}
		u.note(s)
		if up := s.values("Upgrade"); len(up) > 0 && strings.HasPrefix(s.line, "GET ") {
			fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", up[0])
			_, _ = io.Copy(c, in) // says back what it hears
			return
		}
		answer := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
		if strings.HasPrefix(s.line, "HEAD ") {
			answer = strings.TrimSuffix(answer, "ok")
		}
		if _, err := io.WriteString(c, answer); err != nil {
			return
		}
	}
}

func forgeReadRequest(in *bufio.Reader) (s *forgeSeen, err error) {
	s = new(forgeSeen)
	if s.line, err = in.ReadString('\n'); err != nil {
		return s, err
	}
	s.line = strings.TrimSuffix(s.line, "\r\n")
	if s.lines, err = forgeReadLines(in); err != nil {
		return s, err
	}
	if te := s.values("Transfer-Encoding"); len(te) > 0 {
		return s, s.readChunks(in)
	}
	if cl := s.values("Content-Length"); len(cl) > 0 {
		n, _ := strconv.Atoi(cl[0])
		b := make([]byte, n)
		n, err = io.ReadFull(in, b)
		s.body = string(b[:n])
	}
	return s, err
}

// forgeReadLines reads up to an empty line.
func forgeReadLines(in *bufio.Reader) (lines []string, err error) {
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return lines, err
		}
		if line = strings.TrimSuffix(line, "\r\n"); line == "" {
			return lines, nil
		}
		lines = append(lines, line)
	}
}

func (s *forgeSeen) readChunks(in *bufio.Reader) error {
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		n, err := strconv.ParseInt(strings.TrimSuffix(line, "\r\n"), 16, 32)
		if err != nil {
			return fmt.Errorf("chunk %q: %w", line, err)
		}
		if n == 0 {
			s.trailers, err = forgeReadLines(in)
			return err
		}
		b := make([]byte, n+2)
		if _, err := io.ReadFull(in, b); err != nil {
			return err
		}
		s.body += string(b[:n])
	}
}

func (u *forgeUpstream) note(s *forgeSeen) {
	u.mu.Lock()
	defer u.mu.Unlock()
	m := forgeCase.FindStringSubmatch(s.line)
	if m == nil {
		u.strange = append(u.strange, s.line)
		return
	}
	n, _ := strconv.Atoi(m[1])
	u.seen[n] = append(u.seen[n], s)
}

// of returns what came of a case.
func (u *forgeUpstream) of(n int) []*forgeSeen {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.seen[n]
}

// wantNothingStrange: whatever else than the tests' own requests came, came smuggled in one of them.
func (u *forgeUpstream) wantNothingStrange(t *testing.T) {
	t.Helper()
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.strange) > 0 {
		t.Errorf("the upstream got requests that nobody sent: %q", u.strange[:min(5, len(u.strange))])
	}
}

// forgive forgets what was strange, once it was told.
func (u *forgeUpstream) forgive() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.strange = nil
}
