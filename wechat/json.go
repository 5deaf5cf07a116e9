package wechat

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// object is a JSON object of which no value is null and no key stands twice.
type object map[string]json.RawMessage

// keys are those we read. Another spelling of one is refused: a reader that
// ignores case, as most of Go's do, would see another user in it.
var keys = []string{
	"errcode", "errmsg", "access_token", "expires_in", "refresh_token", "openid", "unionid", "scope",
	"is_snapshotuser", "nickname", "sex", "province", "city", "country", "headimgurl", "privilege",
}

var (
	errNotJSON   = errors.New("the body is not a JSON object")
	errTrailing  = errors.New("the body goes on behind its JSON object")
	errDuplicate = errors.New("a key stands twice")
	errSpelling  = errors.New("a key is spelt in another case")
)

// CheckObject says why body is not one JSON object and nothing else, in which no key stands twice and none
// of keys in another case: two readers of such a body could see two users in it. Its errors are constants.
func CheckObject(body []byte, keys ...string) error {
	_, err := parseObject(body, keys)
	return err
}

// parse reads an answer of WeChat's.
func parse(body []byte) (object, error) { return parseObject(body, keys) }

func parseObject(body []byte, keys []string) (object, error) {
	body = escapeControls(body)
	if !json.Valid(body) {
		return nil, whyInvalid(body)
	}
	members, ok := bytes.CutPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{"))
	if !ok {
		return nil, errNotJSON
	}
	seen := object{}
	for {
		var key, value []byte
		if key, members = element(members); len(key) == 0 {
			break
		}
		value, members = element(members)
		if err := seen.add(key, value, keys); err != nil {
			return nil, err
		}
	}
	maps.DeleteFunc(seen, func(_ string, value json.RawMessage) bool { return string(value) == "null" })
	return seen, nil
}

func whyInvalid(body []byte) error {
	var first json.RawMessage
	if json.NewDecoder(bytes.NewReader(body)).Decode(&first) == nil && first[0] == '{' {
		return errTrailing
	}
	return errNotJSON
}

// element cuts the next key or value off members, which are an object's from behind its { or behind one of its
// elements. The object is known to be valid JSON, or this would have to look at much more. encoding/json, token by token,
// takes four times as long.
func element(members []byte) (found, rest []byte) {
	depth, inString := 0, false
	for i := 0; i < len(members); i++ {
		switch c := members[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case depth == 0 && (c == ':' || c == ',' || c == '}'):
			return bytes.TrimSpace(members[:i]), members[i+1:]
		case c == '{', c == '[':
			depth++
		case c == '}', c == ']':
			depth--
		}
	}
	return bytes.TrimSpace(members), nil
}

func (o object) add(quoted, value []byte, keys []string) error {
	key, _ := unquote(quoted) // valid JSON has strings there
	if _, twice := o[key]; twice {
		return errDuplicate
	}
	if !slices.Contains(keys, key) && slices.ContainsFunc(keys, func(k string) bool { return strings.EqualFold(k, key) }) {
		return errSpelling
	}
	o[key] = value
	return nil
}

// escapeControls makes JSON of control characters that stand raw in strings:
// WeChat sends some nicknames so, and their owners could not sign in.
func escapeControls(body []byte) []byte {
	if !slices.ContainsFunc(body, func(b byte) bool { return b < ' ' }) {
		return body
	}
	out := make([]byte, 0, len(body)+64)
	inString, escaped := false, false
	for _, b := range body {
		switch {
		case inString && !escaped && b < ' ':
			out = fmt.Appendf(out, `\u%04x`, b)
			continue
		case inString && escaped:
			escaped = false
		case inString && b == '\\':
			escaped = true
		case b == '"':
			inString = !inString
		}
		out = append(out, b)
	}
	return out
}

// text is the string at key, "" if there is none.
func (o object) text(key string) (string, error) {
	raw, ok := o[key]
	if !ok {
		return "", nil
	}
	s, ok := unquote(raw)
	if !ok {
		return "", errors.New(key + " is not a string")
	}
	return s, nil
}

func unquote(raw []byte) (s string, ok bool) {
	if last := len(raw) - 1; last > 0 && raw[0] == '"' && utf8.Valid(raw) && bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1:last]), true // says itself; json.Unmarshal takes three times as long to find that out
	}
	return s, json.Unmarshal(raw, &s) == nil
}

// number is the integer at key, 0 if there is none. A fraction, an exponent
// and a number in quotes are errors.
func (o object) number(key string) (int, error) {
	raw, ok := o[key]
	if !ok {
		return 0, nil
	}
	n, err := strconv.ParseInt(string(raw), 10, 32)
	if err != nil {
		return 0, errors.New(key + " is not an integer")
	}
	return int(n), nil
}
