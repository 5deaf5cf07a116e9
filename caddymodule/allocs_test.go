package caddymodule

import (
	"net/http/httptest"
	"testing"
)

// What a warm request costs in allocations: the visit, the slice of the headers, the cookies that are left.
func TestWarmRequestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	a, b := warm(t)
	w := httptest.NewRecorder()
	got := testing.AllocsPerRun(200, func() { b.serve(t, a, w, done) })
	t.Logf("%v allocations", got)
	if got > 4 {
		t.Errorf("%v allocations, want 4 at most", got)
	}
}
