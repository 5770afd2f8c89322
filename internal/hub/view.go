package hub

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/resource"
	"github.com/postern-db/postern/internal/store"
)

// resourcePrefix is where resources live in the store: resource/<kind>/<name>.
const resourcePrefix = "resource/"

func resourceKey(kind, name string) string { return resourcePrefix + kind + "/" + name }

// View is an immutable picture of all resources, compiled for decisions. It is
// safe for concurrent use.
type View struct {
	policy    *access.Policy
	databases []*resource.Database // sorted by name
	users     map[string]*resource.User
	frozen    map[string]*api.Freeze // by name of the database
}

// Decisions returns the roles, compiled.
func (v *View) Decisions() *access.Policy { return v.policy }

// Databases returns the resources of kind db, sorted by name.
func (v *View) Databases() []*resource.Database { return v.databases }

// User returns a user by name.
func (v *View) User(name string) (*resource.User, bool) {
	u, ok := v.users[name]
	return u, ok
}

// Users returns all users, sorted by name.
func (v *View) Users() []*resource.User {
	users := make([]*resource.User, 0, len(v.users))
	for _, name := range slices.Sorted(maps.Keys(v.users)) {
		users = append(users, v.users[name])
	}
	return users
}

// views keeps the current View equal to the store.
type views struct {
	store store.Store

	mu        sync.Mutex // guards the fields below
	resources map[string]resource.Resource
	frozen    map[string]*api.Freeze // replaced, never changed
	cursor    store.Cursor
	current   *View
	replaced  chan struct{} // closed when current is replaced
}

// openViews reads all resources. A resource that this version cannot read stops
// it: the rule it holds may be the one that denies.
func openViews(ctx context.Context, st store.Store) (*views, error) {
	v := &views{store: st, resources: map[string]resource.Resource{}, replaced: make(chan struct{})}
	if err := v.refresh(ctx); err != nil {
		return nil, err
	}
	return v, nil
}

// get returns the current view and a channel that is closed when a newer one is there.
func (v *views) get() (*View, <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.current, v.replaced
}

// refresh brings the view up to what the store holds now.
func (v *views) refresh(ctx context.Context) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	delta, err := v.store.Changes(ctx, resourcePrefix, v.cursor)
	if err != nil {
		return fmt.Errorf("read resources: %w", err)
	}
	if v.current != nil && !delta.Full && len(delta.Entries) == 0 {
		v.cursor = delta.Cursor
		return nil
	}
	next, frozen := map[string]resource.Resource{}, map[string]*api.Freeze{}
	if !delta.Full {
		maps.Copy(next, v.resources)
		maps.Copy(frozen, v.frozen)
	}
	for _, e := range delta.Entries {
		kind, name, _ := strings.Cut(strings.TrimPrefix(e.Key, resourcePrefix), "/")
		if e.Deleted {
			delete(next, e.Key)
			if kind == freezeKind {
				delete(frozen, name)
			}
			continue
		}
		if kind == freezeKind {
			if frozen[name], err = decodeFreeze(e.Value); err != nil {
				return fmt.Errorf("read stored freeze of %s: %w", name, err)
			}
			continue
		}
		r, err := resource.DecodeJSON(kind, e.Value)
		if err != nil {
			return fmt.Errorf("read stored resource %s: %w", strings.TrimPrefix(e.Key, resourcePrefix), err)
		}
		next[e.Key] = r
	}
	v.resources, v.frozen, v.cursor, v.current = next, frozen, delta.Cursor, compile(next)
	v.current.frozen = frozen
	close(v.replaced)
	v.replaced = make(chan struct{})
	return nil
}

// watchPause is between attempts to read a store that fails.
const watchPause = time.Second

// watch follows changes that did not come through this process, such as expiry.
func (v *views) watch(ctx context.Context, failed func(error)) {
	for ctx.Err() == nil {
		v.mu.Lock()
		since := v.cursor
		v.mu.Unlock()
		for _, err := range v.store.Watch(ctx, resourcePrefix, since) {
			if err == nil {
				err = v.refresh(ctx)
			}
			if err != nil && ctx.Err() == nil {
				failed(err)
				select {
				case <-ctx.Done():
				case <-time.After(watchPause):
				}
			}
		}
	}
}

func compile(all map[string]resource.Resource) *View {
	view := &View{users: map[string]*resource.User{}}
	var in access.Input
	for _, key := range slices.Sorted(maps.Keys(all)) {
		switch r := all[key].(type) {
		case *resource.User:
			view.users[r.GetName()] = r
		case *resource.Database:
			view.databases = append(view.databases, r)
		default:
			in.Add(r)
		}
	}
	view.policy = access.NewPolicy(in)
	return view
}
