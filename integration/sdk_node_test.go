package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// sdkNode runs one step of sdk/login.js and reads what it says.
func (w *world) sdkNode(t *testing.T, into any, args ...string) {
	t.Helper()
	cmd := exec.Command(needs(t, "node"), append([]string{"login.js"}, args...)...)
	cmd.Dir = "sdk"
	cmd.Env = append(os.Environ(), "CLIENT_ID=shop", "CLIENT_SECRET="+shopSecret, fmt.Sprintf("GATEWAY_PORT=%d", w.https),
		"NODE_EXTRA_CA_CERTS="+filepath.Join(w.dir, "storage", "pki", "authorities", "local", "root.crt"))
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, into)
	}
	if err != nil {
		t.Fatalf("login.js %s: %v\n%s%s", args[0], err, out, problems.String())
	}
}

// sdkNodeLogin is what the app of sdk/login.js learned from a code.
type sdkNodeLogin struct {
	Token, Verified, Refreshed snsAnswer
	Again                      struct{ Code int }
	User                       struct {
		snsAnswer
		Code int `json:"code"`
	}
}

func TestSDKNode(t *testing.T) {
	needsModule(t, "sdk", "co-wechat-oauth")
	w := clientWorld(t, clientBlocks, "")
	login := func(t *testing.T, opts wechattest.BrowserOptions) (got sdkNodeLogin) {
		t.Helper()
		var link struct{ URL string }
		w.sdkNode(t, &link, "authorize", sdkHome, "st+ate &1", "snsapi_userinfo")
		p := open(t, w.browser(w.sim, opts), link.URL)
		q := landed(t, p, sdkHome)
		if q.Get("state") != "st+ate &1" {
			t.Errorf("the state came back as %q", q.Get("state"))
		}
		canaryOf(t).addParts(canaryTicket, q.Get("code"))
		w.sdkNode(t, &got, "finish", q.Get("code"))
		w.keepSNS(t, got.Token, "")
		w.keepSNS(t, got.Refreshed, "")
		return got
	}
	t.Run("a user", func(t *testing.T) {
		got := login(t, wechattest.BrowserOptions{User: "lina"})
		openid := w.sim.OpenID(appID, "lina")
		if got.Token.OpenID != openid || got.Token.Snapshot != 0 || got.Refreshed.OpenID != openid || got.Verified.Errmsg != "ok" {
			t.Errorf("the SDK got openid %q, then %q, verified %q", got.Token.OpenID, got.Refreshed.OpenID, got.Verified.Errmsg)
		}
		if got.User.Nickname != "李娜🌸" || got.User.OpenID != openid || got.User.UnionID == "" || got.User.Privilege == nil {
			t.Errorf("the SDK got the user %+v", got.User)
		}
		if got.Again.Code != 40163 {
			t.Errorf("a code twice: errcode %d", got.Again.Code)
		}
	})
	t.Run("a snapshot visitor", func(t *testing.T) {
		got := login(t, wechattest.BrowserOptions{User: "lina", Snapshot: true})
		if got.Token.Snapshot != 1 || got.User.Code != 48001 {
			t.Errorf("is_snapshotuser is %d, the profile's errcode %d", got.Token.Snapshot, got.User.Code)
		}
	})
}
