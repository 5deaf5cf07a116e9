package ticket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/singleflight"
)

// Status says how a login ended at WeChat. It is what the broker seals for the site.
type Status string

// The ways a login ends.
const (
	StatusOK          Status = "ok"
	StatusExpired     Status = "expired"     // too late, or the code was used or unknown
	StatusDenied      Status = "denied"      // the user declined
	StatusSnapshot    Status = "snapshot"    // a snapshot visitor: virtual ids, never an identity
	StatusUnavailable Status = "unavailable" // WeChat did not answer, or refused for a reason of its own
	StatusLost        Status = "lost"        // its ticket or its code's outcome is not there, perhaps gone with whoever had it: to be begun anew; in URLs it is unavailable
	StatusAway        Status = "away"        // the broker's store is away or full: to be tried again; in URLs it is unavailable
)

// Outcome is what one code brought.
type Outcome struct {
	Status   Status    `json:"status"`
	Identity *Identity `json:"identity,omitempty"` // with StatusOK; of a snapshot visitor only for who asks for it
	Profile  *Profile  `json:"profile,omitempty"`  // with ScopeUserInfo alone
	At       int64     `json:"at,omitempty"`       // when, Unix milliseconds
	Errcode  int       `json:"errcode,omitempty"`  // WeChat's, of a failure
	Ref      string    `json:"ref,omitempty"`      // of the log line that says why

	// Fresh says that this very call brought it, for this caller alone: what follows from it needs no bound
	// of its own, as a login brings few codes.
	Fresh bool `json:"-"`
}

// MaxCodes is how many codes one login may bring; WeChat delivers up to two for one state. More is
// somebody guessing, and WeChat is not asked.
const MaxCodes = 5

const (
	// keepOutcome is how long a code's outcome answers the same callback again: twice a code's own life.
	keepOutcome = 10 * time.Minute
	// keepJunk is how long that a code was none is remembered: as long as a callback arrives twice.
	// Strangers can name any number of them, and must not fill the store.
	keepJunk = 20 * time.Second
	// awaitMore is what an exchange that takes all its time may need to be written down.
	awaitMore = time.Second
)

// MaxJunk is how many codes that were none an address may bring within JunkWindow, where no login bounds them. The
// users behind one address bring some, too: callbacks that come back hours later.
const (
	MaxJunk    = 30
	JunkWindow = time.Minute
)

// Codes sees to it that each code is exchanged at most once, whichever gateway its callbacks reach.
type Codes struct {
	Store   Store
	Timeout time.Duration // of one exchange, all its calls included

	flights singleflight.Group
}

// Once returns what code brought to login, calling exchange for the first to ask alone. The outcome is
// kept under account, code and login together: whoever brings the code to another login gets
// StatusExpired, and is not asked about at WeChat. exchange runs to its end even when ctx does not,
// because WeChat aborts the first of two callbacks. An error means that the store is away or full.
func (c *Codes) Once(ctx context.Context, account, code, login string, exchange func(context.Context) Outcome) (Outcome, error) {
	return c.fly(ctx, account, code, login, MaxCodes, exchange)
}

// OnceAlone is Once for what stands in a login's place and is another for each code, so that counting its codes
// would fill the store and bound nothing.
func (c *Codes) OnceAlone(ctx context.Context, account, code, login string, exchange func(context.Context) Outcome) (Outcome, error) {
	return c.fly(ctx, account, code, login, 0, exchange)
}

// fly asks for all that bring the same at once. most is how many codes login may bring; 0 does not count them.
func (c *Codes) fly(ctx context.Context, account, code, login string, most int64, exchange func(context.Context) Outcome) (Outcome, error) {
	key := storeKey(login, "outcome", account, code)
	v, err, shared := c.flights.Do(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.Timeout)
		defer cancel()
		return c.once(ctx, key, account, code, login, most, exchange)
	})
	if err != nil {
		return Outcome{}, err
	}
	out := v.(Outcome)
	out.Fresh = out.Fresh && !shared
	return out, nil
}

// Pass claims code for login without exchanging it: its owner exchanges it elsewhere, and from now on nobody
// does here. It reports whether login may have it, again and again.
func (c *Codes) Pass(ctx context.Context, account, code, login string) (bool, error) {
	owner := hashParts("claim", login)
	err := c.Store.Put(ctx, claimKey(account, code), owner[:], keepOutcome)
	if !errors.Is(err, ErrExists) {
		return err == nil, err
	}
	v, err := c.Store.Get(ctx, claimKey(account, code))
	return err == nil && string(v) == string(owner[:]), err
}

// Stranger reports whether a browser without the login's cookie may have code asked about: one code a
// login, so that strangers cannot use up its owner's.
func (c *Codes) Stranger(ctx context.Context, account, code, login string) (bool, error) {
	key, mine := storeKey(login, "stranger", account), hashParts("code", code)
	err := c.Store.Put(ctx, key, mine[:], keepOutcome)
	if !errors.Is(err, ErrExists) {
		return err == nil, err
	}
	first, err := c.Store.Get(ctx, key)
	return string(first) == string(mine[:]), err
}

// NoteJunk counts a code that was none against where it came from. That it cannot be counted is no error: the
// store that is away ends the next login itself.
func (c *Codes) NoteJunk(ctx context.Context, from string) {
	if n, err := c.Store.Count(ctx, storeKey(from, "junk"), JunkWindow); err == nil && n >= MaxJunk {
		_ = c.Store.Put(ctx, storeKey(from, "too much junk"), []byte{1}, JunkWindow)
	}
}

// AllowFrom returns ErrTooMany where MaxJunk codes that were none came from there a short while ago.
func (c *Codes) AllowFrom(ctx context.Context, from string) error {
	switch _, err := c.Store.Get(ctx, storeKey(from, "too much junk")); {
	case errors.Is(err, ErrNotFound):
		return nil
	case err != nil:
		return fmt.Errorf("reading how much junk came: %w", err)
	}
	return ErrTooMany
}

// NoteEnd notes for ttl that the login's callback came back to its browser: the cookie that says so may not
// arrive. It serves to end loops alone, so that a store that is away is no error.
func (c *Codes) NoteEnd(ctx context.Context, login string, ttl time.Duration) {
	_ = c.Store.Put(ctx, storeKey(login, "came back"), []byte{1}, ttl)
}

// CameBack reports whether NoteEnd was told of the login.
func (c *Codes) CameBack(ctx context.Context, login string) bool {
	_, err := c.Store.Get(ctx, storeKey(login, "came back"))
	return err == nil
}

func (c *Codes) once(ctx context.Context, key, account, code, login string, most int64, exchange func(context.Context) Outcome) (Outcome, error) {
	if out, err := c.outcome(ctx, key); !errors.Is(err, ErrNotFound) {
		return out, err
	}
	if most > 0 {
		n, err := c.Store.Count(ctx, storeKey(login, "codes"), keepOutcome)
		if err != nil {
			return Outcome{}, fmt.Errorf("counting a login's codes: %w", err)
		}
		if n > most {
			return Outcome{Status: StatusExpired}, nil
		}
	}
	owner := hashParts("claim", login)
	err := c.Store.Put(ctx, claimKey(account, code), owner[:], keepOutcome)
	if errors.Is(err, ErrExists) {
		return c.claimed(ctx, key, account, code, owner[:])
	}
	if err != nil {
		return Outcome{}, fmt.Errorf("claiming a code: %w", err)
	}
	out := exchange(ctx)
	out.Fresh = true
	// The exchange may have used up the deadline; what it brought must be kept all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.Timeout)
	defer cancel()
	if err := c.keep(ctx, key, out); err != nil {
		return Outcome{}, err
	}
	if out.Status == StatusExpired {
		return out, c.forget(ctx, account, code, owner[:])
	}
	return out, nil
}

// claimKey is where a code's login is written: whoever brings the code must find it, so that its group is the
// code.
func claimKey(account, code string) string { return storeKey(code, "code", account) }

// forget gives up the claim to a code that was none.
func (c *Codes) forget(ctx context.Context, account, code string, owner []byte) error {
	if _, err := c.Store.Take(ctx, claimKey(account, code), owner); err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("forgetting a code: %w", err)
	}
	return nil
}

// claimed answers for a code that somebody else is exchanging or has exchanged.
func (c *Codes) claimed(ctx context.Context, key, account, code string, owner []byte) (Outcome, error) {
	v, err := c.Store.Get(ctx, claimKey(account, code))
	if err != nil {
		return Outcome{}, fmt.Errorf("reading a code's claim: %w", err)
	}
	if string(v) != string(owner) {
		return Outcome{Status: StatusExpired}, nil
	}
	return c.await(ctx, key)
}

// await waits for the outcome of an exchange that another gateway has under way. One that does not come in the
// time that an exchange may take was lost: that gateway died, and the code may be spent.
func (c *Codes) await(ctx context.Context, key string) (Outcome, error) {
	ctx = context.WithoutCancel(ctx) // what ends the waiting must not look like a store that is away
	enough := time.NewTimer(c.Timeout + awaitMore)
	defer enough.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		out, err := c.outcome(ctx, key)
		if !errors.Is(err, ErrNotFound) {
			return out, err
		}
		select {
		case <-tick.C:
		case <-enough.C:
			return Outcome{Status: StatusLost}, nil
		}
	}
}

func (c *Codes) outcome(ctx context.Context, key string) (Outcome, error) {
	v, err := c.Store.Get(ctx, key)
	if err != nil {
		return Outcome{}, err
	}
	var out Outcome
	if err := json.Unmarshal(v, &out); err != nil {
		return Outcome{}, fmt.Errorf("reading a code's outcome: %w", err)
	}
	return out, nil
}

func (c *Codes) keep(ctx context.Context, key string, out Outcome) error {
	ttl := keepOutcome
	if out.Status == StatusExpired {
		ttl = keepJunk
	}
	v, err := json.Marshal(out)
	if err != nil {
		return fmt.Errorf("keeping a code's outcome: %w", err)
	}
	if err := c.Store.Put(ctx, key, v, ttl); err != nil {
		return fmt.Errorf("keeping a code's outcome: %w", err)
	}
	return nil
}
