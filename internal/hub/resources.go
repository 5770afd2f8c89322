package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/audit"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
	"github.com/postern-db/postern/internal/store"
)

// maxResourcesPerCall bounds one transaction.
const maxResourcesPerCall = 1000

// putResources creates or replaces resources, all of them or none. They are
// checked here again, whatever the client did.
func (s *Server) putResources(ctx context.Context, who caller, in api.PutResourcesRequest) (api.PutResourcesResponse, error) {
	var out api.PutResourcesResponse
	if len(in.Resources) == 0 || len(in.Resources) > maxResourcesPerCall {
		return out, fault.Newf(fault.Invalid, "between 1 and %d resources can be put at once", maxResourcesPerCall)
	}
	var txn store.Txn
	var changes []audit.Event
	var unmet []string // what they ask for, and nobody can do
	for _, item := range in.Resources {
		r, err := resource.DecodeJSON(item.Kind, item.Body)
		if err != nil {
			return out, err
		}
		if slices.ContainsFunc(out.Results, func(p api.PutResult) bool { return p.Kind == r.GetKind() && p.Name == r.GetName() }) {
			return out, fault.Newf(fault.Invalid, "%s %q is there twice", r.GetKind(), r.GetName()).WithHint("keep one of the two")
		}
		current, err := s.revision(ctx, r.GetKind(), r.GetName())
		if err != nil {
			return out, err
		}
		if err := mayReplace(r, current, item.Revision, in.Replace); err != nil {
			return out, err
		}
		value, err := json.Marshal(r)
		if err != nil {
			return out, fmt.Errorf("encode %s %s: %w", r.GetKind(), r.GetName(), err)
		}
		key := resourceKey(r.GetKind(), r.GetName())
		txn.Conds = append(txn.Conds, store.Cond{Key: key, Rev: current})
		txn.Puts = append(txn.Puts, store.Put{Key: key, Value: value, Expires: r.GetMetadata().Expires.Std()})
		changes = append(changes, s.change(who, r.GetKind(), r.GetName(), current))
		unmet = append(unmet, warnSecondFactor(r)...)
		out.Results = append(out.Results, api.PutResult{Kind: r.GetKind(), Name: r.GetName(), Created: current == 0})
		if d, ok := r.(*resource.Database); ok && in.Check {
			unmet = append(unmet, s.warnUnserved(d)...)
		}
	}
	if in.Check {
		out.Warnings = unmet
		return out, nil
	}
	if err := s.commit(ctx, txn, changes...); fault.KindOf(err) == fault.Conflict {
		return api.PutResourcesResponse{}, fault.Newf(fault.Conflict, "nothing was changed: somebody else changed one of these resources at the same moment").
			WithCause(err).WithHint("run it again")
	} else if err != nil {
		return api.PutResourcesResponse{}, err
	}
	out.Warnings = append(s.warningsAbout(out.Results), unmet...)
	return out, nil
}

// mayReplace refuses what would overwrite something unseen.
func mayReplace(r resource.Resource, current, expected int64, replace bool) error {
	switch {
	case expected != 0 && expected != current:
		return fault.Newf(fault.Conflict, "%s %q was changed by somebody else meanwhile", r.GetKind(), r.GetName()).
			WithHint("get it again and repeat the change")
	case current != 0 && expected == 0 && !replace:
		return fault.Newf(fault.Conflict, "%s %q already exists", r.GetKind(), r.GetName()).
			WithHint("replace it with: postern ctl create --force -f FILE")
	}
	return nil
}

// change describes what is about to happen to a resource for the audit log.
func (s *Server) change(who caller, kind, name string, current int64) audit.ResourceChange {
	what := audit.Created
	if current != 0 {
		what = audit.Updated
	}
	return audit.ResourceChange{Actor: s.actor(who), Kind: audit.ResourceKind(kind), Change: what, Name: name}
}

func (s *Server) actor(who caller) audit.Actor {
	return audit.Actor{User: who.name(), UserKind: audit.Human, RemoteAddr: who.addr}
}

// commit puts the changes on record, makes them, and returns when every decision
// from now on is made with them.
func (s *Server) commit(ctx context.Context, txn store.Txn, changes ...audit.Event) error {
	for _, c := range changes {
		if err := s.cfg.Audit.Emit(ctx, c); err != nil {
			return err
		}
	}
	if _, err := s.cfg.Store.Txn(ctx, txn); err != nil {
		return err
	}
	return s.views.refresh(context.WithoutCancel(ctx))
}

// revision returns the current revision of a resource; zero when there is none.
func (s *Server) revision(ctx context.Context, kind, name string) (int64, error) {
	entry, err := s.cfg.Store.Get(ctx, resourceKey(kind, name))
	if fault.KindOf(err) == fault.NotFound && err != nil {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return entry.Rev, nil
}

func (s *Server) listResources(ctx context.Context, _ caller, in api.ListResourcesRequest) (api.ListResourcesResponse, error) {
	out := api.ListResourcesResponse{Resources: []api.Resource{}}
	if err := knownKind(in.Kind); err != nil {
		return out, err
	}
	if in.Name != "" {
		entry, err := s.cfg.Store.Get(ctx, resourceKey(in.Kind, in.Name))
		if err != nil {
			return out, s.missing(err, in.Kind, in.Name)
		}
		out.Resources = append(out.Resources, stored(in.Kind, entry))
		return out, nil
	}
	entries, _, err := s.cfg.Store.List(ctx, resourceKey(in.Kind, ""))
	if err != nil {
		return out, err
	}
	for _, e := range entries {
		out.Resources = append(out.Resources, stored(in.Kind, e))
	}
	return out, nil
}

func stored(kind string, e store.Entry) api.Resource {
	return api.Resource{Kind: kind, Name: strings.TrimPrefix(e.Key, resourceKey(kind, "")), Body: e.Value, Revision: e.Rev}
}

// deleteResource removes a resource. A user takes the password along.
func (s *Server) deleteResource(ctx context.Context, who caller, in api.DeleteResourceRequest) (api.Empty, error) {
	if err := knownKind(in.Kind); err != nil {
		return api.Empty{}, err
	}
	key := resourceKey(in.Kind, in.Name)
	entry, err := s.cfg.Store.Get(ctx, key)
	if err != nil {
		return api.Empty{}, s.missing(err, in.Kind, in.Name)
	}
	txn := store.Txn{Conds: []store.Cond{{Key: key, Rev: entry.Rev}}, Deletes: []string{key}}
	if in.Kind == resource.KindUser {
		txn.Deletes = append(txn.Deletes, signinKey(in.Name))
	}
	thaw(&txn, in.Kind, in.Name)
	change := s.change(who, in.Kind, in.Name, entry.Rev)
	change.Change = audit.Deleted
	return api.Empty{}, s.commit(ctx, txn, change)
}

func knownKind(kind string) error {
	if slices.Contains(resource.Kinds(), kind) {
		return nil
	}
	return fault.Newf(fault.Invalid, "there is no kind of resource %q", kind).
		WithHint("kinds: " + strings.Join(resource.Kinds(), ", "))
}

// missing gives an error of the store the words of the user.
func (s *Server) missing(err error, kind, name string) error {
	if fault.KindOf(err) != fault.NotFound {
		return err
	}
	return fault.Newf(fault.NotFound, "%s %q not found", kind, name).WithHint("list them with: postern ctl get " + kind)
}
