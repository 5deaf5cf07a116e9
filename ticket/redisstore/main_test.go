package redisstore

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	LogTo(func(string) {})
	os.Exit(m.Run())
}
