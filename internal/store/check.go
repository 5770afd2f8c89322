package store

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/postern-db/postern/internal/fault"
)

// Limits of what a store accepts, the same for every store. They keep one
// careless caller from making the state too big to list and to back up.
const (
	MaxKey     = 1 << 10 // bytes
	MaxValue   = 1 << 20 // bytes
	MaxChanges = 512     // conditions, puts and deletes in one transaction
)

// prefixEnd is appended to a prefix to get a key that sorts after all keys with
// that prefix. It is the highest code point, not a character, refused in keys.
const prefixEnd = "\U0010FFFF"

func checkKey(key string) error {
	switch {
	case key == "":
		return fault.New(fault.Invalid, "the key is empty")
	case len(key) > MaxKey:
		return fault.Newf(fault.Invalid, "the key is longer than %d bytes", MaxKey)
	}
	return checkPrefix(key)
}

func checkPrefix(prefix string) error {
	if len(prefix) > MaxKey || !utf8.ValidString(prefix) || strings.ContainsFunc(prefix, unicode.IsControl) ||
		strings.Contains(prefix, prefixEnd) {
		return fault.New(fault.Invalid, "the key is not printable text of reasonable length")
	}
	return nil
}

func (t Txn) check() error {
	if n := len(t.Conds) + len(t.Puts) + len(t.Deletes); n > MaxChanges {
		return fault.Newf(fault.Invalid, "the transaction has %d parts, limit %d", n, MaxChanges)
	}
	for _, c := range t.Conds {
		if err := checkKey(c.Key); err != nil {
			return err
		}
		if c.Rev < 0 {
			return fault.Newf(fault.Invalid, "the condition on %s has a negative revision", c.Key)
		}
	}
	changed := map[string]bool{}
	change := func(key string) error {
		if err := checkKey(key); err != nil {
			return err
		}
		if changed[key] {
			return fault.Newf(fault.Invalid, "the transaction changes %s twice", key)
		}
		changed[key] = true
		return nil
	}
	for _, p := range t.Puts {
		if err := change(p.Key); err != nil {
			return err
		}
		if len(p.Value) > MaxValue {
			return fault.Newf(fault.Invalid, "the value of %s is larger than %d bytes", p.Key, MaxValue)
		}
	}
	for _, key := range t.Deletes {
		if err := change(key); err != nil {
			return err
		}
	}
	return nil
}
