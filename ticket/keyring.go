package ticket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// KeyStorage is where keys are kept; Caddy's storage is one. Load returns an error that is
// fs.ErrNotExist where nothing is; any other error means that the storage is away.
type KeyStorage interface {
	Load(ctx context.Context, key string) ([]byte, error)
	Store(ctx context.Context, key string, value []byte) error
	Lock(ctx context.Context, name string) error
	Unlock(ctx context.Context, name string) error
}

const (
	keysPath = "wechat/keys.json"
	keysLock = "wechat_keys"

	storagePatience = 10 * time.Second // of one look at the storage
	reloadPause     = time.Second      // between looks for a key that is not known here,
	maxLooks        = 8                // after so many at once
	failurePause    = 5 * time.Second  // between two tries to make a key
)

// ErrNoKey says that there is no key to seal or sign with, and none could be made.
var ErrNoKey = errors.New("no key")

// Keyring makes, shares, rotates and uses the gateway's keys. Keys are made at first use, under the
// storage's lock, and stand in the storage before they sign anything, so that every gateway that shares
// the storage knows them. Fields must not change after Load.
type Keyring struct {
	Storage   KeyStorage
	Algorithm string           // of session tokens: HS256, EdDSA or ES256
	Secrets   [][]byte         // HS256 secrets given by the operator, the current first; none: keys are made
	Rotate    time.Duration    // a signing or sealing key's time of service
	Now       func() time.Time // nil: time.Now
	Logger    *slog.Logger

	life atomic.Int64 // the longest life of a token, seconds
	set  atomic.Pointer[keyset]

	looking atomic.Pointer[look] // the last look for an unknown key

	// changing is held while keys are made, and so while the storage's lock is waited for. Reading must not
	// wait for that: another gateway may hold the lock for having just made the key that is looked for.
	changing sync.Mutex
	failed   time.Time // when a key could last not be made; guarded by changing
	reason   error     // why; guarded by changing

	mu    sync.Mutex // guards reading the storage into use, and the fields below
	known keyFile    // what set was made of
	gone  bool       // the storage has lost known
}

// Live says that tokens may live for d; the longest of all calls counts. Keys are kept as long.
func (k *Keyring) Live(d time.Duration) {
	for s := int64(d.Seconds()); ; {
		old := k.life.Load()
		if s <= old || k.life.CompareAndSwap(old, s) {
			return
		}
	}
}

// Load reads the keys that are there. It writes nothing; that none are there is no error.
func (k *Keyring) Load(ctx context.Context) error {
	_, _, err := k.load(ctx)
	return err
}

// Maintain looks for keys that others made, makes the successors of keys that near their end, and drops
// those of which no token can be alive.
func (k *Keyring) Maintain(ctx context.Context) error {
	k.changing.Lock()
	defer k.changing.Unlock()
	f, gone, err := k.load(ctx)
	if err != nil {
		return err
	}
	if len(f.Keys) == 0 {
		return nil // nothing has been used yet
	}
	if !gone && len(k.due(f)) == 0 && len(f.pruned(k.Algorithm, k.now(), k.Rotate).Keys) == len(f.Keys) && f.Life >= k.life.Load() {
		return nil
	}
	return k.update(ctx, func(f keyFile) (keyFile, error) {
		for _, kind := range k.due(f) {
			next, err := newFileKey(kind[0], kind[1], k.now().Add(k.lead()))
			if err != nil {
				return f, err
			}
			f.Keys = append(f.Keys, next)
		}
		return f.pruned(k.Algorithm, k.now(), k.Rotate), nil
	})
}

// Every returns how often Maintain is to run.
func (k *Keyring) Every() time.Duration { return min(max(k.Rotate/40, time.Second), time.Minute) }

// lead is how long before its service a key is published: three looks of every gateway.
func (k *Keyring) lead() time.Duration { return 3 * k.Every() }

// due returns the kinds of key, use and algorithm, that need a successor now. Kinds without a key have
// not been used yet.
func (k *Keyring) due(f keyFile) (kinds [][2]string) {
	used := [][2]string{{useSeal, algGCM}, {useSign, k.Algorithm}}
	if len(k.Secrets) > 0 {
		used = used[:1]
	}
	for _, kind := range used {
		l, ok := f.latest(kind[0], kind[1])
		if ok && k.now().Add(k.lead()).After(time.Unix(l.From, 0).Add(k.Rotate)) {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// make creates the first key of its kind, or finds the one that another gateway has just made.
func (k *Keyring) make(ctx context.Context, use, alg string) (*keyset, error) {
	k.changing.Lock()
	defer k.changing.Unlock()
	if s := k.keys(); s.current(use, k.now()) != nil {
		return s, nil
	}
	if k.now().Sub(k.failed) < failurePause {
		return nil, k.reason
	}
	// The request that needs the key may be given up; the key is needed all the same.
	var made fileKey
	err := k.update(context.WithoutCancel(ctx), func(f keyFile) (keyFile, error) {
		if _, ok := f.current(use, alg, k.now()); ok {
			return f, nil
		}
		var err error
		if made, err = newFileKey(use, alg, k.now()); err != nil {
			return f, err
		}
		f.Keys = append(f.Keys, made)
		return f, nil
	})
	if err == nil && k.keys().current(use, k.now()) == nil {
		err = fmt.Errorf("none to %s with for %s", use, alg)
	}
	if err != nil {
		k.failed, k.reason = k.now(), fmt.Errorf("%w; see that the storage can be written and has room: %w", ErrNoKey, err)
		return nil, k.reason
	}
	if made.ID != "" {
		k.Logger.Info("key made", "use", use, "algorithm", alg, "kid", made.ID)
	}
	return k.keys(), nil
}

// look is one look at the storage for a key that is not known here.
type look struct {
	began time.Time
	done  chan struct{}
	left  int // how many may follow at once
}

// refresh looks for a key that is not known here. A look that began before the caller came may have been
// too early for a key that another gateway has just made, so there is another; but no more than a few at
// once and then one a second, because strangers can name any key. Requests wait for it, but a storage that
// hangs costs them a second and no more.
func (k *Keyring) refresh(ctx context.Context) *keyset {
	came := k.now()
	for {
		l := k.looking.Load()
		switch {
		case l != nil && !l.began.Before(came):
			l.wait(k.now())
			return k.keys()
		case l == nil || l.isDone():
			next := l.next(k.now())
			if next == nil {
				return k.keys()
			}
			if k.looking.CompareAndSwap(l, next) {
				go k.lookAgain(context.WithoutCancel(ctx), next)
			}
		case !l.wait(k.now()):
			return k.keys()
		}
	}
}

// next is the look that may follow l at now, or nil where there were too many.
func (l *look) next(now time.Time) *look {
	left := maxLooks
	if l != nil {
		left = min(left, l.left+int(now.Sub(l.began)/reloadPause))
	}
	if left == 0 {
		return nil
	}
	return &look{now, make(chan struct{}), left - 1}
}

// wait reports whether the look has ended within a second of its beginning.
func (l *look) wait(now time.Time) bool {
	patience := time.NewTimer(reloadPause - now.Sub(l.began))
	defer patience.Stop()
	select {
	case <-l.done:
		return true
	case <-patience.C:
		return l.isDone()
	}
}

func (k *Keyring) lookAgain(ctx context.Context, l *look) {
	defer close(l.done)
	if err := k.Load(ctx); err != nil {
		k.Logger.Error("keys cannot be read; sessions signed by other gateways may be refused", "error", err)
	}
}

func (l *look) isDone() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// load reads the storage. Where the keys have gone from it, those in use stay, and the next update writes
// them back.
func (k *Keyring) load(ctx context.Context) (f keyFile, gone bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, storagePatience)
	defer cancel()
	b, err := k.Storage.Load(ctx, keysPath)
	f = k.known
	switch {
	case errors.Is(err, fs.ErrNotExist):
		k.gone = len(f.Keys) > 0
	case err != nil:
		return f, false, fmt.Errorf("reading keys from storage: %w", err)
	default:
		k.gone = false
		if f, err = readKeyFile(b); err != nil {
			return f, false, err
		}
	}
	s, err := newKeyset(f, k.Algorithm, k.Secrets)
	if err != nil {
		return f, false, fmt.Errorf("reading %s: %w", keysPath, err)
	}
	k.use(f, s)
	return f, k.gone, nil
}

// update changes the key file under the storage's lock. The caller holds changing.
func (k *Keyring) update(ctx context.Context, change func(keyFile) (keyFile, error)) (err error) {
	lockCtx, cancel := context.WithTimeout(ctx, storagePatience)
	defer cancel()
	if err := k.Storage.Lock(lockCtx, keysLock); err != nil {
		return fmt.Errorf("locking keys in storage: %w", err)
	}
	defer func() { err = errors.Join(err, k.unlock(ctx)) }()
	f, _, err := k.load(ctx)
	if err != nil {
		return err
	}
	f.Life = max(f.Life, k.life.Load())
	if f, err = change(f); err != nil {
		return err
	}
	// What cannot be used here must not get into the storage, where it would stop every gateway.
	s, err := newKeyset(f, k.Algorithm, k.Secrets)
	if err != nil {
		return err
	}
	b, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("writing keys: %w", err)
	}
	if err := k.Storage.Store(lockCtx, keysPath, b); err != nil {
		return fmt.Errorf("writing keys to storage: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.use(f, s)
	k.gone = false
	return nil
}

// unlock runs even when ctx has ended, but not for ever: the caller holds changing.
func (k *Keyring) unlock(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storagePatience)
	defer cancel()
	if err := k.Storage.Unlock(ctx, keysLock); err != nil {
		return fmt.Errorf("unlocking keys in storage: %w", err)
	}
	return nil
}

// keys returns the keys in use. Where none could be read yet they are the operator's, or none.
func (k *Keyring) keys() *keyset {
	if s := k.set.Load(); s != nil {
		return s
	}
	s, _ := newKeyset(keyFile{}, k.Algorithm, k.Secrets) // an empty file has no bad key
	k.set.CompareAndSwap(nil, s)
	return k.set.Load()
}

// use makes f's keys, as s, the ones in use. The caller holds mu.
func (k *Keyring) use(f keyFile, s *keyset) {
	k.known = f
	k.set.Store(s)
}

func (k *Keyring) now() time.Time {
	if k.Now != nil {
		return k.Now()
	}
	return time.Now()
}
