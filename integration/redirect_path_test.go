package integration

import (
	"math/rand/v2"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// returnPaths: whatever stands legally in a request's line comes back byte for byte, up to 2,000 bytes.
func (x *redirectWorld) returnPaths(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("WECHAT_TEST_SEED"), 10, 64); err == nil {
		seed = s
	}
	var paths []redirectPayload
	for i := range 400 {
		paths = append(paths, redirectRandom(rand.New(rand.NewPCG(seed, uint64(i)))))
	}
	shop, both := redirectSite("shop.example.org"), redirectSite("both.example.com")
	entries := []redirectEntry{
		{name: "the request's own URI, across domains", at: shop, play: x.ownURI("", "/_wechat")},
		{name: "the request's own URI on the bound domain", at: both, play: x.ownURI("", "/_wechat")},
		{name: "after a rewrite", at: redirectSite("rewrite.example.org"), play: x.ownURI("", "/_wechat")},
		{name: "after uri strip_prefix", at: redirectSite("strip.example.org"), play: x.ownURI("/app", "/_wechat")},
		{name: "in handle_path", at: redirectSite("path.example.org"), play: x.ownURI("/app", "/app/_wechat")},
		{name: "after try_files", at: redirectSite("try.example.org"), play: x.ownURI("", "/_wechat")},
		{name: "as the parameter return, to its end", at: shop, play: x.returnTo("/_wechat", url.QueryEscape)},
		{name: "as the parameter return of somebody signed in", at: shop, begin: x.signedIn(shop, "/", "/_wechat", redirectEscape)},
		{name: "behind the button before a profile is asked for", at: redirectSite("profile.example.org"), play: x.profileButton},
		{name: "from a script's Referer", at: shop, play: x.scriptReferer},
		{name: "after a logout", at: redirectSite("part.example.org"), play: x.logoutByPost},
		{name: "of a snapshot visitor", at: redirectSite("guest.example.org"), play: x.snapshot},
		{name: "where cookies are off", at: shop, play: x.withoutCookies},
	}
	for i, e := range entries {
		t.Run(e.name, func(t *testing.T) {
			if e.begin != nil {
				e.play = e.begin(t)
			}
			some := paths
			if i > 0 {
				some = paths[(i%3)*130 : (i%3)*130+130]
			}
			redirectEach(x, some, func(w *redirectWire, p redirectPayload) {
				if !t.Failed() {
					e.play(t, w, e.at, p)
				}
			})
			x.judge(t)
			if t.Failed() {
				t.Logf("WECHAT_TEST_SEED=%d", seed)
			}
		})
	}
}

// redirectRandom is a path with a query, as odd as a request's line may be. Browsers encode some of it, old ones do not.
func redirectRandom(r *rand.Rand) redirectPayload {
	longest := []int{1, 2, 20, 60, 61, 300, 1000, 1992, 1999, 2000, 2001, 2100, 3000}[r.IntN(13)]
	text := "/" + strings.TrimLeft(redirectAtoms(r, longest/(1+r.IntN(4))-1, redirectInPaths), "/")
	if r.IntN(4) > 0 {
		text += "?" + redirectAtoms(r, longest-len(text)-1, append(redirectInQueries, redirectInPaths...))
		if longest >= 1992 && len(text) < longest {
			text += strings.Repeat("&", longest-len(text)) // to the very byte
		}
	}
	if r.IntN(10) == 0 {
		text += "#" + redirectAtoms(r, r.IntN(20), redirectInPaths)
	}
	return redirectPayload{text: text, wanted: redirectWanted(text, false), path: text}
}

var (
	redirectInPaths = []string{
		"a", "Z", "0", "-", ".", "_", "~", "/", "//", "/./", "/../", "/..", "!", "$", "&", "'", "(", ")", "*", "+", ",", ";", "=", ":", "@", "&&", "&=", "==", ";;", "a=b", "a[]=1",
		"%2F", "%2f", "%5C", "%00", "%0d%0a", "%25", "%252e", "%2E%2e", "%E4%BD%A0", "%c3", "%C4%e3", "%F0%9F%8c%b8", "\"", "<", ">", "^", "`", "{", "|", "}", "[", "]",
		"\u4f60\u597d", "\xff", "\x80", "\xc3", "\xe4\xbd", "\u2028", "\ufeff", "\U0001f338", "https://evil.example/", "javascript:", "return=//evil.example", "code=1&state=2&login=3&ticket=4", "{http.request.host}", "{{.}}", "${x}",
	}
	redirectInQueries = []string{"?", "??", "%", "%zz", "%u4f60", "/?//", "?/_wechat/login"} // Go refuses bad escapes in a path
)

// redirectAtoms is random text of at most n bytes.
func redirectAtoms(r *rand.Rand, n int, atoms []string) string {
	var b strings.Builder
	for range 2 * n {
		if atom := atoms[r.IntN(len(atoms))]; b.Len()+len(atom) <= n {
			b.WriteString(atom)
		}
	}
	return b.String()
}
