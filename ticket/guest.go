package ticket

import (
	"context"
	"fmt"
	"time"
)

// GuestLife is how long a snapshot visitor may look around.
const GuestLife = 10 * time.Minute

// SignGuest returns a token that lets a snapshot visitor read this site, without a name.
func (ss *Sessions) SignGuest(ctx context.Context) (string, error) {
	now := ss.Keys.now()
	token, err := ss.Keys.sign(ctx, typGuest, &registered{ss.Issuer, ss.Audience, now.Unix(), now.Add(GuestLife).Unix()})
	if err != nil {
		return "", fmt.Errorf("signing a guest: %w", err)
	}
	return token, nil
}

// VerifyGuest returns nil if token is a guest's of this site, else ErrToken.
func (ss *Sessions) VerifyGuest(ctx context.Context, token string) error {
	return ss.Keys.verify(ctx, typGuest, token, &registered{}, ss.valid())
}
