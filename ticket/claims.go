package ticket

import (
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// readClaims reads a payload into claims, and reports whether it is byte for byte what we would write for them.
// Nearly all are plain enough to be scanned, in a tenth of the time; the others, with an escaped character in
// a name, say, are decoded, encoded again and compared.
func readClaims(payload string, claims tokenClaims) bool {
	s := claimsScanner{rest: payload, plain: true}
	claims.scan(&s)
	if s.plain && s.rest == "}" {
		return true
	}
	if json.Unmarshal([]byte(payload), claims) != nil {
		return false
	}
	again, err := json.Marshal(claims)
	return err == nil && string(again) == payload
}

// claimsScanner reads an object's members in the order in which we write them, each by all that stands before its
// value. It takes what needs no second look alone: plain is false, for good, from the first thing that does.
type claimsScanner struct {
	rest  string
	plain bool
}

func (s *claimsScanner) skip(before string) (ok bool) {
	s.rest, ok = strings.CutPrefix(s.rest, before)
	return ok
}

func (s *claimsScanner) text(before string, value *string) {
	if s.plain = s.plain && s.skip(before); s.plain {
		*value, s.plain = s.string()
	}
}

// optional reads a member that we leave out where it is empty.
func (s *claimsScanner) optional(before string, value *string) {
	if s.plain && s.skip(before) {
		*value, s.plain = s.string()
		s.plain = s.plain && *value != ""
	}
}

func (s *claimsScanner) string() (string, bool) {
	rest, ok := strings.CutPrefix(s.rest, `"`)
	end := strings.IndexByte(rest, '"')
	if !ok || end < 0 || !isPlain(rest[:end]) {
		return "", false
	}
	s.rest = rest[end+1:]
	return rest[:end], true
}

// isPlain reports whether encoding/json writes s as it is, and reads it so.
func isPlain(s string) bool {
	ascii := true
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ', c == '\\', c == '<', c == '>', c == '&':
			return false
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return ascii || utf8.ValidString(s) && !strings.ContainsAny(s, "\u2028\u2029")
}

// maxDigits is how many digits surely fit an int64.
const maxDigits = 18

func (s *claimsScanner) number(before string, value *int64) {
	if s.plain = s.plain && s.skip(before); !s.plain {
		return
	}
	digits := 0
	n := int64(0)
	for ; digits < len(s.rest) && s.rest[digits] >= '0' && s.rest[digits] <= '9'; digits++ {
		n = n*10 + int64(s.rest[digits]-'0')
	}
	s.plain = digits > 0 && digits <= maxDigits && (digits == 1 || s.rest[0] != '0')
	*value, s.rest = n, s.rest[digits:]
}
