package ticket

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var errAway = errors.New("storage is away")

// fakeStorage is a KeyStorage and a RevocationStorage in memory, with switches.
type fakeStorage struct {
	mu      sync.Mutex
	files   map[string][]byte
	fail    map[string]error // by the name of the call
	hang    map[string]bool  // calls that wait for their ctx
	calls   map[string]int
	vanish  int           // so many lists break off, as if a file had gone
	lock    chan struct{} // full while it is held
	onStore func()
}

func newFakeStorage() *fakeStorage {
	return &fakeStorage{
		files: map[string][]byte{}, fail: map[string]error{}, hang: map[string]bool{}, calls: map[string]int{},
		lock: make(chan struct{}, 1),
	}
}

func (s *fakeStorage) begin(ctx context.Context, call string) error {
	s.mu.Lock()
	s.calls[call]++
	err, hang := s.fail[call], s.hang[call]
	s.mu.Unlock()
	if hang {
		<-ctx.Done()
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (s *fakeStorage) set(call string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail[call] = err
}

func (s *fakeStorage) hangs(call string, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hang[call] = on
}

func (s *fakeStorage) called(call string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[call]
}

func (s *fakeStorage) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.files))
}

func (s *fakeStorage) Load(ctx context.Context, key string) ([]byte, error) {
	if err := s.begin(ctx, "Load"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.files[key]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: key, Err: fs.ErrNotExist}
	}
	return bytes.Clone(b), nil
}

func (s *fakeStorage) Store(ctx context.Context, key string, value []byte) error {
	if err := s.begin(ctx, "Store"); err != nil {
		return err
	}
	if s.onStore != nil {
		s.onStore()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if key == keysPath && len(s.lock) == 0 {
		return errors.New("keys written without the lock")
	}
	s.files[key] = bytes.Clone(value)
	return nil
}

func (s *fakeStorage) Lock(ctx context.Context, _ string) error {
	if err := s.begin(ctx, "Lock"); err != nil {
		return err
	}
	select {
	case s.lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *fakeStorage) Unlock(ctx context.Context, _ string) error {
	if err := s.begin(ctx, "Unlock"); err != nil {
		return err
	}
	<-s.lock
	return nil
}

func (s *fakeStorage) Delete(ctx context.Context, key string) error {
	if err := s.begin(ctx, "Delete"); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.files[key]; !ok {
		return fs.ErrNotExist
	}
	delete(s.files, key)
	return nil
}

func (s *fakeStorage) List(ctx context.Context, prefix string, _ bool) ([]string, error) {
	if err := s.begin(ctx, "List"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []string
	for _, f := range slices.Sorted(maps.Keys(s.files)) {
		if strings.HasPrefix(f, prefix+"/") {
			if dir := path.Dir(f); dir != prefix && !slices.Contains(keys, dir) {
				keys = append(keys, dir)
			}
			keys = append(keys, f)
		}
	}
	if len(keys) == 0 {
		return nil, fs.ErrNotExist
	}
	if s.vanish > 0 {
		s.vanish--
		return keys[:1], fs.ErrNotExist
	}
	return keys, nil
}

// clock is a Keyring's Now.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// journal is where a test's log goes.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

func (j *journal) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func newKeyring(t testing.TB, s KeyStorage, c *clock, algorithm string, secrets ...string) *Keyring {
	t.Helper()
	k := &Keyring{Storage: s, Algorithm: algorithm, Rotate: 720 * time.Hour, Now: c.now, Logger: slog.New(slog.DiscardHandler)}
	for _, secret := range secrets {
		k.Secrets = append(k.Secrets, []byte(secret))
	}
	k.Live(720 * time.Hour)
	if err := k.Load(t.Context()); err != nil {
		t.Fatalf("Load: %v", err)
	}
	return k
}

func newSessions(k *Keyring) *Sessions {
	return &Sessions{
		Keys: k, Issuer: "https://auth.example.com", Audience: "https://shop.example.org", AppID: "wx0123456789abcdef",
		Idle: 168 * time.Hour, Max: 720 * time.Hour,
	}
}

func newIdentity() Identity {
	return Identity{
		OpenID: "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", UnionID: "o6_bmasdasdsad6_2sgVt7hMZOPfL", AppID: "wx0123456789abcdef",
		Scope: ScopeUserInfo, Nickname: "小明 <3 🐼", HeadImgURL: "https://thirdwx.qlogo.cn/mmopen/g3MonUZtNHkdmzicIlibx6iaFqAc56vxLSUfpb6n5WKSYVY0ChQKkiaJSgQ1dZuTOgvLLrhJbERQQ4eMsv84eavHiaiceqxibJxCfHe/0",
	}
}

func newSession(k *Keyring) Session {
	return Session{Identity: newIdentity(), ID: SessionID(NewLoginID()), AuthTime: k.now()}
}

func mustSign(t testing.TB, ss *Sessions, s Session) string {
	t.Helper()
	token, _, err := ss.Sign(t.Context(), s)
	if err != nil {
		t.Fatalf("Sign: %v", err)
	}
	return token
}

func mustSeal(t testing.TB, k *Keyring, purpose, plain string) string {
	t.Helper()
	sealed, err := k.Seal(t.Context(), purpose, []byte(plain))
	if err != nil {
		t.Fatalf("Seal: %v", err)
	}
	return sealed
}

// opens reports whether k opens sealed; any error but ErrSeal is the test's.
func opens(t testing.TB, k *Keyring, purpose, sealed string) bool {
	t.Helper()
	_, err := k.Open(t.Context(), purpose, sealed)
	if err != nil && !errors.Is(err, ErrSeal) {
		t.Fatalf("Open: %v, want ErrSeal", err)
	}
	return err == nil
}

// verifies reports whether ss takes token; any error but ErrToken is the test's.
func verifies(t testing.TB, ss *Sessions, token string) bool {
	t.Helper()
	s, err := ss.Verify(t.Context(), token)
	if err != nil && (!errors.Is(err, ErrToken) || s != Session{}) {
		t.Fatalf("Verify: %+v, %v, want nothing and ErrToken", s, err)
	}
	return err == nil
}

func isGuest(t testing.TB, ss *Sessions, token string) bool {
	t.Helper()
	err := ss.VerifyGuest(t.Context(), token)
	if err != nil && !errors.Is(err, ErrToken) {
		t.Fatalf("VerifyGuest: %v, want ErrToken", err)
	}
	return err == nil
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func unb64(t testing.TB, s string) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// parts returns a token's header and payload as JSON.
func parts(t testing.TB, token string) (header, payload string) {
	t.Helper()
	p := strings.Split(token, ".")
	return unb64(t, p[0]), unb64(t, p[1])
}

// forge signs header and payload as they are with k's own key: all but what a test changes is right.
func forge(t testing.TB, k *Keyring, header, payload string) string {
	t.Helper()
	return forgeRaw(t, k, b64(header), b64(payload))
}

func forgeRaw(t testing.TB, k *Keyring, header, payload string) string {
	t.Helper()
	key := k.keys().sign(k.now())
	sig, err := key.method.Sign(header+"."+payload, key.private)
	if err != nil {
		t.Fatal(err)
	}
	return header + "." + payload + "." + base64.RawURLEncoding.EncodeToString(sig)
}

// replaced returns s with the one old in it replaced.
func replaced(t testing.TB, s, old, with string) string {
	t.Helper()
	if strings.Count(s, old) != 1 {
		t.Fatalf("%q is in %s %d times", old, s, strings.Count(s, old))
	}
	return strings.Replace(s, old, with, 1)
}

func storedKeys(t testing.TB, s KeyStorage) keyFile {
	t.Helper()
	b, err := s.Load(context.WithoutCancel(t.Context()), keysPath)
	if errors.Is(err, fs.ErrNotExist) {
		return keyFile{}
	}
	if err != nil {
		t.Fatal(err)
	}
	var f keyFile
	if err := json.Unmarshal(b, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

// kinds counts a file's keys by use.
func (f keyFile) kinds() map[string]int {
	m := map[string]int{}
	for _, k := range f.Keys {
		m[k.Use]++
	}
	return m
}
