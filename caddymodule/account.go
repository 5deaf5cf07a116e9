package caddymodule

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// Account is one WeChat app id and how to log in with it.
type Account struct {
	// The app id, such as wx0123456789abcdef. Placeholders are resolved when the configuration is loaded.
	AppID string `json:"app_id,omitempty"`

	// The app secret. Keep it out of the configuration: {env.WECHAT_APP_SECRET} or {file./path} stays
	// symbolic in Caddy's /config/ and autosave. Required, unless broker is there.
	AppSecret string `json:"app_secret,omitempty"`

	// What kind of account this is: `service`, a certified service account or a test account.
	// `website`, an open-platform website app, is not available yet. Default: service.
	Kind string `json:"kind,omitempty"`

	// What sites ask WeChat for unless they say otherwise: `snsapi_base`, silent, openid only, or
	// `snsapi_userinfo`, with nickname, avatar and unionid. Default: snsapi_base.
	Scope string `json:"scope,omitempty"`

	// Language of the profile: zh_CN, zh_TW or en. Default: zh_CN.
	Lang string `json:"lang,omitempty"`

	// The bound domains, at most two: where WeChat sends users back to. A host, or http://host; for test
	// accounts also an address, with a port. Default: each site's own host.
	Domains []string `json:"domains,omitempty"`

	// A test account or a stand-in for WeChat: its domain may be http, an address, with a port.
	// Default: false.
	Test bool `json:"test,omitempty"`

	// Files by which WeChat verifies the domain, served at the root of the bound domain.
	VerifyFiles []VerifyFile `json:"verify_files,omitempty"`

	// How long one call of WeChat's API may take. Default: 5s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// Where browsers authorize. Default: https://open.weixin.qq.com.
	OpenURL string `json:"open_url,omitempty"`

	// Where codes are exchanged. Default: https://api.weixin.qq.com.
	APIURL string `json:"api_url,omitempty"`

	// Logs in through another gateway's broker, which has the app secret, instead of with one here.
	// Default: none.
	Broker *AccountBroker `json:"broker,omitempty"`
}

// AccountBroker names another gateway's broker, and this gateway as its client.
type AccountBroker struct {
	// The broker's origin, such as https://auth.example.com. Plain http is for test accounts and loopback
	// addresses alone. Required.
	URL string `json:"url,omitempty"`

	// This gateway's client id there. Required.
	ClientID string `json:"client_id,omitempty"`

	// And its secret, at least 16 characters. Keep it out of the configuration, as the app secret. Required.
	ClientSecret string `json:"client_secret,omitempty"`
}

// VerifyFile is one file by which WeChat verifies that a domain is yours.
type VerifyFile struct {
	// MP_verify_<16>.txt, WW_verify_<16>.txt or any other <name>.txt.
	Name string `json:"name,omitempty"`

	// What the file says. Default: the 16 characters of its name; any other name needs it.
	Content string `json:"content,omitempty"`
}

const (
	kindService = "service"
	kindWebsite = "website"

	// defaultPath is the prefix of the endpoints of sites and brokers that do not say.
	defaultPath = "/_wechat"
)

var (
	verifyName  = regexp.MustCompile(`^(?:MP|WW)_verify_([0-9A-Za-z]{16})\.txt$`)
	plainName   = regexp.MustCompile(`^[0-9A-Za-z_-]{1,64}\.txt$`)
	namePattern = regexp.MustCompile(`^[\p{L}\p{N}_.-]+$`)
	hostPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)
)

// check says what is wrong with the account as far as it can be told. Values behind placeholders are
// checked once they are resolved.
func (a *Account) check() error {
	return firstError(
		a.checkSecret,
		func() error { return checkAppID(a.AppID) },
		func() error { return oneOf("kind", a.Kind, kindService, kindWebsite) },
		func() error { return checkScope(a.Scope) },
		func() error { return oneOf("lang", a.Lang, "zh_CN", "zh_TW", "en") },
		a.checkDomains,
		a.checkVerifyFiles,
		func() error { return checkURL("open_url", a.OpenURL) },
		func() error { return checkURL("api_url", a.APIURL) },
		func() error { return notNegative("timeout", time.Duration(a.Timeout)) },
		a.checkBesideBroker,
		a.checkBroker,
	)
}

// available says which part of a correct account comes with a later version.
func (a *Account) available() error {
	if a.Kind == kindWebsite {
		return notYet("kind website")
	}
	return nil
}

// secret is what proves this gateway to WeChat, or to the broker.
func (a *Account) secret() string {
	if a.Broker != nil {
		return a.Broker.ClientSecret
	}
	return a.AppSecret
}

// literalSecret names the option whose secret is written as it is.
func (a *Account) literalSecret() string {
	switch {
	case a.secret() == "" || placeholder(a.secret()):
		return ""
	case a.Broker != nil:
		return "broker's secret"
	}
	return "app_secret"
}

func (a *Account) checkSecret() error {
	switch {
	case a.AppID == "":
		return errors.New("account has no app_id; write: app_id <id>, as WeChat's console shows it")
	case a.AppSecret != "" && a.Broker != nil:
		return errors.New("account has both app_secret and broker; keep one: the secret where this gateway talks to WeChat, the broker where another one does")
	case a.AppSecret == "" && a.Broker == nil:
		return errors.New("account has neither app_secret nor broker; write: app_secret {env.WECHAT_APP_SECRET}")
	}
	return nil
}

func checkAppID(id string) error {
	if placeholder(id) || len(id) <= 64 && tokenPattern.MatchString(id) {
		return nil
	}
	return fmt.Errorf("app_id %q is not one; WeChat's look like wx0123456789abcdef", id)
}

// checkAccountName keeps names apart from matchers, which stand where wechat_broker takes names.
func checkAccountName(name string) error {
	if namePattern.MatchString(name) {
		return nil
	}
	return fmt.Errorf("account name %q may hold letters, digits, ., - and _ only", name)
}

func (a *Account) checkDomains() error {
	if len(a.Domains) > 2 {
		return fmt.Errorf("domain names %d domains; WeChat binds an account to two at most", len(a.Domains))
	}
	if len(a.Domains) == 2 && strings.EqualFold(a.Domains[0], a.Domains[1]) {
		return fmt.Errorf("domain %q is there twice; keep one", a.Domains[1])
	}
	return eachError(a.Domains, a.checkDomain)
}

func (a *Account) checkDomain(domain string) error {
	if placeholder(domain) {
		return nil
	}
	scheme, host, ok := strings.Cut(domain, "://")
	if !ok {
		scheme, host = "", domain
	}
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	switch {
	case strings.ContainsAny(host, "/?#"):
		return fmt.Errorf("domain %q has a path; name the host alone (a path is for wechat_broker's option path)", domain)
	case strings.Contains(host, "*"):
		return fmt.Errorf("domain %q has a wildcard; WeChat binds whole host names", domain)
	case scheme != "" && scheme != "http" && scheme != "https":
		return fmt.Errorf("domain %q: unknown scheme; name the host alone", domain)
	case !a.Test && scheme == "https":
		return fmt.Errorf("domain %q: leave https:// away; it is the default", domain)
	case !a.Test && port != "":
		return fmt.Errorf("domain %q has a port, and WeChat answers 10003 to it; name the host alone, or add the option test if this is a test account", domain)
	case !a.Test && net.ParseIP(name) != nil:
		return fmt.Errorf("domain %q is an address, and WeChat binds domains only; add the option test if this is a test account", domain)
	case port != "" && !isPort(port):
		return fmt.Errorf("domain %q: port %s does not exist; use 1 to 65535", domain, port)
	case net.ParseIP(name) == nil && !hostPattern.MatchString(strings.ToLower(toASCII(name))):
		return fmt.Errorf("domain %q is not a host name", domain)
	}
	return nil
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

func (a *Account) checkVerifyFiles() error {
	seen := map[string]bool{}
	return eachError(a.VerifyFiles, func(f VerifyFile) error {
		if seen[f.Name] {
			return fmt.Errorf("verify_file %q is there twice; keep one", f.Name)
		}
		seen[f.Name] = true
		return f.check()
	})
}

func (f VerifyFile) check() error {
	switch {
	case verifyName.MatchString(f.Name):
		return nil
	case !plainName.MatchString(f.Name):
		return fmt.Errorf("verify_file %q is not one; WeChat's console offers files such as MP_verify_0123456789abcdef.txt", f.Name)
	case f.Content == "":
		return fmt.Errorf("verify_file %q needs its content behind it; only MP_verify_<16 characters>.txt and WW_verify_<16 characters>.txt say it in their names", f.Name)
	}
	return nil
}

// text is what the file answers with.
func (f VerifyFile) text() string {
	if m := verifyName.FindStringSubmatch(f.Name); m != nil && f.Content == "" {
		return m[1]
	}
	return f.Content
}

// besideBroker names the first option beside broker that has a meaning only where the app secret is.
func (a *Account) besideBroker() string {
	if a.Broker == nil {
		return ""
	}
	for _, x := range []struct {
		option string
		there  bool
	}{
		{"domain", len(a.Domains) > 0},
		{"verify_file", len(a.VerifyFiles) > 0},
		{"open_url", a.OpenURL != ""},
		{"api_url", a.APIURL != ""},
		{"lang", a.Lang != ""},
		{"kind", a.Kind == kindWebsite},
	} {
		if x.there {
			return x.option
		}
	}
	return ""
}

func (a *Account) checkBesideBroker() error {
	option := a.besideBroker()
	switch option {
	case "":
		return nil
	case "kind":
		option = "kind website" // service is the default, and says nothing
	}
	return fmt.Errorf("%s is beside broker, and belongs to the gateway that the broker runs on, which has the app secret; move it there, or remove it", option)
}

func (a *Account) checkBroker() error {
	if a.Broker == nil {
		return nil
	}
	if a.Broker.URL == "" || a.Broker.ClientID == "" || a.Broker.ClientSecret == "" {
		return errors.New("broker needs three values: broker <url> <client-id> <secret>")
	}
	return firstError(
		func() error { return a.checkBrokerURL(a.Broker.URL) },
		func() error { return checkBrokerID(a.Broker.ClientID) },
		func() error {
			if err := checkClientSecret(a.Broker.ClientSecret); err != nil {
				return fmt.Errorf("broker: %w", err)
			}
			return nil
		},
	)
}

func (a *Account) checkBrokerURL(address string) error {
	if placeholder(address) {
		return nil
	}
	if err := checkURL("broker", address); err != nil {
		return err
	}
	u, err := url.Parse(address)
	switch {
	case err != nil || strings.ContainsAny(address, "*?#"):
		return fmt.Errorf("broker %q is not an address; write it as https://host", address)
	case u.Path != "" && u.Path != "/":
		return fmt.Errorf("broker %q has a path; a broker answers at the root of its domain: write https://%s", address, u.Host)
	case u.Scheme == "http" && !a.Test && !isLoopback(u.Hostname()):
		return fmt.Errorf("broker %q is plain http, and the client secret would travel for all to read; write https://%s, or add the option test if this is a test account", address, u.Host)
	}
	_, err = normalOrigin(address)
	return err
}

// isLoopback reports whether what is sent to host stays on this machine.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// checkBrokerID takes what HTTP Basic can carry, where ":" ends the id.
func checkBrokerID(id string) error {
	if placeholder(id) || !strings.ContainsFunc(id, func(c rune) bool { return c == ':' || c < ' ' || c == 0x7f }) {
		return nil
	}
	return errors.New("broker: the client id has a colon or a control character, which HTTP Basic cannot carry; give the client another id at the broker: client <id> { … }")
}

// resolve replaces placeholders.
func (a *Account) resolve() error {
	values := []value{
		{"app_id", &a.AppID},
		{"app_secret", &a.AppSecret},
		{"scope", &a.Scope},
		{"lang", &a.Lang},
		{"open_url", &a.OpenURL},
		{"api_url", &a.APIURL},
	}
	if b := a.Broker; b != nil {
		values = append(values, value{"broker", &b.URL}, value{"broker", &b.ClientID}, value{"broker", &b.ClientSecret})
	}
	values = append(values, each("domain", a.Domains)...)
	for i := range a.VerifyFiles {
		values = append(values, value{"verify_file", &a.VerifyFiles[i].Name}, value{"verify_file", &a.VerifyFiles[i].Content})
	}
	return resolveAll(values...)
}
