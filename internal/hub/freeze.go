package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/audit"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
	"github.com/postern-db/postern/internal/store"
)

// freezeKind is where it is kept which databases are frozen: beside the resources,
// whose view it is part of, also for databases of a configuration file.
const freezeKind = "freeze"

// freezeDatabase switches automatic users off. Doing it again changes the reason.
func (s *Server) freezeDatabase(ctx context.Context, who caller, in api.FreezeDatabaseRequest) (api.Empty, error) {
	if _, err := s.registered(in.Name); err != nil {
		return api.Empty{}, err
	}
	value, err := json.Marshal(api.Freeze{Since: time.Now().UTC().Truncate(time.Second), Reason: in.Reason})
	if err != nil {
		return api.Empty{}, fmt.Errorf("encode the freeze of %s: %w", in.Name, err)
	}
	txn := store.Txn{Puts: []store.Put{{Key: resourceKey(freezeKind, in.Name), Value: value}}}
	return api.Empty{}, s.commit(ctx, txn, audit.DatabaseFreeze{Actor: s.actor(who), Name: in.Name, Frozen: true, Reason: in.Reason})
}

func (s *Server) unfreezeDatabase(ctx context.Context, who caller, in api.UnfreezeDatabaseRequest) (api.Empty, error) {
	view, _ := s.View()
	if view.Frozen(in.Name) == nil {
		return api.Empty{}, fault.Newf(fault.NotFound, "database %q is not frozen", in.Name).WithHint("see what is with: postern ctl status")
	}
	txn := store.Txn{Deletes: []string{resourceKey(freezeKind, in.Name)}}
	return api.Empty{}, s.commit(ctx, txn, audit.DatabaseFreeze{Actor: s.actor(who), Name: in.Name})
}

// thaw adds to the deletion of a database what is kept about it.
func thaw(txn *store.Txn, kind, name string) {
	if kind == resource.KindDatabase {
		txn.Deletes = append(txn.Deletes, resourceKey(freezeKind, name))
	}
}

// Frozen says why automatic users of a database are switched off; nil when they
// are not.
func (v *View) Frozen(database string) *api.Freeze { return v.frozen[database] }

// decodeFreeze reads what is stored.
func decodeFreeze(value []byte) (*api.Freeze, error) {
	var f api.Freeze
	err := json.Unmarshal(value, &f)
	return &f, err
}
