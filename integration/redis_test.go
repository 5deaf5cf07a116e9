package integration

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/ticket/storetest/redistest"
	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

const redisPassword = "correct-horse-battery-staple"

// redisOption is the store of a gateway that shares redis with others.
func redisOption(redis ...*redistest.Server) string {
	return "wechat {\n store redis " + strings.Join(redistest.Addresses(redis), " ") + " {\n password {env.REDIS_PASSWORD}\n}\n"
}

// onRedis puts the store into a Caddyfile of a world.
func (w *world) onRedis(caddyfile string, redis ...*redistest.Server) string {
	return strings.Replace(caddyfile, "wechat {", redisOption(redis...), 1)
}

// newRedis starts a Redis that keeps what it has over a restart, if lines say so.
func newRedis(t *testing.T, lines ...string) *redistest.Server {
	t.Helper()
	return redistest.New(t, append([]string{"requirepass " + redisPassword}, lines...)...)
}

// lasting makes a Redis keep what it has over a crash.
var lasting = []string{"appendonly yes", "appendfsync always"}

// redisWorld is a gateway that is not running yet, with the secret that its Redis wants.
func redisWorld(t *testing.T) *world {
	t.Helper()
	w := &world{gateway: newGateway(t), sim: newSimulator(t, boundDomain), up: newUpstream(t)}
	w.env = append(w.env, "REDIS_PASSWORD="+redisPassword)
	return w
}

// beside is another gateway with the same storage and the same people.
func (w *world) beside(t *testing.T, caddyfile func(*world) string) *world {
	t.Helper()
	other := &world{gateway: newGateway(t), sim: w.sim, up: w.up}
	other.env = w.env
	other.start(strings.Replace(caddyfile(other), other.dir+"/storage", w.dir+"/storage", 1))
	return other
}

// redisSites are the two places at which a login ends.
var redisSites = map[string]struct {
	page      string
	caddyfile func(*world, string) string
}{
	"on the bound domain": {authPage, (*world).single},
	"across domains":      {shopPage, (*world).cross},
}

// A login ends signed in with its state in Redis, which a reload does not connect to anew.
func TestRedisLogin(t *testing.T) {
	for name, site := range redisSites {
		t.Run(name, func(t *testing.T) {
			redis := newRedis(t)
			w := redisWorld(t)
			caddyfile := w.onRedis(site.caddyfile(w, ""), redis)
			w.start(caddyfile)
			b := w.browser(w.sim, wechattest.BrowserOptions{User: "lina"})
			if got := openID(t, open(t, b, site.page)); got != w.sim.OpenID(appID, "lina") {
				t.Errorf("signed in as %q", got)
			}
			keys := redis.Client().Keys(t.Context(), "*").Val()
			for _, key := range keys {
				if !strings.HasPrefix(key, "caddy_wechat:") {
					t.Errorf("a key without the prefix: %s", key)
				}
			}
			if len(keys) < 4 {
				t.Errorf("redis has %q alone", keys)
			}
			before := redisConnections(redis)
			if out, err := w.reload(strings.Replace(caddyfile, "wechat {", "wechat {\n cache 1MiB", 1)); err != nil {
				t.Fatalf("%v %s", err, out)
			}
			if p := open(t, b, site.page); len(p.Redirects) > 0 {
				t.Errorf("the session was lost: %v", p.Redirects)
			}
			if after := redisConnections(redis); after != before {
				t.Errorf("connections %s before the reload, %s after", before, after)
			}
		})
	}
}

// redisConnections are the ids of the gateway's connections.
func redisConnections(redis *redistest.Server) string {
	var ids []string
	list, _ := redis.Do("CLIENT", "LIST").(string)
	for line := range strings.Lines(list) {
		if id, _, ok := strings.Cut(strings.TrimPrefix(line, "id="), " "); ok && !strings.Contains(line, "cmd=client") {
			ids = append(ids, id)
		}
	}
	return strings.Join(ids, " ")
}

// TLS, a user of the ACL, a Cluster and Sentinels, each from the Caddyfile to the session.
func TestRedisPlaces(t *testing.T) {
	ca := redistest.NewCA(t)
	acl := redistest.NewTLS(t, ca, "user default off", "user gateway on >"+redisPassword+" ~shop:* +@all")
	cluster := redistest.Cluster(t, "requirepass "+redisPassword)
	sentinels := redistest.NewSentinels(t, redisPassword)
	for name, store := range map[string]string{
		"TLS and an ACL user": acl.Addr + " {\n tls\n username gateway\n password {env.REDIS_PASSWORD}\n key_prefix shop:\n}",
		"a Cluster":           strings.Join(redistest.Addresses(cluster[:2]), " ") + " {\n password {env.REDIS_PASSWORD}\n}",
		"Sentinels":           strings.Join(sentinels.Addresses(), " ") + " {\n master_name main\n password {env.REDIS_PASSWORD}\n db 2\n}",
	} {
		t.Run(name, func(t *testing.T) {
			w := redisWorld(t)
			w.env = append(w.env, "SSL_CERT_FILE="+ca.File)
			w.start(strings.Replace(w.cross(""), "wechat {", "wechat {\n store redis "+store+"\n", 1))
			phone := w.lifePhone(0, shopPage, w.client())
			if err := errors.Join(phone.login(), phone.stays()); err != nil {
				t.Fatal(err)
			}
			if status, err := phone.logout(); status != http.StatusSeeOther || err != nil {
				t.Errorf("a logout got %d, %v", status, err)
			}
		})
	}
}

// A logout on one gateway ends the session on another within five seconds.
func TestRedisLogoutReachesEveryGateway(t *testing.T) {
	redis := newRedis(t)
	w := redisWorld(t)
	w.start(w.onRedis(w.single(""), redis))
	other := w.beside(t, func(w *world) string { return w.onRedis(w.single(""), redis) })
	c := other.clientTrusting(w.roots())
	phone := w.lifePhone(0, authPage, w.client())
	if err := phone.login(); err != nil {
		t.Fatal(err)
	}
	token := phone.token()
	alive := func() bool {
		resp, _ := get(t, c, authPage, pageHeader(holding(token)))
		return resp.StatusCode == http.StatusOK
	}
	if !alive() {
		t.Fatal("the other gateway does not know the session")
	}
	if status, err := phone.logout(); status != http.StatusSeeOther || err != nil {
		t.Fatalf("the logout got %d, %v", status, err)
	}
	lifeUntil(t, 5*time.Second, "the session ends at the other gateway", func() bool { return !alive() })
	other.kill()
	other.start(strings.Replace(other.onRedis(other.single(""), redis), other.dir+"/storage", w.dir+"/storage", 1))
	if alive() {
		t.Error("it lives again at a gateway that starts")
	}
}

// retry follows a page's Refresh header, as browsers do after its seconds.
func retry(t *testing.T, b *wechattest.Browser, p *wechattest.Page) *wechattest.Page {
	t.Helper()
	seconds, to, ok := strings.Cut(p.Header.Get("Refresh"), "; url=")
	if n, err := strconv.Atoi(seconds); !ok || err != nil || n < 1 || !strings.HasPrefix(to, "/_wechat/login?") {
		t.Fatalf("%s: status %d, no retry: Refresh %q\n%.1500s", p.URL, p.Status, p.Header.Get("Refresh"), p.Body)
	}
	u, err := p.URL.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	return open(t, b, u.String())
}

// redisBack is how long a gateway may take to notice that Redis is back.
const redisBack = 10 * time.Second

// retryUntilBack tries again as long as the page says so, once at least.
func retryUntilBack(t *testing.T, b *wechattest.Browser, p *wechattest.Page) *wechattest.Page {
	t.Helper()
	lifeUntil(t, redisBack, "a retry leads on", func() bool {
		p = retry(t, b, p)
		return p.Status != http.StatusBadGateway
	})
	return p
}

// Redis goes and comes back: sessions go on; a logout says that it was not recorded, and is, later; whoever
// logs in waits at a page that tries again by itself, as often as it takes, and then lands where they were going.
func TestRedisAway(t *testing.T) {
	for name, site := range redisSites {
		t.Run(name, func(t *testing.T) {
			redis := newRedis(t, lasting...)
			w := redisWorld(t)
			w.start(w.onRedis(site.caddyfile(w, ""), redis))
			c := w.client()
			kept, ending := w.lifePhone(0, site.page, c), w.lifePhone(1, site.page, c)
			if err := errors.Join(kept.login(), ending.login()); err != nil {
				t.Fatal(err)
			}
			token := ending.token()
			redis.Kill()
			w.sim.ResetCalls()

			if err := kept.stays(); err != nil {
				t.Error(err)
			}
			if status, err := ending.logout(); status != http.StatusInternalServerError || err != nil {
				t.Errorf("a logout got %d, %v", status, err)
			}
			wantEnded(t, c, site.page, token)
			b := w.browser(w.sim, wechattest.BrowserOptions{User: "lina"})
			p := open(t, b, site.page+"?a=1")
			for range 8 {
				wantStatus(t, p, http.StatusBadGateway)
				p = retry(t, b, p)
			}
			wantStatus(t, p, http.StatusBadGateway)
			if n := w.sim.CountCalls(wechattest.PathToken); n > 0 {
				t.Errorf("WeChat's API was asked %d times", n)
			}
			lifeUntil(t, 10*time.Second, "a line for the operator", func() bool {
				return lifeSays(w.log.String(), `"level":"error"`, "ended sessions cannot be read or written", "in redis")
			})

			redis.Start()
			p = retryUntilBack(t, b, p)
			if got := openID(t, p); got != w.sim.OpenID(appID, "lina") || p.URL.RawQuery != "a=1" {
				t.Errorf("signed in as %q at %s", got, p.URL)
			}
			wantEnded(t, c, site.page, token)
			lifeUntil(t, 10*time.Second, "the log says that it works again", func() bool { return lifeSays(w.log.String(), "ended sessions are read and written again") })
			w.kill()
			w.start(w.onRedis(site.caddyfile(w, ""), redis))
			wantEnded(t, w.client(), site.page, token)
		})
	}
}

func wantEnded(t *testing.T, c *http.Client, page, token string) {
	t.Helper()
	if resp, _ := get(t, c, page, pageHeader(holding(token))); resp.StatusCode != http.StatusFound {
		t.Errorf("the session goes on where it was ended: %d", resp.StatusCode)
	}
}

// WeChat wants a person's press before it is asked for a profile, so that page waits for one.
func TestRedisAwayAsksNoProfileByItself(t *testing.T) {
	redis := newRedis(t)
	w := redisWorld(t)
	w.start(w.onRedis(w.single("scope snsapi_userinfo"), redis))
	b := w.browser(w.sim, wechattest.BrowserOptions{User: "lina"})
	login := open(t, b, authPage)
	redis.Kill()
	p, err := b.Click(t.Context(), login, "登录")
	if err != nil {
		t.Fatal(err)
	}
	wantStatus(t, p, http.StatusBadGateway)
	if p.Header.Get("Refresh") != "" || len(p.Links()) == 0 {
		t.Errorf("Refresh %q, links %v", p.Header.Get("Refresh"), p.Links())
	}
	redis.Start()
	lifeUntil(t, redisBack, "the press leads on", func() bool {
		p = open(t, b, "https://auth.example.com"+p.Links()[0].Href)
		return p.Status != http.StatusBadGateway
	})
	if got := openID(t, p); got == "" {
		t.Error("not signed in")
	}
}

// A Redis that hangs costs whoever needs it a second or two, and nobody else anything.
func TestRedisHangs(t *testing.T) {
	redis := newRedis(t)
	w := redisWorld(t)
	w.start(w.onRedis(w.cross(""), redis))
	c := w.client()
	kept := w.lifePhone(0, shopPage, c)
	if err := kept.login(); err != nil {
		t.Fatal(err)
	}
	redis.Freeze()
	defer redis.Thaw()
	const most = 5 * time.Second // of a whole login: the broker's second, and what a slow machine needs
	b := w.browser(w.sim, wechattest.BrowserOptions{User: "lina"})
	var p *wechattest.Page
	for i := range 5 {
		begun := time.Now()
		if err := kept.stays(); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took > patienceOfNobody {
			t.Errorf("a session's request took %v", took)
		}
		begun = time.Now()
		if i == 0 {
			p = open(t, b, shopPage)
		} else {
			p = retry(t, b, p)
		}
		wantStatus(t, p, http.StatusBadGateway)
		if took := time.Since(begun); took > most {
			t.Errorf("a login took %v", took)
		}
	}
	redis.Thaw()
	p = retryUntilBack(t, b, p)
	wantStatus(t, p, http.StatusOK)
}

// patienceOfNobody is what a request may take that needs no Redis: less than one deadline of the store.
const patienceOfNobody = 900 * time.Millisecond

// Redis is away at the start: validate, run and reload go well all the same, nobody is recognised before it was
// read which sessions were ended, and when Redis is back nothing needs a restart.
func TestRedisAwayAtStart(t *testing.T) {
	redis := newRedis(t, lasting...)
	w := redisWorld(t)
	caddyfile := w.onRedis(w.single(""), redis)
	w.start(caddyfile)
	kept, ending := w.lifePhone(0, authPage, w.client()), w.lifePhone(1, authPage, w.client())
	if err := errors.Join(kept.login(), ending.login()); err != nil {
		t.Fatal(err)
	}
	token := ending.token()
	if status, err := ending.logout(); status != http.StatusSeeOther || err != nil {
		t.Fatalf("the logout got %d, %v", status, err)
	}
	w.kill()
	redis.Kill()

	if out, err := w.validate(caddyfile); err != nil {
		t.Errorf("validate: %v %s", err, out)
	}
	w.log.mark()
	w.start(caddyfile)
	c := w.client()
	for range 2 {
		wantEnded(t, c, authPage, kept.token())
		wantEnded(t, c, authPage, token)
		resp, _ := get(t, c, "https://auth.example.com/_wechat/userinfo", holdingHeader(kept.token()))
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("userinfo: %d", resp.StatusCode)
		}
		if out, err := w.reload(caddyfile); err != nil {
			t.Errorf("reload: %v %s", err, out)
		}
	}
	if !w.logged("ended sessions cannot be read; until they are, nobody signs in") {
		t.Error("the log does not say that ended sessions are not known")
	}

	redis.Start()
	kept.doors = []*http.Client{c}
	lifeUntil(t, 10*time.Second, "sessions go on", func() bool { return kept.stays() == nil })
	lifeUntil(t, 10*time.Second, "the log says that they are known", func() bool {
		return lifeSays(w.log.String(), "ended sessions were read; sessions are recognised")
	})
	wantEnded(t, c, authPage, token)
	redis.Kill()
	if out, err := w.reload(strings.Replace(caddyfile, "wechat {", "wechat {\n cache 1MiB", 1)); err != nil {
		t.Errorf("reload: %v %s", err, out)
	}
	if err := kept.stays(); err != nil {
		t.Errorf("after a reload while Redis is away: %v", err)
	}
	wantEnded(t, c, authPage, token)
}

func holdingHeader(token string) http.Header {
	return http.Header{"Cookie": {"__Host-wechat_session=" + token}, "User-Agent": {wechattest.UserAgentAndroid}}
}

// A Redis that comes back with nothing gets back what the running gateway knows, for those that start later.
func TestRedisComesBackEmpty(t *testing.T) {
	redis := newRedis(t)
	w := redisWorld(t)
	w.start(w.onRedis(w.single(""), redis))
	phone := w.lifePhone(0, authPage, w.client())
	if err := phone.login(); err != nil {
		t.Fatal(err)
	}
	token := phone.token()
	if status, err := phone.logout(); status != http.StatusSeeOther || err != nil {
		t.Fatalf("the logout got %d, %v", status, err)
	}
	redis.Kill()
	redis.Start()
	wantEnded(t, w.client(), authPage, token)
	lifeUntil(t, 5*time.Second, "the ended session is written again", func() bool {
		for _, key := range redis.Client().Keys(t.Context(), "*{revoked}4*").Val() {
			for _, member := range redis.Client().SMembers(t.Context(), key).Val() {
				if strings.HasSuffix(member, "-"+jti(t, token)) {
					return true
				}
			}
		}
		return false
	})
	other := w.beside(t, func(w *world) string { return w.onRedis(w.single(""), redis) })
	wantEnded(t, other.clientTrusting(w.roots()), authPage, token)
}

// Sessions that were ended before a configuration turned to Redis stay ended, over a start as well.
func TestRedisTakesOverEndedSessions(t *testing.T) {
	redis := newRedis(t)
	w := redisWorld(t)
	w.start(w.single(""))
	phone := w.lifePhone(0, authPage, w.client())
	if err := phone.login(); err != nil {
		t.Fatal(err)
	}
	token := phone.token()
	if status, err := phone.logout(); status != http.StatusSeeOther || err != nil {
		t.Fatalf("the logout got %d, %v", status, err)
	}
	if out, err := w.reload(w.onRedis(w.single(""), redis)); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	wantEnded(t, w.client(), authPage, token)
	w.kill()
	w.start(w.onRedis(w.single(""), redis))
	wantEnded(t, w.client(), authPage, token)
}

// A login whose ticket went with Redis begins anew by itself, once; then it says that it has ended.
func TestRedisLosesATicket(t *testing.T) {
	redis := newRedis(t)
	w := redisWorld(t)
	w.start(w.onRedis(w.cross(""), redis))
	c := w.client()
	callback, cookies := begin(t, w, c, shopPage+"?a=1")
	site := siteCallback(t, c, callback)
	redis.Do("FLUSHALL")
	resp, body := get(t, c, site, pageHeader(cookies))
	if resp.StatusCode != http.StatusFound || !strings.HasPrefix(resp.Header.Get("Location"), w.sim.url+"/connect/oauth2/authorize") {
		t.Fatalf("status %d, Location %q\n%.500s", resp.StatusCode, resp.Header.Get("Location"), body)
	}
	cookies = resp.Cookies()
	at, err := url.Parse(resp.Header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	resp, _ = get(t, c, at.String(), http.Header{"User-Agent": {wechattest.UserAgentAndroid}})
	site = siteCallback(t, c, strings.Split(resp.Header.Get("Location"), "#")[0])
	if strings.Contains(site, "ticket=") {
		redis.Do("FLUSHALL")
	}
	resp, body = get(t, c, site, pageHeader(cookies))
	if resp.StatusCode != http.StatusBadRequest || sessionOf(resp) != "" || !strings.Contains(body, "/_wechat/login?return=") {
		t.Errorf("the second time: status %d\n%.500s", resp.StatusCode, body)
	}
}

// The password is warned of where it stands literally, and what is wrong behind a placeholder is named.
func TestRedisConfiguration(t *testing.T) {
	redis := newRedis(t)
	w := redisWorld(t)
	w.env = append(w.env, "BRACES=a{b}", "PLACEHOLDER={env.HOME}", "EMPTY=", "NUMBER=3")
	for name, c := range map[string]struct{ store, want string }{
		"a placeholder that is not set":    {"redis:6379 {\n password {env.NO_SUCH}\n}", "option password"},
		"an empty password":                {"redis:6379 {\n password {env.EMPTY}\n}", "option password"},
		"braces behind a placeholder":      {"redis:6379 {\n key_prefix {env.BRACES}\n}", "has braces"},
		"a placeholder behind one":         {"redis:6379 {\n key_prefix {env.PLACEHOLDER}\n}", "key_prefix has braces"},
		"an address behind a placeholder":  {"{env.NUMBER}", "is not an address"},
		"a Cluster's db behind one":        {"a:6379 b:6379 {\n db {env.NUMBER}\n}", "database 0 alone"},
		"an unknown placeholder in a name": {"redis:6379 {\n master_name {nothing}\n}", "option master_name"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := w.validate(strings.Replace(w.single(""), "wechat {", "wechat {\n store redis "+c.store+"\n", 1))
			if err == nil || !strings.Contains(out, c.want) {
				t.Errorf("%v, want %q in\n%s", err, c.want, out)
			}
		})
	}
	literal := strings.Replace(w.onRedis(w.single(""), redis), "{env.REDIS_PASSWORD}", redisPassword, 1)
	w.start(literal)
	if !w.logged("store redis: password stands literally") {
		t.Error("no warning")
	}
}
