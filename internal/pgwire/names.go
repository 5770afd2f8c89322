package pgwire

import "iter"

// byName holds what names stand for. The unnamed one, which drivers make anew for each
// statement, needs no map.
type byName[T any] struct {
	unnamed *T
	named   map[string]*T
}

// get returns nil for a name that stands for nothing.
func (b *byName[T]) get(name string) *T {
	if name == "" {
		return b.unnamed
	}
	return b.named[name]
}

func (b *byName[T]) set(name string, v *T) {
	switch {
	case name == "":
		b.unnamed = v
	case b.named == nil:
		b.named = map[string]*T{name: v}
	default:
		b.named[name] = v
	}
}

func (b *byName[T]) drop(name string) {
	if name == "" {
		b.unnamed = nil
		return
	}
	delete(b.named, name)
}

// all yields all names; they may be dropped meanwhile.
func (b *byName[T]) all() iter.Seq2[string, *T] {
	return func(yield func(string, *T) bool) {
		if b.unnamed != nil && !yield("", b.unnamed) {
			return
		}
		for name, v := range b.named {
			if !yield(name, v) {
				return
			}
		}
	}
}
