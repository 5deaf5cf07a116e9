package integration

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// redirectHead is a request's header block as it is written, pseudo-headers and all.
type redirectHead [][2]string

// http2: the same with HTTP/2's own fields, of which clients make more than one kind of nonsense.
func (x *redirectWorld) http2(t *testing.T) {
	t.Run("a payload as :path leads nowhere else", func(t *testing.T) {
		payloads := x.payloads(t)
		for i := 0; i < len(payloads); i += 9 {
			p := payloads[i]
			a := x.play2(t, redirectSite("shop.example.org"), p.text, redirectHead2("shop.example.org", p.text))
			if a != nil && a.Header.Get("Location") != "" && strings.HasPrefix(p.text, "/") && !strings.HasPrefix(p.path, "/_wechat/") {
				w := x.redirectWire()
				x.login(t, w, redirectSite("shop.example.org"), p.text, a, p.wanted)
				w.close()
			}
		}
		if n := x.judge(t); n < 150 {
			t.Errorf("the answers named %d addresses", n)
		}
	})
	t.Run("an :authority that is none of the site's starts nothing", func(t *testing.T) {
		for _, h := range x.hosts() {
			if strings.HasPrefix(h.sni, "http://") || strings.ContainsAny(h.host, " \t") { // there a client has trimmed it
				continue
			}
			a := x.play2(t, redirectAt(h), h.host, redirectHead2(h.host, "/member/"))
			x.judged2(t, h.host, h.origin, a)
		}
		x.judge(t)
	})
	t.Run("two names in one request are one, or nothing", x.twoNames2)
}

func (x *redirectWorld) twoNames2(t *testing.T) {
	const shop, evil = "shop.example.org", "evil.example"
	page := redirectHead{{"user-agent", "MicroMessenger"}, {"accept", "text/html"}}
	heads := []struct {
		head   redirectHead
		origin string
	}{
		{redirectHead{{":method", "GET"}, {":scheme", "https"}, {":authority", shop}, {":path", "/member/"}, {"host", evil}}, ""},
		{redirectHead{{":method", "GET"}, {":scheme", "https"}, {":authority", evil}, {":path", "/member/"}, {"host", shop}}, ""},
		{redirectHead{{":method", "GET"}, {":scheme", "https"}, {":path", "/member/"}, {"host", shop}}, "https://" + shop},
		{redirectHead{{":method", "GET"}, {":scheme", "https"}, {":path", "/member/"}, {"host", evil}}, ""},
		{redirectHead{{":method", "GET"}, {":scheme", "https"}, {":path", "/member/"}}, ""},
		{redirectHead{{":method", "GET"}, {":scheme", "https"}, {":authority", ""}, {":path", "/member/"}, {"host", evil}}, ""},
		{redirectHead{{":method", "GET"}, {":scheme", "https"}, {":authority", evil}, {":authority", shop}, {":path", "/member/"}}, ""},
		{redirectHead{{":method", "GET"}, {":scheme", "http"}, {":authority", shop}, {":path", "/member/"}}, "https://" + shop},
		{redirectHead{{":method", "GET"}, {":scheme", "https"}, {":authority", shop}, {":path", "/member/"}, {"x-forwarded-host", evil}, {"x-forwarded-proto", "http"}}, "https://" + shop},
		{redirectHead{{":method", "GET"}, {":scheme", "https"}, {":authority", shop}, {":path", "/member/"}, {":path", "//evil.example"}}, ""},
		{redirectHead{{":method", "GET"}, {":scheme", "https"}, {":path", "https://evil.example/"}, {"host", shop}}, ""},
		{redirectHead{{":method", "CONNECT"}, {":scheme", "https"}, {":authority", evil}, {":path", "/member/"}, {":protocol", "websocket"}}, ""},
	}
	for _, h := range heads {
		a := x.play2(t, redirectSite(shop), fmt.Sprint(h.head), append(h.head, page...))
		x.judged2(t, fmt.Sprint(h.head), h.origin, a)
	}
	x.judge(t)
}

// judged2 holds an answer against the origin that must be signed, "" for none.
func (x *redirectWorld) judged2(t *testing.T, what, origin string, a *redirectAnswer) {
	t.Helper()
	switch {
	case origin == "" && a != nil && (a.Header.Get("Location") != "" || len(a.Header["Set-Cookie"]) > 0):
		t.Errorf("%q: %v", what, a)
	case origin == "":
	case a == nil || a.StatusCode != 302:
		t.Errorf("%q: %v, want a login at %s", what, a, origin)
	default:
		w := x.redirectWire()
		defer w.close()
		host := strings.TrimPrefix(origin, "https://")
		sni := host
		if !strings.HasPrefix(host, "port.") {
			sni, _, _ = strings.Cut(host, ":")
		}
		if host == "port.example.org" {
			sni = fmt.Sprintf("%s:%d", host, x.port)
		}
		x.login(t, w, redirectAt{sni, host, origin}, what, a, "/member/#")
	}
}

func redirectHead2(authority, path string) redirectHead {
	return redirectHead{{":method", "GET"}, {":scheme", "https"}, {":authority", authority}, {":path", path}, {"user-agent", "MicroMessenger"}, {"accept", "text/html"}}
}

// play2 sends one request over HTTP/2 and looks at the answer; nil where the stream or the connection was ended instead.
func (x *redirectWorld) play2(t *testing.T, at redirectAt, p string, head redirectHead) *redirectAnswer {
	t.Helper()
	a, err := x.send2(at.sni, head)
	if err != nil {
		t.Errorf("%.200q: %v", p, err)
	}
	if a != nil {
		x.look(t, p, at, "https://shop.example.org", a)
	}
	return a
}

func (x *redirectWorld) send2(sni string, head redirectHead) (*redirectAnswer, error) {
	w := x.redirectWire()
	w.tls.NextProtos = []string{"h2"}
	c, err := w.dial(sni)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if p := c.Conn.(*tls.Conn).ConnectionState().NegotiatedProtocol; p != "h2" {
		return nil, fmt.Errorf("the gateway speaks %q", p)
	}
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, field := range head {
		_ = enc.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	_, _ = io.WriteString(c, http2.ClientPreface)
	framer := http2.NewFramer(c, c.r)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_ = framer.WriteSettings()
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
	return redirectRead2(framer), nil
}

func redirectRead2(framer *http2.Framer) *redirectAnswer {
	var a *redirectAnswer
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return a
		}
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			a = &redirectAnswer{Response: &http.Response{Header: http.Header{}}}
			_, _ = fmt.Sscan(f.PseudoValue("status"), &a.StatusCode)
			for _, field := range f.RegularFields() {
				a.Header.Add(field.Name, field.Value)
			}
		case *http2.DataFrame:
			a.body += string(f.Data())
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return a
		}
		if frame.Header().Flags.Has(http2.FlagDataEndStream) && frame.Header().StreamID == 1 {
			return a
		}
	}
}
