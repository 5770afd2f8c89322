package hub

import (
	"context"
	"fmt"
	"time"

	"github.com/postern-db/postern/internal/ca"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/store"
)

const (
	clusterKey      = "cluster"
	authorityPrefix = "authority/"
)

// authorities are the four of the cluster.
type authorities struct {
	user, host, database, databaseClient *ca.Authority
}

// openCluster returns the authorities of the cluster, made on first start. The
// name of a cluster is in every certificate, so it cannot change afterwards.
func openCluster(ctx context.Context, st store.Store, name string, now func() time.Time) (authorities, error) {
	entry, err := st.Get(ctx, clusterKey)
	if fault.KindOf(err) == fault.NotFound {
		return foundCluster(ctx, st, name, now)
	}
	if err != nil {
		return authorities{}, fmt.Errorf("read the cluster name: %w", err)
	}
	if kept := string(entry.Value); kept != name {
		return authorities{}, fault.Newf(fault.Invalid, "this data directory belongs to cluster %q, not %q", kept, name).
			WithHint("set hub.cluster_name back, or use another data_dir")
	}
	byKind := map[ca.Kind]*ca.Authority{}
	for _, kind := range ca.Kinds() {
		entry, err := st.Get(ctx, authorityPrefix+string(kind))
		if err != nil {
			return authorities{}, fmt.Errorf("read the %s authority: %w", kind, err)
		}
		if byKind[kind], err = ca.Load(entry.Value, now); err != nil {
			return authorities{}, fmt.Errorf("read the %s authority: %w", kind, err)
		}
	}
	return pick(byKind), nil
}

// foundCluster makes all authorities in one transaction with the name, so that a
// crash leaves either a whole cluster or none.
func foundCluster(ctx context.Context, st store.Store, name string, now func() time.Time) (authorities, error) {
	txn := store.Txn{
		Conds: []store.Cond{{Key: clusterKey}},
		Puts:  []store.Put{{Key: clusterKey, Value: []byte(name)}},
	}
	byKind := map[ca.Kind]*ca.Authority{}
	for _, kind := range ca.Kinds() {
		a, err := ca.New(kind, name, now)
		if err != nil {
			return authorities{}, fmt.Errorf("make the %s authority: %w", kind, err)
		}
		data, err := a.Marshal()
		if err != nil {
			return authorities{}, fmt.Errorf("make the %s authority: %w", kind, err)
		}
		byKind[kind] = a
		txn.Puts = append(txn.Puts, store.Put{Key: authorityPrefix + string(kind), Value: data})
	}
	if _, err := st.Txn(ctx, txn); err != nil {
		return authorities{}, fmt.Errorf("save the authorities: %w", err)
	}
	return pick(byKind), nil
}

func pick(byKind map[ca.Kind]*ca.Authority) authorities {
	return authorities{user: byKind[ca.User], host: byKind[ca.Host], database: byKind[ca.Database], databaseClient: byKind[ca.DatabaseClient]}
}

// byExportName returns the authority that `auth export --type` names.
func (a authorities) byExportName(name string) (*ca.Authority, error) {
	switch name {
	case "user":
		return a.user, nil
	case "host":
		return a.host, nil
	case "db":
		return a.database, nil
	case "db-client", "db_client":
		return a.databaseClient, nil
	}
	return nil, fault.Newf(fault.Invalid, "there is no certificate authority %q", name).
		WithHint("use --type=user, host, db or db-client")
}
