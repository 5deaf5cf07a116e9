package integration

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
)

// forgeFill are the bytes of a header's name that are neither letter nor digit; some upstream folds each
// of them into an underscore. Caddy drops names with _ and . unless the operator expects them.
const (
	forgeFill  = "-~!+#$%&'*^`|"
	forgeAlias = "_."
)

// forgeFold is what all spellings of a name have in common in the eyes of the most careless upstream.
func forgeFold(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		}
		return -1
	}, name)
}

// forgeFamily is what a site claims: prefixes, and single names.
type forgeFamily struct {
	prefix string // of the true headers
	token  string // "" for none
}

// claims reports whether an upstream could take name for one of the site's.
func (f forgeFamily) claims(name string) bool {
	folded := forgeFold(name)
	return strings.HasPrefix(folded, "xwechat") || strings.HasPrefix(folded, forgeFold(f.prefix)) ||
		f.token != "" && folded == forgeFold(f.token)
}

// forgeEndings follow a prefix: ours, what nobody uses yet, and nothing at all.
var forgeEndings = []string{
	"openid", "unionid", "appid", "scope", "nickname", "headimgurl",
	"openid", "unionid", "appid", "scope", "nickname", "headimgurl", // ours twice as often
	"admin", "user-id", "role", "session", "openid2", "open-id", "s", "0", "",
}

// speller makes spellings; the same seed makes the same ones.
type forgeSpeller struct {
	*rand.Rand
	lower bool // HTTP/2 and HTTP/3 refuse upper-case names
}

// name returns some name of the family in some spelling, its separators out of fill.
func (s *forgeSpeller) name(f forgeFamily, fill string) string {
	words := []string{"x", "wechat"}
	switch n := s.IntN(10); {
	case n < 4 && f.prefix != "X-Wechat-":
		words = strings.Split(strings.Trim(strings.ToLower(f.prefix), "-"), "-")
	case n < 6 && f.token != "":
		return s.spell(strings.Split(strings.ToLower(f.token), "-"), fill)
	}
	ending := forgeEndings[s.IntN(len(forgeEndings))]
	if s.IntN(8) == 0 {
		ending = fmt.Sprintf("%x", s.Uint32())
	}
	return s.spell(append(words, ending), fill)
}

// spell writes words as one name.
func (s *forgeSpeller) spell(words []string, fill string) string {
	var b strings.Builder
	between := s.IntN(5) // how the words are held together
	for i, word := range words {
		switch {
		case i == 0 && s.IntN(12) == 0:
			b.WriteString(s.fill(fill))
		case i == 0 || between == 0:
		case between == 1:
			b.WriteByte('-')
		default:
			b.WriteString(s.fill(fill))
		}
		for _, c := range strings.ReplaceAll(word, "-", s.fill(fill)) {
			if between == 4 && s.IntN(3) == 0 {
				b.WriteString(s.fill(fill))
			}
			b.WriteString(s.cased(string(c)))
		}
	}
	if s.IntN(12) == 0 {
		b.WriteString(s.fill(fill))
	}
	return b.String()
}

func (s *forgeSpeller) fill(fill string) string {
	return strings.Repeat(string(fill[s.IntN(len(fill))]), 1+s.IntN(8)/7)
}

func (s *forgeSpeller) cased(letter string) string {
	if s.lower || s.IntN(2) == 0 {
		return letter
	}
	return strings.ToUpper(letter)
}

// names returns n different spellings, as the server knows different: by canonical form.
func (s *forgeSpeller) names(n int, f forgeFamily, pool []string) (list []string) {
	known := map[string]bool{}
	for len(list) < n {
		name := s.name(f, forgeFill)
		if len(pool) > 0 && s.IntN(3) > 0 {
			name = pool[s.IntN(len(pool))]
		}
		if s.lower {
			name = strings.ToLower(name)
		}
		if key := http.CanonicalHeaderKey(name); !known[key] && f.claims(name) {
			known[key] = true
			list = append(list, name)
		}
	}
	return list
}

// aliases returns n names that Caddy passes on only where the operator lists them.
func (s *forgeSpeller) aliases(n int, families ...forgeFamily) (list []string) {
	known := map[string]bool{}
	for len(list) < n {
		fill := []string{"_", ".", "_.", "_.-", "_.-~!+'"}[s.IntN(5)]
		name := s.name(families[s.IntN(len(families))], fill)
		if key := http.CanonicalHeaderKey(name); strings.ContainsAny(name, forgeAlias) && !known[key] {
			known[key] = true
			list = append(list, name)
		}
	}
	return list
}

// expected is the server options by which an operator opens Caddy's filter for names. The prefixes
// among them open it for what nobody has thought of.
func forgeExpected(names []string) string {
	underscores, dots := []string{`"x-wechat_*"`, `"webhook_*"`}, []string{`"x-wechat.*"`, `"webhook.*"`}
	for _, name := range names {
		if strings.Contains(name, "_") {
			underscores = append(underscores, `"`+name+`"`)
		} else {
			dots = append(dots, `"`+name+`"`)
		}
	}
	slices.Sort(underscores)
	slices.Sort(dots)
	return "expected_underscore_headers " + strings.Join(underscores, " ") + "\nexpected_dot_headers " + strings.Join(dots, " ") + "\n"
}
