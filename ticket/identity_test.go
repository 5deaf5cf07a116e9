package ticket

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// attack: a nickname with CR, LF, NUL, ESC or DEL set as a header answers its user 502 for ever, or, read raw
// by PHP, adds headers. People's own characters stay.
func TestCleanNickname(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"plain Chinese stays":                       {"小明", "小明"},
		"emoji with joiners and selectors stay":     {"👨‍👩‍👧‍👦❤️", "👨‍👩‍👧‍👦❤️"},
		"right-to-left text and its marks stay":     {"שלום\u200f \u202eabc", "שלום\u200f \u202eabc"},
		"markup and quotes stay, for whoever shows": {`<b>"&'\`, `<b>"&'\`},
		"CR LF goes":                               {"a\r\nX-Wechat-Openid: b", "aX-Wechat-Openid: b"},
		"NUL goes":                                 {"a\x00b", "ab"},
		"ESC goes":                                 {"a\x1b[31mb", "a[31mb"},
		"DEL goes":                                 {"a\x7fb", "ab"},
		"tab goes":                                 {"a\tb", "ab"},
		"C1 controls go":                           {"a\u0085\u009bb", "ab"},
		"line and paragraph separators go":         {"a\u2028\u2029b", "ab"},
		"invalid UTF-8 goes":                       {"a\xff\xc0\xafb\xe4\xb8", "ab"},
		"a half of a surrogate pair goes":          {"a\xed\xa0\xbdb", "ab"},
		"nothing stays nothing":                    {"", ""},
		"only controls leave nothing":              {"\r\n\x00", ""},
		"10 KB are cut":                            {strings.Repeat("a", 10<<10), strings.Repeat("a", maxNickname)},
		"a cut falls between characters":           {strings.Repeat("明", 200), strings.Repeat("明", maxNickname/3)},
		"what JSON writes longer is cut sooner":    {strings.Repeat("<", 200), strings.Repeat("<", maxNickname/6)},
		"32 characters, WeChat's most, always fit": {strings.Repeat("<", 32), strings.Repeat("<", 32)},
	} {
		t.Run(name, func(t *testing.T) {
			id := newIdentity()
			id.Nickname = c.in
			if c.in != c.want && id.Valid() {
				t.Error("valid before it is clean")
			}
			got := id.Clean()
			if got.Nickname != c.want {
				t.Errorf("got %q, want %q", got.Nickname, c.want)
			}
			if !utf8.ValidString(got.Nickname) || !got.Valid() {
				t.Errorf("%q is not valid after it is clean", got.Nickname)
			}
			got.Nickname = id.Nickname
			if got != id {
				t.Error("another field changed")
			}
		})
	}
}

// The bounds count what stands in a token's JSON, not what stands in memory.
func TestCutCountsAsJSONDoes(t *testing.T) {
	const all = "a<>&\"\\/'明é🐼\u200f =+"
	for limit := range 60 {
		b, err := json.Marshal(cut(all, limit))
		if err != nil {
			t.Fatal(err)
		}
		if n := len(b) - 2; n > limit || n <= limit-6 && cut(all, limit) != all {
			t.Errorf("cut to %d bytes it takes %d: %s", limit, n, b)
		}
	}
}

func TestCleanAvatar(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		kept bool
	}{
		"WeChat's own stays":                {"https://thirdwx.qlogo.cn/mmopen/vi_32/Q0j4TwGTfTI/132", true},
		"none stays none":                   {"", true},
		"with a line break goes":            {"https://x.test/\r\nSet-Cookie: a=b", false},
		"with a space goes":                 {"https://x.test/a b", false},
		"with DEL goes":                     {"https://x.test/\x7f", false},
		"beyond ASCII goes":                 {"https://x.test/明", false},
		"of the longest length stays":       {"https://x.test/" + strings.Repeat("a", maxHeadImgURL-15), true},
		"one longer goes":                   {"https://x.test/" + strings.Repeat("a", maxHeadImgURL-14), false},
		"longer as JSON than a cookie goes": {"https://x.test/?" + strings.Repeat("&", 400), false},
	} {
		t.Run(name, func(t *testing.T) {
			id := newIdentity()
			id.HeadImgURL = c.in
			if id.Valid() != c.kept {
				t.Errorf("Valid: %v, want %v", id.Valid(), c.kept)
			}
			want := ""
			if c.kept {
				want = c.in
			}
			if got := id.Clean(); got.HeadImgURL != want || !got.Valid() {
				t.Errorf("got %q, want %q", got.HeadImgURL, want)
			}
		})
	}
}

func TestIdentityValid(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Identity)
		want   bool
	}{
		"a full identity":                 {func(*Identity) {}, true},
		"no more than WeChat always says": {func(id *Identity) { *id = Identity{OpenID: "o", AppID: "wx", Scope: ScopeBase} }, true},
		"the scope of website apps":       {func(id *Identity) { id.Scope = ScopeLogin }, true},
		"an openid of 128 characters":     {func(id *Identity) { id.OpenID = strings.Repeat("o", 128) }, true},
		"an openid of 129 characters":     {func(id *Identity) { id.OpenID = strings.Repeat("o", 129) }, false},
		"no openid":                       {func(id *Identity) { id.OpenID = "" }, false},
		"no app id":                       {func(id *Identity) { id.AppID = "" }, false},
		"no scope":                        {func(id *Identity) { id.Scope = "" }, false},
		"an unknown scope":                {func(id *Identity) { id.Scope = "snsapi_admin" }, false},
		"a scope in capitals":             {func(id *Identity) { id.Scope = "SNSAPI_BASE" }, false},
		"a line break in the openid":      {func(id *Identity) { id.OpenID = "o\r\nX: y" }, false},
		"a line break after the openid":   {func(id *Identity) { id.OpenID += "\n" }, false},
		"a comma in the openid":           {func(id *Identity) { id.OpenID = "a,b" }, false},
		"a slash in the openid":           {func(id *Identity) { id.OpenID = "../a" }, false},
		"a letter beyond ASCII":           {func(id *Identity) { id.OpenID = "oé" }, false},
		"a space in the union id":         {func(id *Identity) { id.UnionID = "a b" }, false},
		"a quote in the app id":           {func(id *Identity) { id.AppID = `wx"` }, false},
	} {
		t.Run(name, func(t *testing.T) {
			id := newIdentity()
			c.change(&id)
			if got := id.Valid(); got != c.want {
				t.Errorf("%+v: %v, want %v", id, got, c.want)
			}
		})
	}
}

func TestScopeCovers(t *testing.T) {
	for _, c := range []struct {
		have, want string
		ok         bool
	}{
		{ScopeBase, ScopeBase, true},
		{ScopeBase, "", true},
		{ScopeBase, ScopeUserInfo, false},
		{ScopeBase, ScopeLogin, false},
		{ScopeUserInfo, ScopeBase, true},
		{ScopeUserInfo, ScopeUserInfo, true},
		{ScopeUserInfo, ScopeLogin, true},
		{ScopeLogin, ScopeUserInfo, true},
		{ScopeLogin, ScopeBase, true},
		{"", "", false},
		{"", ScopeBase, false},
		{"snsapi_admin", ScopeBase, false},
		{"snsapi_userinfo ", ScopeBase, false},
		{ScopeBase, "snsapi_admin", false},
	} {
		if got := ScopeCovers(c.have, c.want); got != c.ok {
			t.Errorf("%q covers %q: %v, want %v", c.have, c.want, got, c.ok)
		}
	}
}
