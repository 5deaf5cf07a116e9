package redisstore

import (
	"net"
	"sync/atomic"
	"testing"
)

// wire stands between the store and a Redis, counts what goes to it, and can lose its answers.
type wire struct {
	addr string
	sent atomic.Int64
	cut  atomic.Bool
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	w := &wire{addr: l.Addr().String()}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go w.carry(c, to)
		}
	}()
	return w
}

func (w *wire) requests() int64      { return w.sent.Load() }
func (w *wire) cutAnswers(lose bool) { w.cut.Store(lose) }

// carry carries one connection. A request is one read here: they are small, and no pipeline is used.
func (w *wire) carry(c net.Conn, to string) {
	defer c.Close()
	up, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer up.Close()
	go func() {
		defer up.Close()
		buf := make([]byte, 32<<10)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			w.sent.Add(1)
			if _, err := up.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 32<<10)
	for {
		n, err := up.Read(buf)
		if err != nil || w.cut.Load() {
			return // the connection breaks, and the answer is lost
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}
