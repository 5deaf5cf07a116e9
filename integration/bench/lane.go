package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
)

// lane is one connection of a client that costs little: it keeps no cookies and follows nothing.
type lane struct {
	dial func() (net.Conn, error)
	conn net.Conn
	r    *bufio.Reader
}

// answer is what a client here looks at.
type answer struct {
	status   int
	location string
	cookies  string // that were set, as they are sent back
	body     string
}

const (
	// browser is what WeChat's sends with a page load.
	browser = "User-Agent: Mozilla/5.0 (Linux; Android 14) MicroMessenger/8.0.50\r\nAccept: text/html,*/*;q=0.8\r\nAccept-Language: zh-CN\r\n" +
		"Accept-Encoding: gzip\r\nReferer: https://shop.example.org/\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n"
	// script is what one sends that is no page load.
	script = "User-Agent: Mozilla/5.0 (Linux; Android 14) MicroMessenger/8.0.50\r\nAccept: application/json\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n"
)

// requestText is a whole request; header ends in a line break, if there is one.
func requestText(host, path, header string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\n" + header + "\r\n"
}

func (l *lane) get(host, path, header string) (answer, error) {
	if l.conn == nil {
		conn, err := l.dial()
		if err != nil {
			return answer{}, err
		}
		l.conn, l.r = conn, bufio.NewReader(conn)
	}
	a, err := l.exchange(requestText(host, path, header))
	if err != nil {
		l.close()
	}
	return a, err
}

func (l *lane) exchange(request string) (answer, error) {
	if _, err := io.WriteString(l.conn, request); err != nil {
		return answer{}, err
	}
	resp, err := http.ReadResponse(l.r, nil)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	return answer{resp.StatusCode, resp.Header.Get("Location"), cookiePairs(resp.Header["Set-Cookie"]), string(body)}, nil
}

// cookiePairs is what a browser without other cookies sends after these were set; what is emptied ends.
func cookiePairs(lines []string) string {
	var pairs []string
	for _, line := range lines {
		pair, _, _ := strings.Cut(line, ";")
		if !strings.HasSuffix(pair, "=") {
			pairs = append(pairs, pair)
		}
	}
	return strings.Join(pairs, "; ")
}

func (l *lane) close() {
	if l.conn != nil {
		_ = l.conn.Close()
		l.conn = nil
	}
}
