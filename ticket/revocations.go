package ticket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
)

// RevocationStorage is where revocations are kept; Caddy's storage is one. List returns fs.ErrNotExist
// for a prefix under which nothing is.
type RevocationStorage interface {
	Store(ctx context.Context, key string, value []byte) error
	Delete(ctx context.Context, key string) error
	List(ctx context.Context, prefix string, recursive bool) ([]string, error)
}

// Lossy is a RevocationStorage that can lose what it holds, as Redis can in a restart or a failover.
type Lossy interface {
	// Life returns a mark that is made when the storage holds nothing and goes when everything goes.
	Life(ctx context.Context) (string, error)
}

// Revocations remembers the sessions that were ended before their time, in memory for every request and
// in storage for the other gateways and the next start. A revocation is one empty-ish file
//
//	wechat/revoked/<hour it was made, Unix hours>/<until, Unix seconds>-<session id>
//
// so that two gateways never write the same file, a look at the newest hours finds all that is new, and
// nothing needs to be opened.
type Revocations struct {
	Storage RevocationStorage
	Known   *Revoked // what is known in this process; configurations that follow one another share it

	first singleflight.Group // the loads of Loaded
}

// Revoked is the revocations that a process knows of. The zero value knows of none.
type Revoked struct {
	loaded atomic.Bool // all of the storage was known here once

	mu     sync.RWMutex
	until  map[string]revocation // by session id; guarded by mu
	looked int64                 // when all of the storage was last known here, Unix hours; guarded by mu
	life   string                // of a storage that is Lossy, at the last look; guarded by mu
}

type revocation struct {
	until  int64  // Unix seconds; no token of the session can be alive after
	file   string // where it stands in storage
	stored bool
}

const (
	revokedPath = "wechat/revoked"

	// RevocationsEvery is how often the storage is looked at for other gateways' revocations.
	RevocationsEvery = 3 * time.Second

	maxHours = 24 + 2 // that a look asks for one by one

	listTries = 5 // of one list, while files go under way

	firstPatience = time.Second            // how long Loaded waits for a first Load
	firstPause    = 200 * time.Millisecond // before it is tried again
)

// Load reads every revocation. It writes none.
func (r *Revocations) Load(ctx context.Context) error {
	hour := unixHour()
	life, err := r.life(ctx)
	if err != nil {
		return err
	}
	files, err := r.list(ctx, revokedPath, true)
	if err != nil {
		return err
	}
	r.Known.remember(files...)
	r.Known.lookedAt(hour, life)
	return nil
}

// Loaded reports whether the storage was read, once at least, and reads it where it was not. While that fails
// nothing is known of ended sessions: whoever is asked to let somebody in must not.
func (r *Revocations) Loaded(ctx context.Context) bool {
	if r.Known.loaded.Load() {
		return true
	}
	_, err, _ := r.first.Do("", func() (any, error) { return nil, r.loadSoon(ctx) })
	return err == nil
}

// Read reports whether all of the storage was known here once.
func (r *Revoked) Read() bool { return r.loaded.Load() }

func (r *Revocations) loadSoon(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), firstPatience) // others wait for it, too
	defer cancel()
	for {
		err := r.Load(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(firstPause):
		case <-ctx.Done():
			return err
		}
	}
}

// life returns the storage's mark of that name, if it may lose what it holds.
func (r *Revocations) life(ctx context.Context) (string, error) {
	lossy, ok := r.Storage.(Lossy)
	if !ok {
		return "", nil
	}
	life, err := lossy.Life(ctx)
	if err != nil {
		return "", fmt.Errorf("reading revocations from storage: %w", err)
	}
	return life, nil
}

// Look reads what other gateways wrote since the last look that went well: the storage may have been
// away for hours. Clocks may differ. What could not be written here, or was written to a storage that was
// only a stand-in for the true one, an empty folder in place of its disk, is written now. A storage that may
// have lost what it held is read as a whole, and gets all back that is known here. So is one never read before.
func (r *Revocations) Look(ctx context.Context) error {
	err := r.look(ctx)
	if _, lossy := r.Storage.(Lossy); lossy && err != nil {
		r.Known.doubt()
	}
	return err
}

func (r *Revocations) look(ctx context.Context) error {
	hour := unixHour()
	life, err := r.life(ctx)
	if err != nil {
		return err
	}
	from := r.Known.lookFrom(hour, life)
	mine := r.Known.since(from)
	there, err := r.listSince(ctx, from, hour+1)
	if err != nil {
		return err
	}
	r.Known.remember(there...)
	r.Known.lookedAt(hour, life)
	return r.restore(ctx, mine, there)
}

// listSince lists the revocations made from one hour to another, or all, where those are too many to ask for each.
func (r *Revocations) listSince(ctx context.Context, from, to int64) (files []string, err error) {
	if to-from > maxHours {
		return r.list(ctx, revokedPath, true)
	}
	for h := from; h <= to; h++ {
		found, err := r.list(ctx, path.Join(revokedPath, strconv.FormatInt(h, 10)), true)
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	return files, nil
}

// restore writes those of mine, until by session, that are not there.
func (r *Revocations) restore(ctx context.Context, mine map[string]int64, there []string) error {
	ctx, cancel := context.WithTimeout(ctx, storagePatience)
	defer cancel()
	for _, file := range there {
		_, session, _ := strings.Cut(path.Base(file), "-")
		delete(mine, session)
	}
	for session, until := range mine {
		rev := r.Known.again(session, until)
		if err := r.Storage.Store(ctx, rev.file, []byte("1")); err != nil {
			return fmt.Errorf("writing a revocation to storage: %w", err)
		}
		r.Known.remember(rev.file)
	}
	return nil
}

// since returns what was revoked from hour on, or could not be written, and is not over yet: until by session.
func (r *Revoked) since(hour int64) map[string]int64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	mine := map[string]int64{}
	for session, rev := range r.until {
		if rev.until > unixNow() && (!rev.stored || rev.hour() >= hour) {
			mine[session] = rev.until
		}
	}
	return mine
}

// hour is when the revocation was made, Unix hours.
func (rev revocation) hour() int64 {
	h, _ := strconv.ParseInt(path.Base(path.Dir(rev.file)), 10, 64)
	return h
}

func unixNow() int64 { return time.Now().Unix() }

func unixHour() int64 { return unixNow() / 3600 }

func (r *Revoked) lookedAt(hour int64, life string) {
	r.mu.Lock()
	r.looked, r.life = hour, life
	r.mu.Unlock()
	r.loaded.Store(true)
}

// doubt notes that the storage was away: whether it lost something is to be seen.
func (r *Revoked) doubt() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.life = ""
}

// lookFrom returns the first hour whose revocations may not be known here at hour, or not be in the storage
// any more: 0 where that is true of all.
func (r *Revoked) lookFrom(hour int64, life string) int64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if life != r.life {
		return 0
	}
	return min(r.looked, hour) - 1
}

// Revoke ends the session for good: it is written to storage before Revoke returns. until is when the
// last token of the session ends. After an error it is revoked in this process alone, and the next
// Revoke writes it again.
func (r *Revocations) Revoke(ctx context.Context, session string, until time.Time) error {
	if !until.After(time.Now()) {
		return nil
	}
	rev := r.Known.begin(session, until)
	if rev.stored {
		return nil
	}
	// Whoever logs out and closes the page must be logged out all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storagePatience)
	defer cancel()
	if err := r.Storage.Store(ctx, rev.file, []byte("1")); err != nil {
		return fmt.Errorf("writing a revocation to storage: %w", err)
	}
	r.Known.remember(rev.file)
	return nil
}

// begin revokes the session in memory, before the storage is asked: a request that runs at the same time
// must not pass.
func (r *Revoked) begin(session string, until time.Time) revocation {
	r.mu.Lock()
	defer r.mu.Unlock()
	rev, ok := r.until[session]
	// A write that failed is tried again under the hour of now: the others look there alone.
	if !ok || !rev.stored {
		rev = newRevocation(session, max(rev.until, until.Unix()+1))
		r.put(strings.Clone(session), rev) // it points into its token's payload
	}
	return rev
}

// again begins anew with a revocation that the storage does not have, under the hour of now as well.
func (r *Revoked) again(session string, until int64) revocation {
	rev := newRevocation(session, until)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.put(session, rev)
	return rev
}

func newRevocation(session string, until int64) revocation {
	hour := strconv.FormatInt(unixHour(), 10)
	return revocation{until: until, file: path.Join(revokedPath, hour, strconv.FormatInt(until, 10)+"-"+session)}
}

// Adopt takes note of what other knows, as something to be written to the storage: sessions that were ended
// while they were kept elsewhere must stay ended.
func (r *Revoked) Adopt(other *Revoked) {
	for session, until := range other.since(0) {
		r.begin(session, time.Unix(until-1, 0))
	}
}

func (r *Revoked) put(session string, rev revocation) {
	if r.until == nil {
		r.until = map[string]revocation{}
	}
	r.until[session] = rev
}

// Has reports whether the session was ended.
func (r *Revoked) Has(session string) bool {
	r.mu.RLock()
	_, ok := r.until[session]
	r.mu.RUnlock()
	return ok
}

func (r *Revocations) list(ctx context.Context, prefix string, recursive bool) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, storagePatience)
	defer cancel()
	var files []string
	var err error
	for range listTries {
		files, err = r.Storage.List(ctx, prefix, recursive)
		if err == nil || len(files) == 0 && errors.Is(err, fs.ErrNotExist) {
			return files, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
		// Another gateway pruned a file while they were listed, and the list ends there.
	}
	return nil, fmt.Errorf("reading revocations from storage: %w", err)
}

// remember takes note of the revocations that files stand for; directories and other files are none.
func (r *Revoked) remember(files ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, file := range files {
		until, id, ok := strings.Cut(path.Base(file), "-")
		u, err := strconv.ParseInt(until, 10, 64)
		// Of two files for one session the one that ends later counts.
		if ok && err == nil && isHex(id, 32) && u >= r.until[id].until {
			r.put(id, revocation{u, file, true})
		}
	}
}
