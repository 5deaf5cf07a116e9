package wechattest

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Page is what a navigation ended at.
type Page struct {
	// URL is what the address bar shows, with the fragment.
	URL    *url.URL
	Status int
	Header http.Header
	// Body is at most 8 MiB of the answer.
	Body []byte
	// Redirects are the steps that led here, the first one first.
	Redirects []Hop
	// Twin is the other answer to a callback that was sent twice. It is nil
	// if there was none, or if it was aborted before it had headers.
	Twin *Hop
}

// Hop is an answer that was not the last one.
type Hop struct {
	URL    *url.URL
	Status int
	// Location is empty for an answer that was no redirect.
	Location string
	Header   http.Header
}

// Link is an <a> with an address.
type Link struct {
	Text string
	Href string
}

// Callback is the address at which a login came back, with its code or state;
// nil if none did. It serves to replay it.
func (p *Page) Callback() *url.URL {
	if isReturn(p.URL) {
		return p.URL
	}
	for i := len(p.Redirects) - 1; i >= 0; i-- {
		if isReturn(p.Redirects[i].URL) {
			return p.Redirects[i].URL
		}
	}
	return nil
}

// Refresh is the address to which the page's Refresh header leads by itself, and after how long; "" if to none.
func (p *Page) Refresh() (address string, after time.Duration) {
	seconds, rest, ok := strings.Cut(p.Header.Get("Refresh"), ";")
	n, err := strconv.Atoi(strings.TrimSpace(seconds))
	rest = strings.TrimSpace(rest)
	if !ok || err != nil || n < 0 || len(rest) < len("url=") || !strings.EqualFold(rest[:len("url=")], "url=") {
		return "", 0
	}
	return rest[len("url="):], time.Duration(n) * time.Second
}

func isReturn(u *url.URL) bool {
	q := u.Query()
	return q.Get("state") != "" && !q.Has("redirect_uri")
}

var (
	anchors = regexp.MustCompile(`(?is)<a\s([^>]*)>(.*?)</a\s*>`)
	hrefs   = regexp.MustCompile(`(?is)(?:^|\s)href\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))`)
	tags    = regexp.MustCompile(`(?s)<[^>]*>`)
)

// Links are the page's links in their order, their text without tags.
func (p *Page) Links() []Link {
	var list []Link
	for _, a := range anchors.FindAllStringSubmatch(string(p.Body), -1) {
		href := hrefs.FindStringSubmatch(a[1])
		if href == nil {
			continue
		}
		text := html.UnescapeString(tags.ReplaceAllString(a[2], " "))
		list = append(list, Link{
			Text: strings.Join(strings.Fields(text), " "),
			Href: html.UnescapeString(href[1] + href[2] + href[3]),
		})
	}
	return list
}
