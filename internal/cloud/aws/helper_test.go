package aws_test

import (
	"testing"
	"time"
)

// eventually waits for a condition; why says what is missing.
func eventually(t *testing.T, condition func() bool, why func() string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", why())
		}
	}
}
