package integration

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// forgeH2 writes HTTP/2 frame by frame: no library would send such names, nor trailers nobody announced.
type forgeH2 struct {
	dial   func() (net.Conn, error)
	conn   net.Conn
	framer *http2.Framer
	writes *bufio.Writer
	out    *hpack.Encoder
	block  bytes.Buffer
	in     *hpack.Decoder
	next   uint32
}

func (c *forgeH2) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

func (c *forgeH2) open() (err error) {
	if c.conn, err = c.dial(); err != nil {
		return err
	}
	_ = c.conn.SetDeadline(time.Now().Add(forgePatience))
	c.writes = bufio.NewWriter(c.conn)
	if _, err = io.WriteString(c.writes, http2.ClientPreface); err != nil {
		return err
	}
	c.framer = http2.NewFramer(c.writes, c.conn)
	c.framer.AllowIllegalWrites = true
	c.block.Reset()
	c.out, c.in, c.next = hpack.NewEncoder(&c.block), hpack.NewDecoder(4096, nil), 1
	if err = c.framer.WriteSettings(); err != nil {
		return err
	}
	return c.framer.WriteWindowUpdate(0, 1<<30)
}

// forgePseudo are the fields before all others.
func forgePseudo(r forgeRequest) []forgeField {
	if r.websocket { // RFC 8441
		return []forgeField{{":method", "CONNECT"}, {":protocol", "websocket"}, {":scheme", "https"}, {":authority", r.host}, {":path", r.uri}, {"sec-websocket-version", "13"}}
	}
	if r.method == http.MethodConnect {
		return []forgeField{{":method", r.method}, {":authority", r.host}}
	}
	return []forgeField{{":method", r.method}, {":scheme", "https"}, {":authority", r.host}, {":path", r.uri}}
}

func (c *forgeH2) send(r forgeRequest) (forgeAnswer, error) {
	return c.sendFields(append(forgePseudo(r), r.fields...), r)
}

// sendFields sends all of a request's fields as they are given, pseudo-fields too.
//
// Go ends the connection where trailers follow a request that it has answered meanwhile: what was sent
// next on it was not read and is sent again.
func (c *forgeH2) sendFields(fields []forgeField, r forgeRequest) (forgeAnswer, error) {
	used := c.conn != nil
	a, err := c.sendOnce(fields, r)
	if err != nil && used && a.status == 0 {
		a, err = c.sendOnce(fields, r)
	}
	return a, err
}

func (c *forgeH2) sendOnce(fields []forgeField, r forgeRequest) (forgeAnswer, error) {
	if c.conn == nil {
		if err := c.open(); err != nil {
			return forgeAnswer{}, err
		}
	}
	_ = c.conn.SetDeadline(time.Now().Add(forgePatience))
	id := c.next
	c.next += 2
	ends := r.mute || r.body == "" && r.trailers == nil && !r.websocket
	if err := c.headers(id, fields, ends); err != nil {
		c.close()
		return forgeAnswer{}, err
	}
	if !r.websocket && !ends {
		if err := c.body(id, r.body, r.trailers); err != nil {
			c.close()
			return forgeAnswer{}, err
		}
	}
	a, err := c.answer(id, r)
	if err != nil {
		c.close()
	}
	return a, err
}

func (c *forgeH2) body(id uint32, body string, trailers []forgeField) error {
	if err := c.framer.WriteData(id, trailers == nil, []byte(body)); err != nil || trailers == nil {
		return err
	}
	return c.headers(id, trailers, true)
}

// headers writes a block of fields, cut into frames anywhere, in the middle of names too.
func (c *forgeH2) headers(id uint32, fields []forgeField, ends bool) error {
	c.block.Reset()
	for _, f := range fields {
		if err := c.out.WriteField(hpack.HeaderField{Name: f.name, Value: f.value, Sensitive: len(f.value)%2 == 0}); err != nil {
			return err
		}
	}
	rest := bytes.Clone(c.block.Bytes())
	cut := 1 + rand.IntN(len(rest))
	err := c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: rest[:cut], EndStream: ends, EndHeaders: cut == len(rest)})
	if err != nil || cut == len(rest) {
		return err
	}
	return c.framer.WriteContinuation(id, true, rest[cut:])
}

// answer reads frames to the end of the stream.
func (c *forgeH2) answer(id uint32, r forgeRequest) (forgeAnswer, error) {
	a := forgeAnswer{header: http.Header{}}
	var block []byte
	for {
		if err := c.writes.Flush(); err != nil {
			return a, err
		}
		frame, err := c.framer.ReadFrame()
		if err != nil {
			return a, err
		}
		ended := false
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = c.framer.WriteSettingsAck()
			}
		case *http2.PingFrame:
			_ = c.framer.WritePing(true, f.Data)
		case *http2.GoAwayFrame:
			return a, forgeReset("the connection, " + f.ErrCode.String())
		case *http2.RSTStreamFrame:
			if f.StreamID == id {
				return a, forgeReset("the stream, " + f.ErrCode.String())
			}
		case *http2.HeadersFrame:
			block = append(block[:0], f.HeaderBlockFragment()...)
			if f.HeadersEnded() {
				err = c.read(block, &a)
			}
			ended = f.StreamEnded()
			if r.talks(a.status) && !ended {
				err = c.framer.WriteData(id, false, []byte(forgeHello))
			}
		case *http2.ContinuationFrame:
			if block = append(block, f.HeaderBlockFragment()...); f.HeadersEnded() {
				err = c.read(block, &a)
			}
		case *http2.DataFrame:
			if f.StreamID != id {
				continue
			}
			a.body += string(f.Data())
			ended = f.StreamEnded()
			if r.websocket && a.body == forgeHello {
				if r.trailers == nil {
					err = c.framer.WriteRSTStream(id, http2.ErrCodeCancel)
				} else {
					err = c.headers(id, r.trailers, true)
				}
				return a, errors.Join(err, c.writes.Flush())
			}
		}
		if err != nil || ended {
			return a, err
		}
	}
}

func (c *forgeH2) read(block []byte, a *forgeAnswer) error {
	fields, err := c.in.DecodeFull(block)
	for _, f := range fields {
		if f.Name == ":status" {
			a.status, _ = strconv.Atoi(f.Value)
			continue
		}
		a.header.Add(f.Name, f.Value)
	}
	return err
}
