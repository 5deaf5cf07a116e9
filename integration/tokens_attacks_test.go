package integration

import (
	"fmt"
	"strings"
	"testing"
)

// tokensAttack is a session of the shop, right in all but one thing.
type tokensAttack struct{ name, token string }

// tokensChange is a text in a token's header or payload, and what stands there instead.
type tokensChange struct{ name, old, new string }

func tokensChanged(t *testing.T, s string, c tokensChange) string {
	t.Helper()
	if strings.Count(s, c.old) != 1 {
		t.Fatalf("%s: %q is in %s %d times", c.name, c.old, s, strings.Count(s, c.old))
	}
	return strings.Replace(s, c.old, c.new, 1)
}

// tokensWrongClaims are payloads that differ from a good one in one claim, signed with the true key: each
// check of a claim is the only one in the way of one of these.
func tokensWrongClaims(t *testing.T, k *tokensKeys, s tokensSession) (list []tokensAttack) {
	t.Helper()
	good := s.payload(t)
	iat, exp, auth := fmt.Sprintf(`"iat":%d`, s.Iat), fmt.Sprintf(`"exp":%d`, s.Exp), fmt.Sprintf(`"auth_time":%d`, s.AuthTime)
	iss, aud, sub, app := `"iss":"`+s.Iss+`"`, `"aud":"`+s.Aud+`"`, `"sub":"`+s.Sub+`"`, `"appid":"`+s.AppID+`"`
	for _, c := range []tokensChange{
		{"only iss is another account's", iss, `"iss":"https://auth.example.net"`},
		{"only iss is the site's own", iss, `"iss":"` + s.Aud + `"`},
		{"only iss is missing", iss + ",", ""},
		{"only iss is empty", iss, `"iss":""`},
		{"only iss is null", iss, `"iss":null`},
		{"only iss is a list", iss, `"iss":["` + s.Iss + `"]`},
		{"only iss is in capitals", iss, `"iss":"HTTPS://AUTH.EXAMPLE.COM"`},
		{"only iss ends in a slash", iss, `"iss":"` + s.Iss + `/"`},
		{"only aud is another site's", aud, `"aud":"https://` + tokensBlog + `"`},
		{"only aud is http", aud, `"aud":"http://` + tokensShop + `"`},
		{"only aud is another origin of the site", aud, `"aud":"https://www.example.org"`},
		{"only aud begins as it should", aud, `"aud":"` + s.Aud + `.evil.example"`},
		{"only aud has the default port", aud, `"aud":"` + s.Aud + `:443"`},
		{"only aud is missing", aud + ",", ""},
		{"only aud is empty", aud, `"aud":""`},
		{"only aud is null", aud, `"aud":null`},
		{"only aud is a list", aud, `"aud":["` + s.Aud + `"]`},
		{"only aud is a list with another site's", aud, `"aud":["https://` + tokensBlog + `","` + s.Aud + `"]`},
		{"only appid is another account's", app, `"appid":"` + tokensOtherApp + `"`},
		{"only appid is missing", app + ",", ""},
		{"only appid is empty", app, `"appid":""`},
		{"only exp is missing", exp + ",", ""},
		{"only exp is null", exp, `"exp":null`},
		{"only exp is a string", exp, fmt.Sprintf(`"exp":"%d"`, s.Exp)},
		{"only exp has a fraction", exp, exp + ".5"},
		{"only exp has .0", exp, exp + ".0"},
		{"only exp has an exponent", exp, `"exp":4e9`},
		{"only exp is 2^63", exp, `"exp":9223372036854775808`},
		{"only exp is 2^64", exp, `"exp":18446744073709551616`},
		{"only exp is infinite", exp, `"exp":1e999`},
		{"only exp is negative", exp, `"exp":-1`},
		{"only exp is 0", exp, `"exp":0`},
		{"only exp is past", exp, fmt.Sprintf(`"exp":%d`, s.Iat-1)},
		{"only exp is a list", exp, fmt.Sprintf(`"exp":[%d]`, s.Exp)},
		{"only exp is true", exp, `"exp":true`},
		{"nbf is in an hour", `{`, fmt.Sprintf(`{"nbf":%d,`, s.Iat+3600)},
		{"nbf is past, but we write none", `{`, `{"nbf":1,`},
		{"only iat is in an hour", iat, fmt.Sprintf(`"iat":%d`, s.Iat+3600)},
		{"only iat is 2^63-1", iat, `"iat":9223372036854775807`},
		{"only iat is missing", iat + ",", ""},
		{"only iat is null", iat, `"iat":null`},
		{"only iat is longer ago than an unused session lives", iat, fmt.Sprintf(`"iat":%d`, s.Iat-8*24*3600)},
		{"only auth_time is missing", auth + ",", ""},
		{"only auth_time is longer ago than any session lives", auth, fmt.Sprintf(`"auth_time":%d`, s.AuthTime-31*24*3600*1000)},
		{"only sub is missing", sub + ",", ""},
		{"only sub is empty", sub, `"sub":""`},
		{"only sub has a line break", sub, `"sub":"oLina\r\nX-Wechat-Unionid: oForged"`},
		{"only sub is not an openid", sub, `"sub":"oLina;admin"`},
		{"only sub is too long", sub, `"sub":"` + strings.Repeat("o", 129) + `"`},
		{"only scope is unknown", `"snsapi_base"`, `"snsapi_admin"`},
		{"only scope is missing", `,"scope":"snsapi_base"`, ""},
		{"only jti is missing", `"jti":"` + s.Jti + `",`, ""},
		{"only jti is a path", s.Jti, "../" + s.Jti[3:]},
		{"only jti is in capitals", s.Jti, "ABCDEF" + s.Jti[6:]},
		{"sub stands there twice, another's first", `"sub":`, `"sub":"oVictim","sub":`},
		{"sub stands there twice, another's last", sub, sub + `,"sub":"oVictim"`},
		{"aud stands there twice", `"aud":`, `"aud":"https://evil.example","aud":`},
		{"SUB stands there as well", sub, sub + `,"SUB":"oVictim"`},
		{"Sub stands there instead", `"sub"`, `"Sub"`},
		{"ſub, which folds to sub, stands there as well", sub, sub + `,"ſub":"oVictim"`},
		{"EXP stands there instead", `"exp"`, `"EXP"`},
		{"a claim is added", app, app + `,"admin":true`},
		{"a space is added", `"aud":`, `"aud": `},
		{"a letter is escaped", `"sub"`, `"s\u0075b"`},
		{"a text follows", `"snsapi_base"}`, `"snsapi_base"}x`},
		{"a line break follows", `"snsapi_base"}`, `"snsapi_base"}` + "\n"},
		{"a NUL follows", `"snsapi_base"}`, `"snsapi_base"}` + "\x00"},
		{"the payload is in UTF-8 with its mark", `{"iss"`, "\xef\xbb\xbf" + `{"iss"`},
	} {
		list = append(list, tokensAttack{c.name, k.forge(k.header("session"), tokensChanged(t, good, c))})
	}
	for _, payload := range []string{"", "null", "{}", "[]", "0", `""`, "[" + good + "]", good + good, strings.Repeat("[", 2000)} {
		list = append(list, tokensAttack{fmt.Sprintf("a payload of %.12q, signed", payload), k.forge(k.header("session"), payload)})
	}
	return list
}

// tokensWrongHeaders are headers that differ from a good one, over a good payload. Each comes with every
// signature that it may ask for.
func tokensWrongHeaders(t *testing.T, k *tokensKeys, payload string, secrets map[string][]byte, others []*tokensKeys) (list []tokensAttack) {
	t.Helper()
	good := k.header("session")
	alg, kid, typ := `"alg":"`+k.alg+`"`, `"kid":"`+k.kid+`"`, `"typ":"wechat-session+jwt"`
	changes := []tokensChange{
		{"only alg is missing", alg + ",", ""},
		{"only alg is null", alg, `"alg":null`},
		{"only alg is a list", alg, `"alg":["` + k.alg + `"]`},
		{"alg stands there twice", alg, `"alg":"none",` + alg},
		{"ALG stands there as well", alg, alg + `,"ALG":"none"`},
		{"only kid is missing", kid + ",", ""},
		{"only kid is empty", kid, `"kid":""`},
		{"only kid is null", kid, `"kid":null`},
		{"only kid is unknown", kid, `"kid":"00000000"`},
		{"only kid is unknown and odd", kid, `"kid":"zzzzzzzz"`},
		{"only kid is a path", kid, `"kid":"../../../../dev/null"`},
		{"only kid is a line of SQL", kid, `"kid":"' UNION SELECT 'key' --"`},
		{"only kid is a URL", kid, `"kid":"https://evil.example/key"`},
		{"only kid has a NUL", kid, `"kid":"` + k.kid + `\u0000"`},
		{"only kid is longer", kid, `"kid":"` + k.kid + `0"`},
		{"only kid is a number", kid, `"kid":1`},
		{"only kid is a list", kid, `"kid":["` + k.kid + `"]`},
		{"kid stands there twice", kid, `"kid":"00000000",` + kid},
		{"only typ is missing", "," + typ, ""},
		{"only typ is JWT", typ, `"typ":"JWT"`},
		{"only typ is at+jwt", typ, `"typ":"at+jwt"`},
		{"only typ is a guest's", typ, `"typ":"wechat-guest+jwt"`},
		{"only typ is in capitals", typ, `"typ":"WECHAT-SESSION+JWT"`},
		{"only typ is a media type", typ, `"typ":"application/wechat-session+jwt"`},
		{"crit of what is known", `{`, `{"crit":["exp"],"exp":1,`},
		{"crit of the unknown", `{`, `{"crit":["x"],"x":1,`},
		{"an empty crit", `{`, `{"crit":[],`},
		{"b64 is false", `{`, `{"b64":false,"crit":["b64"],`},
		{"jku is set", `{`, `{"jku":"http://127.0.0.1:1/jwks.json",`},
		{"x5u is set", `{`, `{"x5u":"http://127.0.0.1:1/cert.pem",`},
		{"jwk is set", `{`, `{"jwk":{"kty":"oct","k":"AAAA"},`},
		{"x5c is set", `{`, `{"x5c":["AAAA"],`},
		{"zip is set", `{`, `{"zip":"DEF",`},
		{"cty is set", `{`, `{"cty":"JWT",`},
		{"enc is set", `{`, `{"enc":"A256GCM",`},
		{"the order is another", good, "{" + typ + "," + alg + "," + kid + "}"},
		{"a space is added", `{`, `{ `},
		{"a line break follows", typ + "}", typ + "}\n"},
	}
	for _, other := range []string{"none", "None", "NONE", "nOnE", "none ", "", "HS256", "hs256", "HS384", "HS512", "RS256", "PS256", "EdDSA", "Ed25519", "ES256", "ES256K", "ES384", "dir", "A256GCM"} {
		if other != k.alg {
			changes = append(changes, tokensChange{"alg is " + other, alg, `"alg":"` + other + `"`})
		}
	}
	for _, other := range others {
		changes = append(changes,
			tokensChange{"only kid is the " + other.alg + " key's", kid, `"kid":"` + other.kid + `"`},
			tokensChange{"only alg is the " + other.alg + " key's", alg, `"alg":"` + other.alg + `"`},
			tokensChange{"alg and kid are the " + other.alg + " key's", alg + "," + kid, `"alg":"` + other.alg + `","kid":"` + other.kid + `"`})
		list = append(list, tokensAttack{"signed with the " + other.alg + " key under another's header", other.forge(good, payload)})
	}
	changes = append(changes, tokensChange{"the header is as it should be", good, good})
	for _, c := range changes {
		text := tokensB64(tokensChanged(t, good, c)) + "." + tokensB64(payload)
		list = append(list, tokensAttack{c.name + ", unsigned", text + "."}, tokensAttack{c.name + ", signed with nothing", text + ".AA"})
		if c.old != c.new {
			list = append(list, tokensAttack{c.name + ", signed with the true key", text + "." + tokensB64(string(k.sign(text)))})
		}
		if !strings.Contains(c.name, "alg") && c.old != c.new {
			continue
		}
		for name, secret := range secrets {
			list = append(list, tokensAttack{c.name + ", an HMAC of " + name, text + "." + tokensMAC(c.new, text, secret)})
		}
	}
	return list
}

// Attack: signed with the gateway's own keys, or with what is published of them, and right in all but one
// thing, a token is nobody's.
func tokensWrongInOneThing(t *testing.T, w *tokensSites, keys string) {
	real := w.login(t, "https://"+tokensShop+"/member/", "lina")
	k := tokensKeysOf(t, w.gateway, real)
	lina := w.sim.OpenID(appID, "lina")
	shop := w.edge(t, tokensShop)
	p := strings.Split(real, ".")
	ours := newTokensSession("https://"+tokensShop, lina)
	good := k.session(t, ours)
	for _, right := range []string{real, k.forgeRaw(p[0], p[1]), good} {
		shop.judge(t, tokensShop, tokensCookie(right), lina)
	}
	if t.Failed() {
		t.Fatal("a token that is right in all is refused: what follows would prove nothing")
	}
	others := tokensOtherKeys(t, w.gateway, k)
	attacks := tokensWrongClaims(t, k, ours)
	attacks = append(attacks, tokensWrongHeaders(t, k, ours.payload(t), tokensGuesses(t, w, k), others)...)
	attacks = append(attacks, tokensSpellings(t, k, good)...)
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) { shop.judge(t, tokensShop, tokensCookie(a.token), tokensNobody) })
	}
	t.Logf("%d tokens", len(attacks))
	for odd, want := range map[string]string{
		"\r": tokensRefused, "\x00": tokensRefused, "\x01": tokensRefused, "\x1b": tokensRefused, "\x7f": tokensRefused,
		"\r\n ": lina, "\n\t": lina, // a folded line, as HTTP had it once: white space at the end
	} {
		t.Run(fmt.Sprintf("%q behind", odd), func(t *testing.T) { shop.judge(t, tokensShop, tokensCookie(good+odd), want) })
	}
	for _, other := range others {
		want := lina
		if strings.HasPrefix(keys, "secret") {
			want = tokensNobody
		}
		t.Run("an older "+other.alg+" key's verifies, but not beside an operator's secret", func(t *testing.T) {
			shop.judge(t, tokensShop, tokensCookie(other.session(t, ours)), want)
		})
	}
	shop.judge(t, tokensShop, tokensCookie(good), lina)
}
