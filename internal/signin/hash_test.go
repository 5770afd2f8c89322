package signin

import (
	"testing"

	"github.com/alexedwards/argon2id"
)

// Unknown users get the same work as known ones only as long as the dummy hash
// has the parameters of real ones.
func TestDummyHasTheSameParameters(t *testing.T) {
	t.Parallel()
	h, err := newHasher(1, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	real, err := h.hash(t.Context(), "correct horse battery")
	if err != nil {
		t.Fatal(err)
	}
	for name, hash := range map[string]string{"dummy": h.dummy, "real": real} {
		got, _, _, err := argon2id.DecodeHash(hash)
		if err != nil || *got != *params() {
			t.Errorf("%s: parameters %+v, %v; want %+v", name, got, err, params())
		}
	}
	if ok, err := h.compare(t.Context(), "", ""); ok || err != nil {
		t.Errorf("no hash matches no password: %v, %v", ok, err)
	}
}

func BenchmarkCompare(b *testing.B) {
	h, err := newHasher(0, 0, 0)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := h.compare(b.Context(), "correct horse battery", ""); err != nil {
			b.Fatal(err)
		}
	}
}
