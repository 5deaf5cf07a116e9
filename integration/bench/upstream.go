package main

import (
	"bufio"
	"fmt"
	"net"
	"strings"
)

// What the upstream answers: a page of 1 KB, and at whoami the identity that it was handed.
const (
	pageSize  = 1024
	whoami    = "/whoami"
	openidKey = "x-wechat-openid:"
)

// serveUpstream answers requests without bodies, by hand: it must cost less than what stands before it.
func serveUpstream(l net.Listener) error {
	page := answerOf(strings.Repeat("x", pageSize))
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			r := bufio.NewReader(conn)
			for {
				path, openID, err := readRequest(r)
				if err != nil {
					return
				}
				answer := page
				if path == whoami {
					answer = answerOf(openID)
				}
				if _, err := conn.Write(answer); err != nil {
					return
				}
			}
		}()
	}
}

// readRequest returns the path that was asked for, and who the gateway says it is.
func readRequest(r *bufio.Reader) (path, openID string, err error) {
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return "", "", err
		}
		text := strings.TrimRight(string(line), "\r\n")
		switch {
		case text == "":
			return path, openID, nil
		case first:
			_, path, _ = strings.Cut(text, " ")
			path, _, _ = strings.Cut(path, " ")
		case len(text) > len(openidKey) && strings.EqualFold(text[:len(openidKey)], openidKey):
			openID = strings.TrimSpace(text[len(openidKey):])
		}
	}
}

func answerOf(body string) []byte {
	return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}
