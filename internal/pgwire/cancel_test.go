package pgwire

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"testing"
)

func TestCancelKeys(t *testing.T) {
	t.Parallel()
	var keys CancelKeys
	var called []string
	register := func(name string, pid uint32, minor uint16) ([]byte, func()) {
		return keys.Register(pid, minor, func(context.Context) error { called = append(called, name); return nil })
	}
	one, releaseOne := register("one", 7, 0)
	two, _ := register("two", 7, 2) // another server, same process id
	three, _ := register("three", 8, 0)
	if len(one) != 4 || len(two) != 32 {
		t.Errorf("secrets of %d and %d bytes", len(one), len(two))
	}
	tests := []struct {
		name   string
		pid    uint32
		secret []byte
		found  bool
	}{
		{"unknown process", 9, one, false},
		{"wrong secret", 7, []byte("????"), false},
		{"secret of another process", 7, three, false},
		{"empty secret", 7, nil, false},
		{"beginning of a long secret", 7, two[:4], false},
		{"one", 7, one, true},
		{"two", 7, two, true},
	}
	for _, tt := range tests {
		if found, err := keys.Cancel(t.Context(), nil, tt.pid, tt.secret); found != tt.found || err != nil {
			t.Errorf("%s: %v, %v", tt.name, found, err)
		}
	}
	releaseOne()
	releaseOne()
	if found, _ := keys.Cancel(t.Context(), nil, 7, one); found {
		t.Error("a released key still works")
	}
	if found, _ := keys.Cancel(t.Context(), nil, 7, two); !found {
		t.Error("release took another session's key with it")
	}
	if want := "one two two"; len(called) != 3 || called[0]+" "+called[1]+" "+called[2] != want {
		t.Errorf("called %v, want %s", called, want)
	}
}

func TestCancelKeysAllow(t *testing.T) {
	t.Parallel()
	from := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1)}
	allow := false
	keys := CancelKeys{Allow: func(a net.Addr) bool { return a == net.Addr(from) && allow }}
	fails := errors.New("server is gone")
	secret, release := keys.Register(1, 0, func(context.Context) error { return fails })
	defer release()
	if found, err := keys.Cancel(t.Context(), from, 1, secret); found || err != nil {
		t.Errorf("limited: %v, %v", found, err)
	}
	allow = true
	if found, err := keys.Cancel(t.Context(), from, 1, secret); !found || !errors.Is(err, fails) {
		t.Errorf("allowed: %v, %v", found, err)
	}
}

func TestCancelKeysConcurrently(t *testing.T) {
	t.Parallel()
	var keys CancelKeys
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for pid := range uint32(200) {
				mine := false
				secret, release := keys.Register(pid%3, uint16(pid%2)*2, func(context.Context) error { mine = true; return nil })
				given := bytes.Clone(secret)
				clear(secret) // the registry keeps its own copy
				if found, _ := keys.Cancel(t.Context(), nil, pid%3, given); !found || !mine {
					t.Errorf("own key: found %v, called %v", found, mine)
				}
				release()
			}
		})
	}
	wg.Wait()
	if len(keys.byPID) != 0 {
		t.Errorf("%d process ids are left", len(keys.byPID))
	}
}
