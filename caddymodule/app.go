package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

// App holds what all sites of a configuration share: the accounts, the keys, the store. It is the
// global option `wechat`.
type App struct {
	// The accounts, by name. A single one is named "default".
	Accounts map[string]*Account `json:"accounts,omitempty"`

	// Where tickets and other short-lived state are kept. Default: memory, 64 MiB.
	StoreRaw json.RawMessage `json:"store,omitempty" caddy:"namespace=wechat.stores inline_key=store"`

	// How session tokens are signed. Default: HS256 with keys that the gateway makes and keeps in
	// Caddy's storage.
	SessionKey *SessionKey `json:"session_key,omitempty"`

	// How many bytes of memory verified sessions may take, the cache's own included. Go's heap may grow to twice
	// that before it is collected. Default: 64 MiB.
	Cache int64 `json:"cache,omitempty"`

	// The secret that opens the page about a login's troubles. Not available yet.
	DebugPage string `json:"debug_page,omitempty"`

	accounts    map[string]*account
	gateway     *gateway
	sites       map[string]*site   // by siteAddress.key; written while handlers provision, read-only after
	brokers     map[string]*Broker // by account name; likewise
	clients     map[string]*client // of all brokers, by id; likewise
	cookies     map[string]string  // account by host and cookie name; likewise
	cookieBases *cookieBases       // the sites' names for their cookies; likewise
	named       bool               // a wechat_auth stands in a named route; likewise
	logger      *zap.Logger
	stop        context.CancelFunc
	done        chan struct{}
}

func init() {
	caddy.RegisterModule(new(App))
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "wechat", New: func() caddy.Module { return new(App) }}
}

// Provision reads the keys and revocations that are there, and makes none: `caddy validate` runs it too,
// often as another user.
func (a *App) Provision(ctx caddy.Context) error {
	a.logger = ctx.Logger()
	a.sites, a.brokers, a.cookies = map[string]*site{}, map[string]*Broker{}, map[string]string{}
	a.accounts, a.clients, a.cookieBases = map[string]*account{}, map[string]*client{}, newCookieBases()
	if err := firstError(a.check, a.available); err != nil {
		return err
	}
	for name, cfg := range a.Accounts {
		acc, err := newAccount(name, cfg, a.logger)
		if err != nil {
			return fmt.Errorf("account %s: %w", name, err)
		}
		a.accounts[name] = acc
	}
	g, err := newGateway(ctx, a)
	a.gateway = g
	return err
}

// Start looks after keys and revocations from now on.
func (a *App) Start() error {
	ctx, cancel := context.WithCancel(context.Background())
	a.stop, a.done = cancel, make(chan struct{})
	go func() {
		defer close(a.done)
		a.gateway.maintain(ctx)
	}()
	return nil
}

// Stop ends what Start began. Sessions and logins go on in the configuration that follows.
func (a *App) Stop() error {
	a.stop()
	<-a.done
	return nil
}

// Cleanup releases what Provision acquired.
func (a *App) Cleanup() error {
	if a.gateway == nil {
		return nil
	}
	return a.gateway.close()
}

// account returns the account of that name, or the only one.
func (a *App) account(name string) (*account, error) {
	if name == "" {
		if len(a.accounts) != 1 {
			return nil, fmt.Errorf("there are several accounts, so this one must name its own; write: account <name>, one of: %s", accountNames(a.Accounts))
		}
		for _, acc := range a.accounts {
			return acc, nil
		}
	}
	acc, ok := a.accounts[name]
	if !ok {
		return nil, fmt.Errorf("unknown account %q; the wechat option has: %s", name, accountNames(a.Accounts))
	}
	return acc, nil
}

func accountNames(accounts map[string]*Account) string {
	return strings.Join(slices.Sorted(maps.Keys(accounts)), ", ")
}

// appOf returns the app of the configuration that is being loaded.
func appOf(ctx caddy.Context) (*App, error) {
	mod, err := ctx.AppIfConfigured("wechat")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil, errNoApp
	}
	if err != nil {
		return nil, err
	}
	return mod.(*App), nil
}

// SessionKey says how session tokens are signed.
type SessionKey struct {
	// HS256, EdDSA or ES256; the latter two publish their public keys. Default: HS256.
	Algorithm string `json:"algorithm,omitempty"`

	// HS256 secrets of your own, at least 32 bytes each, used as written: the current one, then old ones
	// that still verify. Default: none, keys are made and kept in Caddy's storage.
	Secrets []string `json:"secrets,omitempty"`

	// How long a key signs; it verifies until its last token has ended. Default: 720h.
	Rotate caddy.Duration `json:"rotate,omitempty"`
}

const (
	defaultAccount = "default"
	defaultCache   = 64 << 20
	minCache       = 1 << 20
	defaultRotate  = 720 * time.Hour
)

func (a *App) check() error {
	if len(a.Accounts) == 0 {
		return errors.New("wechat has no account; write: account { app_id … app_secret … }")
	}
	for _, name := range slices.Sorted(maps.Keys(a.Accounts)) {
		if err := checkAccountName(name); err != nil {
			return err
		}
		if err := a.Accounts[name].check(); err != nil {
			return fmt.Errorf("account %s: %w", name, err)
		}
	}
	if a.Cache != 0 && a.Cache < minCache {
		return fmt.Errorf("cache of %d bytes is too small; use 1MiB or more", a.Cache)
	}
	if a.SessionKey != nil {
		return a.SessionKey.check()
	}
	return nil
}

// available says which part of a correct configuration comes with a later version.
func (a *App) available() error {
	for _, name := range slices.Sorted(maps.Keys(a.Accounts)) {
		if err := a.Accounts[name].available(); err != nil {
			return fmt.Errorf("account %s: %w", name, err)
		}
	}
	if a.DebugPage != "" {
		return notYet("debug_page")
	}
	return nil
}

func (k *SessionKey) check() error {
	if err := oneOf("session_key algorithm", k.Algorithm, "HS256", "EdDSA", "ES256"); err != nil {
		return err
	}
	if len(k.Secrets) > 0 && k.Algorithm != "" && k.Algorithm != "HS256" {
		return fmt.Errorf("session_key secret goes with HS256; keys for %s are made by the gateway", k.Algorithm)
	}
	if err := k.checkRotate(); err != nil {
		return err
	}
	return eachError(k.Secrets, checkSessionSecret)
}

func (k *SessionKey) checkRotate() error {
	if k.Rotate != 0 && time.Duration(k.Rotate) < time.Second {
		return fmt.Errorf("session_key rotate %s is too short; use 1s or more", time.Duration(k.Rotate))
	}
	return nil
}

func checkSessionSecret(secret string) error {
	if !placeholder(secret) && len(secret) < 32 {
		return fmt.Errorf("session_key secret has %d bytes; HS256 needs at least 32 (make one with: openssl rand -base64 48)", len(secret))
	}
	return nil
}

// Interface guards.
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
