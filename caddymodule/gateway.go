package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"

	"github.com/caddy-wechat/caddy-wechat/ticket"
)

// gateway is what all sites of one configuration work with.
type gateway struct {
	keys     *ticket.Keyring
	revoked  *ticket.Revocations
	codes    *ticket.Codes
	tickets  ticket.Tickets
	profiles ticket.Profiles
	cache    *sessionCache
	logger   *slog.Logger

	revokedKey string              // in revokedPool
	former     *ticket.Revocations // in Caddy's storage, where the store keeps the present ones; else nil
}

// revokedPool keeps what is known of revocations over reloads, by storage: a session that ended while a
// new configuration was being loaded must stay ended.
var revokedPool = caddy.NewUsagePool()

type pooledRevoked struct{ *ticket.Revoked }

func (pooledRevoked) Destruct() error { return nil }

func newGateway(ctx caddy.Context, a *App) (*gateway, error) {
	g := &gateway{logger: ctx.Slogger()}
	provider, err := loadStore(ctx, a)
	if err != nil {
		return g, err
	}
	store := provider.TicketStore()
	if g.keys, err = newKeyring(ctx, a.SessionKey, g.logger); err != nil {
		return g, err
	}
	if err := g.openRevocations(ctx, provider); err != nil {
		return g, err
	}
	if g.cache, err = newSessionCache(a.Cache); err != nil {
		return g, err
	}
	g.codes = &ticket.Codes{Store: store, Timeout: longestExchange(a.accounts)}
	g.tickets, g.profiles = ticket.Tickets{Store: store}, ticket.Profiles{Store: store}
	return g, nil
}

// loadStore returns the store the configuration names, or the one in memory.
func loadStore(ctx caddy.Context, a *App) (StoreProvider, error) {
	if a.StoreRaw == nil {
		a.StoreRaw = json.RawMessage(`{"store":"memory"}`)
	}
	mod, err := ctx.LoadModule(a, "StoreRaw")
	if err != nil {
		return nil, fmt.Errorf("loading the store: %w", err)
	}
	provider, ok := mod.(StoreProvider)
	if !ok {
		return nil, fmt.Errorf("module %T is not a store", mod)
	}
	return provider, nil
}

func newKeyring(ctx caddy.Context, cfg *SessionKey, logger *slog.Logger) (*ticket.Keyring, error) {
	keys := &ticket.Keyring{Storage: ctx.Storage(), Algorithm: "HS256", Rotate: defaultRotate, Logger: logger}
	if cfg != nil {
		if err := cfg.apply(keys); err != nil {
			return nil, fmt.Errorf("session_key: %w", err)
		}
	}
	keys.Live(defaultMax)
	if err := keys.Load(ctx); err != nil {
		return nil, fmt.Errorf("the gateway's keys cannot be read, and without them nobody stays signed in; see that Caddy's user may read its storage, and that the file is whole (one from a backup will do; without it everybody signs in anew): %w", err)
	}
	return keys, nil
}

// apply sets what cfg says in keys, its placeholders resolved.
func (cfg *SessionKey) apply(keys *ticket.Keyring) error {
	secrets := slices.Clone(cfg.Secrets)
	for i := range secrets {
		if !placeholder(secrets[i]) {
			keys.Logger.Warn("session_key's secret stands literally in the configuration, and so in Caddy's /config/ and autosave; write {env.NAME} or {file./path}")
		}
		s, err := caddy.NewReplacer().ReplaceOrErr(secrets[i], true, true)
		if err != nil {
			return fmt.Errorf("option secret: %w", err)
		}
		secrets[i] = s // as written: no byte of a secret is trimmed
	}
	algorithm := cfg.Algorithm
	if err := resolveAll(value{"algorithm", &algorithm}); err != nil {
		return err
	}
	resolved := SessionKey{algorithm, secrets, cfg.Rotate}
	if err := resolved.check(); err != nil {
		return err
	}
	if algorithm != "" {
		keys.Algorithm = algorithm
	}
	for _, s := range secrets {
		keys.Secrets = append(keys.Secrets, []byte(s))
	}
	if cfg.Rotate != 0 {
		keys.Rotate = time.Duration(cfg.Rotate)
	}
	return nil
}

func (g *gateway) openRevocations(ctx caddy.Context, provider StoreProvider) error {
	keeper, shared := provider.(RevocationKeeper)
	storage, key := ticket.RevocationStorage(ctx.Storage()), storageKey(ctx.Storage())
	if shared {
		storage, key = keeper.Revocations()
	}
	known, _ := revokedPool.LoadOrStore(key, pooledRevoked{new(ticket.Revoked)})
	g.revokedKey = key
	g.revoked = &ticket.Revocations{Storage: storage, Known: known.(pooledRevoked).Revoked}
	here := g.revoked
	if shared {
		here = &ticket.Revocations{Storage: ctx.Storage(), Known: new(ticket.Revoked)}
		g.former = here
	}
	if err := here.Load(ctx); err != nil {
		return fmt.Errorf("ended sessions cannot be read, and would live again; see that Caddy's user may read its storage: %w", err)
	}
	if shared { // what was ended before there was such a store
		g.revoked.Known.Adopt(here.Known)
	}
	return nil
}

// ready says that nobody can be signed in: ended sessions are not known yet, and one that is delivered again would
// live again.
func (g *gateway) ready(ctx context.Context) error {
	if !g.revoked.Loaded(ctx) {
		return errors.New("ended sessions could not be read since the start")
	}
	return nil
}

// storageKey names a storage by all that its configuration says.
func storageKey(s certmagic.Storage) string {
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Sprintf("%T %p", s, s)
	}
	return fmt.Sprintf("%T %s", s, b)
}

// close releases what newGateway acquired, as far as it came.
func (g *gateway) close() error {
	if g.cache != nil {
		g.cache.close()
	}
	if g.revokedKey == "" {
		return nil
	}
	_, err := revokedPool.Delete(g.revokedKey)
	return err
}

// maintain rotates keys, and reads what other gateways revoked, until ctx ends.
func (g *gateway) maintain(ctx context.Context) {
	keys := time.NewTicker(g.keys.Every())
	look := time.NewTicker(ticket.RevocationsEvery)
	prune := time.NewTicker(time.Hour)
	defer keys.Stop()
	defer look.Stop()
	defer prune.Stop()
	keysWatch := watch{
		logger: g.logger, what: "keys cannot be maintained; the present ones go on signing", again: "keys are maintained again",
	}
	firstWatch := watch{
		logger: g.logger, what: "ended sessions cannot be read; until they are, nobody signs in and nobody is recognised",
		again: "ended sessions were read; sessions are recognised",
	}
	lookWatch := watch{
		logger: g.logger, what: "ended sessions cannot be read or written; sessions go on, and what one gateway ends goes on at the others",
		again: "ended sessions are read and written again",
	}
	pruneWatch := watch{logger: g.logger, what: "old revocations cannot be removed", again: "old revocations are removed again"}
	firstWatch.report(g.firstLook(ctx))
	for {
		select {
		case <-ctx.Done():
			return
		case <-keys.C:
			keysWatch.report(g.keys.Maintain(ctx))
		case <-look.C:
			g.look(ctx, &firstWatch, &lookWatch)
		case <-prune.C:
			pruneWatch.report(g.prune(ctx))
		}
	}
}

// look reads what other gateways revoked. What a failure means depends on whether all was read before.
func (g *gateway) look(ctx context.Context, first, later *watch) {
	switch err := g.revoked.Look(ctx); {
	case err == nil:
		first.report(nil)
		later.report(nil)
	case g.revoked.Known.Read():
		later.report(err)
	default:
		first.report(err)
	}
}

// firstLook reads ended sessions where that was not done before Caddy started: nobody stays signed in until then.
func (g *gateway) firstLook(ctx context.Context) error {
	if g.former == nil {
		return nil
	}
	return g.revoked.Look(ctx)
}

func (g *gateway) prune(ctx context.Context) error {
	err := g.revoked.Prune(ctx)
	if g.former != nil {
		err = errors.Join(err, g.former.Prune(ctx))
	}
	return err
}

// watch logs that something fails, at once and every minute, and that it works again.
type watch struct {
	logger *slog.Logger
	what   string    // the line while it fails
	again  string    // and once it works
	said   time.Time // zero while it works
}

func (w *watch) report(err error) {
	switch {
	case errors.Is(err, context.Canceled):
	case err != nil && now().Sub(w.said) >= time.Minute:
		w.said = now()
		w.logger.Error(w.what, "error", err)
	case err == nil && !w.said.IsZero():
		w.said = time.Time{}
		w.logger.Info(w.again)
	}
}
