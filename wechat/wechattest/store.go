package wechattest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"time"
)

const (
	maxIssued = 50_000 // codes or tokens remembered, so that load tests may run for hours
	codeChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
)

// grant is what a person allowed: behind a code, and then behind tokens.
type grant struct {
	appID    string
	user     User
	scope    string
	snapshot bool
	openID   string
	unionID  string
	issued   time.Time
	used     bool
}

// token is an access token and its refresh token.
type token struct {
	grant
	access         string
	refresh        string
	expires        time.Time
	refreshExpires time.Time
}

// shelf forgets the oldest when it is full.
type shelf[T any] struct {
	items map[string]T
	order []string
}

func (s *shelf[T]) get(key string) (T, bool) {
	item, ok := s.items[key]
	return item, ok
}

func (s *shelf[T]) put(key string, item T) {
	if s.items == nil {
		s.items = map[string]T{}
	}
	if _, ok := s.items[key]; !ok {
		s.order = append(s.order, key)
	}
	s.items[key] = item
	if len(s.order) > maxIssued {
		delete(s.items, s.order[0])
		s.order = s.order[1:]
	}
}

// Issued is a code or a token that the server gave out.
type Issued struct {
	// Kind is "code", "access token" or "refresh token".
	Kind  string
	Value string
	// Spent says that a code was exchanged.
	Spent bool
}

// Issued are the codes and tokens that the server remembers: what a test
// looks for where it must not be.
func (s *Server) Issued() (list []Issued) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, code := range s.codes.order {
		list = append(list, Issued{"code", code, s.codes.items[code].used})
	}
	for _, access := range s.tokens.order {
		list = append(list, Issued{Kind: "access token", Value: access})
	}
	for _, refresh := range s.refresh.order {
		list = append(list, Issued{Kind: "refresh token", Value: refresh})
	}
	return list
}

// randomText is n characters of [a-zA-Z0-9].
func randomText(n int) string {
	raw := make([]byte, n)
	rand.Read(raw)
	for i, b := range raw {
		raw[i] = codeChars[int(b)%len(codeChars)]
	}
	return string(raw)
}

// newRID has WeChat's form: the seconds in hex, and twice 8 hex digits.
func newRID(now time.Time) string {
	raw := make([]byte, 8)
	rand.Read(raw)
	return fmt.Sprintf("%08x-%s-%s", uint32(now.Unix()), hex.EncodeToString(raw[:4]), hex.EncodeToString(raw[4:]))
}

// derivedID is an id of 28 characters that begins with "o" as WeChat's do.
func derivedID(parts ...string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", parts))
	return "o" + base64.RawURLEncoding.EncodeToString(sum[:])[:27]
}
