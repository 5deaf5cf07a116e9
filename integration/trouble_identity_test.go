package integration

import (
	"bufio"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// troubleNicknames are names that people have or give themselves. raw is written into WeChat's answer as it is;
// else name is encoded. clean is what arrives everywhere.
var troubleNicknames = []struct{ is, name, raw, clean string }{
	{"of Chinese and emoji", "王芳👩‍💻🌸", "", "王芳👩‍💻🌸"},
	{"with CR LF and a header", "a\r\nX-Evil: 1\r\n\r\n<b>", "", "aX-Evil: 1<b>"},
	{"with CR LF that is not escaped", "", "a\r\nX-Evil: 1", "aX-Evil: 1"},
	{"with a lone LF", "a\nX-Evil: 1", "", "aX-Evil: 1"},
	{"with NUL", "a\x00b", "", "ab"},
	{"with ESC and colours", "\x1b[31mred\x1b[0m\x07", "", "[31mred[0m"},
	{"with DEL and C1 controls", "a\x7fb\u0085c\u009bd", "", "abcd"},
	{"with line and paragraph separators", "a\u2028b\u2029c", "", "abc"},
	{"from right to left", "\u202eabc\u2066שלום\u200f", "", "\u202eabc\u2066שלום\u200f"},
	{"of nothing to see", "\u200b\u2060\ufeff", "", "\u200b\u2060\ufeff"},
	{"of 200 combining marks", "e" + strings.Repeat("\u0301", 200), "", "e" + strings.Repeat("\u0301", 127)},
	{"of 10 KB", strings.Repeat("a", 10<<10), "", strings.Repeat("a", 256)},
	{"of 10 KB Chinese", strings.Repeat("伟", 4<<10), "", strings.Repeat("伟", 85)},
	{"of 10 KB emoji", strings.Repeat("🌸", 3<<10), "", strings.Repeat("🌸", 64)},
	{"of 10 KB markup", strings.Repeat("<", 10<<10), "", strings.Repeat("<", 42)},
	{"of 10 KB line breaks", strings.Repeat("\r\n", 5<<10), "", ""},
	{"of markup", `<script>alert(1)</script><img src=x onerror='a' "`, "", `<script>alert(1)</script><img src=x onerror='a' "`},
	{"that is a placeholder", "{env.HOME}", "", "{env.HOME}"},
	{"that is a request's placeholder", "{http.request.header.Cookie}{http.auth.user.id}{file./etc/hostname}", "", "{http.request.header.Cookie}{http.auth.user.id}{file./etc/hostname}"},
	{"that is half a placeholder", "{{env.HOME} {http. \\{env.HOME} {", "", "{{env.HOME} {http. \\{env.HOME} {"},
	{"that is a template", "{{env \"HOME\"}}{{placeholder \"env.HOME\"}}", "", "{{env \"HOME\"}}{{placeholder \"env.HOME\"}}"},
	{"that is a shell's", "$HOME ${HOME} `id` $(id) %HOME%", "", "$HOME ${HOME} `id` $(id) %HOME%"},
	{"of percent signs", "100% %0d%0a %2e %zz %", "", "100% %0d%0a %2e %zz %"},
	{"of what queries are made of", "a+b&openid=oOther#x;y=z?", "", "a+b&openid=oOther#x;y=z?"},
	{"of quotes and backslashes", `"\'\\n`, "", `"\'\\n`},
	{"that begins and ends with a space", "  a  ", "", "  a  "},
	{"with commas and colons", "a, X-Wechat-Openid: oOther", "", "a, X-Wechat-Openid: oOther"},
	{"with half a surrogate", "", `a\ud83cb`, "ab"},
	{"with broken UTF-8", "", "a\xff\xc0\xafb\xed\xa0\x80", "ab"},
	{"that is empty", "", "", ""},
}

var troubleEncoded = regexp.MustCompile(`^[A-Za-z0-9%._~-]{1,768}$`)

// troubleNames is where names are followed to: each of Caddy's directives that an operator may put one into.
const troubleNames = `
	log
	log_append nick {http.auth.user.nickname}
	wechat_auth {
		token_header X-Session
	}
	handle /respond {
		respond "[{http.auth.user.nickname}]"
	}
	handle /header {
		header X-Nick "[{http.auth.user.nickname}]"
		respond ok
	}
	handle /vars {
		vars nick {http.auth.user.nickname}
		respond "[{vars.nick}]"
	}
	handle /map {
		map {http.auth.user.nickname} {mapped} {
			default "[{http.auth.user.nickname}]"
		}
		respond "{mapped}"
	}
	handle /error {
		error "[{http.auth.user.nickname}]" 418
	}
	handle /redir {
		redir "https://elsewhere.example/?n=[{http.auth.user.nickname}]"
	}
	handle /rewrite {
		rewrite * "/rewritten?n=[{http.auth.user.nickname}]"
		reverse_proxy UPSTREAM
	}
	handle /templates {
		templates
		header Content-Type text/html
		respond "<p>{{placeholder \"http.auth.user.nickname\" | html}}</p>"
	}
	handle /raw {
		request_header X-Nick "[{http.auth.user.nickname}]"
		reverse_proxy RAW {
			header_up X-Nick-Up "[{http.auth.user.nickname}]"
		}
	}
	handle {
		root * ROOT
		php_fastcgi unix/SOCKET {
			env NICK "[{http.auth.user.nickname}]"
		}
	}
	handle_errors {
		respond "{err.message}" 418
	}
`

// troubleUpstream keeps the exact bytes of the last request's head.
type troubleUpstream struct {
	addr string
	mu   sync.Mutex
	last string // guarded by mu
}

func newTroubleUpstream(t *testing.T) *troubleUpstream {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	u := &troubleUpstream{addr: l.Addr().String()}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go u.serve(c)
		}
	}()
	return u
}

func (u *troubleUpstream) serve(c net.Conn) {
	defer c.Close()
	in, head := bufio.NewReader(c), ""
	for !strings.HasSuffix(head, "\r\n\r\n") {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		head += line
	}
	u.mu.Lock()
	u.last = head
	u.mu.Unlock()
	_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
}

type troubleNamesWorld struct {
	*world
	raw    *troubleUpstream
	client *http.Client
}

func newTroubleNames(t *testing.T) *troubleNamesWorld {
	t.Helper()
	socket, raw := startPHP(t), newTroubleUpstream(t)
	w := newWorld(t, wechattest.Account{Domains: []string{"auth.example.com"}}, func(w *world) string {
		site := strings.NewReplacer("UPSTREAM", w.up.addr, "RAW", raw.addr, "ROOT", phpRoot(t), "SOCKET", socket).Replace(troubleNames)
		return "{\n" + w.globals() + w.options("auth.example.com", "") + "}\n" +
			"auth.example.com {\n wechat_broker\n" + site + "}\nshop.example.org {\n" + site + "}\n"
	})
	return &troubleNamesWorld{w, raw, w.gateway.client()}
}

// signIn logs somebody in for a profile, of whom WeChat says profile.
func (x *troubleNamesWorld) signIn(t *testing.T, site, profile string) (token string) {
	t.Helper()
	x.sim.Update(func(k *wechattest.Knobs) {
		k.Faults[wechattest.PathUserInfo] = wechattest.Fault{Raw: profile, Times: 1}
	})
	return signIn(t, x.world, x.client, site+"/_wechat/login?return=/&scope=snsapi_userinfo")
}

func (x *troubleNamesWorld) profile(fields string) string {
	return `{"openid":"` + x.sim.OpenID(appID, "zhangwei") + `",` + fields + `}`
}

// get asks as whoever holds the token, and wants no error and nothing of the gateway's environment.
func (x *troubleNamesWorld) get(t *testing.T, address, token string, status int) (http.Header, string) {
	t.Helper()
	h := pageHeader(holding(token))
	resp, body := get(t, x.client, address, h)
	if resp.StatusCode != status {
		t.Errorf("%s answered %d\n%.300s", address, resp.StatusCode, body)
	}
	if all := body + fmt.Sprint(resp.Header); strings.Contains(all, x.dir) {
		t.Errorf("%s gave the environment away: %.500s", address, all)
	}
	if resp.Header.Get("X-Evil") != "" {
		t.Errorf("%s: the name smuggled in a header", address)
	}
	return resp.Header, body
}

// TestTroubleNicknames follows names to wherever they may go.
func TestTroubleNicknames(t *testing.T) {
	x := newTroubleNames(t)
	for n, c := range troubleNicknames {
		site := []string{"https://auth.example.com", "https://shop.example.org"}[n%2]
		t.Run(c.is, func(t *testing.T) {
			quoted := `"` + c.raw + `"`
			if c.raw == "" {
				b, _ := json.Marshal(c.name)
				quoted = string(b)
			}
			token := x.signIn(t, site, x.profile(`"nickname":`+quoted))
			if len("__Host-wechat_session="+token) > 4096 {
				t.Errorf("browsers drop a cookie of %d bytes", len(token))
			}
			if name, _ := claims(t, token)["nickname"].(string); name != c.clean {
				t.Errorf("the token says %q, want %q", name, c.clean)
			}
			x.inCaddy(t, site, token, c.clean, n)
			x.inUpstream(t, site, token, c.clean)
			x.inPHP(t, site, token, c.clean)
		})
	}
	if x.stop(); strings.Contains(x.log.String(), "\x1b[31mred") || strings.Contains(x.log.String(), `HOME="`+x.dir) {
		t.Error("a name reached the log as it was")
	}
}

func (x *troubleNamesWorld) inCaddy(t *testing.T, site, token, clean string, n int) {
	t.Helper()
	_, body := x.get(t, site+"/_wechat/userinfo", token, 200)
	var info struct{ Openid, Nickname string }
	if err := json.Unmarshal([]byte(body), &info); err != nil || info.Nickname != clean || info.Openid != x.sim.OpenID(appID, "zhangwei") {
		t.Errorf("userinfo: %v %s", err, body)
	}
	for path, status := range map[string]int{"/respond": 200, "/vars": 200, "/map": 200, "/error": 418} {
		if _, body := x.get(t, site+path, token, status); body != "["+clean+"]" {
			t.Errorf("%s: got %q, want [%s]", path, body, clean)
		}
	}
	if h, _ := x.get(t, site+"/header", token, 200); h.Get("X-Nick") != "["+clean+"]" {
		t.Errorf("a header: got %q, want [%s]", h.Get("X-Nick"), clean)
	}
	if h, _ := x.get(t, site+"/redir", token, 302); h.Get("Location") != "https://elsewhere.example/?n=["+clean+"]" {
		t.Errorf("a redirect: got %q", h.Get("Location"))
	}
	if _, body := x.get(t, site+"/templates", token, 200); html.UnescapeString(body) != "<p>"+clean+"</p>" {
		t.Errorf("a template: got %q", body)
	}
	_, body = x.get(t, site+"/rewrite", token, 200)
	if u, err := url.Parse(readSeen(t, []byte(body)).URI); err != nil || u.Path != "/rewritten" || u.Query().Has("openid") {
		t.Errorf("a rewrite: got %s: %v", body, err)
	}
	x.inLog(t, site, token, clean, n)
}

// inLog finds the name in Caddy's access log.
func (x *troubleNamesWorld) inLog(t *testing.T, site, token, clean string, n int) {
	t.Helper()
	uri := "/respond?n=" + strconv.Itoa(n)
	x.get(t, site+uri, token, 200)
	if !x.logged(`"uri":"` + uri + `"`) {
		t.Fatal("no access log")
	}
	for line := range strings.Lines(x.log.String()) {
		if !strings.Contains(line, `"uri":"`+uri+`"`) || !strings.Contains(line, "http.log.access") {
			continue
		}
		var entry struct{ Nick string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Nick != clean {
			t.Errorf("the access log: %v, got %q, want %q", err, entry.Nick, clean)
		}
	}
}

// inUpstream looks at the very bytes.
func (x *troubleNamesWorld) inUpstream(t *testing.T, site, token, clean string) {
	t.Helper()
	x.get(t, site+"/raw", token, 200)
	x.raw.mu.Lock()
	head := x.raw.last
	x.raw.mu.Unlock()
	got := map[string]string{}
	for line := range strings.SplitSeq(strings.TrimSuffix(head, "\r\n\r\n"), "\r\n") {
		if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Errorf("a control byte: %q", line)
		}
		name, value, _ := strings.Cut(line, ": ")
		got[name] = value
	}
	if encoded, has := got["X-Wechat-Nickname"]; has != (clean != "") || has && !troubleEncoded.MatchString(encoded) || troubleDecoded(encoded) != clean {
		t.Errorf("the upstream got the name %q", encoded)
	}
	if got["X-Nick"] != "["+clean+"]" || got["X-Nick-Up"] != "["+clean+"]" || got["X-Session"] != token {
		t.Errorf("the upstream got\n%q", head)
	}
	if got["X-Evil"] != "" || got["X-Wechat-Openid"] != x.sim.OpenID(appID, "zhangwei") {
		t.Errorf("the name smuggled in a header:\n%q", head)
	}
}

func troubleDecoded(s string) string {
	plain, err := url.PathUnescape(s)
	if err != nil {
		return err.Error()
	}
	return plain
}

func (x *troubleNamesWorld) inPHP(t *testing.T, site, token, clean string) {
	t.Helper()
	_, body := x.get(t, site+"/member/dump.php", token, 200)
	d := readDump(t, []byte(body))
	if got := d.str("HTTP_X_WECHAT_NICKNAME"); troubleDecoded(got) != clean || d.str("HTTP_X_EVIL") != "" || d.str("NICK") != "["+clean+"]" {
		t.Errorf("PHP got %q and %q", got, d.str("NICK"))
	}
	_, body = x.get(t, site+"/member/orders.php", token, 200)
	if m := regexp.MustCompile(`(?s)<dd id="nickname">(.*?)</dd>`).FindStringSubmatch(body); m == nil || html.UnescapeString(m[1]) != clean {
		t.Errorf("PHP's rawurldecode made %q, want %q", m, clean)
	}
}

// TestTroublePictures: an address that no page or header could carry is left out; nobody fails to sign in over it.
func TestTroublePictures(t *testing.T) {
	x := newTroubleNames(t)
	for address, want := range map[string]bool{
		"https://thirdwx.qlogo.cn/mmopen/vi_32/Q0j4TwGTfTK6xLNL2EHcMiBTBrrsBLsWKVHtDV7F1pbCdA/132": true,
		"https://a.example/{env.HOME}/{http.auth.user.id}/{{env}}?x=$HOME&y=%0d%0a#z":              true,
		"https://a.example/" + strings.Repeat("a", 400):                                            true,
		"https://a.example/" + strings.Repeat("a", 10<<10):                                         false,
		"javascript:alert(1)": false, "JAVASCRIPT:alert(1)": false, "data:text/html,x": false, "//a.example/x": false, "/x": false, "x": false,
		"https:javascript:alert(1)": false, "https://a.example/\r\nX-Evil: 1": false, "https://a.example/\x00": false, "https://a.example/ x": false,
		"https://a.example/\"><script>": false, "https://a.example/'": false, "https://a.example/é": false, "https://例.example/": false,
		"https://a.example/\u202e": false, "https://a.example\\@b.example/": false, " https://a.example/": false, "": false,
	} {
		t.Run(address[:min(len(address), 40)], func(t *testing.T) {
			b, _ := json.Marshal(address)
			token := x.signIn(t, "https://shop.example.org", x.profile(`"nickname":"a","headimgurl":`+string(b)))
			expected := ""
			if want {
				expected = address
			}
			_, body := x.get(t, "https://shop.example.org/member/dump.php", token, 200)
			if got := readDump(t, []byte(body)).str("HTTP_X_WECHAT_HEADIMGURL"); got != expected {
				t.Errorf("PHP got %q", got)
			}
			_, body = x.get(t, "https://shop.example.org/_wechat/userinfo", token, 200)
			var info struct{ Headimgurl string }
			if err := json.Unmarshal([]byte(body), &info); err != nil || info.Headimgurl != expected {
				t.Errorf("userinfo: %v %s", err, body)
			}
		})
	}
}

// troubleIDs are values that no id has. Whoever separates ids by one of these characters would see another user.
var troubleIDs = map[string]string{
	"a slash": `"o/x"`, "a dot": `"o.x"`, "a colon": `"o:x"`, "a comma": `"o,x"`, "a semicolon": `"o;x"`, "a bar": `"o|x"`,
	"a space": `"o x"`, "a space at its end": `"ox "`, "CR LF": `"o\r\nX-Evil: 1"`, "NUL": `"o\u0000"`, "a tab": `"o\tx"`,
	"a percent sign": `"o%2fx"`, "an ampersand": `"o&openid=y"`, "a plus": `"o+x"`, "an equals sign": `"o=x"`, "a quote": `"o\"x"`, "an at sign": `"o@x"`,
	"a placeholder": `"{env.HOME}"`, "markup": `"<b>"`, "1 KB": `"` + strings.Repeat("o", 1024) + `"`, "129 characters": `"` + strings.Repeat("o", 129) + `"`,
	"Chinese": `"o张伟"`, "full width letters": `"ｏｘ"`, "a Kelvin sign": `"o\u212a"`, "a zero width space": `"o\u200b"`, "broken UTF-8": "\"o\xff\"",
	"a number": `1`, "true": `true`, "a list": `["o"]`, "an object": `{"openid":"o"}`,
}

// TestTroubleIDs: an openid or unionid that is none signs nobody in; the log says which field it was, and not what
// stood there.
func TestTroubleIDs(t *testing.T) {
	x := newTrouble(t, time.Minute)
	openid := x.sim.OpenID(appID, "zhangwei")
	refused := func(t *testing.T, path, answer, reason string) {
		t.Helper()
		for _, l := range troubleReaching(path) {
			x.sim.Update(func(k *wechattest.Knobs) { k.Faults[path] = wechattest.Fault{Raw: answer, Times: 1} })
			b := x.visitor(t)
			p := open(t, b, l.address())
			x.wantEnd(t, b, p, troubleEnd{status: 502, logged: path + ": no usable answer from WeChat: " + reason})
			if strings.Contains(string(p.Body), "oOther") {
				t.Errorf("the page tells what stood there:\n%s", p.Body)
			}
		}
	}
	token := func(openid, unionid string) string {
		return `{"access_token":"AT_a","expires_in":7200,"refresh_token":"r","scope":"snsapi_base","openid":` + openid + `,"unionid":` + unionid + `}`
	}
	profile := func(openid, unionid string) string {
		return `{"openid":` + openid + `,"nickname":"a","unionid":` + unionid + `}`
	}
	for is, value := range troubleIDs {
		t.Run("an openid with "+is, func(t *testing.T) { refused(t, wechattest.PathToken, token(value, `"u"`), "openid is ") })
		t.Run("a unionid with "+is, func(t *testing.T) { refused(t, wechattest.PathToken, token(`"o"`, value), "unionid is ") })
	}
	for _, is := range []string{"CR LF", "a comma", "a number"} {
		value := troubleIDs[is]
		t.Run("a profile's openid with "+is, func(t *testing.T) { refused(t, wechattest.PathUserInfo, profile(value, `"u"`), "openid is ") })
		t.Run("a profile's unionid with "+is, func(t *testing.T) {
			refused(t, wechattest.PathUserInfo, profile(`"`+openid+`"`, value), "unionid is ")
		})
	}
	t.Run("an openid that is empty", func(t *testing.T) { refused(t, wechattest.PathToken, token(`""`, `"u"`), "openid is ") })
	t.Run("an openid that is null", func(t *testing.T) { refused(t, wechattest.PathToken, token(`null`, `"u"`), "openid is ") })
	t.Run("a profile of somebody else", func(t *testing.T) {
		refused(t, wechattest.PathUserInfo, profile(`"oOther"`, `"u"`), "the answer is about another openid")
	})
	x.wantSecrecy(t)
	for _, never := range []string{"X-Evil", "oOther", "张伟", "{env.HOME}", strings.Repeat("o", 129)} {
		if at := strings.Index(x.log.String(), never); at >= 0 {
			t.Errorf("the log has %q: %.300s", never, x.log.String()[max(0, at-100):])
		}
	}
}
