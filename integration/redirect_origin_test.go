package integration

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// origins: no origin but the site's own is ever signed, sealed or accepted.
func (x *redirectWorld) origins(t *testing.T) {
	t.Run("a Host that is none of the site's starts nothing, and one that is leads back to itself", x.forgedHosts)
	t.Run("what proxies say is not read", x.forgedForwarding)
	t.Run("the request's line and its Host name one site", x.forgedLines)
	t.Run("a session counts at the origin that it was signed for alone", x.movedSessions)
	t.Run("a login ends at the origin that it was sealed for alone", x.movedLogins)
	t.Run("a guest may read where he was let in alone", x.movedGuests)
}

// redirectHost is a Host header and the origin that must be signed for it; "" for none.
type redirectHost struct{ sni, host, origin string }

// hosts are all ways to name a site, true and forged.
func (x *redirectWorld) hosts() (list []redirectHost) {
	add := func(sni, origin string, hosts ...string) {
		for _, host := range hosts {
			list = append(list, redirectHost{sni, host, origin})
		}
	}
	own := fmt.Sprintf(":%d", x.https)
	for _, host := range []string{"shop.example.org", "rewrite.example.org", "any.example.net", "one.wild.example", "named.example.org", "second.example.org", "xn--czrs0twkmrx3a.example", "shop.xn--mnchen-3ya.example", "a.tenants.example", "b.tenants.example"} {
		add(host, "https://"+host, host, strings.ToUpper(host), host+":443", " "+host+"\t")
		for _, forged := range redirectForgedHosts(host) {
			if forged != "evilb.tenants.example" && forged != "evila.tenants.example" { // tenants too
				add(host, "", forged)
			}
		}
	}
	for _, host := range []string{"shop.example.org", "xn--czrs0twkmrx3a.example"} { // without the option origin the connection's own port counts
		add(host, "https://"+host+own, host+own, strings.ToUpper(host)+own)
	}
	for _, host := range []string{"any.example.net", "one.wild.example", "named.example.org", "a.tenants.example", "shop.xn--mnchen-3ya.example"} {
		add(host, "", host+own)
	}
	// On an address that takes any host the option alone says what counts.
	add("any.example.net", "https://one.many.example", "one.many.example", "ONE.many.example:443")
	add("any.example.net", "", "x.one.many.example", "many.example", ".many.example", "*.many.example", "one.many.example.evil.example", "one.many.example.", "one.many.example:80", "onemany.example", "evil.example/.many.example", "one..many.example")
	add("one.wild.example", "", "two.wild.example", "x.one.wild.example", "*.wild.example", "wild.example", ".wild.example")
	add("a.tenants.example", "", "x.a.tenants.example", "*.tenants.example", "tenants.example", ".tenants.example", "..tenants.example", "-.tenants.example", "a..tenants.example", "%61.tenants.example", "a.tenants.example.evil.example", "evil.example#.tenants.example", "evil.example\\.tenants.example", "evil.example/.tenants.example", "[::1].tenants.example")
	add("xn--czrs0twkmrx3a.example", "", "商店测试.example", "%E5%95%86%E5%BA%97%E6%B5%8B%E8%AF%95.example", "xn--czrs0twkmrx3a。example")
	add("shop.xn--mnchen-3ya.example", "", "shop.münchen.example", "shop.MÜNCHEN.example", "shop.munchen.example", "other.xn--mnchen-3ya.example", "\uff53hop.xn--mnchen-3ya.example")
	plain, port := "http://plain.example.org", fmt.Sprintf("port.example.org:%d", x.port)
	add(plain, plain, "plain.example.org", "PLAIN.example.org", "plain.example.org:80")
	add(plain, "", "plain.example.org:443", "plain.example.org.", "evil.example", "shop.example.org")
	add(port, "https://"+port, port, strings.ToUpper(port))
	add(port, "https://port.example.org", "port.example.org", "port.example.org:443")
	add(port, "", "port.example.org:80", "port.example.org:0"+fmt.Sprint(x.port), "port.example.org"+own, "evil.example:"+fmt.Sprint(x.port))
	return list
}

func redirectForgedHosts(host string) []string {
	return []string{
		"", "evil.example", "evil.example:443", host + ".", host + ".:443", host + ":", host + ":80", host + ":0", host + ":9999", host + ":0443", host + ":+443", host + ":443:443", host + ":65979", host + ":443a",
		host + ".evil.example", "evil" + host, host + "evil.example", "a." + host, "." + host, host + "@evil.example", "evil.example@" + host, "user:word@" + host, "evil.example:443@" + host, host + ":443@evil.example",
		host + "/", "/" + host, "evil.example/" + host, host + "#evil.example", host + "?evil.example", host + "\\evil.example", host + "%2eevil.example", host + "%00.evil.example", host + "\x00", host + "\x7f", host + "\x01evil.example",
		host + " evil.example", host + ",evil.example", host + ";evil.example", "[" + host + "]", "[::1]", "[::ffff:1.2.3.4]", "127.0.0.1", "0x7f000001", "localhost", "*", "-", "{http.request.host}",
		host + "\u00ad", "\u200b" + host, strings.ReplaceAll(host, ".", "\u3002"), strings.ReplaceAll(host, ".", "\uff0e"), strings.ReplaceAll(host, "e", "\uff45"), host + "\xff", "https://" + host, "https:" + host, "//" + host,
	}
}

// forgedHosts: each as a page load, a login, a callback and a script's call.
func (x *redirectWorld) forgedHosts(t *testing.T) {
	list := x.hosts()
	redirectEach(x, list, func(w *redirectWire, h redirectHost) {
		at := redirectAt(h)
		if h.origin != "" {
			x.accepted(t, w, at, redirectGet(h.host, "/member/?a=1", redirectInside, redirectLoad), "/member/?a=1#")
			x.accepted(t, w, at, redirectGet(h.host, "/_wechat/login?return=%2Fx", redirectInside, redirectLoad), "/x#")
			return
		}
		for _, target := range []string{"/member/", "/_wechat/login?return=/x", "/_wechat/callback?login=x&state=y&code=z", "/_wechat/logout"} {
			x.refused(t, w, h.sni, redirectGet(h.host, target, redirectInside, redirectLoad, "Sec-Fetch-Site: same-origin\r\n"))
		}
		x.refused(t, w, h.sni, redirectGet(h.host, "/member/", redirectOutside, redirectLoad))
	})
	if x.judge(t) < 150 {
		t.Error("hardly a login began")
	}
}

// accepted: the login that request begins comes back to the origin, and its session is for that alone.
func (x *redirectWorld) accepted(t *testing.T, w *redirectWire, at redirectAt, request, landing string) {
	t.Helper()
	if a := x.play(t, w, at, request, request); a == nil || a.StatusCode != 302 {
		t.Errorf("%.200q: %v", request, a)
	} else {
		x.login(t, w, at, request, a, landing)
	}
}

// refused: nothing is begun, set or shown that leads anywhere, and nobody is known. Go, or Caddy where no site answers,
// may have refused before.
func (x *redirectWorld) refused(t *testing.T, w *redirectWire, sni, request string) {
	t.Helper()
	a, err := w.send(sni, request)
	switch {
	case err != nil:
		t.Errorf("%.200q: %v", request, err)
	case a == nil, a.StatusCode == 308 && strings.HasPrefix(sni, "http://"): // Caddy's own way to https
	case a.Header.Get("Location") != "" || len(a.Header["Set-Cookie"]) > 0 || len(redirectLinks(a)) > 0 || strings.Contains(a.body, `"URI"`) || strings.Contains(a.body, `translate="no">`):
		t.Errorf("%.200q at %s: %v", request, sni, a)
	case a.StatusCode != 400 && (a.StatusCode != 200 || a.body != ""):
		t.Errorf("%.200q at %s: %v", request, sni, a)
	}
}

func (x *redirectWorld) forgedForwarding(t *testing.T) {
	lines := []string{
		"X-Forwarded-Host: evil.example", "X-Forwarded-Proto: http", "X-Forwarded-Proto: https", "X-Forwarded-Port: 9999", "X-Forwarded-Server: evil.example", "X-Forwarded-Scheme: http", "X-Forwarded-Ssl: off", "Front-End-Https: off",
		"Forwarded: for=1.2.3.4;host=evil.example;proto=http", "X-Host: evil.example", "X-Original-Host: evil.example", "X-HTTP-Host-Override: evil.example", "X-Original-URL: //evil.example/", "X-Rewrite-URL: //evil.example/",
		"X-Forwarded-Prefix: //evil.example", "X-Forwarded-Uri: //evil.example/", "X-Forwarded-For: 192.0.2.1", "X-Real-Ip: 192.0.2.1", "Referer: https://evil.example/", "Origin: https://evil.example", "Via: 1.1 evil.example", "X_Forwarded_Host: evil.example",
	}
	lines = append(lines, strings.Join(lines, "\r\n"))
	redirectEach(x, lines, func(w *redirectWire, line string) {
		for _, host := range []string{"shop.example.org", "a.tenants.example", "any.example.net"} {
			at := redirectSite(host)
			x.accepted(t, w, at, redirectGet(host, "/member/", redirectInside, redirectLoad, line+"\r\n"), "/member/#")
			x.refused(t, w, host, redirectGet("evil.example", "/member/", redirectInside, redirectLoad, strings.ReplaceAll(line, "evil.example", host)+"\r\n"))
		}
		plain := redirectAt{"http://plain.example.org", "plain.example.org", "http://plain.example.org"}
		x.accepted(t, w, plain, redirectGet(plain.host, "/member/", redirectInside, redirectLoad, line+"\r\n"), "/member/#")
	})
	x.judge(t)
}

func (x *redirectWorld) forgedLines(t *testing.T) {
	w, shop := x.redirectWire(), redirectSite("shop.example.org")
	defer w.close()
	for _, target := range []string{"https://shop.example.org/member/", "http://shop.example.org/member/", "https://SHOP.example.org:443/member/", "ftp://user:word@shop.example.org/member/"} {
		x.accepted(t, w, shop, redirectGet("evil.example", target, redirectInside, redirectLoad), "/member/#")
	}
	// The name in TLS's hello is not the site's: Host decides, and its origin is signed.
	for _, sni := range []string{"any.example.net", "a.tenants.example", "rewrite.example.org"} {
		x.accepted(t, w, redirectAt{sni, "shop.example.org", shop.origin}, redirectGet("shop.example.org", "/member/", redirectInside, redirectLoad), "/member/#")
		x.refused(t, w, sni, redirectGet("evil.example", "/member/", redirectInside, redirectLoad))
	}
	for _, target := range []string{"https://evil.example/member/", "https://shop.example.org.evil.example/", "https://shop.example.org@evil.example/", "https://shop.example.org:9999/", "https://shop.example.org./", "https://shop.example.org:/", "https://shop.example.org%2eevil.example/", "//evil.example"} {
		if strings.HasPrefix(target, "//") {
			x.accepted(t, w, shop, redirectGet("shop.example.org", target, redirectInside, redirectLoad), "/#")
			continue
		}
		x.refused(t, w, shop.sni, redirectGet("shop.example.org", target, redirectInside, redirectLoad))
	}
	head := redirectInside + redirectLoad
	for _, request := range []string{
		"GET /member/ HTTP/1.1\r\nHost: shop.example.org\r\nHost: evil.example\r\n" + head + "\r\n",
		"GET /member/ HTTP/1.1\r\nHost: evil.example\r\nHost: shop.example.org\r\n" + head + "\r\n",
		"GET /member/ HTTP/1.1\r\nHost: shop.example.org\r\n evil.example\r\n" + head + "\r\n",
		"GET /member/ HTTP/1.1\r\nHost : evil.example\r\nHost: shop.example.org\r\n" + head + "\r\n",
		"GET /member/ HTTP/1.1\r\n" + head + "\r\n",
		"GET /member/ HTTP/1.0\r\n" + head + "\r\n",
		"GET /member/ HTTP/1.0\r\nHost: evil.example\r\n" + head + "\r\n",
	} {
		x.refused(t, w, shop.sni, request)
	}
	x.judge(t)
}

// redirectPlaces are sites of all kinds at which somebody can sign in.
func (x *redirectWorld) places() []redirectAt {
	port := fmt.Sprintf("port.example.org:%d", x.port)
	list := []redirectAt{{"http://plain.example.org", "plain.example.org", "http://plain.example.org"}, {port, port, "https://" + port}, {port, "port.example.org", "https://port.example.org"}}
	for _, host := range []string{"shop.example.org", "other.example.org", "both.example.com", "rewrite.example.org", "any.example.net", "one.wild.example", "a.tenants.example", "b.tenants.example", "named.example.org", "second.example.org", "xn--czrs0twkmrx3a.example", "shop.xn--mnchen-3ya.example"} {
		list = append(list, redirectSite(host))
	}
	return list
}

// redirectCookieAt is the name of the session cookie at an origin.
func redirectCookieAt(origin string) string {
	name := "wechat_session"
	if strings.HasPrefix(origin, "https://") {
		name = "__Host-" + name
	}
	if u, err := url.Parse(origin); err == nil && u.Port() != "" {
		name += "_" + u.Port()
	}
	return name
}

func (x *redirectWorld) movedSessions(t *testing.T) {
	w := x.redirectWire()
	defer w.close()
	places, tokens := x.places(), map[string]string{}
	for _, at := range places {
		a := x.play(t, w, at, at.origin, redirectGet(at.host, "/x", redirectInside, redirectLoad))
		_, token := x.walk(t, w, at, at.origin, a)
		if token == "" || claims(t, token)["aud"] != at.origin {
			t.Fatalf("at %s: a session for %q", at.origin, token)
		}
		tokens[at.origin] = token
	}
	for range 2 { // the second time the gateway knows them all
		redirectEach(x, places, func(w *redirectWire, at redirectAt) {
			for origin, token := range tokens {
				a, err := w.send(at.sni, redirectGet(at.host, "/x", redirectInside, redirectLoad, "Cookie: "+redirectCookieAt(at.origin)+"="+token+"\r\n"))
				if want := map[bool]int{true: 200, false: 302}[origin == at.origin]; err != nil || a == nil || a.StatusCode != want {
					t.Errorf("a session of %s at %s: %v, want %d", origin, at.origin, a, want)
				}
			}
		})
	}
	x.judge(t)
}

// movedLogins: the whole callback and the cookie of a login at one origin are brought to every other, under the name that the
// cookie would have there. Nothing is spent by it.
func (x *redirectWorld) movedLogins(t *testing.T) {
	places := x.places()
	redirectEach(x, places, func(w *redirectWire, at redirectAt) {
		begun := x.play(t, w, at, at.origin, redirectGet(at.host, "/x?y", redirectInside, redirectLoad))
		if begun == nil || begun.StatusCode != 302 {
			t.Errorf("at %s: %v", at.origin, begun)
			return
		}
		back, _ := x.weixin(begun.Header.Get("Location"))
		u, err := url.Parse(back)
		if err != nil || u.Path != "/_wechat/callback" {
			t.Errorf("at %s: WeChat leads to %q", at.origin, back)
			return
		}
		if home := u.Scheme + "://" + u.Host; home != redirectNoPort(at.origin) && u.Host != "both.example.com" { // by the broker
			a, err := w.send(u.Host, redirectGet(u.Host, u.RequestURI(), redirectInside, redirectLoad))
			if err != nil || a == nil || !strings.HasPrefix(a.Header.Get("Location"), at.origin+"/_wechat/callback?ticket=") {
				t.Errorf("the broker sends a login of %s to %v", at.origin, a)
				return
			}
			u, _ = url.Parse(a.Header.Get("Location"))
		}
		cookies := redirectCookies(begun)
		for _, other := range places {
			if other.origin == at.origin || other.host == u.Host {
				continue
			}
			there := strings.Replace(cookies, redirectCookieAt(at.origin), redirectCookieAt(other.origin), 1)
			a, err := w.send(other.sni, redirectGet(other.host, u.RequestURI(), redirectInside, redirectLoad, there))
			if err != nil || a == nil || a.StatusCode != 400 || a.Header.Get("Location") != "" || len(a.Header["Set-Cookie"]) > 0 {
				t.Errorf("a login of %s at %s: %v", at.origin, other.origin, a)
			}
		}
		begun.Header.Set("Location", u.String())
		x.login(t, w, at, at.origin, begun, "/x?y#")
	})
	x.judge(t)
}

func (x *redirectWorld) movedGuests(t *testing.T) {
	w := x.redirectWire()
	defer w.close()
	places := []redirectAt{redirectSite("guest.example.org"), redirectSite("a.tenants.example"), redirectSite("b.tenants.example")}
	guests := map[string]string{}
	for _, at := range places {
		a := x.play(t, w, at, at.origin, redirectGet(at.host, "/x", redirectInside, redirectLoad))
		back, _ := x.weixin(strings.Replace(a.Header.Get("Location"), "#", "&forceSnapShot=true#", 1))
		u, _ := url.Parse(back)
		a = x.play(t, w, at, at.origin, redirectGet(at.host, u.RequestURI(), redirectInside, redirectLoad, redirectCookies(a)))
		for line := range strings.SplitAfterSeq(redirectCookies(a), "\r\n") {
			if strings.HasPrefix(line, "Cookie: __Host-wechat_session_guest=") {
				guests[at.origin] = line
			}
		}
	}
	for _, at := range places {
		for origin, line := range guests {
			a, err := w.send(at.sni, redirectGet(at.host, "/x", redirectInside, redirectLoad, line))
			if want := map[bool]int{true: 200, false: 302}[origin == at.origin]; err != nil || a == nil || a.StatusCode != want {
				t.Errorf("a guest of %s at %s: %v, want %d", origin, at.origin, a, want)
			}
		}
	}
	if len(guests) != len(places) {
		t.Errorf("only %d guests were let in", len(guests))
	}
	x.judge(t)
}
