package caddymodule

import (
	"bufio"
	"encoding/json"
	"io"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// whatwg reads addresses as browsers do: one JSON string a line in, one verdict a line out.
const whatwg = `
const read = (s) => {
  if (!URL.canParse(s)) return {};
  const u = new URL(s);
  return { origin: u.origin, user: u.username + u.password, path: u.pathname, tickets: u.searchParams.getAll('ticket'), states: u.searchParams.getAll('state') };
};
let rest = '';
process.stdin.setEncoding('utf8').on('data', (data) => {
  const lines = (rest + data).split('\n');
  rest = lines.pop();
  process.stdout.write(lines.map((line) => JSON.stringify(read(JSON.parse(line))) + '\n').join(''));
});
`

// browserReading is what a browser makes of an address. Origin is empty where it is none.
type browserReading struct {
	Origin, User, Path string
	Tickets, States    []string
}

// browserReader asks one process for all readings.
type browserReader struct {
	mu  sync.Mutex
	in  io.Writer
	out *bufio.Reader
}

// newBrowserReader starts Node, or returns nil where it is not installed.
func newBrowserReader(tb testing.TB) *browserReader {
	tb.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		return nil
	}
	cmd := exec.Command(node, "--input-type=module", "--eval", whatwg)
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	return &browserReader{in: in, out: bufio.NewReader(out)}
}

func (b *browserReader) read(tb testing.TB, address string) (reading browserReading) {
	tb.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	line, err := json.Marshal(address)
	if err == nil {
		_, err = b.in.Write(append(line, '\n'))
	}
	if err == nil {
		line, err = b.out.ReadBytes('\n')
	}
	if err == nil {
		err = json.Unmarshal(line, &reading)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return reading
}

// FuzzReturnAddress: what is accepted has, for a browser, exactly the origin that it is compared by, as it was sent
// and as it was rebuilt; and what is appended stands there alone.
func FuzzReturnAddress(f *testing.F) {
	for _, seed := range []string{
		"https://shop.example.org/member/x?a=1#top", "https://shop.example.org", "HTTPS://Shop.Example.ORG:443", "http://[::1]:8080/x", "https://[0:0::1]/",
		"https://127.1/", "https://0x7f000001/", "https://1.2.3.4/", "https://shop.example.1/", "https://[::ffff:1.2.3.4]/", "https://xn--zz.example/", "https://xn--czrs0t.example/",
		"https://商店.example/会员?名=值#章", "https://fa\u00dfe.example/", "https://shop\u3002example/", "https://\uff53hop.example/", "https://sh\u00adop.example/", "https://a_b.example/", "https://ab--cd.example/", "https://xn--.example/", "https://a-.example/", "https://\u05d0b.example/", "http://\u00ad0A", "https://a\u200db.example/",
		"https://shop.example.org//evil.example/", "https://shop.example.org/%2f%2E%61", "https://shop.example.org/a%25zz/%252e%252e/", "https://shop.example.org\\@evil.example/", "https://user@shop.example.org/", "https://shop.example.org:0443/", "https://shop.example.org:/", "https://shop.example.org:65536/",
		"https://shop.example.org/??ticket=x", "https://shop.example.org/?[ticket]=x", "https://shop.example.org/?tic%4bet=x", "https://shop.example.org/?a;ticket=x", "https://shop.example.org/?#?ticket=x", "https://%73hop.example.org/", "https://%E5%95%86.example/", "https://shop.example.org/\"<>^`{|}'", "https://shop.example.org/?\"<>'",
		"https:shop.example.org", "https:///shop.example.org", "//shop.example.org", "javascript://shop.example.org/%0aalert(1)", "https://shop.example.org/\xff\x80?\xff#\xff",
	} {
		f.Add(seed)
	}
	browser := newBrowserReader(f)
	f.Fuzz(func(t *testing.T, address string) {
		a, err := parseReturn(address, nameTicket, nameState)
		if err != nil {
			return
		}
		if again, err := parseReturn(a.String(), nameTicket, nameState); err != nil || again != a {
			t.Errorf("%q became %q, and that %q, %v", address, a, again, err)
		}
		if browser == nil {
			return
		}
		brought := a.with("ticket=0&state=1", false)
		for i, s := range []string{address, a.String(), brought} {
			got := browser.read(t, s)
			if i == 0 && got.Origin == "" {
				continue // it is none for a browser; what was made of it is one
			}
			if got.Origin != a.origin || got.User != "" || !strings.HasPrefix(got.Path, "/") {
				t.Errorf("%q was compared by %q, and a browser goes to %+v", s, a.origin, got)
			}
		}
		if got := browser.read(t, brought); len(got.Tickets) != 1 || got.Tickets[0] != "0" || len(got.States) != 1 || got.States[0] != "1" {
			t.Errorf("%q brings %q and %q", brought, got.Tickets, got.States)
		}
		if got, want := browser.read(t, a.String()).Path, a.path; onePath(got) != want && !strings.ContainsAny(want, `|^'"<>`+"`{}") {
			t.Errorf("%q was compared by the path %q, and a browser asks for %q", address, want, got)
		}
	})
}
