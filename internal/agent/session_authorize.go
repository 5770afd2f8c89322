package agent

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/pgwire"
	"github.com/postern-db/postern/internal/resource"
)

// authorizeTimeout bounds the wait for the first values of dynamic labels.
const authorizeTimeout = 15 * time.Second

// authorize decides on the resources as they are now, not as they were when the
// certificate was issued. It acquires s.database, which finish gives back.
func (s *session) authorize(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, authorizeTimeout)
	defer cancel()
	s.started = s.agent.now()
	if err := s.agent.acquire(s, s.identity.Route.Database); err != nil {
		return err
	}
	return s.decide(ctx)
}

func (s *session) decide(ctx context.Context) (err error) {
	if err := s.database.labels.wait(ctx); err != nil {
		return fault.New(fault.Unavailable, "the labels of the database are not known yet").WithHint("Try again in a moment.")
	}
	for admitted := false; !admitted; {
		s.view, _ = s.agent.cfg.View()
		s.relabels = s.agent.relabels.Load()
		if s.decision, err = s.evaluate(s.view, s.database); err != nil {
			return err
		}
		if err := s.checkRoute(); err != nil {
			return err
		}
		if err := s.checkParams(); err != nil {
			return err
		}
		if admitted, err = s.agent.admitConnection(s); err != nil {
			return err
		}
	}
	return nil
}

// evaluate decides on the session with the resources of a view. It changes
// nothing, and may be called from elsewhere while the session runs.
func (s *session) evaluate(view View, d *database) (access.Decision, error) {
	user, err := s.liveUser(view)
	if err != nil {
		return access.Decision{}, err
	}
	decision := view.Decisions().Decide(access.Request{
		User:          s.identity.User,
		Roles:         user.Spec.Roles,
		Traits:        user.Spec.Traits,
		Database:      d.resource,
		Labels:        d.labels.effective(),
		DatabaseUser:  s.startup.User(),
		DatabaseName:  s.databaseName(),
		Replication:   s.replication(),
		DatabaseRoles: s.identity.Route.DatabaseRole,
	})
	return decision, decision.Err()
}

// liveUser returns the user that the certificate names. One that was deleted
// since is refused, whatever the certificate says.
func (s *session) liveUser(view View) (*resource.User, error) {
	if s.identity.Cluster != s.agent.cfg.Cluster {
		return nil, fault.Newf(fault.Denied, "users of cluster %q are not known here", s.identity.Cluster)
	}
	user, ok := view.User(s.identity.User)
	if !ok {
		return nil, fault.Newf(fault.Denied, "user %q does not exist any more", s.identity.User)
	}
	return user, nil
}

// checkRoute refuses a start-up message that asks for another database user or
// name than the certificate was issued for.
func (s *session) checkRoute() error {
	route := s.identity.Route
	hint := "connect with: postern db connect " + route.Database
	if want, got := route.DatabaseUser, s.startup.User(); want != "" && want != got {
		return fault.Newf(fault.Denied, "this certificate is for database user %q, not %q", want, got).WithHint(hint)
	}
	if want, got := route.DatabaseName, s.databaseName(); want != "" && want != got {
		return fault.Newf(fault.Denied, "this certificate is for database name %q, not %q", want, got).
			WithHint(fmt.Sprintf("%s --db-name=%s", hint, got))
	}
	return nil
}

// databaseName returns what is asked for, by the name that policy knows it by:
// physical replication reads every logical database, whatever name came with it.
func (s *session) databaseName() string {
	if s.replication() == access.PhysicalReplication {
		return access.PhysicalName
	}
	return s.startup.Database()
}

// replication returns which replication connection is asked for.
func (s *session) replication() access.Replication {
	switch kind, _ := s.startup.Replication(); kind {
	case pgwire.LogicalReplication:
		return access.LogicalReplication
	case pgwire.PhysicalReplication:
		return access.PhysicalReplication
	case pgwire.NoReplication:
	}
	return access.NoReplication
}

// checkParams refuses start-up parameters that change who the session is. All
// others pass unchanged: whatever they set, the person could SET anyway. Whether it
// is a replication connection is part of the decision.
func (s *session) checkParams() error {
	for _, p := range s.startup.Params {
		if sets(p, "session_authorization") {
			return fault.New(fault.Denied, "the start-up parameter session_authorization is not allowed").
				WithHint("Connect as yourself; use SET ROLE inside the session.")
		}
	}
	return nil
}

// sets reports whether a start-up parameter sets the setting, by its own name or
// among command-line options. As PostgreSQL reads those, a backslash escapes the
// next character and a hyphen in a name is an underscore. A mention of the name
// anywhere in the options counts.
func sets(p pgwire.Param, setting string) bool {
	if p.Name != "options" {
		return strings.EqualFold(p.Name, setting)
	}
	plain := strings.NewReplacer(`\`, "", "-", "_").Replace(strings.ToLower(p.Value))
	return strings.Contains(plain, setting)
}
