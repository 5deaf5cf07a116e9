package caddymodule

import (
	"cmp"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-wechat/caddy-wechat/wechat"
)

const (
	pathAuthorize = "/connect/oauth2/authorize"
	pathGetCode   = "/get-weixin-code.html"
)

var startPath = regexp.MustCompile(`^/(?:auth|view)/([0-9A-Za-z_-]+)/?$`)

// maxForm bounds a form that starts a login, in bytes.
const maxForm = 64 << 10

// serveStart is GET or POST /auth/<appid> and /view/<appid>, wxauth's V2.
func (b *Broker) serveStart(w http.ResponseWriter, r *http.Request, appID string) {
	if !allowed(w, r, http.MethodGet, http.MethodPost) {
		return
	}
	acc := b.accountOf(appID)
	if acc == nil {
		b.unknownApp(w, r)
		return
	}
	if b.elsewhere(w, r, acc) {
		return
	}
	form, ok := readForm(w, r)
	e := &errand{Account: acc.name, Way: wayTicket}
	if !ok {
		b.refuse(w, r, e, errOddForm)
		return
	}
	e.To = b.wantedAddress(r, form, acc)
	e.State, ok = form.first("params")
	if !ok {
		b.refuse(w, r, e, errOddState)
		return
	}
	b.startWith(w, r, e, form.query.Get("scope"))
}

// startWith starts the errand with the wanted scope; none means its client's.
func (b *Broker) startWith(w http.ResponseWriter, r *http.Request, e *errand, scope string) {
	e.Scope = wechat.ScopeBase
	err := b.check(e)
	if err == nil {
		switch scope {
		case "":
			e.Scope = e.client.Scope
		case wechat.ScopeBase, wechat.ScopeUserInfo:
			e.Scope = scope
		default:
			err = errScope
		}
	}
	if err == nil {
		err = b.check(e)
	}
	if err != nil {
		b.refuse(w, r, e, err)
		return
	}
	b.run(w, r, e, 0)
}

// startForm is the parameters of a start: a form's before the query's.
type startForm struct{ form, query url.Values }

// readForm reads a start's parameters, or says that it cannot: a body that is too large, or a broken query.
func readForm(w http.ResponseWriter, r *http.Request) (f startForm, ok bool) {
	var err error
	if f.query, err = url.ParseQuery(original(r).URL.RawQuery); err != nil {
		return f, false
	}
	if r.Method != http.MethodPost {
		return f, true
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	err = r.ParseForm()
	if err == nil && strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/form-data") {
		err = r.ParseMultipartForm(maxForm)
	}
	f.form = r.PostForm
	return f, err == nil
}

// first returns the parameter, from the form if it is there. It is not ok where it stands twice: which of
// them counts must not be a matter of taste.
func (f startForm) first(name string) (value string, ok bool) {
	for _, from := range []url.Values{f.form, f.query} {
		if values := from[name]; len(values) > 0 {
			return values[0], len(values) == 1
		}
	}
	return "", true
}

// wantedAddress is where the client wants its user back: what it says, else the page that it sent the user
// from, else its only client's first address, else the origin that the user came from.
func (b *Broker) wantedAddress(r *http.Request, f startForm, acc *account) string {
	for _, from := range []url.Values{f.form, f.query} {
		for _, name := range []string{"redirect_uri", "request_uri"} {
			if values := slices.DeleteFunc(slices.Clone(from[name]), func(s string) bool { return s == "" }); len(values) == 1 {
				return values[0]
			} else if len(values) > 1 {
				return ""
			}
		}
	}
	referer := r.Header.Get("Referer")
	if u, err := url.Parse(referer); err == nil && (strings.Trim(u.Path, "/") != "" || u.RawQuery != "") {
		return referer
	}
	if address := b.onlyAddress(acc); address != "" {
		return address
	}
	return referer
}

// onlyAddress is the first exact return address of the account's only client.
func (b *Broker) onlyAddress(acc *account) string {
	var only *client
	for _, c := range b.clients {
		if c.uses(acc) && only != nil {
			return ""
		} else if c.uses(acc) {
			only = c
		}
	}
	if only == nil {
		return ""
	}
	if i := slices.IndexFunc(only.patterns, func(p returnPattern) bool { return !p.prefix }); i >= 0 {
		return only.patterns[i].String()
	}
	return ""
}

// serveAuthorize is WeChat's own address for browsers: with a client's id as the app id it ends in a code of
// ours, with the account's own app id, or at GetWeixinCode's address, in WeChat's (pass_code).
func (b *Broker) serveAuthorize(w http.ResponseWriter, r *http.Request) {
	if !allowed(w, r, http.MethodGet) {
		return
	}
	q, ok := onlyOnes(original(r).URL.RawQuery, "appid", "redirect_uri", "response_type", "scope", "state", wechat.ForcePopup, wechat.ForceSnapShot)
	e := &errand{Way: wayCode, Client: q["appid"], To: q["redirect_uri"], State: q["state"]}
	for _, name := range []string{wechat.ForcePopup, wechat.ForceSnapShot} {
		if q[name] == "true" || q[name] == "1" {
			e.Force = append(e.Force, name)
		}
	}
	if acc := b.accountOf(q["appid"]); acc != nil {
		e.Way, e.Client, e.Account = wayPass, "", acc.name
	} else if c := b.clients[q["appid"]]; c == nil || len(c.accounts) == 0 {
		b.unknownApp(w, r)
		return
	} else {
		e.Account = firstAccount(c).name
	}
	switch {
	case b.elsewhere(w, r, b.accounts[e.Account]):
	case !ok:
		b.refuse(w, r, e, errOddState)
	default:
		b.startWith(w, r, e, cmp.Or(q["scope"], wechat.ScopeBase)) // GetWeixinCode's callers often name none
	}
}

// firstAccount is the account of a client that cannot say which: the first that its option names.
func firstAccount(c *client) *account {
	return slices.MinFunc(c.accounts, func(a, b *account) int {
		if len(c.Accounts) > 0 {
			return slices.Index(c.Accounts, a.name) - slices.Index(c.Accounts, b.name)
		}
		return strings.Compare(a.name, b.name)
	})
}

// onlyOnes returns the named parameters of a query, decoded. It is not ok where one stands twice or cannot
// be decoded.
func onlyOnes(rawQuery string, names ...string) (one map[string]string, ok bool) {
	q, err := url.ParseQuery(rawQuery)
	one, ok = make(map[string]string, len(names)), err == nil
	for _, name := range names {
		one[name] = q.Get(name)
		ok = ok && len(q[name]) <= 1
	}
	return one, ok
}

// accountOf returns the broker's account of that app id.
func (b *Broker) accountOf(appID string) *account { return b.appIDs[appID] }

// knownIDs are the app ids at which logins start here. What was asked for is a stranger's word.
func (b *Broker) knownIDs() (ids []string) {
	for _, acc := range b.accounts {
		ids = append(ids, acc.appID)
	}
	for id := range b.clients {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func (b *Broker) unknownApp(w http.ResponseWriter, r *http.Request) {
	failWith(b.logger, w, r, zapcore.WarnLevel, "a login was refused: no account of this wechat_broker, and no client, has this app id",
		page{Name: "error", Reason: "address", Status: http.StatusNotFound, Code: codeParameter}, zap.Strings("known", b.knownIDs()))
}

// allowed reports whether r's method is one of these, and answers where it is not.
func allowed(w http.ResponseWriter, r *http.Request, methods ...string) bool {
	if slices.Contains(methods, r.Method) {
		return true
	}
	w.Header().Set("Allow", strings.Join(methods, ", "))
	writeJSON(w, r, http.StatusMethodNotAllowed, codeParameter, "")
	return false
}

// originOf returns the origin of the account's bound domain at which r came in, or the first one.
func (b *Broker) originOf(r *http.Request, acc *account) string {
	host, _, _ := splitHost(r.Host)
	for _, domain := range acc.domains {
		scheme, hostport, _ := strings.Cut(domain, "://")
		if name, port, _ := splitHost(hostport); name == host {
			if requestScheme(r) == "https" {
				scheme = "https"
			}
			return joinOrigin(scheme, name, port)
		}
	}
	return acc.domains[0]
}

// elsewhere sends a browser to the bound domain's own origin where it is not there yet: WeChat sends users
// back there, and the login's cookie must be there, too.
func (b *Broker) elsewhere(w http.ResponseWriter, r *http.Request, acc *account) bool {
	want := b.originOf(r, acc)
	scheme, hostport, _ := strings.Cut(want, "://")
	name, _, _ := splitHost(hostport)
	host, _, _ := splitHost(r.Host)
	if requestScheme(r) == scheme && host == name {
		return false
	}
	if r.Header.Get("X-Forwarded-Proto") != "" && !forwardedHTTPS(r) && scheme == "https" && host == name {
		// Sent to where it came from, the browser would come for ever.
		failWith(b.logger, w, r, zapcore.ErrorLevel, "logins do not work: the proxy before this Caddy is not trusted, so https cannot be told; name it in the global option trusted_proxies",
			page{Name: "error", Reason: "host", Status: http.StatusBadRequest, Code: codeParameter})
		return true
	}
	status := http.StatusFound
	if r.Method != http.MethodGet {
		status = http.StatusTemporaryRedirect // with its form
	}
	redirect(w, status, want+original(r).URL.RequestURI())
	return true
}

// isPlain reports whether r came over plain http where the bound domain is https: what has a secret in it is
// not answered then.
func (b *Broker) isPlain(r *http.Request) bool {
	if requestScheme(r) == "https" {
		return false
	}
	for _, acc := range b.accounts {
		if strings.HasPrefix(b.originOf(r, acc), "http://") {
			return false
		}
	}
	return true
}
