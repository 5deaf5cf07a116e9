package integration

import (
	"bytes"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http/httpguts"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// hostileEntry is a place where a return address may be brought in.
type hostileEntry struct {
	name string
	base string // an address of its client, before which or behind which a payload stands
	ask  func(t *testing.T, to string) *http.Request
}

func hostileGet(prefix string) func(*testing.T, string) *http.Request {
	return func(t *testing.T, to string) *http.Request {
		return hostileRequest(t, http.MethodGet, prefix+url.QueryEscape(to), "")
	}
}

func hostileRequest(t *testing.T, method, address, body string) *http.Request {
	t.Helper()
	req, err := http.NewRequest(method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = pageHeader(nil)
	return req
}

func hostileEntries() []hostileEntry {
	const shop, own = "https://client.example/shop/", "https://own.example/"
	auth := broker + "/auth/" + appID
	return []hostileEntry{
		{"redirect_uri", shop, hostileGet(auth + "?params=s&redirect_uri=")},
		{"request_uri", shop, hostileGet(auth + "/?request_uri=")},
		{"view", shop, hostileGet(broker + "/view/" + appID + "?scope=snsapi_base&redirect_uri=")},
		{"a form", shop, func(t *testing.T, to string) *http.Request {
			r := hostileRequest(t, http.MethodPost, auth, "redirect_uri="+url.QueryEscape(to))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			return r
		}},
		{"a form in parts", shop, func(t *testing.T, to string) *http.Request {
			var b bytes.Buffer
			form := multipart.NewWriter(&b)
			_ = form.WriteField("request_uri", to)
			_ = form.Close()
			r := hostileRequest(t, http.MethodPost, auth, b.String())
			r.Header.Set("Content-Type", form.FormDataContentType())
			return r
		}},
		{"Referer", shop, func(t *testing.T, to string) *http.Request {
			r := hostileRequest(t, http.MethodGet, auth, "")
			if httpguts.ValidHeaderFieldValue(to) {
				r.Header.Set("Referer", to)
			}
			return r
		}},
		{"an SDK", shop, hostileGet(broker + wechattest.PathAuthorize + "?appid=shop&response_type=code&scope=snsapi_base&redirect_uri=")},
		{"pass_code", own, hostileGet(broker + wechattest.PathAuthorize + "?appid=" + appID + "&scope=snsapi_base&redirect_uri=")},
		{"GetWeixinCode", own, hostileGet(broker + "/get-weixin-code.html?appid=" + appID + "&scope=snsapi_base&redirect_uri=")},
	}
}

// hostileHome are the clients' patterns, as a browser's address must begin; those without a slash at their end are
// exact.
var hostileHome = []string{
	"https://client.example/shop/", "https://client.example/exact", "https://client.example/app/", "https://client.example/a/", "https://blog.example/", "https://old.example/",
	"https://own.example/", "https://raw.example/", "https://frag.example/", "https://asks.example/", "https://nets.example/", "https://fixed.example/", "https://again.example/",
}

func hostileIsHome(v redirectVerdict) bool {
	for _, home := range hostileHome {
		at := v.Origin + v.Path
		if at == home || strings.HasSuffix(home, "/") && strings.HasPrefix(at, home) {
			return v.Error == "" && v.User == ""
		}
	}
	return false
}

// TestHostileReturnAddresses brings payloads to every entry, alone and beside an address that is a client's. Wherever
// a login ends, a browser is where a client's pattern allows, and the pair that was appended stands there alone.
func TestHostileReturnAddresses(t *testing.T) {
	node := needs(t, "node")
	w := hostileWorld(t)
	payloads := append(redirectPayloads(), hostileNames()...)
	for i, entry := range hostileEntries() {
		t.Run(entry.name, func(t *testing.T) {
			x := &hostileWalk{w: w, c: w.client(), brings: "ticket"}
			if strings.Contains("an SDK, pass_code, GetWeixinCode", entry.name) {
				x.brings = "code"
			}
			forms := []func(string) string{
				func(p string) string { return entry.base + p },
				func(p string) string { return strings.TrimSuffix(entry.base, "/") + p },
				func(p string) string { return "https://client.example" + p },
				func(p string) string { return p },
			}
			if i > 0 { // each payload in one form, each form at every entry
				all := forms
				forms = []func(string) string{func(p string) string { return all[(len(p)+i)%len(all)](p) }}
			}
			for _, form := range forms {
				hostileEach(payloads, func(p string) { x.walk(t, entry, form(p)) })
			}
			if n := x.judge(t, node); n < 20 {
				t.Errorf("only %d logins came back: the payloads do not get where they should", n)
			}
		})
	}
}

// hostileNames are parameters that somebody reads as ours, behind an address that is a client's.
func hostileNames() (list []string) {
	for _, name := range []string{"ticket", "state", "code", "error"} {
		for _, spelled := range []string{
			name, strings.ToUpper(name), "%74icket", name + "[]", name + "[a]", "[" + name + "]", "%5B" + name + "%5D", "?" + name, "+" + name, "%20" + name, "%00" + name, name + "%00x",
			"%09" + name, "%0a" + name, "a=b;" + name, "a=b%26" + name, "&&" + name, "tic\u212aet", "\u017ftate", "%E2%84%AA", "%u0074icket", name + "+", name + "%00",
		} {
			list = append(list, "?"+spelled+"=evil", "x?a=1&"+spelled, "?a#?"+spelled+"=evil")
		}
	}
	return list
}

type hostileWalk struct {
	w      *world
	c      *http.Client
	brings string // the parameter that comes back

	mu    sync.Mutex // guards found
	found []redirectFound
}

// walk follows a start to where its client gets the user.
func (x *hostileWalk) walk(t *testing.T, entry hostileEntry, to string) {
	resp, _ := send(t, x.c, entry.ask(t, to))
	at := resp.Header.Get("Location")
	if at == "" && resp.StatusCode >= 400 && resp.StatusCode < 500 && len(resp.Cookies()) == 0 {
		return // refused
	}
	if !strings.HasPrefix(at, x.w.sim.url+wechattest.PathAuthorize+"?") {
		t.Errorf("%.200q: %d leads to %.300q", to, resp.StatusCode, at)
		return
	}
	cookies := pageHeader(resp.Cookies())
	resp, _ = get(t, x.c, at, pageHeader(nil))
	callback, _, _ := strings.Cut(resp.Header.Get("Location"), "#")
	resp, body := get(t, x.c, callback, cookies)
	at = resp.Header.Get("Location")
	if resp.StatusCode != http.StatusFound || at == "" {
		t.Errorf("%.200q: a login that began ended with %d\n%.300s", to, resp.StatusCode, body)
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.found = append(x.found, redirectFound{Base: broker, Address: at, payload: to})
}

func (x *hostileWalk) judge(t *testing.T, node string) int {
	t.Helper()
	for i, v := range redirectVerdicts(t, node, x.found) {
		f := x.found[i]
		if !hostileIsHome(v) {
			t.Errorf("%.200q led to %.200q, which is %s%.200s", f.payload, f.Address, v.Error, v.Href)
		}
		q, err := url.ParseQuery(strings.ReplaceAll(strings.TrimPrefix(v.Query, "?"), ";", "&"))
		if err != nil || len(q[x.brings]) != 1 || len(q[x.brings][0]) < 32 || len(q["state"]) != 1 {
			t.Errorf("%.200q led to %.300q, which brings %v, %v", f.payload, f.Address, q, err)
		}
	}
	return len(x.found)
}

// TestHostileOverlaps: an address belongs to the pattern that says most, exact before a star, and to nobody else,
// however its client is named.
func TestHostileOverlaps(t *testing.T) {
	w := hostileWorld(t)
	secrets := map[string]string{"wide": shopSecret, "narrow": blogSecret}
	for to, owner := range map[string]string{
		"https://client.example/app/":                "wide",
		"https://client.example/app/x":               "narrow",
		"https://client.example/app/y":               "wide",
		"https://client.example/app/x/":              "wide",
		"https://client.example/app/admin":           "wide",
		"https://client.example/app/admin/":          "narrow",
		"https://client.example/app/%61dmin/x?y":     "narrow",
		"https://CLIENT.example:443/app/adm%69n/":    "narrow",
		"https://client.example/a/b":                 "wide",
		"https://client.example/a/%62":               "wide",
		"https://client.example/a/b/c":               "narrow",
		"https://client.example/app/administration/": "wide",
	} {
		other := map[string]string{"wide": "narrow", "narrow": "wide"}[owner]
		t.Run(to, func(t *testing.T) {
			if status := hostileStatus(t, w, hostileTicket(t, w, to), owner, secrets[owner]); status != http.StatusOK {
				t.Errorf("its owner, %s, gets %d", owner, status)
			}
			if status := hostileStatus(t, w, hostileTicket(t, w, to), other, secrets[other]); status != http.StatusNotFound {
				t.Errorf("%s, which is not its owner, gets %d", other, status)
			}
			if resp, _ := get(t, w.client(), hostileSDK(owner, to, ""), pageHeader(nil)); resp.StatusCode != http.StatusFound {
				t.Errorf("its owner's SDK gets %d", resp.StatusCode)
			}
			if resp, _ := get(t, w.client(), hostileSDK(other, to, ""), pageHeader(nil)); resp.StatusCode != http.StatusBadRequest || resp.Header.Get("Location") != "" {
				t.Errorf("the SDK of %s gets %d", other, resp.StatusCode)
			}
		})
	}
}

// TestHostileStates: what a client gives along stays what stands behind "state=", encoded or not.
func TestHostileStates(t *testing.T) {
	w := hostileWorld(t)
	for _, state := range []string{"x&ticket=00000000000000000000000000000000", "x;ticket=0", "x&%74icket=0", "x&[ticket]=0", "x&error=access_denied", "x#", "x\r\nSet-Cookie: a=b", "x\x00", "\\"} {
		resp, _ := get(t, w.client(), startV2("https://raw.example/", state), pageHeader(nil))
		if resp.StatusCode != http.StatusBadRequest || resp.Header.Get("Location") != "" {
			t.Errorf("raw %q: %d %s", state, resp.StatusCode, resp.Header.Get("Location"))
		}
		to := hostileBack(hijackBrowser(t, w, "lina"), startV2("https://client.example/shop/", state))
		if q := hostileQuery(t, to); q.Get("state") != state || len(q["state"]) != 1 || len(q["ticket"]) != 1 || len(q) != 2 {
			t.Errorf("encoded %q: %s", state, to)
		}
	}
	for _, fragment := range []string{"#/x?ticket=evil", "#ticket=evil", "#/x?a&TICKET=evil", "#/x?a#ticket=evil", "#/x?[state]=evil"} {
		resp, _ := get(t, w.client(), startV2("https://frag.example/"+fragment, ""), pageHeader(nil))
		if resp.StatusCode != http.StatusBadRequest || resp.Header.Get("Location") != "" {
			t.Errorf("behind %s: %d", fragment, resp.StatusCode)
		}
	}
	to := hostileBack(hijackBrowser(t, w, "lina"), startV2("https://frag.example/?a#/tickets/state?b", "s"))
	if before, behind, _ := strings.Cut(to, "#"); before != "https://frag.example/?a" || !strings.HasPrefix(behind, "/tickets/state?b&ticket=") || !strings.HasSuffix(behind, "&state=s") {
		t.Errorf("came back to %s", to)
	}
}
