package integration

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"
)

// forgeH3 writes HTTP/3 frame by frame.
type forgeH3 struct {
	address string
	tls     *tls.Config
	conn    *quic.Conn
}

const (
	forgeH3Data    = 0
	forgeH3Headers = 1
)

func (c *forgeH3) close() {
	if c.conn != nil {
		_ = c.conn.CloseWithError(0x100, "")
		c.conn = nil
	}
}

func (c *forgeH3) open() error {
	ctx, cancel := context.WithTimeout(context.Background(), forgePatience)
	defer cancel()
	conn, err := quic.DialAddr(ctx, c.address, c.tls, nil)
	if err != nil {
		return err
	}
	c.conn = conn
	control, err := conn.OpenUniStream()
	if err != nil {
		return err
	}
	_, err = control.Write([]byte{0, 4, 0}) // a control stream, and no settings on it
	return err
}

func (c *forgeH3) send(r forgeRequest) (forgeAnswer, error) {
	return c.sendFields(append(forgePseudo(r), r.fields...), r)
}

func (c *forgeH3) sendFields(fields []forgeField, r forgeRequest) (forgeAnswer, error) {
	if c.conn == nil {
		if err := c.open(); err != nil {
			c.close()
			return forgeAnswer{}, err
		}
	}
	s, err := c.conn.OpenStream()
	if err != nil {
		c.close()
		return forgeAnswer{}, forgeH3Error(err)
	}
	_ = s.SetDeadline(time.Now().Add(forgePatience))
	message := forgeH3Frame(forgeH3Headers, forgeH3Block(fields))
	if r.body != "" {
		message = append(message, forgeH3Frame(forgeH3Data, []byte(r.body))...)
	}
	if r.trailers != nil && !r.websocket {
		message = append(message, forgeH3Frame(forgeH3Headers, forgeH3Block(r.trailers))...)
	}
	_, _ = s.Write(message) // it fails where the answer was there before the end of the request
	if !r.websocket || r.mute {
		_ = s.Close()
	}
	a, err := c.answer(s, r)
	if err != nil {
		c.close()
	}
	return a, forgeH3Error(err)
}

// forgeH3Error tells the server's refusal from other errors.
func forgeH3Error(err error) error {
	var stream *quic.StreamError
	var app *quic.ApplicationError
	if errors.As(err, &stream) || errors.As(err, &app) {
		return forgeReset(err.Error())
	}
	return err
}

func forgeH3Block(fields []forgeField) []byte {
	var b bytes.Buffer
	e := qpack.NewEncoder(&b)
	for _, f := range fields {
		_ = e.WriteField(qpack.HeaderField{Name: f.name, Value: f.value})
	}
	return b.Bytes()
}

func forgeH3Frame(kind uint64, payload []byte) []byte {
	b := quicvarint.Append(nil, kind)
	return append(quicvarint.Append(b, uint64(len(payload))), payload...)
}

// answer reads frames to the end of the stream.
func (c *forgeH3) answer(s *quic.Stream, r forgeRequest) (forgeAnswer, error) {
	a := forgeAnswer{header: http.Header{}}
	in := bufio.NewReader(s)
	for {
		kind, err := quicvarint.Read(in)
		if errors.Is(err, io.EOF) && a.status != 0 {
			return a, nil
		}
		if err != nil {
			return a, err
		}
		n, err := quicvarint.Read(in)
		if err != nil {
			return a, err
		}
		payload := make([]byte, n)
		if _, err := io.ReadFull(in, payload); err != nil {
			return a, err
		}
		switch kind {
		case forgeH3Headers:
			if err := forgeH3Read(payload, &a); err != nil {
				return a, err
			}
			if r.talks(a.status) {
				if _, err := s.Write(forgeH3Frame(forgeH3Data, []byte(forgeHello))); err != nil {
					return a, err
				}
			}
		case forgeH3Data:
			a.body += string(payload)
			if r.websocket && a.body == forgeHello {
				if r.trailers != nil {
					_, _ = s.Write(forgeH3Frame(forgeH3Headers, forgeH3Block(r.trailers)))
				}
				return a, s.Close()
			}
		}
	}
}

func forgeH3Read(block []byte, a *forgeAnswer) error {
	next := qpack.NewDecoder().Decode(block)
	for {
		f, err := next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if f.Name == ":status" {
			a.status, _ = strconv.Atoi(f.Value)
			continue
		}
		a.header.Add(f.Name, f.Value)
	}
}
