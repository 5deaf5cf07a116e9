package integration

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

var pageRef = regexp.MustCompile(`编号 <code>([0-9a-f]{8})</code>`)

// logLine is the line of the gateway's log that has the page's reference.
func (w *world) logLine(t *testing.T, body string) map[string]any {
	t.Helper()
	m := pageRef.FindStringSubmatch(body)
	if m == nil || !w.logged(m[1]) {
		t.Fatalf("no reference, or it is not in the log: %.500s", body)
	}
	for line := range strings.Lines(w.log.String()) {
		if strings.Contains(line, `"ref":"`+m[1]+`"`) {
			var fields map[string]any
			if err := json.Unmarshal([]byte(line), &fields); err != nil {
				t.Fatal(err)
			}
			return fields
		}
	}
	t.Fatal("no line")
	return nil
}

// TestLegacyRefusalNamesTheLine: who reads the log at night sees which line a refused client lacks, and the visitor
// sees nothing of it.
func TestLegacyRefusalNamesTheLine(t *testing.T) {
	w := clientWorld(t, clientBlocks, "")
	code := func(appid, to, more string) string {
		return broker + "/connect/oauth2/authorize?appid=" + appid + "&redirect_uri=" + url.QueryEscape(to) + "&response_type=code&state=1" + more
	}
	cases := []struct {
		name, address, client, line, reason string
		status                              int
	}{
		{"an address that nobody has", startV2("https://new.example/login?id=7&secret=x#y", "1"), "", "return_to https://new.example/login", "no client has the return address", 400},
		{"an address beside a pattern", startV2("https://client.example/exact/", "1"), "", "return_to https://client.example/exact/", "no client has the return address", 400},
		{"more than the client may", startV2("https://blog.example/", "1", "&scope=snsapi_userinfo"), "blog", "scope snsapi_userinfo", "option scope", 400},
		{"another client's address", code("shop", "https://blog.example/x", "&scope=snsapi_base"), "shop", "return_to https://blog.example/x", "another client's", 400},
		{"a public client where a secret is needed", code("old", "https://old.example/", "&scope=snsapi_base"), "old", "secret {env.CLIENT_SECRET}", "public client", 400},
		{"WeChat's own code", code(appID, "https://client.example/exact", "&scope=snsapi_base"), "shop", "pass_code", "no pass_code", 400},
		{"no address", broker + "/auth/" + appID, "", "", "no http or https address", 400},
		{"a ticket in the address already", startV2("https://blog.example/?ticket=1", "1"), "", "", "has a name already", 400},
		{"a query that cannot be read", broker + "/auth/" + appID + "?redirect_uri=%zz", "", "", "cannot be read", 400},
	}
	for _, x := range cases {
		t.Run(x.name, func(t *testing.T) {
			resp, body := get(t, w.client(), x.address, pageHeader(nil))
			if resp.StatusCode != x.status || resp.Header.Get("Location") != "" {
				t.Fatalf("status %d", resp.StatusCode)
			}
			line, got := w.logLine(t, body), ""
			if s, ok := line["line"].(string); ok {
				got = s
			}
			reason, _ := line["error"].(string)
			if client, _ := line["client"].(string); got != x.line || client != x.client || !strings.Contains(reason, x.reason) || line["level"] != "warn" {
				t.Errorf("the log says %v", line)
			}
			for _, told := range []string{"example", "return_to", "scope", "secret", "client"} {
				if strings.Contains(body[strings.Index(body, "<main>"):], told) {
					t.Errorf("the visitor is told %q", told)
				}
			}
		})
	}
	t.Run("an unknown app id", func(t *testing.T) {
		resp, body := get(t, w.client(), broker+"/auth/wxffffffffffffffff", pageHeader(nil))
		known, _ := w.logLine(t, body)["known"].([]any)
		if resp.StatusCode != 404 || len(known) != 6 || strings.Contains(body, appID) {
			t.Errorf("status %d, the log knows %v", resp.StatusCode, known)
		}
	})
	t.Run("a client that proves nothing", func(t *testing.T) {
		if resp, _ := w.redeem(t, "00112233445566778899aabbccddeeff", "shop", blogSecret); resp.StatusCode != http.StatusNotFound {
			t.Errorf("status %d", resp.StatusCode)
		}
		if !w.logged(`"client":"shop","why":"its secret is another"`) {
			t.Error("the log does not say why")
		}
	})
}
