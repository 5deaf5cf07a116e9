package integration

import (
	"fmt"
	"strings"
	"testing"
)

// tokensSpellings are other texts for a good token, and things that are no token.
func tokensSpellings(t *testing.T, k *tokensKeys, token string) (list []tokensAttack) {
	t.Helper()
	p := strings.Split(token, ".")
	sig := tokensUnb64(t, p[2])
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	for _, c := range alphabet {
		if last := token[:len(token)-1] + string(c); last != token && c%5 == 0 {
			list = append(list, tokensAttack{"the last character is " + string(c), last})
		}
	}
	padded := func(s string) string { return s + strings.Repeat("=", (4-len(s)%4)%4) }
	for name, s := range map[string]string{
		"no signature":                    p[0] + "." + p[1] + ".",
		"two parts":                       p[0] + "." + p[1],
		"one part":                        p[0],
		"no header":                       "." + p[1] + "." + p[2],
		"no payload":                      p[0] + ".." + p[2],
		"dots alone":                      "..",
		"many dots":                       strings.Repeat(".", 9000),
		"a dot behind":                    token + ".",
		"a dot before":                    "." + token,
		"five parts, as encryption has":   p[0] + "." + p[1] + "." + p[2] + "." + p[1] + "." + p[2],
		"five parts, some of them empty":  p[0] + ".." + p[1] + "." + p[2] + ".",
		"JSON, flattened":                 `{"protected":"` + p[0] + `","payload":"` + p[1] + `","signature":"` + p[2] + `"}`,
		"JSON, general":                   `{"payload":"` + p[1] + `","signatures":[{"protected":"` + p[0] + `","signature":"` + p[2] + `"}]}`,
		"padding behind":                  token + "=",
		"much padding behind":             token + "==",
		"every part padded":               padded(p[0]+"A") + "." + padded(p[1]+"A") + "." + padded(p[2]+"A"),
		"the standard alphabet":           p[0] + "." + p[1] + "." + p[2][:len(p[2])-3] + "+/+",
		"a shorter signature":             token[:len(token)-1],
		"a signature cut by a byte":       p[0] + "." + p[1] + "." + tokensB64(sig[:len(sig)-1]),
		"a longer signature":              p[0] + "." + p[1] + "." + tokensB64(sig+"\x00"),
		"a signature of zeros":            p[0] + "." + p[1] + "." + tokensB64(strings.Repeat("\x00", len(sig))),
		"a signature in hex":              p[0] + "." + p[1] + "." + fmt.Sprintf("%x", sig),
		"Bearer before":                   "Bearer " + token,
		"single quotes":                   "'" + token + "'",
		"a quote before":                  `"` + token,
		"a quote behind":                  token + `"`,
		"two pairs of quotes":             `""` + token + `""`,
		"a space in quotes before":        `" ` + token + `"`,
		"a backslash in quotes":           `"\` + token + `"`,
		"a space inside":                  p[0] + " ." + p[1] + "." + p[2],
		"a tab inside":                    p[0] + ".\t" + p[1] + "." + p[2],
		"a comma behind":                  token + ",",
		"twice with a comma":              token + "," + token,
		"percent-encoded dots":            p[0] + "%2E" + p[1] + "%2E" + p[2],
		"percent-encoded":                 "%65" + token[1:],
		"a percent-encoded line break":    token + "%0A",
		"a percent-encoded NUL":           token + "%00",
		"an encoded full stop":            p[0] + "。" + p[1] + "。" + p[2],
		"a full-width letter":             "ｅ" + token[1:],
		"a no-break space before":         "\u00a0" + token,
		"a zero-width space behind":       token + "\u200b",
		"bytes over 0x7f":                 token + "\xff\xfe",
		"in capitals":                     strings.ToUpper(token),
		"all of it encoded once more":     tokensB64(token),
		"4,001 bytes, signed":             tokensOf(k, 4001),
		"10 KB, signed":                   tokensOf(k, 10000),
		"10 KB of letters":                strings.Repeat("A", 10000),
		"a header of 6 KB of open lists":  tokensB64(strings.Repeat("[", 6000)) + "." + p[1] + "." + p[2],
		"a signed line break in base64":   k.forgeRaw(p[0], p[1]+"%0A"),
		"a signed payload with padding":   k.forgeRaw(p[0], p[1]+"="),
		"a signed payload with last bits": k.forgeRaw(p[0], tokensLastBits(p[1])),
		"nothing":                         "",
	} {
		list = append(list, tokensAttack{name, s})
	}
	return list
}

// tokensOf is a token of about n bytes with the true signature, and claims that are right but for one more.
func tokensOf(k *tokensKeys, n int) string {
	s := newTokensSession("https://"+tokensShop, "oLina")
	s.Scope = `snsapi_base","x":"` + strings.Repeat("x", n*3/4-450)
	p := fmt.Sprintf(`{"iss":%q,"aud":%q,"iat":%d,"exp":%d,"sub":"oLina","auth_time":%d,"jti":%q,"appid":%q,"scope":"%s"}`, s.Iss, s.Aud, s.Iat, s.Exp, s.AuthTime, s.Jti, s.AppID, s.Scope)
	return k.forge(k.header("session"), p)
}

// tokensLastBits sets a bit of the last character that decodes to nothing, where there is one.
func tokensLastBits(e string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	if len(e)%4 == 0 {
		return e + "="
	}
	return e[:len(e)-1] + string(alphabet[strings.IndexByte(alphabet, e[len(e)-1])+1])
}
