//go:build unix

package main

import (
	_ "embed"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

//go:embed page.html
var pageHTML string

var page = template.Must(template.New("page").Parse(pageHTML))

// upstream is what stands behind the gateway. It knows its visitors by their headers alone.
type upstream struct {
	sites  map[string]string // by host: the other site's address; none with a test account
	weixin string            // the simulated WeChat's address
}

// visit is what the page shows.
type visit struct {
	Site     string
	Start    bool // the public page
	Profile  bool // this path asks for the profile
	Other    string
	Weixin   string
	OpenID   string
	UnionID  string
	Nickname string
	Avatar   string
	Scope    string
	Headers  []header
	Cookies  []string // names
	Leaked   []string // those of them that are the gateway's; there must be none
	Visits   int      // counted in a cookie of this page's own, which passes the gateway untouched
}

type header struct{ Name, Value string }

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/robots.txt" || r.URL.Path == "/favicon.ico" {
		return // the gateway lets these through for anybody
	}
	v := u.read(r)
	http.SetCookie(w, &http.Cookie{Name: "demo_visits", Value: strconv.Itoa(v.Visits + 1), Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_ = page.Execute(w, v)
}

func (u *upstream) read(r *http.Request) visit {
	get := r.Header.Get
	v := visit{
		Site: r.Host, Start: r.URL.Path == "/", Profile: strings.HasPrefix(r.URL.Path, "/profile"),
		Other: u.sites[r.Host], Weixin: u.weixin,
		OpenID: get("X-Wechat-Openid"), UnionID: get("X-Wechat-Unionid"), Avatar: get("X-Wechat-Headimgurl"), Scope: get("X-Wechat-Scope"),
	}
	v.Nickname, _ = url.PathUnescape(get("X-Wechat-Nickname")) // as decodeURIComponent and rawurldecode do
	for name, values := range r.Header {
		if strings.HasPrefix(name, "X-Wechat-") {
			v.Headers = append(v.Headers, header{name, strings.Join(values, ", ")})
		}
	}
	slices.SortFunc(v.Headers, func(a, b header) int { return strings.Compare(a.Name, b.Name) })
	v.readCookies(r)
	return v
}

func (v *visit) readCookies(r *http.Request) {
	for _, c := range r.Cookies() {
		v.Cookies = append(v.Cookies, c.Name)
		if strings.Contains(c.Name, "wechat_session") {
			v.Leaked = append(v.Leaked, c.Name)
		}
		if c.Name == "demo_visits" {
			v.Visits, _ = strconv.Atoi(c.Value)
		}
	}
}
