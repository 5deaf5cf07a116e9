package main

import (
	"bufio"
	"context"
	"net/http"
	"strings"
)

// traffic is the requests of a case. Whoever is compared gets the same, to another host.
type traffic struct {
	path   string
	header string // lines, each with its break
	cookie string // the Cookie header, up to where a line goes in
	rest   string // and behind it
	lines  []string

	// fresh makes n lines for a turn in which none may be seen twice. Without it lines repeat.
	fresh func(ctx context.Context, n int) ([]string, error)
}

const (
	cookieBefore = "theme=dark; wechat_session="
	cookieSecure = "theme=dark; __Host-wechat_session="
	cookieAfter  = "; PHPSESSID=0123456789abcdef"
)

// pages are the page loads of people with these tokens.
func pages(tokens []string) traffic {
	return traffic{path: memberPath, header: browser, cookie: cookieBefore, rest: cookieAfter, lines: tokens}
}

// securePages are the same on https.
func securePages(tokens []string) traffic {
	t := pages(tokens)
	t.cookie = cookieSecure
	return t
}

// strangers load a page without a session.
func strangers(path string) traffic {
	return traffic{path: path, header: browser, cookie: "theme=dark; PHPSESSID=", lines: []string{"0123456789abcdef"}}
}

// calls are requests of scripts: a refusal is an answer to them, and nothing begins.
func calls(tokens []string) traffic {
	t := pages(tokens)
	t.path, t.header = "/api", script
	return t
}

// spoofs are page loads with thirty headers that a client must not send.
func spoofs(tokens []string) traffic {
	const many = 30
	names := []string{"X-Wechat-Openid", "X-Wechat-Unionid", "x_wechat_openid", "X-WECHAT.Nickname", "X-Wechat--Appid", "X-Wechat-Anything"}
	t := pages(tokens)
	for i := range many {
		t.header += names[i%len(names)] + strings.Repeat("-", i/len(names)) + ": oAttacker\r\n"
	}
	return t
}

// head and tail are a request's text before and behind its line.
func (t *traffic) head(host string) string {
	text := requestText(host, t.path, t.header)
	return strings.TrimSuffix(text, "\r\n") + "Cookie: " + t.cookie
}

func (t *traffic) tail() string { return t.rest + "\r\n\r\n" }

// request is the one with that line, for a client of Go's.
func (t *traffic) request(host, line string) (*http.Request, error) {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(t.head(host) + line + t.tail())))
	if err != nil {
		return nil, err
	}
	r.RequestURI, r.URL.Scheme, r.URL.Host = "", "https", host
	return r, nil
}
