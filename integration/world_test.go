package integration

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// upstream answers every request with what it got of it, as JSON.
type upstream struct {
	url  string
	addr string
}

// seen is what an upstream got.
type seen struct {
	Method  string
	URI     string
	Host    string
	Header  http.Header
	Trailer http.Header
}

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"Cache-Control", "Expires"} {
			if v := r.URL.Query().Get(strings.ToLower(name)); v != "" {
				w.Header().Set(name, v)
			}
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(seen{r.Method, r.RequestURI, r.Host, r.Header, r.Trailer})
	}))
	t.Cleanup(server.Close)
	return &upstream{server.URL, strings.TrimPrefix(server.URL, "http://")}
}

func readSeen(t *testing.T, body []byte) seen {
	t.Helper()
	var s seen
	if err := json.Unmarshal(body, &s); err != nil {
		t.Fatalf("not an answer of the upstream: %v\n%.500s", err, body)
	}
	return s
}

// world is a gateway, WeChat's stand-in and an upstream, with the sites that most tests use.
type world struct {
	*gateway
	sim  *simulator
	up   *upstream
	held string // the address of an upstream that keeps its answers open
}

// account is the wechat option of a world; extra goes into its account.
func (w *world) options(domain, extra string) string {
	if domain != "" {
		domain = "domain " + domain
	}
	return "wechat {\n account {\n app_id " + appID + "\n app_secret {env.WECHAT_APP_SECRET}\n " + domain +
		"\n open_url " + w.sim.url + "\n api_url " + w.sim.url + "\n" + extra + "\n}\n}\n"
}

// single is one site on the bound domain itself.
func (w *world) single(authOptions string) string {
	return "{\n" + w.globals() + w.options("", "") + "}\n" +
		"auth.example.com {\n wechat_auth {\n" + authOptions + "\n}\n reverse_proxy " + w.up.addr + "\n}\n"
}

// cross is a broker on the bound domain, and a shop on another.
func (w *world) cross(authOptions string) string {
	return "{\n" + w.globals() + w.options("auth.example.com", "") + "}\n" +
		"auth.example.com {\n wechat_broker\n}\n" +
		"shop.example.org {\n wechat_auth {\n" + authOptions + "\n}\n reverse_proxy " + w.up.addr + "\n}\n"
}
