package wechattest

import (
	"cmp"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	maxCookie    = 4096 // bytes of name and value, as Chromium has it
	maxPerDomain = 180  // cookies, as Chromium has it
)

// jar keeps cookies as Chromium does (RFC 6265bis). Ports do not separate
// them, schemes only as far as Secure goes.
type jar struct {
	mu      sync.Mutex // guards cookies
	cookies []*stored
}

type stored struct {
	http.Cookie
	hostOnly bool
	expires  time.Time // zero for a session cookie
	created  time.Time
}

// request says what SameSite needs to know.
type request struct {
	// sameSite: neither the page that began it nor a redirect is of another site.
	sameSite bool
	// topGet: a top-level navigation with a safe method.
	topGet bool
}

func (j *jar) set(u *url.URL, c *http.Cookie) bool {
	now := time.Now()
	s := &stored{Cookie: *c, created: now}
	if !s.scope(u) || !s.allowed(u) {
		return false
	}
	switch {
	case c.MaxAge < 0:
		s.expires = now
	case c.MaxAge > 0:
		s.expires = now.Add(time.Duration(c.MaxAge) * time.Second)
	case !c.Expires.IsZero():
		s.expires = c.Expires
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.store(s, u, now)
}

// scope fills in domain and path, and reports whether u may set them.
func (s *stored) scope(u *url.URL) bool {
	host := strings.ToLower(u.Hostname())
	domain := strings.ToLower(strings.TrimPrefix(s.Domain, "."))
	switch {
	case domain == "":
		s.Domain, s.hostOnly = host, true
	case net.ParseIP(host) != nil && domain == host:
		s.Domain, s.hostOnly = host, true
	case !domainMatch(host, domain) || !strings.Contains(domain, "."):
		return false
	default:
		s.Domain = domain
	}
	if !strings.HasPrefix(s.Path, "/") {
		s.Path = "/"
		if i := strings.LastIndexByte(u.EscapedPath(), '/'); i > 0 {
			s.Path = u.EscapedPath()[:i]
		}
	}
	return true
}

// allowed is false for what a browser drops: too large, Secure over http,
// SameSite=None without Secure, a prefix that is not kept.
func (s *stored) allowed(u *url.URL) bool {
	name := strings.ToLower(s.Name)
	switch {
	case len(s.Name)+len(s.Value) > maxCookie:
		return false
	case s.Secure && u.Scheme != "https":
		return false
	case s.SameSite == http.SameSiteNoneMode && !s.Secure:
		return false
	case strings.HasPrefix(name, "__secure-"):
		return s.Secure
	case strings.HasPrefix(name, "__host-"):
		return s.Secure && s.hostOnly && s.Path == "/"
	}
	return true
}

// store replaces a cookie of the same name, domain and path. One set over
// http does not replace a Secure one ("leave secure cookies alone").
func (j *jar) store(s *stored, u *url.URL, now time.Time) bool {
	for i, old := range j.cookies {
		if old.Name != s.Name || old.Domain != s.Domain || old.Path != s.Path || old.hostOnly != s.hostOnly {
			continue
		}
		if old.Secure && u.Scheme != "https" {
			return false
		}
		s.created = old.created
		j.cookies = slices.Delete(j.cookies, i, i+1)
		break
	}
	if s.expires.IsZero() || s.expires.After(now) {
		j.cookies = append(j.cookies, s)
	}
	j.evict(s.Domain)
	return true
}

func (j *jar) evict(domain string) {
	count := 0
	for i := len(j.cookies) - 1; i >= 0; i-- {
		if j.cookies[i].Domain != domain {
			continue
		}
		if count++; count > maxPerDomain {
			j.cookies = slices.Delete(j.cookies, i, i+1)
		}
	}
}

// match are the cookies for u in the order of a Cookie header: the longest
// path first, then the oldest.
func (j *jar) match(u *url.URL, r request) []*http.Cookie {
	now := time.Now()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.cookies = slices.DeleteFunc(j.cookies, func(s *stored) bool { return !s.expires.IsZero() && !s.expires.After(now) })
	var found []*stored
	for _, s := range j.cookies {
		if s.matches(u) && s.crosses(r) {
			found = append(found, s)
		}
	}
	slices.SortStableFunc(found, func(a, b *stored) int {
		return cmp.Or(cmp.Compare(len(b.Path), len(a.Path)), a.created.Compare(b.created))
	})
	list := make([]*http.Cookie, len(found))
	for i, s := range found {
		c := s.Cookie
		c.Expires = s.expires
		list[i] = &c
	}
	return list
}

func (s *stored) matches(u *url.URL) bool {
	host, path := strings.ToLower(u.Hostname()), u.EscapedPath()
	if path == "" {
		path = "/"
	}
	inDomain := host == s.Domain || !s.hostOnly && domainMatch(host, s.Domain)
	inPath := path == s.Path || strings.HasPrefix(path, strings.TrimSuffix(s.Path, "/")+"/")
	return inDomain && inPath && (!s.Secure || u.Scheme == "https")
}

// crosses: Lax, which is the default, goes along with a top-level GET from
// elsewhere; Strict does not.
func (s *stored) crosses(r request) bool {
	switch s.SameSite {
	case http.SameSiteNoneMode:
		return true
	case http.SameSiteStrictMode:
		return r.sameSite
	}
	return r.sameSite || r.topGet
}

func (j *jar) clear(hosts []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.cookies = slices.DeleteFunc(j.cookies, func(s *stored) bool {
		return len(hosts) == 0 || slices.ContainsFunc(hosts, func(h string) bool { return domainMatch(strings.ToLower(h), s.Domain) })
	})
}

func domainMatch(host, domain string) bool {
	return host == domain || strings.HasSuffix(host, "."+domain) && net.ParseIP(host) == nil
}
