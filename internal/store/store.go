// Package store saves the state of a cluster: resources, authorities, sign-in
// records, invitations.
//
// The model is that of etcd, made small. State is a set of keys, each with the
// revision of its last change; revisions count the transactions of the whole
// store. [Store.Txn] changes several keys at once if its conditions hold.
// [Store.Watch] is level-triggered: it promises to bring a watcher to the latest
// state of every key, not to show every state in between.
//
// [Open] opens the SQLite store, which is the default. A PostgreSQL store for
// several hubs follows the same interface and the same suite, storetest.
package store

import (
	"context"
	"iter"
	"time"
)

// Store is the state of a cluster. All methods are safe for concurrent use.
//
// Faults: Invalid for keys, values and transactions that can never be accepted,
// Unavailable when the storage behind it fails or is closed, and those that the
// methods name. When ctx ends first, the error wraps ctx.Err(); a Txn may then
// have happened or not.
type Store interface {
	// Get returns the entry of key, or NotFound.
	Get(ctx context.Context, key string) (Entry, error)
	// List returns the entries whose keys start with prefix, in order of keys,
	// and the cursor from which Changes and Watch go on without a gap.
	List(ctx context.Context, prefix string) ([]Entry, Cursor, error)
	// Txn makes all changes of t or none, and returns the revision that the
	// changed keys now have. It is durable on return. When a condition does not
	// hold, the fault is Conflict.
	Txn(ctx context.Context, t Txn) (rev int64, err error)
	// Changes returns what changed under prefix since a cursor, at once.
	Changes(ctx context.Context, prefix string, since Cursor) (Delta, error)
	// Watch yields a delta whenever there is one, starting with what changed
	// since the cursor: everything, for the zero Cursor. The sequence ends when
	// ctx ends; an error ends it too, and watching goes on with a new Watch from
	// the last cursor.
	Watch(ctx context.Context, prefix string, since Cursor) iter.Seq2[Delta, error]
	// Close ends all watches and releases the storage. A second Close does nothing.
	Close() error
}

// Entry is one key and what is known of it.
type Entry struct {
	Key     string
	Value   []byte
	Rev     int64     // revision of the transaction that wrote it
	Version int64     // how often it was written since it was created
	Expires time.Time // when it goes by itself, in whole milliseconds; zero: never
	Deleted bool      // only in a Delta: the key is gone, and Value with it
}

// Cursor is a point in the history of a store. Its parts are for the store.
type Cursor struct {
	Epoch string `json:"epoch"` // revisions of different epochs do not compare
	Rev   int64  `json:"rev"`
}

// Delta leads from one Cursor to the next.
type Delta struct {
	// Full says that Entries is everything there is under the prefix: the
	// receiver forgets what it had. It happens at the start, and when the store
	// cannot know any more what changed since the cursor.
	Full    bool
	Entries []Entry // in order of keys; one per changed key, with its latest state
	Cursor  Cursor
}

// Txn is a set of changes that happen together. A key may be changed once.
type Txn struct {
	Conds   []Cond
	Puts    []Put
	Deletes []string // deleting a key that does not exist changes nothing
}

// Cond holds when Key has revision Rev; zero means that Key does not exist.
type Cond struct {
	Key string
	Rev int64
}

// Put writes Value to Key.
type Put struct {
	Key     string
	Value   []byte
	Expires time.Time // when the entry goes by itself; zero: never
}
