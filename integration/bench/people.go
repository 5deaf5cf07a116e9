package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/caddy-wechat/caddy-wechat/ticket"
)

// newSessions signs what the gateway takes for its own: its secret is ours.
func newSessions(audience string) *ticket.Sessions {
	return &ticket.Sessions{
		Keys:   &ticket.Keyring{Algorithm: "HS256", Secrets: [][]byte{[]byte(sessionSecret)}, Rotate: sessionMax},
		Issuer: "http://" + brokerHost, Audience: audience, AppID: appID(0), Idle: sessionIdle, Max: sessionMax,
	}
}

// The gateway's own defaults: nothing is renewed while it is measured.
const (
	sessionIdle = 7 * 24 * time.Hour
	sessionMax  = 30 * 24 * time.Hour
)

// newTokens returns the tokens of n people who have just signed in at audience.
func newTokens(ctx context.Context, audience string, n int) ([]string, error) {
	sessions := newSessions(audience)
	tokens := make([]string, n)
	for i := range tokens {
		token, _, err := sessions.Sign(ctx, ticket.Session{
			Identity: ticket.Identity{OpenID: newOpenID(), AppID: appID(0), Scope: ticket.ScopeBase},
			ID:       ticket.SessionID(ticket.NewLoginID()), AuthTime: time.Now(),
		})
		if err != nil {
			return nil, err
		}
		tokens[i] = token
	}
	return tokens, nil
}

// newOpenID has the shape of WeChat's: 28 characters that begin with "o".
func newOpenID() string { return fmt.Sprintf("o%027x", rand.Uint64()) }

// forged returns tokens with other signatures, which are told by checking them alone.
func forged(tokens []string) []string {
	list := make([]string, len(tokens))
	for i, token := range tokens {
		cut := strings.LastIndexByte(token, '.') + 1
		list[i] = token[:cut] + fmt.Sprintf("%08x", rand.Uint32()) + token[cut+8:]
	}
	return list
}

// junk returns n cookies that are no tokens: half of them look like one from afar.
func junk(token string, n int) []string {
	header, _, _ := strings.Cut(token, ".")
	list := make([]string, n)
	for i := range list {
		text := strings.Repeat(fmt.Sprintf("%016x", rand.Uint64()), 12)
		if i%2 == 0 {
			text = header + "." + text + "." + text[:43]
		}
		list[i] = text
	}
	return list
}

func writeLines(path string, lines []string) error {
	return os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600)
}
