package wechat_test

import (
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat"
)

// Two readers of one body must see the same user in it.
func TestCheckObject(t *testing.T) {
	for body, good := range map[string]bool{
		`{"openid":"o","x":null}`:               true,
		`{"openid":"o","X":1,"x":2}`:            true, // nobody reads them
		`{"openid":"o","openid":"o"}`:           false,
		`{"openid":"o","openi\u0064":"m"}`:      false,
		`{"openid":"o","OPENID":"m"}`:           false,
		`{"openid":"o","` + "\u212a" + `ey":1}`: false,
		`{"openid":"o"}{}`:                      false,
		`["openid"]`:                            false,
		`{"openid":"o"`:                         false,
		``:                                      false,
	} {
		if err := wechat.CheckObject([]byte(body), "openid", "key"); (err == nil) != good {
			t.Errorf("%s: %v", body, err)
		}
	}
}
