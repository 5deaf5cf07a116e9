package ticket

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"
)

// LoginLife is how long a login may take, from the first redirect to the session cookie.
const LoginLife = 10 * time.Minute

// Login is one attempt to log in, as it travels through WeChat and the broker: sealed, in the URL, under
// 400 characters. Whoever holds it knows nothing and can change nothing.
type Login struct {
	ID       string // 32 hex digits; also WeChat's `state`
	Account  string // the account's name
	Origin   string // the site's, where the login goes back to; a client's login: the broker's
	Path     string // of the site's endpoints
	Scope    string // asked of WeChat
	Started  int64  // Unix seconds
	Restarts int    // how often it was begun anew because its cookie, ticket or outcome was gone
	Return   string // where to go back to, only if short; for a page's button
	Client   string // the broker's client that the login is for; none: a site
	Way      string // how its user goes back
	State    string // the client's, only if short
	Outcome  Status // set by the broker when it sends the browser back
	Errcode  int    // WeChat's, of a failure
	Ref      string // of the broker's log line about it
}

// Pending is what the browser keeps of a login, sealed in its login cookie. That it comes back proves
// that this browser began the login.
type Pending struct {
	ID      string
	Return  []byte // where the user was going, path and query, byte for byte
	Started int64  // Unix seconds
	Ended   int64  // when its callback came back, Unix seconds; then it only counts as an attempt
}

// NewLoginID returns the id of a new login: 32 hex digits, fit for WeChat's `state`.
func NewLoginID() string { return newID() }

// LoginID returns the login's id out of a state that came back: some browsers append junk to it.
func LoginID(state string) string { return state[:min(len(state), 32)] }

// IsLoginID reports whether s has a login id's shape.
func IsLoginID(s string) bool { return isHex(s, 32) }

// ExpiredAt reports whether the login is too old at now, or from further ahead than clocks differ.
func (l Login) ExpiredAt(now time.Time) bool { return stale(l.Started, now) }

// ExpiredAt reports whether the login that p belongs to is too old at now.
func (p Pending) ExpiredAt(now time.Time) bool { return stale(p.Started, now) }

func stale(started int64, now time.Time) bool {
	at := time.Unix(started, 0)
	return now.Sub(at) > LoginLife || at.Sub(now) > skew
}

// SealLogin returns l as it goes into a URL.
func (k *Keyring) SealLogin(ctx context.Context, l Login) (string, error) {
	room := sealRooms.Get().(*sealRoom)
	defer sealRooms.Put(room)
	b, err := appendID(room.plain[:0], l.ID)
	if err != nil {
		return "", err
	}
	room.plain = l.append(b)
	return k.sealIn(ctx, room, "login")
}

// appendID appends a login's id, as 16 bytes.
func appendID(b []byte, id string) ([]byte, error) {
	if !IsLoginID(id) {
		return nil, fmt.Errorf("sealing: %q is no login's id", id)
	}
	return hex.AppendDecode(b, []byte(id))
}

// OpenLogin reads what SealLogin wrote, or returns ErrSeal. It does not look at the clock.
func (k *Keyring) OpenLogin(ctx context.Context, sealed string) (Login, error) {
	b, err := k.Open(ctx, "login", sealed)
	if err != nil {
		return Login{}, err
	}
	return readLogin(b)
}

// append appends l behind its id: the numbers as varints, each text behind its length. JSON would take four times
// as long, and make the address half as long again.
func (l Login) append(b []byte) []byte {
	b = binary.AppendVarint(b, l.Started)
	b = binary.AppendVarint(b, int64(l.Restarts))
	b = binary.AppendVarint(b, int64(l.Errcode))
	for _, text := range l.texts() {
		b = append(binary.AppendUvarint(b, uint64(len(*text))), *text...)
	}
	return b
}

// texts are the fields that are texts, in the order in which they are sealed.
func (l *Login) texts() [10]*string {
	return [...]*string{&l.Account, &l.Origin, &l.Path, &l.Scope, &l.Return, &l.Client, &l.Way, &l.State, (*string)(&l.Outcome), &l.Ref}
}

func readLogin(b []byte) (l Login, err error) {
	if len(b) < 16 {
		return Login{}, ErrSeal
	}
	l.ID, b = hex.EncodeToString(b[:16]), b[16:]
	var numbers [3]int64
	for i := range numbers {
		var n int
		if numbers[i], n = binary.Varint(b); n <= 0 {
			return Login{}, ErrSeal
		}
		b = b[n:]
	}
	l.Started, l.Restarts, l.Errcode = numbers[0], int(numbers[1]), int(numbers[2])
	for _, text := range l.texts() {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return Login{}, ErrSeal
		}
		*text, b = string(b[n:n+int(size)]), b[n+int(size):]
	}
	if len(b) > 0 {
		return Login{}, ErrSeal
	}
	return l, nil
}

// SealPending returns p as the value of a login cookie of origin: the login's id (16 bytes), the times as
// varints, the return path. Not JSON: tabs that begin at once leave a cookie each, none of them sees the
// others', and a server refuses headers over its limit.
func (k *Keyring) SealPending(ctx context.Context, origin string, p Pending) (string, error) {
	room := sealRooms.Get().(*sealRoom)
	defer sealRooms.Put(room)
	b, err := appendID(room.plain[:0], p.ID)
	if err != nil {
		return "", err
	}
	b = binary.AppendVarint(binary.AppendVarint(b, p.Started), p.Ended)
	room.plain = append(b, p.Return...)
	return k.sealIn(ctx, room, "login cookie of ", origin)
}

// OpenPending reads what SealPending wrote for the same origin, or returns ErrSeal.
func (k *Keyring) OpenPending(ctx context.Context, origin, sealed string) (Pending, error) {
	b, err := k.Open(ctx, "login cookie of "+origin, sealed)
	if err != nil {
		return Pending{}, err
	}
	if len(b) < 16 {
		return Pending{}, ErrSeal
	}
	p := Pending{ID: hex.EncodeToString(b[:16])}
	b = b[16:]
	for _, at := range []*int64{&p.Started, &p.Ended} {
		t, n := binary.Varint(b)
		if n <= 0 {
			return Pending{}, ErrSeal
		}
		*at, b = t, b[n:]
	}
	p.Return = b
	return p, nil
}
