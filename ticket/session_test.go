package ticket

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

var algorithms = []string{algHS256, algEdDSA, algES256}

const (
	secretOne = "the first secret, of 32 bytes or more"
	secretTwo = "the second secret, of 32 bytes or more"
)

func TestSessionsRoundTrip(t *testing.T) {
	for name, k := range map[string]*Keyring{
		"with HS256":                    newKeyring(t, newFakeStorage(), newClock(), algHS256),
		"with EdDSA":                    newKeyring(t, newFakeStorage(), newClock(), algEdDSA),
		"with ES256":                    newKeyring(t, newFakeStorage(), newClock(), algES256),
		"with the operator's secret":    newKeyring(t, newFakeStorage(), newClock(), algHS256, secretOne),
		"with several operator secrets": newKeyring(t, newFakeStorage(), newClock(), algHS256, secretOne, secretTwo),
	} {
		t.Run(name, func(t *testing.T) {
			ss := newSessions(k)
			in := newSession(k)
			token, signed, err := ss.Sign(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			got, err := ss.Verify(t.Context(), token)
			if err != nil {
				t.Fatal(err)
			}
			if got.Identity != in.Identity || got.ID != in.ID {
				t.Errorf("got %+v, want %+v", got, in)
			}
			for what, times := range map[string][3]time.Time{
				"AuthTime": {got.AuthTime, signed.AuthTime, k.now().Truncate(time.Millisecond)},
				"IssuedAt": {got.IssuedAt, signed.IssuedAt, k.now().Truncate(time.Second)},
				"Expires":  {got.Expires, signed.Expires, k.now().Truncate(time.Second).Add(ss.Idle)},
			} {
				if !times[0].Equal(times[2]) || !times[1].Equal(times[2]) {
					t.Errorf("%s: verified %v, signed %v, want %v", what, times[0], times[1], times[2])
				}
			}

			guest, err := ss.SignGuest(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !isGuest(t, ss, guest) {
				t.Error("a guest's token is refused")
			}
		})
	}
}

// What other programs read: the claims' names and kinds.
func TestSessionTokenSaysWhatIsDocumented(t *testing.T) {
	k := newKeyring(t, newFakeStorage(), newClock(), algES256)
	ss, s := newSessions(k), newSession(k)
	header, payload := parts(t, mustSign(t, ss, s))
	kid := k.keys().sign(k.now()).id
	if want := fmt.Sprintf(`{"alg":"ES256","kid":%q,"typ":"wechat-session+jwt"}`, kid); header != want {
		t.Errorf("header %s, want %s", header, want)
	}
	iat := k.now().Unix()
	want := fmt.Sprintf(`{"iss":"https://auth.example.com","aud":"https://shop.example.org","iat":%d,"exp":%d,"sub":%q,"auth_time":%d,"jti":%q,`+
		`"appid":"wx0123456789abcdef","scope":"snsapi_userinfo","unionid":%q,"nickname":"小明 \u003c3 🐼","headimgurl":%q}`,
		iat, iat+168*3600, s.OpenID, k.now().UnixMilli(), s.ID, s.UnionID, s.HeadImgURL)
	if payload != want {
		t.Errorf("payload\n%s\nwant\n%s", payload, want)
	}
	s.Identity = Identity{OpenID: "o", AppID: ss.AppID, Scope: ScopeBase}
	if _, payload = parts(t, mustSign(t, ss, s)); !strings.HasSuffix(payload, `"scope":"snsapi_base"}`) {
		t.Errorf("what is not known stands in the payload: %s", payload)
	}
}

// attack: a user whose nickname makes a token that no browser keeps, or that is refused, is sent round for ever.
func TestEveryValidIdentityFitsIntoAToken(t *testing.T) {
	for _, alg := range algorithms {
		k := newKeyring(t, newFakeStorage(), newClock(), alg)
		ss := newSessions(k)
		ss.Issuer, ss.Audience = "https://"+strings.Repeat("i", 253), "https://"+strings.Repeat("a", 253)+":65535"
		ss.AppID = strings.Repeat("w", 128)
		for _, char := range []string{"a", "<", `"`, `\`, "明", "🐼", "&"} {
			s := newSession(k)
			s.Identity = Identity{
				strings.Repeat("o", 128), strings.Repeat("u", 128), ss.AppID, ScopeUserInfo,
				strings.Repeat(char, 1000), strings.Repeat("&", maxHeadImgURL/6),
			}.Clean()
			if s.Nickname == "" || s.HeadImgURL == "" || !s.Identity.Valid() {
				t.Fatalf("not the longest identity: %+v", s.Identity)
			}
			if token := mustSign(t, ss, s); !verifies(t, ss, token) {
				t.Errorf("%s: a nickname of %s makes a token of %d bytes that is refused", alg, char, len(token))
			}
		}
	}
}

func TestOperatorSecretsRotate(t *testing.T) {
	c, store := newClock(), newFakeStorage()
	before := newSessions(newKeyring(t, store, c, algHS256, secretOne))
	after := newSessions(newKeyring(t, store, c, algHS256, secretTwo, secretOne))
	later := newSessions(newKeyring(t, store, c, algHS256, secretTwo))

	old := mustSign(t, before, newSession(before.Keys))
	if !verifies(t, after, old) {
		t.Error("the old secret's token is refused while the secret is listed")
	}
	if verifies(t, later, old) {
		t.Error("the old secret's token is taken when the secret is listed no more")
	}
	renewed := mustSign(t, after, newSession(after.Keys))
	if !verifies(t, later, renewed) || verifies(t, before, renewed) {
		t.Error("the first secret does not sign")
	}
	if n := store.called("Store"); n != 0 {
		t.Errorf("%d writes to the storage, want 0", n)
	}
}

// attack: whoever reads the storage's old keys must not be able to sign once the operator gives secrets.
func TestOperatorSecretsReplaceStoredKeys(t *testing.T) {
	c, store := newClock(), newFakeStorage()
	stored := newSessions(newKeyring(t, store, c, algHS256))
	token := mustSign(t, stored, newSession(stored.Keys))
	given := newSessions(newKeyring(t, store, c, algHS256, secretOne))
	if verifies(t, given, token) {
		t.Error("a stored key signs beside the operator's secret")
	}
	c.add(given.Keys.Rotate)
	must(t, given.Keys.Maintain(t.Context()))
	if n := storedKeys(t, store).kinds()[useSign]; n != 1 {
		t.Errorf("%d stored keys: one that nobody uses got a successor", n)
	}
}

// The payload is signed with our own key and wrong in one thing alone.
func TestVerifyRefusesClaims(t *testing.T) {
	for _, alg := range algorithms {
		k := newKeyring(t, newFakeStorage(), newClock(), alg)
		ss := newSessions(k)
		s := newSession(k)
		header, payload := parts(t, mustSign(t, ss, s))
		now := k.now().Unix()
		iat, exp := fmt.Sprintf(`"iat":%d`, now), fmt.Sprintf(`"exp":%d`, now+168*3600)
		if !verifies(t, ss, forge(t, k, header, payload)) {
			t.Fatal("a forged token that is right is refused: this test tests nothing")
		}
		for name, c := range map[string][2]string{
			// attack: a token of another account, site or gateway that shares the keys
			"another issuer":              {`"iss":"https://auth.example.com"`, `"iss":"https://auth.example.net"`},
			"an issuer in capitals":       {`"iss":"https://auth.example.com"`, `"iss":"https://AUTH.example.com"`},
			"no issuer":                   {`"iss":"https://auth.example.com",`, ``},
			"an empty issuer":             {`"iss":"https://auth.example.com"`, `"iss":""`},
			"another site":                {`"aud":"https://shop.example.org"`, `"aud":"https://blog.example.org"`},
			"a site that begins as ours":  {`"aud":"https://shop.example.org"`, `"aud":"https://shop.example.org.evil.example"`},
			"the same site on http":       {`"aud":"https://shop.example.org"`, `"aud":"http://shop.example.org"`},
			"a list with our site":        {`"aud":"https://shop.example.org"`, `"aud":["https://evil.example","https://shop.example.org"]`},
			"a list of our site":          {`"aud":"https://shop.example.org"`, `"aud":["https://shop.example.org"]`},
			"no site":                     {`"aud":"https://shop.example.org",`, ``},
			"an empty site":               {`"aud":"https://shop.example.org"`, `"aud":""`},
			"another app id":              {`"appid":"wx0123456789abcdef"`, `"appid":"wxfedcba9876543210"`},
			"no app id":                   {`"appid":"wx0123456789abcdef",`, ``},
			"no openid":                   {fmt.Sprintf(`"sub":%q,`, s.OpenID), ``},
			"an empty openid":             {fmt.Sprintf(`"sub":%q`, s.OpenID), `"sub":""`},
			"an openid of two lines":      {fmt.Sprintf(`"sub":%q`, s.OpenID), `"sub":"a\r\nX-Wechat-Openid: b"`},
			"a nickname of two lines":     {`"nickname":"小明`, `"nickname":"\r\nSet-Cookie: a=b`},
			"an avatar of two lines":      {`"headimgurl":"https:`, `"headimgurl":"\r\nhttps:`},
			"an unknown scope":            {`"scope":"snsapi_userinfo"`, `"scope":"snsapi_admin"`},
			"no session id":               {fmt.Sprintf(`"jti":%q,`, s.ID), ``},
			"a session id in capitals":    {s.ID, "ABCDEF" + s.ID[6:]},
			"a session id with a path":    {s.ID, "../" + s.ID[3:]},
			"a session id of other size":  {s.ID, s.ID + "0"},
			"no end":                      {exp + `,`, ``},
			"an end of null":              {exp, `"exp":null`},
			"an end in a string":          {exp, fmt.Sprintf(`"exp":"%d"`, now+100)},
			"an end with a fraction":      {exp, fmt.Sprintf(`"exp":%d.5`, now+100)},
			"an end with .0":              {exp, exp + `.0`},
			"an end with an exponent":     {exp, `"exp":1e12`},
			"an end of 2^63":              {exp, `"exp":9223372036854775808`},
			"an end of 2^64":              {exp, `"exp":18446744073709551616`},
			"a negative end":              {exp, `"exp":-1`},
			"an end of 0":                 {exp, `"exp":0`},
			"an end just reached":         {exp, fmt.Sprintf(`"exp":%d`, now)},
			"an end in a list":            {exp, `"exp":[1]`},
			"a start in the future":       {`{"iss"`, fmt.Sprintf(`{"nbf":%d,"iss"`, now+3600)},
			"a start in the past":         {`{"iss"`, fmt.Sprintf(`{"nbf":%d,"iss"`, now-3600)},
			"issued in 3 minutes":         {iat, fmt.Sprintf(`"iat":%d`, now+180)},
			"issued at no time":           {iat + `,`, ``},
			"issued in 1970":              {iat, `"iat":0`},
			"issued in the year 10^9":     {iat, `"iat":9223372036854775807`},
			"a login time of 2^63":        {fmt.Sprintf(`"auth_time":%d`, k.now().UnixMilli()), `"auth_time":9223372036854775808`},
			"a login time with .0":        {fmt.Sprintf(`"auth_time":%d`, k.now().UnixMilli()), fmt.Sprintf(`"auth_time":%d.0`, k.now().UnixMilli())},
			"a login 31 days ago":         {fmt.Sprintf(`"auth_time":%d`, k.now().UnixMilli()), fmt.Sprintf(`"auth_time":%d`, k.now().Add(-31*24*time.Hour).UnixMilli())},
			"the openid twice, ours last": {`"sub":`, `"sub":"oVICTIM","sub":`},
			"the site twice, ours last":   {`"aud":`, `"aud":"https://evil.example","aud":`},
			"the openid in other case":    {`"sub":`, `"SUB":"oVICTIM","sub":`},
			"the end in other case, last": {`"appid"`, `"Exp":9999999999,"appid"`},
			"a claim that we never write": {`"appid"`, `"admin":true,"appid"`},
			"a space":                     {`"appid":`, `"appid": `},
			"a line break before":         {`{"iss"`, "\n{\"iss\""},
			"a letter that is escaped":    {`"appid":"wx`, `"appid":"\u0077x`},
			"an empty optional claim":     {fmt.Sprintf(`"unionid":%q`, s.UnionID), `"unionid":""`},
		} {
			t.Run(alg+" "+name, func(t *testing.T) {
				if verifies(t, ss, forge(t, k, header, replaced(t, payload, c[0], c[1]))) {
					t.Error("taken")
				}
			})
		}
		for _, payload := range []string{"", "null", "{}", "[]", `""`, "0", "true", "{", payload + "\n", payload + " ", payload + "{}", payload + "x", payload[1:], strings.Repeat("[", 2000)} {
			t.Run(alg+" a payload of "+short(payload), func(t *testing.T) {
				if verifies(t, ss, forge(t, k, header, payload)) {
					t.Error("taken")
				}
			})
		}
	}
}

func short(s string) string {
	if len(s) > 12 {
		return s[:6] + "…" + s[len(s)-6:]
	}
	return s
}

func TestVerifyAllowsForClocksThatDiffer(t *testing.T) {
	c := newClock()
	k := newKeyring(t, newFakeStorage(), c, algHS256)
	ss := newSessions(k)
	for ahead, want := range map[time.Duration]bool{0: true, time.Minute: true, skew: true, skew + time.Second: false, time.Hour: false} {
		token := mustSign(t, ss, newSession(k))
		guest, err := ss.SignGuest(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c.add(-ahead)
		if got := verifies(t, ss, token); got != want {
			t.Errorf("issued %v ahead: taken %v, want %v", ahead, got, want)
		}
		if got := isGuest(t, ss, guest); got != want {
			t.Errorf("guest issued %v ahead: taken %v, want %v", ahead, got, want)
		}
		c.add(ahead)
	}
}

// attack: the header says how it is to be verified. Each of these is signed as it says, with what an
// attacker may know, or with our own key.
func TestVerifyRefusesHeaders(t *testing.T) {
	for _, alg := range algorithms {
		k := newKeyring(t, newFakeStorage(), newClock(), alg)
		ss := newSessions(k)
		header, payload := parts(t, mustSign(t, ss, newSession(k)))
		kid := k.keys().sign(k.now()).id
		if !verifies(t, ss, forge(t, k, header, payload)) {
			t.Fatal("a forged token that is right is refused: this test tests nothing")
		}
		headers := map[string]string{
			"no kid":                 replaced(t, header, fmt.Sprintf(`"kid":%q,`, kid), ""),
			"an empty kid":           replaced(t, header, kid, ""),
			"an unknown kid":         replaced(t, header, kid, "00000000"),
			"a kid in capitals":      replaced(t, header, kid, strings.ToUpper("abcdef01")),
			"a path as kid":          replaced(t, header, kid, "../../dev/null"),
			"a line of SQL as kid":   replaced(t, header, kid, "' OR 1=1 --"),
			"a longer kid":           replaced(t, header, kid, kid+"0"),
			"a kid with NUL":         replaced(t, header, kid, kid+`\u0000`),
			"a kid that is a number": replaced(t, header, `"`+kid+`"`, "1"),
			"a kid that is a list":   replaced(t, header, `"`+kid+`"`, `["`+kid+`"]`),
			"two kids":               replaced(t, header, `"kid"`, `"kid":"00000000","kid"`),
			"KID":                    replaced(t, header, `"kid"`, `"KID"`),
			"no typ":                 replaced(t, header, `,"typ":"`+typSession+`"`, ""),
			"typ JWT":                replaced(t, header, typSession, "JWT"),
			"typ in capitals":        replaced(t, header, typSession, strings.ToUpper(typSession)),
			"a media type as typ":    replaced(t, header, typSession, "application/"+typSession),
			"the guest's typ":        replaced(t, header, typSession, typGuest),
			"two typs":               replaced(t, header, `"typ"`, `"typ":"`+typGuest+`","typ"`),
			"crit":                   replaced(t, header, `{`, `{"crit":["exp"],`),
			"crit of the unknown":    replaced(t, header, `{`, `{"crit":["b64"],"b64":false,`),
			"a key of its own":       replaced(t, header, `{`, `{"jwk":{"kty":"oct","k":"AAAA"},`),
			"an address of keys":     replaced(t, header, `{`, `{"jku":"https://evil.example/jwks.json",`),
			"cty":                    replaced(t, header, `{`, `{"cty":"JWT",`),
			"zip":                    replaced(t, header, `{`, `{"zip":"DEF",`),
			"another order":          fmt.Sprintf(`{"typ":%q,"alg":%q,"kid":%q}`, typSession, alg, kid),
			"a space":                replaced(t, header, `{`, `{ `),
			"a line break behind":    header + "\n",
			"no alg":                 replaced(t, header, fmt.Sprintf(`"alg":%q,`, alg), ""),
			"nothing":                "",
			"null":                   "null",
		}
		for _, other := range []string{"none", "None", "NONE", "nOnE", "", "HS256", "HS384", "HS512", "EdDSA", "ES256", "ES384", "RS256", "PS256", "hs256", "HS256 ", "null"} {
			if other != alg {
				headers["alg "+other] = replaced(t, header, `"alg":"`+alg+`"`, `"alg":"`+other+`"`)
			}
		}
		for name, h := range headers {
			t.Run(alg+" "+name, func(t *testing.T) {
				for _, token := range signedAsItSays(t, k, h, payload) {
					if verifies(t, ss, token) {
						t.Errorf("taken: %s", token)
					}
				}
			})
		}
	}
}

// signedAsItSays returns header and payload with every signature that may go with them: ours, none, and
// HMACs with what is public.
func signedAsItSays(t *testing.T, k *Keyring, header, payload string) []string {
	t.Helper()
	text := b64(header) + "." + b64(payload)
	tokens := []string{forge(t, k, header, payload), text + ".", text + "." + b64("\x00")}
	for _, secret := range guessable(t, k) {
		for _, m := range []*jwt.SigningMethodHMAC{jwt.SigningMethodHS256, jwt.SigningMethodHS384, jwt.SigningMethodHS512} {
			sig, err := m.Sign(text, secret)
			if err != nil {
				t.Fatal(err)
			}
			tokens = append(tokens, text+"."+base64.RawURLEncoding.EncodeToString(sig))
		}
	}
	return tokens
}

// guessable is what an attacker may take for the secret: nothing, the kid, and the public key in every
// spelling. For HS256 it is the secret itself: only the algorithm is wrong then.
func guessable(t *testing.T, k *Keyring) [][]byte {
	t.Helper()
	key := k.keys().sign(k.now())
	secrets := [][]byte{{}, []byte(key.id), []byte("null"), k.JWKS()}
	switch p := key.public.(type) {
	case []byte:
		return append(secrets, p)
	case ed25519.PublicKey:
		secrets = append(secrets, p)
	case *ecdsa.PublicKey:
		point, err := p.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, point, point[1:], point[1:33])
	}
	der, err := x509.MarshalPKIXPublicKey(key.public)
	if err != nil {
		t.Fatal(err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	jwk, _ := json.Marshal(key.jwk())
	return append(secrets, der, block, bytes.TrimSpace(block), jwk)
}

// attack: the public key as an HMAC secret, under the true kid and typ, in a keyring that knows HS256 too.
func TestVerifyDoesNotConfuseAlgorithms(t *testing.T) {
	for _, alg := range []string{algEdDSA, algES256} {
		c, store := newClock(), newFakeStorage()
		hmacs := newSessions(newKeyring(t, store, c, algHS256))
		mustSign(t, hmacs, newSession(hmacs.Keys))
		ss := newSessions(newKeyring(t, store, c, alg))
		header, payload := parts(t, mustSign(t, ss, newSession(ss.Keys)))
		hmacKid := hmacs.Keys.keys().sign(c.now()).id
		for _, h := range []string{
			replaced(t, header, `"`+alg+`"`, `"HS256"`),
			header,
			fmt.Sprintf(`{"alg":"HS256","kid":%q,"typ":%q}`, hmacKid, typSession),
		} {
			text := b64(h) + "." + b64(payload)
			for _, secret := range guessable(t, ss.Keys) {
				mac := hmac.New(sha256.New, secret)
				mac.Write([]byte(text))
				token := text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
				if verifies(t, ss, token) || verifies(t, hmacs, token) {
					t.Errorf("%s: %s with %q taken", alg, h, secret)
				}
			}
		}
	}
}

// attack: one session spelled in many ways, for lists that are keyed by the token, and what parsers skip.
func TestVerifyRefusesOtherSpellings(t *testing.T) {
	for _, alg := range algorithms {
		k := newKeyring(t, newFakeStorage(), newClock(), alg)
		ss := newSessions(k)
		token := mustSign(t, ss, newSession(k))
		p := strings.Split(token, ".")
		for name, spelled := range map[string]string{
			"nothing":                            "",
			"one segment":                        p[0],
			"two segments":                       p[0] + "." + p[1],
			"no signature":                       p[0] + "." + p[1] + ".",
			"four segments":                      token + ".",
			"five segments":                      token + "." + p[1] + "." + p[2],
			"dots alone":                         "..",
			"no header":                          "." + p[1] + "." + p[2],
			"no payload":                         p[0] + ".." + p[2],
			"a line break behind":                token + "\n",
			"CR LF behind":                       token + "\r\n",
			"a line break before":                "\n" + token,
			"a line break in the header":         p[0][:4] + "\n" + p[0][4:] + "." + p[1] + "." + p[2],
			"a line break in the payload":        p[0] + "." + p[1][:4] + "\n" + p[1][4:] + "." + p[2],
			"a line break in the signature":      p[0] + "." + p[1] + "." + p[2][:4] + "\n" + p[2][4:],
			"a CR in the signature":              p[0] + "." + p[1] + "." + p[2][:4] + "\r" + p[2][4:],
			"a space behind":                     token + " ",
			"a NUL behind":                       token + "\x00",
			"padding behind":                     token + "=",
			"two padding signs behind":           token + "==",
			"a padded header":                    p[0] + "=." + p[1] + "." + p[2],
			"a padded payload":                   p[0] + "." + p[1] + "==." + p[2],
			"a shorter signature":                token[:len(token)-1],
			"a longer signature":                 token + "A",
			"Bearer before":                      "Bearer " + token,
			"quotes around":                      `"` + token + `"`,
			"the standard alphabet":              p[0] + "." + p[1] + "." + strings.NewReplacer("-", "+", "_", "/").Replace(p[2]) + "+",
			"more than 4,000 bytes":              token + strings.Repeat("A", 4000),
			"a million bytes":                    strings.Repeat("A", 1<<20),
			"a million dots":                     strings.Repeat(".", 1<<20),
			"a header of a million open lists":   b64(strings.Repeat("[", 1<<20)) + "." + p[1] + "." + p[2],
			"the payload of one, the end of two": p[0] + "." + b64(`{"iss":"https://auth.example.com"}`) + "." + p[2],
		} {
			t.Run(alg+" "+name, func(t *testing.T) {
				if verifies(t, ss, spelled) || isGuest(t, ss, spelled) {
					t.Error("taken")
				}
			})
		}
		t.Run(alg+" any other last character of a segment", func(t *testing.T) {
			for i := range p {
				for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_" {
					q := [3]string{p[0], p[1], p[2]}
					q[i] = q[i][:len(q[i])-1] + string(c)
					if q[i] != p[i] && verifies(t, ss, strings.Join(q[:], ".")) {
						t.Errorf("segment %d with %c at its end taken", i, c)
					}
				}
			}
		})
		// These are signed by our own key: only the spelling is wrong.
		for name, payload := range map[string]string{
			"with a line break":      p[1][:8] + "\n" + p[1][8:],
			"with a CR":              p[1][:8] + "\r" + p[1][8:],
			"with padding":           p[1] + strings.Repeat("=", (4-len(p[1])%4)%4) + "=",
			"with the last bits set": nonCanonical(t, unb64(t, p[1])),
		} {
			t.Run(alg+" a signed payload "+name, func(t *testing.T) {
				if verifies(t, ss, forgeRaw(t, k, p[0], payload)) {
					t.Error("taken")
				}
			})
		}
	}
}

// nonCanonical returns s in base64 with a bit set that decodes to nothing, or with a padding sign where
// there is no such bit.
func nonCanonical(t *testing.T, s string) string {
	t.Helper()
	e := b64(s)
	if len(e)%4 == 0 {
		return e + "="
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	i := strings.IndexByte(alphabet, e[len(e)-1])
	other := e[:len(e)-1] + string(alphabet[i+1])
	if unb64(t, other) != s {
		t.Fatal("another text")
	}
	return other
}

// attack: tokens that make the gateway work: over 4,000 bytes nothing is verified, even if it is ours.
func TestVerifyBoundsTheToken(t *testing.T) {
	k := newKeyring(t, newFakeStorage(), newClock(), algHS256)
	for n, want := range map[int]bool{1000: true, 4000: false} {
		ss := newSessions(k)
		ss.Issuer = "https://" + strings.Repeat("a", n)
		token := mustSign(t, ss, newSession(k))
		if (len(token) <= maxToken) != want {
			t.Fatalf("%d bytes", len(token))
		}
		if got := verifies(t, ss, token); got != want {
			t.Errorf("%d bytes: taken %v, want %v", len(token), got, want)
		}
	}
}

// attack: a guest token costs nothing, a session names a user; one must never pass for the other.
func TestSessionsAndGuestsAreTwoKinds(t *testing.T) {
	for _, alg := range algorithms {
		k := newKeyring(t, newFakeStorage(), newClock(), alg)
		ss := newSessions(k)
		session := mustSign(t, ss, newSession(k))
		guest, err := ss.SignGuest(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if verifies(t, ss, guest) || isGuest(t, ss, session) {
			t.Errorf("%s: one passes for the other", alg)
		}
		sessionHeader, sessionPayload := parts(t, session)
		guestHeader, guestPayload := parts(t, guest)
		if verifies(t, ss, forge(t, k, guestHeader, sessionPayload)) {
			t.Errorf("%s: a session's claims under the guest's typ pass for a session", alg)
		}
		if isGuest(t, ss, forge(t, k, sessionHeader, guestPayload)) {
			t.Errorf("%s: a guest's claims under the session's typ pass for a guest", alg)
		}
	}
}

func TestVerifyGuestRefuses(t *testing.T) {
	c := newClock()
	k := newKeyring(t, newFakeStorage(), c, algHS256)
	ss := newSessions(k)
	guest, err := ss.SignGuest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	header, payload := parts(t, guest)
	if !isGuest(t, ss, forge(t, k, header, payload)) {
		t.Fatal("a forged token that is right is refused: this test tests nothing")
	}
	exp := fmt.Sprintf(`"exp":%d`, c.now().Add(GuestLife).Unix())
	for name, r := range map[string][2]string{
		"another issuer":    {"auth.example.com", "evil.example.com"},
		"another site":      {"shop.example.org", "blog.example.org"},
		"an end of 0":       {exp, `"exp":0`},
		"a negative end":    {exp, `"exp":-5`},
		"no end":            {"," + exp, ""},
		"an end in 1970":    {exp, `"exp":1`},
		"an unknown claim":  {`{`, `{"sub":"o",`},
		"the issuer twice":  {`{`, `{"iss":"x",`},
		"a start yesterday": {`}`, `,"nbf":1}`},
	} {
		t.Run(name, func(t *testing.T) {
			if isGuest(t, ss, forge(t, k, header, replaced(t, payload, r[0], r[1]))) {
				t.Error("taken")
			}
		})
	}
	c.add(GuestLife - time.Second)
	if !isGuest(t, ss, guest) {
		t.Error("refused before its end")
	}
	c.add(time.Second)
	if isGuest(t, ss, guest) {
		t.Error("taken after its end")
	}
}

func TestVerifyRefusesTokensOfAnotherKeyring(t *testing.T) {
	for _, alg := range algorithms {
		c := newClock()
		ours := newSessions(newKeyring(t, newFakeStorage(), c, alg))
		theirs := newSessions(newKeyring(t, newFakeStorage(), c, alg))
		mustSign(t, ours, newSession(ours.Keys))
		token := mustSign(t, theirs, newSession(theirs.Keys))
		if verifies(t, ours, token) {
			t.Errorf("%s: taken", alg)
		}
		// under our kid
		_, payload := parts(t, token)
		header, _ := parts(t, mustSign(t, ours, newSession(ours.Keys)))
		if verifies(t, ours, forge(t, theirs.Keys, header, payload)) {
			t.Errorf("%s: taken under our kid", alg)
		}
	}
}

// ECDSA has a second signature for each; it must not be a key to anything, but neither a new session.
func TestVerifyReadsTheMirroredSignatureAsTheSameSession(t *testing.T) {
	k := newKeyring(t, newFakeStorage(), newClock(), algES256)
	ss := newSessions(k)
	token := mustSign(t, ss, newSession(k))
	want, err := ss.Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	i := strings.LastIndexByte(token, '.')
	sig := []byte(unb64(t, token[i+1:]))
	s := new(big.Int).Sub(elliptic.P256().Params().N, new(big.Int).SetBytes(sig[32:]))
	s.FillBytes(sig[32:])
	if got, err := ss.Verify(t.Context(), token[:i+1]+b64(string(sig))); err == nil && got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestSessionEnds(t *testing.T) {
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		idle, max time.Duration // when it is signed
		age       time.Duration // of the login then
		lives     time.Duration // how long the token lives
	}{
		"unused for idle":                      {7 * day, 30 * day, 0, 7 * day},
		"at the login's max, if sooner":        {7 * day, 30 * day, 25 * day, 5 * day},
		"at max when idle is longer":           {30 * day, 7 * day, 0, 7 * day},
		"at max to the second before":          {7 * day, 30 * day, 30*day - 2*time.Second, 2 * time.Second},
		"a minute, as short as it makes sense": {time.Minute, time.Hour, 0, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			clk := newClock()
			k := newKeyring(t, newFakeStorage(), clk, algHS256)
			ss := newSessions(k)
			ss.Idle, ss.Max = c.idle, c.max
			in := newSession(k)
			in.AuthTime = clk.now().Add(-c.age)
			token, s, err := ss.Sign(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			if want := clk.now().Add(c.lives).Truncate(time.Second); !s.Expires.Equal(want) {
				t.Errorf("Expires %v, want %v", s.Expires, want)
			}
			clk.add(c.lives - 2*time.Second + time.Second/2)
			if !verifies(t, ss, token) {
				t.Error("refused before its end")
			}
			clk.add(2 * time.Second)
			if verifies(t, ss, token) {
				t.Error("taken after its end")
			}
		})
	}
}

func TestSignRefusesALoginThatIsTooOld(t *testing.T) {
	c := newClock()
	k := newKeyring(t, newFakeStorage(), c, algHS256)
	ss := newSessions(k)
	for _, age := range []time.Duration{ss.Max, ss.Max + time.Second, 100 * ss.Max} {
		s := newSession(k)
		s.AuthTime = c.now().Add(-age)
		if token, _, err := ss.Sign(t.Context(), s); !errors.Is(err, ErrEnded) || token != "" {
			t.Errorf("a login %v old: %q, %v, want ErrEnded", age, token, err)
		}
	}
}

// An operator who lowers the limits means the sessions that are out there.
func TestLoweredLimitsEndSessions(t *testing.T) {
	for name, lower := range map[string]func(*Sessions){
		"idle": func(ss *Sessions) { ss.Idle = time.Hour },
		"max":  func(ss *Sessions) { ss.Max = time.Hour },
	} {
		t.Run(name, func(t *testing.T) {
			c := newClock()
			k := newKeyring(t, newFakeStorage(), c, algHS256)
			ss := newSessions(k)
			token := mustSign(t, ss, newSession(k))
			lower(ss)
			s, err := ss.Verify(t.Context(), token)
			if err != nil {
				t.Fatal(err)
			}
			if left := s.Expires.Sub(c.now()); left > time.Hour {
				t.Errorf("%v left, want an hour", left)
			}
			c.add(time.Hour)
			if verifies(t, ss, token) {
				t.Error("taken after the lowered end")
			}
		})
	}
	t.Run("raised limits do not prolong a token", func(t *testing.T) {
		c := newClock()
		k := newKeyring(t, newFakeStorage(), c, algHS256)
		ss := newSessions(k)
		token := mustSign(t, ss, newSession(k))
		ss.Idle, ss.Max = 2*ss.Idle, 2*ss.Max
		c.add(168 * time.Hour)
		if verifies(t, ss, token) {
			t.Error("taken after its own end")
		}
	})
}

func TestRenewalIsTheSameSession(t *testing.T) {
	for _, alg := range algorithms {
		c := newClock()
		k := newKeyring(t, newFakeStorage(), c, alg)
		ss := newSessions(k)
		token := mustSign(t, ss, newSession(k))
		first, err := ss.Verify(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		last := first
		for i := range 20 {
			c.add(100 * time.Hour)
			token, _, err := ss.Sign(t.Context(), last)
			if errors.Is(err, ErrEnded) {
				if i != 7 {
					t.Errorf("%s: ended after %d renewals, want 7", alg, i)
				}
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if last, err = ss.Verify(t.Context(), token); err != nil {
				t.Fatal(err)
			}
			if last.ID != first.ID || !last.AuthTime.Equal(first.AuthTime) || last.Identity != first.Identity {
				t.Fatalf("%s: got %+v, want %+v", alg, last, first)
			}
			if !last.IssuedAt.Equal(c.now().Truncate(time.Second)) || last.Expires.After(first.AuthTime.Add(ss.Max)) {
				t.Errorf("%s: issued %v, ends %v", alg, last.IssuedAt, last.Expires)
			}
		}
	}
}

func TestSessionID(t *testing.T) {
	a, b := NewLoginID(), NewLoginID()
	if SessionID(a) != SessionID(a) || SessionID(a) == SessionID(b) || !isHex(SessionID(a), 32) || SessionID(a) == a {
		t.Errorf("%s and %s", SessionID(a), SessionID(b))
	}
}

func TestJWKS(t *testing.T) {
	c := newClock()
	if got := newKeyring(t, newFakeStorage(), c, algHS256).JWKS(); got != nil {
		t.Errorf("before any key: %s, want nil", got)
	}
	for _, alg := range algorithms {
		k := newKeyring(t, newFakeStorage(), c, alg)
		ss := newSessions(k)
		token := mustSign(t, ss, newSession(k))
		mustSeal(t, k, "x", "y")
		got := k.JWKS()
		if alg == algHS256 {
			// attack: a secret published as a key
			if got != nil {
				t.Errorf("HS256: %s, want nil", got)
			}
			continue
		}
		var set struct{ Keys []map[string]string }
		if err := json.Unmarshal(got, &set); err != nil || len(set.Keys) != 1 {
			t.Fatalf("%s: %s, %v", alg, got, err)
		}
		key := set.Keys[0]
		if key["d"] != "" || key["k"] != "" {
			t.Errorf("%s: the private half is published: %v", alg, key)
		}
		header, _ := parts(t, token)
		if !strings.Contains(header, `"kid":"`+key["kid"]+`"`) || key["alg"] != alg || key["use"] != "sig" {
			t.Errorf("%s: %v does not go with %s", alg, key, header)
		}
		var public any = ed25519.PublicKey(unb64(t, key["x"]))
		if alg == algES256 {
			p, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), []byte("\x04"+unb64(t, key["x"])+unb64(t, key["y"])))
			if err != nil {
				t.Fatal(err)
			}
			public = p
		}
		if _, err := jwt.Parse(token, func(*jwt.Token) (any, error) { return public, nil }, jwt.WithTimeFunc(c.now)); err != nil {
			t.Errorf("%s: what is published does not verify: %v", alg, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	c := newClock()
	var all []*Sessions
	for _, alg := range algorithms {
		k := newKeyring(f, newFakeStorage(), c, alg)
		ss := newSessions(k)
		token := mustSign(f, ss, newSession(k))
		guest, err := ss.SignGuest(f.Context())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(token)
		f.Add(guest)
		f.Add(token + "\n")
		f.Add(token[:len(token)-1])
		header, payload := parts(f, token)
		f.Add(b64(strings.Replace(header, alg, "none", 1)) + "." + b64(payload) + ".")
		all = append(all, ss)
	}
	f.Add("")
	f.Add("..")
	f.Add("eyJ9.e30.")
	f.Fuzz(func(t *testing.T, token string) {
		for _, ss := range all {
			if verifies(t, ss, token) {
				s, err := ss.Verify(t.Context(), token)
				if err != nil || !s.Identity.Valid() || !isHex(s.ID, 32) {
					t.Fatalf("taken: %+v, %v", s, err)
				}
				// One session of one time has one payload: what parses is what we write.
				again := mustSign(t, ss, s)
				if strings.Split(again, ".")[1] != strings.Split(token, ".")[1] {
					t.Errorf("%s is not as we write it: %s", token, again)
				}
			}
			if isGuest(t, ss, token) && verifies(t, ss, token) {
				t.Errorf("%s is a guest and a session", token)
			}
		}
	})
}

// FuzzVerifyClaims signs what it is given with our own key: nothing that differs from what we write passes.
func FuzzVerifyClaims(f *testing.F) {
	k := newKeyring(f, newFakeStorage(), newClock(), algHS256)
	ss := newSessions(k)
	header, payload := parts(f, mustSign(f, ss, newSession(k)))
	f.Add(payload)
	f.Add(payload + "\n")
	f.Add(strings.Replace(payload, `"sub"`, `"SUB"`, 1))
	f.Add(strings.Replace(payload, `"exp":`, `"exp":1e`, 1))
	f.Add(`{"iss":null}`)
	f.Add(`null`)
	f.Fuzz(func(t *testing.T, payload string) {
		token := forge(t, k, header, payload)
		s, err := ss.Verify(t.Context(), token)
		if err != nil {
			return
		}
		if !s.Identity.Valid() || s.AppID != ss.AppID || !isHex(s.ID, 32) || !s.Expires.After(k.now()) || s.IssuedAt.After(k.now().Add(skew)) {
			t.Errorf("taken: %+v", s)
		}
		var c sessionClaims
		if err := json.Unmarshal([]byte(payload), &c); err != nil {
			t.Fatal(err)
		}
		if b, _ := json.Marshal(&c); string(b) != payload || c.Issuer != ss.Issuer || c.Audience != ss.Audience {
			t.Errorf("%q is taken for %q", payload, b)
		}
	})
}
