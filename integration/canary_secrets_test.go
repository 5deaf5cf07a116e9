package integration

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// canaryKind says what a secret is, and so where it may stand.
type canaryKind string

const (
	canaryConfigured canaryKind = "configured secret"
	canaryKey        canaryKind = "key of the storage"
	canaryCode       canaryKind = "code"
	canaryToken      canaryKind = "WeChat token"
	canaryTicket     canaryKind = "ticket"
	canarySession    canaryKind = "session or guest token"
	canaryPending    canaryKind = "login cookie"
	canaryLogin      canaryKind = "sealed login" // worth nothing without its cookie
	canaryRetry      canaryKind = "sealed retry" // lets a login begin, and nothing else
)

type canarySecret struct {
	text string
	kind canaryKind
	dead bool // a code that was exchanged, a ticket that was redeemed
}

// canaryParts are a random text and what may be left of it where it was shortened: that has leaked as well.
func canaryParts(text string) []string {
	list, half := []string{text}, len(text)/2
	if half >= canaryMin {
		list = append(list, text[:half], text[half:])
	}
	if short := canaryMin + 4; half >= short {
		list = append(list, text[:short], text[len(text)-short:])
	}
	return list
}

func (c *canary) addParts(kind canaryKind, text string) {
	for _, part := range canaryParts(text) {
		c.add(kind, part)
	}
}

// canaryMost bounds what is looked for: a test of a flood makes hundreds of thousands of logins.
const canaryMost = 20_000

func (c *canary) add(kind canaryKind, text string) {
	if len(text) < canaryMin {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.secrets[text]; !known && len(c.secrets) < canaryMost {
		c.secrets[text] = canarySecret{text: text, kind: kind}
	}
}

// addConfigured adds a secret of the operator's, in the spellings in which a program might show it.
func (c *canary) addConfigured(text string) {
	quoted, _ := json.Marshal(text) // a string always marshals
	for _, spelling := range []string{
		text, url.QueryEscape(text), url.PathEscape(text), strings.Trim(string(quoted), `"`), hex.EncodeToString([]byte(text)),
		base64.StdEncoding.EncodeToString([]byte(text)), base64.RawURLEncoding.EncodeToString([]byte(text)),
	} {
		c.add(canaryConfigured, spelling)
	}
}

// addToken adds a session's token: its header is no secret, and its payload says what a debug log may say.
func (c *canary) addToken(token string) {
	c.add(canarySession, token)
	if parts := strings.Split(token, "."); len(parts) == 3 {
		c.addParts(canarySession, parts[2])
	}
}

// addKeys adds the keys that a gateway keeps in its storage.
func (c *canary) addKeys(storage string) {
	b, err := os.ReadFile(filepath.Join(storage, "wechat", "keys.json"))
	if err != nil {
		return
	}
	var file struct {
		Keys []struct {
			Key []byte `json:"key"`
		} `json:"keys"`
	}
	if json.Unmarshal(b, &file) != nil {
		return
	}
	for _, k := range file.Keys {
		c.addKey(k.Key)
	}
}

func (c *canary) addKey(key []byte) {
	forms := [][]byte{key}
	private, err := x509.ParsePKCS8PrivateKey(key)
	if err == nil {
		switch p := private.(type) {
		case ed25519.PrivateKey:
			forms = append(forms, p.Seed())
		case *ecdsa.PrivateKey:
			if d, err := p.Bytes(); err == nil {
				forms = append(forms, d)
			}
		}
	} else {
		c.mu.Lock()
		c.hmac = append(c.hmac, key)
		c.mu.Unlock()
	}
	for _, f := range forms {
		for _, spelling := range []string{
			string(f), hex.EncodeToString(f), strings.TrimRight(base64.StdEncoding.EncodeToString(f), "="), base64.RawURLEncoding.EncodeToString(f),
		} {
			c.add(canaryKey, spelling)
		}
	}
}

// canaryPlace is a line of a Caddyfile that holds a secret.
var canaryPlace = regexp.MustCompile(`(?m)^\s*(?:app_secret|secret|debug_page|password|broker\s+\S+\s+\S+)\s+([^{}\n]+|\{[^{}\n]+\})\s*$`)

// readCaddyfile adds the secrets of a Caddyfile. One that stands there literally is shown by Caddy's own
// /config/ and autosave; the contract says so, and a warning in the log.
func (c *canary) readCaddyfile(text string, environ []string) {
	for _, m := range canaryPlace.FindAllStringSubmatch(text, -1) {
		switch value := strings.Trim(m[1], "{}"); {
		case strings.HasPrefix(value, "env."):
			c.addConfigured(canaryEnv(environ, strings.TrimPrefix(value, "env.")))
		case strings.HasPrefix(value, "file."):
			b, _ := os.ReadFile(strings.TrimPrefix(value, "file."))
			c.addConfigured(strings.TrimSuffix(string(b), "\n"))
		case strings.HasPrefix(value, "$"):
			c.addLiteral(canaryEnv(environ, strings.TrimPrefix(value, "$")))
		default:
			for word := range strings.FieldsSeq(value) {
				c.addLiteral(strings.Trim(word, "\"`"))
			}
		}
	}
	c.mu.Lock()
	c.tokenHeader = c.tokenHeader || strings.Contains(text, "token_header")
	c.mu.Unlock()
}

func (c *canary) addLiteral(text string) {
	c.addConfigured(text)
	c.mu.Lock()
	c.literal[text] = true
	c.mu.Unlock()
}

func canaryEnv(environ []string, name string) (value string) {
	for _, entry := range environ {
		if v, ok := strings.CutPrefix(entry, name+"="); ok {
			value = v // the last one counts
		}
	}
	return value
}

var (
	canaryJWT       = regexp.MustCompile(`^eyJ[\w-]+\.eyJ[\w-]+\.[\w-]+$`)
	canaryLoginName = regexp.MustCompile(`_login_[0-9a-f]{32}$`)
)

// canaryOurs reports whether a cookie is one of the gateway's.
func canaryOurs(ck *http.Cookie) bool {
	return strings.Contains(ck.Name, "wechat_session") || canaryLoginName.MatchString(ck.Name) || canaryJWT.MatchString(ck.Value)
}

// readCookies adds the cookies that an answer sets.
func (c *canary) readCookies(resp *http.Response) {
	for _, ck := range resp.Cookies() {
		switch {
		case canaryJWT.MatchString(ck.Value):
			c.addToken(ck.Value)
		case canaryLoginName.MatchString(ck.Name):
			c.addParts(canaryPending, ck.Value)
		}
	}
}

// readLocation adds what travels in the address that an answer leads to.
func (c *canary) readLocation(location string) {
	u, err := url.Parse(location)
	if err != nil {
		return
	}
	q := u.Query()
	if inner, err := url.Parse(q.Get("redirect_uri")); err == nil {
		c.addParts(canaryLogin, inner.Query().Get("login"))
	}
	c.addParts(canaryLogin, q.Get("login"))
	if tkt := q.Get("ticket"); canaryTicketShape.MatchString(tkt) {
		c.addParts(canaryTicket, tkt)
	}
}

var canaryTicketShape = regexp.MustCompile(`^[0-9a-f]{32}$`)

// readRequest takes note of a ticket that was redeemed.
func (c *canary) readRequest(r *http.Request, status int) {
	tkt := r.URL.Query().Get("ticket")
	if status != http.StatusSeeOther || !canaryTicketShape.MatchString(tkt) {
		return
	}
	c.spent(tkt)
}

// spent takes note of a ticket that is worth nothing any more.
func (c *canary) spent(tkt string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, part := range canaryParts(tkt) {
		if s, ok := c.secrets[part]; ok {
			s.dead = true
			c.secrets[part] = s
		}
	}
}

// known are all secrets by now, with those that the simulators gave out.
func (c *canary) known() []canarySecret {
	c.mu.Lock()
	sims := c.sims
	c.mu.Unlock()
	var list []canarySecret
	for _, sim := range sims {
		issued := sim.Issued()
		for _, x := range issued[:min(len(issued), canaryMost)] {
			kind := canaryToken
			if x.Kind == "code" {
				kind = canaryCode
			}
			for _, part := range canaryParts(x.Value) {
				list = append(list, canarySecret{part, kind, x.Spent})
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.secrets {
		list = append(list, s)
	}
	return list
}

// signedHere finds tokens that a key of the storage signed, whether a client of ours ever saw them or not.
func (c *canary) signedHere(text string) (list []string) {
	if !strings.Contains(text, "eyJ") {
		return nil
	}
	c.mu.Lock()
	keys := c.hmac
	c.mu.Unlock()
	for _, token := range canaryTokens.FindAllString(text, -1) {
		cut := strings.LastIndexByte(token, '.')
		signature, err := base64.RawURLEncoding.DecodeString(token[cut+1:])
		for _, key := range keys {
			mac := hmac.New(sha256.New, key)
			mac.Write([]byte(token[:cut]))
			if err == nil && hmac.Equal(mac.Sum(nil), signature) {
				list = append(list, token)
			}
		}
	}
	return list
}

var canaryTokens = regexp.MustCompile(`eyJ[\w-]+\.eyJ[\w-]+\.[\w-]{43}`)
