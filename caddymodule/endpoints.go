package caddymodule

import (
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// serveOwn answers what is the gateway's own: the endpoints under the site's path, and the account's
// verify files. It reports whether it did.
func (a *Auth) serveOwn(w http.ResponseWriter, r *http.Request, v visit) bool {
	at := original(r).URL.Path
	if a.site.account.files.serve(w, r, at, a.site.path) {
		return true
	}
	if len(at) <= len(a.site.path) || at[len(a.site.path)] != '/' || at[:len(a.site.path)] != a.site.path {
		return false
	}
	a.serveEndpoint(w, r, v.kept(), at[len(a.site.path)+1:])
	return true
}

func (a *Auth) serveEndpoint(w http.ResponseWriter, r *http.Request, v *visit, name string) {
	serve, methods := a.endpoint(name)
	switch {
	case serve == nil:
		writeJSON(w, r, http.StatusNotFound, codeParameter, "")
	case !slices.Contains(methods, r.Method):
		w.Header().Set("Allow", strings.Join(methods, ", "))
		writeJSON(w, r, http.StatusMethodNotAllowed, codeParameter, "")
	default:
		serve(w, r, v)
	}
}

// endpoint returns what answers under the site's path, and to which methods.
func (a *Auth) endpoint(name string) (serve func(http.ResponseWriter, *http.Request, *visit), methods []string) {
	reading := []string{http.MethodGet, http.MethodHead}
	switch name {
	case "login":
		return a.serveLogin, reading
	case "callback":
		return a.serveCallback, reading[:1] // a link preview's HEAD spends nothing
	case "userinfo":
		return a.serveUserinfo, reading
	case "logout":
		return a.serveLogout, []string{http.MethodGet, http.MethodPost}
	case "bye":
		return a.serveBye, reading
	case "jwks.json":
		if a.site.app.gateway.keys.JWKS() != nil {
			return a.serveJWKS, reading
		}
	}
	return nil, nil
}

// serveUserinfo is GET <path>/userinfo: the identity as JSON.
func (a *Auth) serveUserinfo(w http.ResponseWriter, r *http.Request, v *visit) {
	if v.session == nil {
		a.answerNotLoggedIn(w, r, v)
		return
	}
	s := v.session
	writeBody(w, r, http.StatusOK, struct {
		OpenID     string `json:"openid"`
		UnionID    string `json:"unionid"`
		AppID      string `json:"appid"`
		Scope      string `json:"scope"`
		Nickname   string `json:"nickname"`
		HeadImgURL string `json:"headimgurl"`
		ExpiresAt  int64  `json:"expires_at"`
	}{s.OpenID, s.UnionID, s.AppID, s.Scope, s.Nickname, s.HeadImgURL, s.Expires.Unix()})
}

// serveLogout is <path>/logout. It ends a session only for a request of this site's own.
func (a *Auth) serveLogout(w http.ResponseWriter, r *http.Request, v *visit) {
	switch {
	case v.origin == nil:
		a.wrongHost(w, r)
	case r.Method == http.MethodPost && v.fromElsewhere(r):
		a.refuseForeignPost(w, r)
	case r.Method == http.MethodPost || v.fromHere(r):
		a.logout(w, r, v)
	default:
		action := a.site.path + "/logout"
		if to := wantedReturn(original(r).URL.RawQuery); to != "" {
			action += "?return=" + url.QueryEscape(a.site.returnPath(to))
		}
		page{Name: "logout", Status: http.StatusOK, Action: action}.write(w, r)
	}
}

func (a *Auth) refuseForeignPost(w http.ResponseWriter, r *http.Request) {
	a.site.logger.Warn("logout refused: it was sent by another site", zap.String("sec_fetch_site", r.Header.Get("Sec-Fetch-Site")))
	writeJSON(w, r, http.StatusForbidden, codeNotAllowed, "")
}

// fromElsewhere reports whether a browser says that another origin sent r.
func (v *visit) fromElsewhere(r *http.Request) bool {
	if sent := r.Header.Get("Origin"); sent != "" {
		if name, err := normalOrigin(sent); err != nil || name != v.origin.name {
			return true
		}
	}
	s := r.Header.Get("Sec-Fetch-Site")
	return s != "" && s != "same-origin" && s != "none"
}

// fromHere reports whether a browser says that a page of this origin led to r.
func (v *visit) fromHere(r *http.Request) bool {
	if !isPressed(r) {
		return false
	}
	if s := r.Header.Get("Sec-Fetch-Site"); s != "" {
		return s == "same-origin"
	}
	rest, ok := strings.CutPrefix(r.Header.Get("Referer"), v.origin.name)
	return ok && (rest == "" || rest[0] == '/')
}

// isPressed reports whether r can be what a person or a script meant: an image or a frame in somebody's post
// cannot, nor can a browser that fetches links ahead.
func isPressed(r *http.Request) bool {
	for _, name := range []string{"Sec-Purpose", "Purpose", "X-Purpose", "X-Moz"} {
		if r.Header.Get(name) != "" {
			return false
		}
	}
	dest := r.Header.Get("Sec-Fetch-Dest")
	return dest == "" || dest == "document" || dest == "empty"
}

// logout revokes the session, for every gateway and every renewal under way, before it answers. Where
// another's was tossed in beside it both end: which is the person's own cannot be told. One that has
// ended already is revoked again: it may not have been recorded.
func (a *Auth) logout(w http.ResponseWriter, r *http.Request, v *visit) {
	o := v.origin
	o.cookies.clear(w, o.cookies.session)
	o.cookies.clear(w, o.cookies.guest)
	var failed error
	for _, s := range v.presented(r) {
		if err := a.site.app.gateway.revoked.Revoke(r.Context(), s.ID, o.lastToken(s)); err != nil {
			failed = err
			continue
		}
		a.site.account.logger.Info("signed out", a.site.account.user(s.OpenID), zap.String("origin", o.name))
	}
	if failed != nil {
		a.site.fail(w, r, zapcore.ErrorLevel, "a logout could not be recorded; the session lives on where its cookie was copied to",
			page{Name: "error", Reason: "storage", Status: http.StatusInternalServerError, Code: codeUnavailable, Action: a.site.path + "/bye"}, zap.Error(failed))
		return
	}
	o.go303(w, a.afterLogout(r))
}

// afterLogout is where a signed-out browser goes: where it asked to, if that needs no login, else the
// page that says so. A page that needs one would sign the person in again, silently.
func (a *Auth) afterLogout(r *http.Request) string {
	bye := a.site.path + "/bye"
	wanted := wantedReturn(original(r).URL.RawQuery)
	if wanted == "" && r.Method == http.MethodPost {
		r.Body = http.MaxBytesReader(nil, r.Body, 8<<10)
		wanted = r.PostFormValue("return")
	}
	if wanted == "" {
		return bye
	}
	to := a.site.returnPath(wanted)
	if a.site.asksLogin(r, to) {
		return bye
	}
	return to
}

// asksLogin reports whether a GET of the return path would need a login in any of the site's handlers.
func (s *site) asksLogin(r *http.Request, to string) bool {
	u, err := url.ParseRequestURI(to)
	if err != nil {
		return true
	}
	if strings.HasPrefix(browserPath(to), s.path+"/") {
		return false
	}
	probe := r.Clone(r.Context())
	probe.Method, probe.URL, probe.RequestURI = http.MethodGet, u, to
	for _, a := range s.auths {
		if !isPublic(a.Public, probe) && (len(a.matchers) == 0 || a.matches(probe)) {
			return true
		}
	}
	return false
}

// serveBye is GET <path>/bye.
func (a *Auth) serveBye(w http.ResponseWriter, r *http.Request, _ *visit) {
	page{Name: "bye", Status: http.StatusOK, Action: a.site.loginURL("/", "")}.
		logged(a.site.logger, zapcore.InfoLevel, "signed out, says the page").write(w, r)
}

// serveJWKS is GET <path>/jwks.json: the public keys of the session tokens.
func (a *Auth) serveJWKS(w http.ResponseWriter, r *http.Request, v *visit) {
	if err := a.site.app.gateway.keys.MakeSigning(r.Context()); err != nil {
		v.cannot(w, r, "/", "", err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/jwk-set+json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodHead {
		_, _ = w.Write(a.site.app.gateway.keys.JWKS())
	}
}

// verifyFiles are files by which WeChat verifies a domain: what they say, by their names.
type verifyFiles map[string]string

// take adds an account's files.
func (f verifyFiles) take(acc *account) error {
	for name, content := range acc.files {
		if other, ok := f[name]; ok && other != content {
			return fmt.Errorf("verify_file %s of account %s says something else than another account's here, and a domain has one file of that name; keep the right one", name, acc.name)
		}
		f[name] = content
	}
	return nil
}

// serve answers WeChat's question whether the domain is the operator's: at the root, and beside
// the endpoints' path for a bound domain with a path. Files that are not configured are not answered,
// or anybody could bind this domain to their account.
func (f verifyFiles) serve(w http.ResponseWriter, r *http.Request, at, prefix string) bool {
	if len(f) == 0 || r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	dir, name := path.Split(at)
	content, ok := f[name]
	if !ok || dir != "/" && strings.TrimSuffix(dir, "/") != path.Dir(prefix) {
		return false
	}
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	if r.Method == http.MethodGet {
		_, _ = w.Write([]byte(content))
	}
	return true
}
