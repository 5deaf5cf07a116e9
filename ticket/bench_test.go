package ticket

import (
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// BenchmarkVerify: what a session's token costs that was not seen before, beside golang-jwt's own parser on the
// same token, with the checks that it can be told to make.
func BenchmarkVerify(b *testing.B) {
	for _, alg := range algorithms {
		k := newKeyring(b, newFakeStorage(), newClock(), alg)
		ss := newSessions(k)
		session := newSession(k)
		session.Nickname = "李娜🌸"
		token := mustSign(b, ss, session)
		b.Run(alg, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ss.Verify(b.Context(), token); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(alg+" by jwt.ParseWithClaims", func(b *testing.B) {
			key := k.keys().sign(k.now()).public
			b.ReportAllocs()
			for b.Loop() {
				_, err := jwt.ParseWithClaims(token, &sessionClaims{}, func(*jwt.Token) (any, error) { return key, nil },
					jwt.WithValidMethods([]string{alg}), jwt.WithIssuer(ss.Issuer), jwt.WithAudience(ss.Audience),
					jwt.WithExpirationRequired(), jwt.WithStrictDecoding(), jwt.WithTimeFunc(k.now))
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
