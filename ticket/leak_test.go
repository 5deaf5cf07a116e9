package ticket

import (
	"testing"

	"go.uber.org/goleak"
)

// Nothing of this package runs on its own: what was begun in a test has ended with it.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// Looks every five seconds whether the lock that it keeps fresh was given back, and ends then.
		goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"))
}
