package integration

import (
	"encoding/base64"
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
		{"an address that nobody has", startV2("https://new.example/login?id=7&secret=x#y", "1"), "", "return_to https://new.example/login", "no client has it", 400},
		{"an address beside a pattern", startV2("https://client.example/exact/", "1"), "", "return_to https://client.example/exact/", "no client has it", 400},
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
}

// TestLegacyRefusedClientIsLogged: a client that redeems nothing gets an empty 404, and only the log says why.
func TestLegacyRefusedClientIsLogged(t *testing.T) {
	confidential := strings.ReplaceAll(clientBlocks, "public", "secret {env.BLOG_SECRET}")
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("shop:"+shopSecret))
	cases := []struct{ name, address, auth, why string }{
		{"another secret", broker, "Basic c2hvcDpub3BlLW5vcGUtbm9wZS0x", `"client":"shop","why":"its secret is another"`},
		{"an unknown id", broker, "Basic c2h1cDpub3BlLW5vcGUtbm9wZS0x", `"client":"","why":"there is no client of this id"`},
		{"its secret over plain http", "http://auth.example.com", basic, `"client":"shop","why":"its secret came over plain http; it must ask at https://`},
		{"no secret", broker, "", `"why":"it sent no secret (HTTP Basic), and no client is public"`},
	}
	for _, x := range cases { // a gateway each: it is said once a minute
		t.Run(x.name, func(t *testing.T) {
			w := clientWorld(t, confidential, "")
			h := http.Header{}
			if x.auth != "" {
				h.Set("Authorization", x.auth)
			}
			for range 3 {
				resp, body := get(t, w.client(), x.address+"/ticket/00112233445566778899aabbccddeeff", h)
				if resp.StatusCode != http.StatusNotFound || body != "" {
					t.Errorf("status %d %s", resp.StatusCode, body)
				}
			}
			if !w.logged(x.why) || strings.Count(w.log.String(), "a client was refused") != 1 {
				t.Error("the log does not say why, once")
			}
		})
	}
}
