package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/provision"
	"github.com/postern-db/postern/internal/resource"
)

// provision activates the database user, with exactly the rights of the decision.
// Where provisioning is off it does nothing: the database user exists already. A
// decision that turns it on was made for a database that has a provisioner.
func (s *session) provision(ctx context.Context) error {
	s.account = s.decision.DatabaseUser
	if !s.decision.Mode.Enabled() {
		return nil
	}
	if err := s.agent.frozen(s.database.resource.GetName()); err != nil {
		return err
	}
	lease, err := s.activate(ctx)
	if s.bundle != nil && errors.Is(err, provision.ErrBundleGone) {
		s.releaseBundle()
		lease, err = s.activate(ctx)
	}
	if err != nil {
		s.userCreated(ctx, nil, err)
		return err
	}
	s.lease, s.account = lease, lease.User()
	s.hold(s.decision.DatabaseRoles, s.decision.DatabaseRoles, s.decision.Permissions)
	s.userCreated(ctx, lease, nil)
	return nil
}

// activate makes the bundle, then the account that holds it.
func (s *session) activate(ctx context.Context) (*provision.Lease, error) {
	if err := s.prepareBundle(ctx); err != nil {
		return nil, err
	}
	want := wantOf(s.decision, s.provisioningDatabase())
	want.Bundle = roleOf(s.bundle)
	want.Replication = s.replication() != access.NoReplication && s.database.resource.Type() != resource.TypeRDS
	want.Chosen = s.identity.Route.DatabaseRole != nil
	lease, err := s.database.provisioner.Activate(ctx, want)
	if err != nil {
		return nil, s.activationError(err)
	}
	return lease, nil
}

// provisioningDatabase returns the logical database in which the admin works for
// the session, unless it has a default one: accounts belong to the whole server.
func (s *session) provisioningDatabase() string {
	if s.replication() == access.PhysicalReplication {
		return "postgres"
	}
	return s.startup.Database()
}

// wantOf returns what a decision needs beside its bundle.
func wantOf(d access.Decision, dbname string) provision.Want {
	return provision.Want{
		User:         d.DatabaseUser,
		Roles:        d.DatabaseRoles,
		Mode:         provisionMode(d.Mode),
		DatabaseName: dbname,
		Alone:        d.Limits.ParallelSets == resource.ParallelRefuse,
	}
}

// activationError says what was tried, and keeps the kind, the SQLSTATE and the
// hint of what went wrong.
func (s *session) activationError(err error) error {
	f := fault.Of(err)
	text := fmt.Sprintf("your role requires automatic database user provisioning but an attempt to activate database user %q failed due to the following error: %s",
		s.decision.DatabaseUser, f.Text)
	wrapped := *f
	wrapped.Text, wrapped.Cause = text, err
	return &wrapped
}

func provisionMode(m resource.CreateUserMode) provision.Mode {
	switch m {
	case resource.ModeBestEffortDrop:
		return provision.Drop
	case resource.ModeBestEffortReassignAndDrop:
		return provision.Reassign
	case resource.ModeUnspecified, resource.ModeOff, resource.ModeKeep:
	}
	return provision.Keep
}
