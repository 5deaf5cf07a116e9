package wechattest

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
)

// origin is scheme, host and port, the port always written.
func origin(u *url.URL) string {
	return u.Scheme + "://" + net.JoinHostPort(u.Hostname(), port(u))
}

func port(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "http":
		return "80"
	}
	return "443"
}

// site is what SameSite compares: the scheme and the domain that one can
// register. Ports do not matter. Without the public suffix list, "com.cn" and
// its like are recognised by their form.
func site(u *url.URL) string {
	host := strings.ToLower(u.Hostname())
	if net.ParseIP(host) != nil {
		return u.Scheme + "://" + host
	}
	labels := strings.Split(host, ".")
	keep := 2
	if n := len(labels); n > 2 && len(labels[n-1]) == 2 &&
		slices.Contains([]string{"ac", "co", "com", "edu", "gov", "net", "org"}, labels[n-2]) {
		keep = 3
	}
	return u.Scheme + "://" + strings.Join(labels[max(0, len(labels)-keep):], ".")
}

// secure says whether a URL is potentially trustworthy: only to those are
// Sec-Fetch headers sent.
func secure(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "https" || u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// resolve reads an address as a browser does (WHATWG URL), where that matters
// to open redirects: blanks around it and tabs and line breaks in it vanish,
// a backslash is a slash, and any number of slashes begins a host.
func resolve(from *url.URL, address string) (*url.URL, error) {
	address = strings.TrimFunc(address, func(r rune) bool { return r <= ' ' })
	address = strings.NewReplacer("\t", "", "\r", "", "\n", "").Replace(address)
	path, rest := address, ""
	if i := strings.IndexAny(address, "?#"); i >= 0 {
		path, rest = address[:i], address[i:]
	}
	scheme, after, hasScheme := strings.Cut(path, ":")
	isWeb := hasScheme && (strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https"))
	if !isWeb {
		scheme, after = "", path
		if hasScheme && isScheme(path[:strings.IndexByte(path, ':')]) {
			return nil, fmt.Errorf("%q is not an address of the web", address)
		}
	}
	after = strings.ReplaceAll(after, `\`, "/")
	switch slashes := len(after) - len(strings.TrimLeft(after, "/")); {
	case isWeb && (slashes >= 1 || from == nil || !strings.EqualFold(scheme, from.Scheme)):
		after = strings.ToLower(scheme) + "://" + after[slashes:]
	case slashes >= 2:
		after = "//" + after[slashes:]
	}
	u, err := url.Parse(after + rest)
	if err != nil {
		return nil, err
	}
	if from != nil {
		u = from.ResolveReference(u)
	}
	if u.Host == "" {
		return nil, fmt.Errorf("%q has no host", address)
	}
	u.Host = strings.ToLower(u.Host)
	return u, nil
}

func isScheme(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("+-.", r)
	})
}
