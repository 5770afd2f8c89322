package store

import (
	"context"
	"iter"
	"strings"
	"sync"

	"github.com/postern-db/postern/internal/fault"
)

// Watch implements [Store].
func (s *SQLite) Watch(ctx context.Context, prefix string, since Cursor) iter.Seq2[Delta, error] {
	return func(yield func(Delta, error) bool) {
		b := s.bells.hang(prefix) // before reading, so that no change falls between
		defer s.bells.takeDown(b)
		for {
			delta, err := s.Changes(ctx, prefix, since)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				yield(Delta{}, err)
				return
			}
			if (delta.Full || len(delta.Entries) > 0) && !yield(delta, nil) {
				return
			}
			since = delta.Cursor
			select {
			case <-b.rung:
			case <-ctx.Done():
				return
			case <-s.closing:
				yield(Delta{}, fault.New(fault.Unavailable, "the state store is closed"))
				return
			}
		}
	}
}

// bells wakes watchers. The zero value is ready to use.
type bells struct {
	mu  sync.Mutex // guards all
	all map[*bell]struct{}
}

// bell wakes one watcher; rung holds at most one wake-up, which is enough
// because a watcher always looks for everything that is new.
type bell struct {
	prefix string
	rung   chan struct{}
}

func (b *bells) hang(prefix string) *bell {
	n := &bell{prefix: prefix, rung: make(chan struct{}, 1)}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.all == nil {
		b.all = map[*bell]struct{}{}
	}
	b.all[n] = struct{}{}
	return n
}

func (b *bells) takeDown(n *bell) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.all, n)
}

// ring wakes every watcher of one of keys.
func (b *bells) ring(keys []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for n := range b.all {
		for _, key := range keys {
			if strings.HasPrefix(key, n.prefix) {
				select {
				case n.rung <- struct{}{}:
				default:
				}
				break
			}
		}
	}
}
