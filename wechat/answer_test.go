package wechat

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func readBoth(body string) (Token, UserInfo, error, error) {
	answer, err := parse([]byte(body))
	if err == nil {
		err = apiError("/x", answer)
	}
	if err != nil {
		return Token{}, UserInfo{}, err, err
	}
	token, tokenErr := readToken("/x", answer)
	info, infoErr := readUserInfo("/x", answer, token.OpenID)
	return token, info, tokenErr, infoErr
}

func TestTokenAnswers(t *testing.T) {
	long := strings.Repeat("a", 1025)
	for name, c := range map[string]struct {
		body string
		good bool
	}{
		"the documented one":             {`{"access_token":"ACCESS_TOKEN","expires_in":7200,"refresh_token":"REFRESH_TOKEN","openid":"OPENID","scope":"SCOPE","is_snapshotuser":1,"unionid":"UNIONID"}`, true},
		"white space around":             {" \n{\"access_token\":\"a\",\"openid\":\"o\"}\r\n\t", true},
		"errcode 0 beside it":            {`{"errcode":0,"access_token":"a","openid":"o"}`, true},
		"unknown keys":                   {`{"access_token":"a","openid":"o","new":{"openid":"x","openid":"y"}}`, true},
		"no openid":                      {`{"access_token":"a"}`, false},
		"an empty openid":                {`{"access_token":"a","openid":""}`, false},
		"openid null":                    {`{"access_token":"a","openid":null}`, false},
		"no access token":                {`{"openid":"o"}`, false},
		"an openid of 128":               {`{"access_token":"a","openid":"` + long[:128] + `"}`, true},
		"an openid of 129":               {`{"access_token":"a","openid":"` + long[:129] + `"}`, false},
		"an openid with a line break":    {`{"access_token":"a","openid":"o\nX: y"}`, false},
		"an openid with a slash":         {`{"access_token":"a","openid":"o/../x"}`, false},
		"an openid that is a number":     {`{"access_token":"a","openid":1}`, false},
		"a unionid with a space":         {`{"access_token":"a","openid":"o","unionid":"u u"}`, false},
		"an access token of 1024":        {`{"access_token":"` + long[:1024] + `","openid":"o"}`, true},
		"an access token of 1025":        {`{"access_token":"` + long + `","openid":"o"}`, false},
		"an access token with a control": {`{"access_token":"a\u0000","openid":"o"}`, false},
		"a scope that is not ASCII":      {`{"access_token":"a","openid":"o","scope":"é"}`, false},
		"is_snapshotuser 0":              {`{"access_token":"a","openid":"o","is_snapshotuser":0}`, true},
		"is_snapshotuser 2":              {`{"access_token":"a","openid":"o","is_snapshotuser":2}`, false},
		"is_snapshotuser true":           {`{"access_token":"a","openid":"o","is_snapshotuser":true}`, false},
		"is_snapshotuser in quotes":      {`{"access_token":"a","openid":"o","is_snapshotuser":"1"}`, false},
		"is_snapshotuser in capitals":    {`{"access_token":"a","openid":"o","Is_SnapshotUser":1}`, false},
		"expires_in below zero":          {`{"access_token":"a","openid":"o","expires_in":-1}`, false},
		"expires_in beyond a year":       {`{"access_token":"a","openid":"o","expires_in":2000000000}`, false},
		"expires_in with an exponent":    {`{"access_token":"a","openid":"o","expires_in":7e3}`, false},
		"the openid twice":               {`{"access_token":"a","openid":"o","openid":"o"}`, false},
		"the openid twice, once null":    {`{"access_token":"a","openid":null,"openid":"o"}`, false},
		"a missing comma":                {`{"access_token":"a" "openid":"o"}`, false},
		"a trailing comma":               {`{"access_token":"a","openid":"o",}`, false},
		"a comment":                      {`{"access_token":"a","openid":"o"/**/}`, false},
		"a byte order mark":              {"\ufeff{\"access_token\":\"a\",\"openid\":\"o\"}", false},
	} {
		t.Run(name, func(t *testing.T) {
			token, _, err, _ := readBoth(c.body)
			if (err == nil) != c.good || err != nil && (token != Token{} || !errors.Is(malformedIs(err), ErrUnavailable)) {
				t.Errorf("got %+v, %v", token, err)
			}
		})
	}
}

// malformedIs gives a parse error the kind that a call gives it.
func malformedIs(err error) error {
	if errors.Is(err, ErrUnavailable) {
		return err
	}
	return malformed("/x", err.Error())
}

func TestUserInfoAnswers(t *testing.T) {
	read := func(fields string) (UserInfo, error) {
		_, info, _, err := readBoth(`{"access_token":"a","openid":"o",` + fields + `}`)
		return info, err
	}
	t.Run("the documented one", func(t *testing.T) {
		info, err := read(`"nickname":"NICKNAME","sex":0,"province":"","city":"","country":"","headimgurl":"https://thirdwx.qlogo.cn/mmopen/g3/46","privilege":["PRIVILEGE1"],"unionid":"o6_bmasdasdsad6_2sgVt7hMZOPfL"`)
		want := UserInfo{OpenID: "o", UnionID: "o6_bmasdasdsad6_2sgVt7hMZOPfL", Nickname: "NICKNAME", HeadImgURL: "https://thirdwx.qlogo.cn/mmopen/g3/46", Privilege: []string{"PRIVILEGE1"}}
		if err != nil || !reflect.DeepEqual(info, want) {
			t.Errorf("got %+v, %v", info, err)
		}
	})
	for name, c := range map[string]struct{ fields, want string }{
		"plain":                    {`"nickname":"张伟"`, "张伟"},
		"with escaped controls":    {`"nickname":"a\r\nb\u0000\u202e"`, "a\r\nb\x00\u202e"},
		"with raw controls":        {"\"nickname\":\"a\r\nb\x01\\\"c\x7f\"", "a\r\nb\x01\"c\x7f"},
		"with emoji as surrogates": {`"nickname":"\ud83c\udf38"`, "🌸"},
		"with half a surrogate":    {`"nickname":"a\ud83cb"`, "a\ufffdb"},
		"with broken UTF-8":        {"\"nickname\":\"a\xffb\"", "a\ufffdb"},
		"cut between runes":        {`"nickname":"` + strings.Repeat("伟", 400) + `"`, strings.Repeat("伟", 341)},
		"missing":                  {`"sex":0`, ""},
		"null":                     {`"nickname":null`, ""},
	} {
		t.Run("a nickname "+name, func(t *testing.T) {
			if info, err := read(c.fields); err != nil || info.Nickname != c.want {
				t.Errorf("got %q, %v", info.Nickname, err)
			}
		})
	}
	for address, keep := range map[string]bool{
		"https://thirdwx.qlogo.cn/mmopen/vi_32/x/132": true, "http://wx.qlogo.cn/a?b=c&d": true,
		"": false, "javascript:alert(1)": false, "//evil.test/x": false, "data:image/png;base64,x": false, "https:///x": false,
		"https://a.test/\u00e9": false, "https://a.test/'": false, "https://a.test/<": false, "https://a.test/a b": false,
		"https://a.test/\\n": false, "https://a.test/" + strings.Repeat("a", 1010): false,
	} {
		t.Run("a picture at "+address[:min(len(address), 30)], func(t *testing.T) {
			quoted, _ := json.Marshal(address)
			info, err := read(`"headimgurl":` + string(quoted))
			if err != nil || (info.HeadImgURL == address) != (keep || address == "") || !keep && info.HeadImgURL != "" {
				t.Errorf("got %q, %v", info.HeadImgURL, err)
			}
		})
	}
	t.Run("an answer about somebody else", func(t *testing.T) {
		answer, err := parse([]byte(`{"openid":"other"}`))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := readUserInfo("/x", answer, "o"); !errors.Is(err, ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	})
}

func TestRequestID(t *testing.T) {
	for message, want := range map[string]string{
		"code been used, rid: 6166f719-6cb5d09c-633ab469":    "6166f719-6cb5d09c-633ab469",
		"missing code, hints: [ req_id: jCbezQaLRa-yh_Wxa ]": "jCbezQaLRa-yh_Wxa",
		"invalid appid":                                          "",
		"x, rid: 6166f719-6cb5d09c-633ab469\n":                   "",
		"x, rid: 6166F719-6cb5d09c-633ab469":                     "",
		"x, hints: [ req_id: 0123456789abcdef0123456789abcdef ]": "",
		"x, rid: 021YtV1V08FYm22w9uZU0QxT1V0YtV1n":               "",
	} {
		quoted, _ := json.Marshal(message)
		answer, err := parse([]byte(`{"errcode":40029,"errmsg":` + string(quoted) + `}`))
		if err != nil {
			t.Fatal(err)
		}
		var refusal *Error
		if err := apiError("/x", answer); !errors.As(err, &refusal) || refusal.RequestID != want || strings.Contains(err.Error(), "used, rid") {
			t.Errorf("%q: got %v", message, err)
		}
	}
}

// What is believed must be what any other strict reader sees.
func FuzzResponse(f *testing.F) {
	for _, seed := range []string{
		`{"access_token":"a","expires_in":7200,"refresh_token":"r","openid":"o","scope":"snsapi_base","is_snapshotuser":1,"unionid":"u"}`,
		`{"openid":"o","nickname":"a\r\n","sex":"1","headimgurl":"https://a.test/132","privilege":["p"]}`,
		`{"errcode":40163,"errmsg":"code been used, rid: 6166f719-6cb5d09c-633ab469"}`,
		`{"openid":"a","OPENID":"b"}`, "{\"nickname\":\"\x01\\\x02\"}", `{"openid":"o","openid":"o"}`, `[]`, `{}{}`, "", "\"", `{"a":` + strings.Repeat("[", 50),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		token, info, tokenErr, infoErr := readBoth(string(body))
		for _, err := range []error{tokenErr, infoErr} {
			if err != nil && (len(err.Error()) > 300 || !utf8.ValidString(err.Error())) {
				t.Errorf("error text %q", err)
			}
		}
		if tokenErr == nil {
			mustAgree(t, body, token)
		}
		if infoErr == nil && (!utf8.ValidString(info.Nickname) || len(info.Nickname) > maxText || len(info.HeadImgURL) > maxText) {
			t.Errorf("believed %+v", info)
		}
	})
}

// Cutting a body at its commas decides as encoding/json does, token by token.
func FuzzObject(f *testing.F) {
	for _, seed := range []string{
		`{}`, " {\t}\n", `{"openid":"o","x":[{"a":"}"},"]\\\""],"y":null}`, `{"a" : 1e5 , "b":-0.1,"c":{"d":{}}}`, `{"a":1,"a":null}`,
		`{"openi\u0064":"o"}`, `{"openid":"o","OPENID":""}`, "{\"\xff\":1,\"\xfe\":2}", "\u00a0{}", "\f{}", `{}{}`, `{},`, `{"a":1,}`, `{"a"}`, `{:1}`, `[]`, `"{"`, `null`, ``, `502 Bad Gateway`, `[] {}`,
		"{\"\u212aey\":\"\x01\"}", `{"":""}`, `{"a":"\ud800"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		want, wantErr := parseByTokens(body)
		got, err := parse(body)
		found := errors.Is(wantErr, errDuplicate) || errors.Is(wantErr, errSpelling) // before the body's end, which may be wrong, too
		if (err != nil) != (wantErr != nil) || !found && !errors.Is(err, wantErr) || !maps.EqualFunc(got, want, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
			t.Errorf("%q: got %s, %v, want %s, %v", body, got, err, want, wantErr)
		}
	})
}

func parseByTokens(body []byte) (object, error) {
	dec := json.NewDecoder(bytes.NewReader(escapeControls(body)))
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return nil, errNotJSON
	}
	seen := object{}
	for dec.More() {
		token, err := dec.Token()
		key, ok := token.(string)
		if err != nil || !ok {
			return nil, errNotJSON
		}
		var value json.RawMessage
		if dec.Decode(&value) != nil {
			return nil, errNotJSON
		}
		if _, twice := seen[key]; twice {
			return nil, errDuplicate
		}
		if !slices.Contains(keys, key) && slices.ContainsFunc(keys, func(k string) bool { return strings.EqualFold(k, key) }) {
			return nil, errSpelling
		}
		seen[key] = value
	}
	if end, err := dec.Token(); err != nil || end != json.Delim('}') {
		return nil, errNotJSON
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errTrailing
	}
	maps.DeleteFunc(seen, func(_ string, value json.RawMessage) bool { return string(value) == "null" })
	return seen, nil
}

// A short way past json.Unmarshal decides as it does.
func FuzzText(f *testing.F) {
	for _, seed := range []string{`"o"`, `""`, `"`, `"\u0000\ud800\"\\"`, "\"\xff\xed\xa0\x80\"", "\"\x7f\u2028<&\ufffd\"", ` "o" `, `1`, `{"a":"b"}`, "\"\x01\"", `"李娜🌸"`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		answer, err := parse(append(append([]byte(`{"openid":`), value...), '}'))
		raw, ok := answer["openid"]
		if err != nil || !ok {
			return
		}
		var want string
		refused := json.Unmarshal(raw, &want) != nil
		if got, err := answer.text("openid"); (err != nil) != refused || !refused && got != want {
			t.Errorf("%q: got %q, %v, want %q", raw, got, err, want)
		}
	})
}

func FuzzEscape(f *testing.F) {
	for _, seed := range []string{"", " +%20", "https://shop.test/a?b=c&d=e#f", "-_.~", "!*'()", "李\xff\x00\n", strings.Repeat("李", 1000)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want := strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
		if got := escape(s); got != want {
			t.Errorf("%q: got %q, want %q", s, got, want)
		}
		want = "https://open.test/connect/oauth2/authorize?appid=" + want + "&redirect_uri=" + want +
			"&response_type=code&scope=" + ScopeBase + "&state=" + want + "#wechat_redirect"
		if got := (&Client{AppID: s, OpenURL: "https://open.test/"}).AuthorizeURL(s, ScopeBase, s); got != want {
			t.Errorf("%q: got %q, want %q", s, got, want)
		}
	})
}

// mustAgree compares with a reader that ignores case and takes the last of
// two keys: where it would see another user, nothing may be believed.
func mustAgree(t *testing.T, body []byte, token Token) {
	t.Helper()
	var other struct {
		AccessToken string `json:"access_token"`
		OpenID      string `json:"openid"`
		Snapshot    int    `json:"is_snapshotuser"`
	}
	if json.Unmarshal(escapeControls(body), &other) != nil {
		return // a field that only the other reads was of another kind
	}
	if token.OpenID != other.OpenID || token.AccessToken != other.AccessToken || token.Snapshot != (other.Snapshot == 1) {
		t.Errorf("believed %+v, another reader %+v", token, other)
	}
	if token.OpenID == "" || !isID(token.OpenID) || !isID(token.UnionID) {
		t.Errorf("believed %+v", token)
	}
}
