package ticket

import (
	"encoding/json"
	"strings"
	"testing"
)

const plainPayload = `{"iss":"https://auth.example.com","aud":"https://shop.example.org","iat":1700000000,"exp":1700600000,` +
	`"sub":"oUpF8uMuAJO_M2pxb1Q9zNjWeS6o","auth_time":1700000000123,"jti":"0123456789abcdef0123456789abcdef",` +
	`"appid":"wx0123456789abcdef","scope":"snsapi_userinfo","unionid":"o6_bmasdasdsad6_2sgVt7hMZOPfL","nickname":"李娜🌸"}`

func scans(payload string) (sessionClaims, bool) {
	var c sessionClaims
	s := claimsScanner{rest: payload, plain: true}
	c.scan(&s)
	return c, s.plain && s.rest == "}"
}

func TestPlainPayloadsAreScanned(t *testing.T) {
	for _, payload := range []string{
		plainPayload,
		strings.Replace(plainPayload, `,"nickname":"李娜🌸"`, "", 1),
		strings.Replace(plainPayload, `,"unionid":"o6_bmasdasdsad6_2sgVt7hMZOPfL","nickname":"李娜🌸"`, "", 1),
		strings.Replace(plainPayload, "1700000000,", "0,", 1),
	} {
		if _, ok := scans(payload); !ok {
			t.Errorf("not scanned: %s", payload)
		}
	}
}

// What is scanned is what encoding/json reads and writes: the scan refuses nothing and takes nothing more.
func FuzzReadClaims(f *testing.F) {
	f.Add(plainPayload)
	for _, change := range [][2]string{
		{"李娜", `<3 &\u0026`},
		{"李娜", "\u2028"},
		{"李娜", "\xff"},
		{"李娜", "\x7f"},
		{"李娜🌸", ""},
		{"1700000000,", "01700000000,"},
		{"1700000000,", "-1,"},
		{"1700000000,", "1e9,"},
		{"1700000000,", "9223372036854775808,"},
		{`,"iat"`, `, "iat"`},
		{`"sub"`, `"SUB"`},
		{`"}`, `","x":1}`},
		{`"}`, `"} `},
	} {
		f.Add(strings.Replace(plainPayload, change[0], change[1], 1))
	}
	f.Fuzz(func(t *testing.T, payload string) {
		scanned, ok := scans(payload)
		var decoded sessionClaims
		err := json.Unmarshal([]byte(payload), &decoded)
		again, _ := json.Marshal(&decoded)
		same := err == nil && string(again) == payload
		if ok && (!same || scanned != decoded) {
			t.Errorf("scanned as %+v, and decoded as %+v: %q", scanned, decoded, payload)
		}
		var read sessionClaims
		if readClaims(payload, &read) != same || same && read != decoded {
			t.Errorf("read as %+v, and decoded as %+v: %q", read, decoded, payload)
		}
	})
}
