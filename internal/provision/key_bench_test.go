package provision

import "testing"

// BenchmarkKey is what an agent computes for the secret of one login. Deriving it
// from a password instead is what it would compute twice: once for the verifier and
// once for the proof.
func BenchmarkKey(b *testing.B) {
	b.Run("random", func(b *testing.B) {
		for b.Loop() {
			newKey()
		}
	})
	b.Run("derived", func(b *testing.B) {
		for b.Loop() {
			if _, _, err := NewPassword(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
