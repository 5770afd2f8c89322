package daemon

import "testing"

func TestRest(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	var r rest
	for i, look := range []struct {
		what            string
		allocated, live uint64 // MiB
		want            bool
	}{
		{"started", 50, 20, false},
		{"at rest", 51, 20, true},
		{"nothing new", 51, 20, false},
		{"sessions come", 151, 60, false},
		{"and more", 251, 100, false},
		{"they wait", 253, 100, true},
		{"health checks", 255, 100, false},
		{"and more of them", 257, 100, false},
		{"a quarter of what lives", 278, 100, false},
		{"at rest after that", 280, 100, true},
	} {
		if got := r.begins(look.allocated*mib, look.live*mib); got != look.want {
			t.Errorf("look %d, %s: got %v", i, look.what, got)
		}
	}
}

func TestGCPercent(t *testing.T) {
	t.Parallel()
	for live, want := range map[uint64]int{0: 400, 1 << 20: 400, 8 << 20: 400, 16 << 20: 200, 32 << 20: 100, 64 << 20: 50, 128 << 20: 25, 1 << 30: 25} {
		if got := gcPercent(live); got != want {
			t.Errorf("%d MiB: got %d, want %d", live>>20, got, want)
		}
	}
}
