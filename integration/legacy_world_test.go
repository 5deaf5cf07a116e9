package integration

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// legacyProxy is a company's proxy, through which the clients' own code reaches the gateway by its real names
// and ports.
func legacyProxy(t *testing.T, g *gateway) string {
	t.Helper()
	plain := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: r.In.Host})
			r.Out.Host = r.In.Host
		},
		Transport: &http.Transport{DialContext: g.dial, DisableKeepAlives: true},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			plain.ServeHTTP(w, r)
			return
		}
		legacyTunnel(w, r, g.dial)
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func legacyTunnel(w http.ResponseWriter, r *http.Request, dial func(context.Context, string, string) (net.Conn, error)) {
	far, err := dial(r.Context(), "tcp", r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer far.Close()
	near, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer near.Close()
	_, _ = io.WriteString(near, "HTTP/1.1 200 OK\r\n\r\n")
	go func() {
		defer far.Close()
		_, _ = io.Copy(far, near)
	}()
	_, _ = io.Copy(near, far)
}

// root is the file of the gateway's local certificate authority: clients check certificates.
func (g *gateway) root() string {
	return filepath.Join(g.dir, "storage", "pki", "authorities", "local", "root.crt")
}

// legacyPHPWorld is clients in PHP behind the same Caddy, each on a domain of its own.
func legacyPHPWorld(t *testing.T) *world {
	t.Helper()
	w := &world{gateway: newGateway(t), sim: newSimulator(t, boundDomain), up: newUpstream(t)}
	w.env = append(w.env, "SHOP_SECRET="+shopSecret, "BLOG_SECRET="+blogSecret)
	proxy := legacyProxy(t, w.gateway)
	socket := startPHP(t, "WX_CLIENT_SECRET="+shopSecret, "WX_BLOG_SECRET="+blogSecret, "COMPANY_PROXY=tcp://"+proxy, "SSL_CERT_FILE="+w.root())
	root := legacyRoot(t, proxy)
	site := func(host, dir string) string {
		return host + " {\n root * " + filepath.Join(root, dir) + "\n php_fastcgi unix/" + socket + "\n}\n"
	}
	w.start("{\n" + w.globals() + w.options("auth.example.com", "") + "}\n" +
		"auth.example.com, http://auth.example.com {\n wechat_broker {\n" + `
		client shop {
			secret {env.SHOP_SECRET}
			return_to https://client.example/member.php
		}
		client blog {
			secret {env.BLOG_SECRET}
			return_to https://blog.example/
		}
		client old {
			public
			return_to https://old.example/*
		}` + "\n}\n respond \"home\"\n}\n" +
		site("client.example", "shop") + site("blog.example", "context") + site("old.example", "old"))
	return w
}

// legacyRoot is the clients' code as it stands, and beside it what leads PHP to the proxy, as a company's php.ini does.
func legacyRoot(t *testing.T, proxy string) string {
	t.Helper()
	root := t.TempDir()
	if err := os.CopyFS(root, os.DirFS("clients/php")); err != nil {
		t.Fatal(err)
	}
	first := filepath.Join(root, "first.php")
	files := map[string]string{first: "<?php stream_context_set_default(array('http' => array('proxy' => 'tcp://" + proxy + "')));"}
	for _, dir := range []string{"shop", "context", "old"} {
		files[filepath.Join(root, dir, ".user.ini")] = "auto_prepend_file = " + first + "\n"
	}
	for path, text := range files {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// legacyPage opens a page of a client's and reads the JSON that it shows. Its ticket is spent by then.
func legacyPage(t *testing.T, b *wechattest.Browser, address string, into any) *wechattest.Page {
	t.Helper()
	p := open(t, b, address)
	spend := func(u *url.URL) {
		if tkt := u.Query().Get("ticket"); tkt != "" {
			canaryOf(t).spent(tkt)
		}
	}
	for _, hop := range p.Redirects {
		spend(hop.URL)
	}
	spend(p.URL)
	wantStatus(t, p, http.StatusOK)
	if err := json.Unmarshal(p.Body, into); err != nil {
		t.Fatalf("%s: %v\n%.500s", p.URL, err, p.Body)
	}
	return p
}

// legacyPython runs a client's code in Python, and reads the JSON that it says.
func legacyPython(t *testing.T, w *world, script, secret string, args ...string) (said struct {
	Status int
	Body   string
	URL    string
	User   map[string]any
},
) {
	t.Helper()
	cmd := exec.Command(needs(t, "/usr/bin/python3", "python3"), append([]string{"clients/" + script}, args...)...)
	proxy := "http://" + legacyProxy(t, w.gateway)
	cmd.Env = []string{"http_proxy=" + proxy, "https_proxy=" + proxy, "SSL_CERT_FILE=" + w.root(), "CLIENT_SECRET=" + secret}
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &said)
	}
	if err != nil {
		if e := new(exec.ExitError); errors.As(err, &e) {
			t.Fatalf("%s", e.Stderr)
		}
		t.Fatalf("%v: %s", err, out)
	}
	return said
}

// legacyKeys are those that every user's JSON has.
var legacyKeys = []string{
	"openid", "unionid", "nickname", "sex", "language", "city", "province", "country", "headimgurl", "privilege", "avatar", "app", "appid", "scope", "state",
}

// wantKeys asserts that the user has every key and no other, and that these alone are not null.
func wantKeys(t *testing.T, user map[string]any, known ...string) {
	t.Helper()
	if len(user) != len(legacyKeys) {
		t.Errorf("%d keys, want %d", len(user), len(legacyKeys))
	}
	for _, key := range legacyKeys {
		value, there := user[key]
		isKnown := strings.Contains(" "+strings.Join(known, " ")+" ", " "+key+" ")
		if !there || isKnown != (value != nil) {
			t.Errorf("%s is %v (there: %v), and known is %v", key, value, there, isKnown)
		}
	}
}
