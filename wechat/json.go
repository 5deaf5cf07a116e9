package wechat

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	dec := json.NewDecoder(bytes.NewReader(escapeControls(body)))
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return nil, errNotJSON
	}
	seen := object{}
	for dec.More() {
		if err := parseMember(dec, seen, keys); err != nil {
			return nil, err
		}
	}
	if end, err := dec.Token(); err != nil || end != json.Delim('}') {
		return nil, errNotJSON
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errTrailing
	}
	for key, value := range seen {
		if string(value) == "null" {
			delete(seen, key)
		}
	}
	return seen, nil
}

func parseMember(dec *json.Decoder, seen object, keys []string) error {
	token, err := dec.Token()
	key, ok := token.(string)
	if err != nil || !ok {
		return errNotJSON
	}
	if _, twice := seen[key]; twice {
		return errDuplicate
	}
	if !slices.Contains(keys, key) && slices.ContainsFunc(keys, func(k string) bool { return strings.EqualFold(k, key) }) {
		return errSpelling
	}
	var value json.RawMessage
	if dec.Decode(&value) != nil {
		return errNotJSON
	}
	seen[key] = value
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
	if last := len(raw) - 1; last > 0 && raw[0] == '"' && utf8.Valid(raw) && bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1:last]), nil // says itself; json.Unmarshal takes three times as long to find that out
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return "", errors.New(key + " is not a string")
	}
	return s, nil
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
