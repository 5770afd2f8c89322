package agent

import (
	"context"
	"strings"
	"time"

	"github.com/postern-db/postern/internal/audit"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/provision"
)

// next returns what every event of the session carries, and counts the event.
func (s *session) next() audit.Session {
	e := s.who()
	e.Index = s.events.Add(1) - 1
	return e
}

// who returns what all events of the session say about it.
func (s *session) who() audit.Session {
	return audit.Session{
		Actor: audit.Actor{User: s.identity.User, UserKind: audit.Human, RemoteAddr: s.conn.RemoteAddr().String()},
		ID:    s.id, ServerID: s.agent.cfg.Cluster,
	}
}

// auditDatabase returns what events say about the database.
func (s *session) auditDatabase() audit.Database {
	name, user := "", ""
	if s.startup != nil {
		name, user = s.databaseName(), s.startup.User()
	}
	if s.database == nil {
		return audit.Database{Service: s.identity.Route.Database, DatabaseName: name, DatabaseUser: user}
	}
	d := s.database.audited()
	d.DatabaseName, d.DatabaseUser, d.Roles = name, user, s.decision.DatabaseRoles
	return d
}

// originLabel says where a registered database comes from, such as cloud.
const originLabel = "teleport.dev/origin"

// audited returns what events say about a database, whoever uses it.
func (d *database) audited() audit.Database {
	r := d.resource
	return audit.Database{
		Service: r.GetName(), Protocol: r.Spec.Protocol, URI: r.Spec.URI, Type: string(r.Type()), Origin: r.Metadata.Labels[originLabel],
	}
}

// recordAuthorized puts on record that the session was let in, while PostgreSQL is being
// reached; what becomes of that is sent to s.authorized.
func (s *session) recordAuthorized(ctx context.Context) {
	event := audit.DatabaseSessionAuthorize{Session: s.next(), Database: s.auditDatabase()}
	s.authorized = make(chan error, 1)
	durable, err := s.agent.cfg.Audit.Submit(ctx, event) // here, so that no later event comes before it
	if err != nil {
		s.authorized <- err
		return
	}
	go func() { s.authorized <- durable(ctx) }()
}

// sessionStarted puts the start of the session on record.
func (s *session) sessionStarted(ctx context.Context) error {
	agent, _ := s.startup.Get("application_name")
	err := s.agent.cfg.Audit.Post(ctx, audit.DatabaseSessionStart{
		Session: s.next(), Database: s.auditDatabase(), Outcome: audit.Outcome{Success: true},
		PID: s.backend.PID, UserAgent: agent,
	})
	if err != nil {
		return err
	}
	s.recorded = true
	return nil
}

// refused puts a session that did not come about on record, and tells the client why.
func (s *session) refused(ctx context.Context, err error) {
	if why := s.endReason(); why != nil {
		err = why
	}
	agent, _ := s.startup.Get("application_name")
	recordErr := s.agent.cfg.Audit.Emit(ctx, audit.DatabaseSessionStart{
		Session: s.next(), Database: s.auditDatabase(), Outcome: audit.OutcomeOf(err), UserAgent: agent,
	})
	if recordErr != nil {
		s.log.Error("refused session not on record", "error", fault.Chain(recordErr))
	}
	s.refuse(err)
}

// sessionEnded puts the end of a session that had started on record, and logs it.
func (s *session) sessionEnded(ctx context.Context, err error) {
	if !s.recorded {
		return
	}
	now := s.agent.now()
	reason := ""
	if why := s.endReason(); why != nil {
		reason = why.Message
		s.post(ctx, audit.ClientDisconnect{Session: s.next(), Database: s.auditDatabase(), Reason: reason})
	} else if err != nil {
		reason = fault.Chain(err)
	}
	s.post(ctx, audit.DatabaseSessionEnd{
		Session: s.next(), Database: s.auditDatabase(), Start: audit.Time{Time: s.started}, Stop: audit.Time{Time: now},
		DurationMS: now.Sub(s.started).Milliseconds(), Reason: reason,
	})
	s.log.Info("session ended", "reason", reason, "duration", now.Sub(s.started).Round(time.Millisecond))
}

// userCreated puts the activation of the database user on record. That the session
// was let in, with which db roles, is being made durable meanwhile.
func (s *session) userCreated(ctx context.Context, lease *provision.Lease, err error) {
	event := audit.DatabaseUserCreate{
		Session: s.next(), Database: s.auditDatabase(), Outcome: audit.OutcomeOf(err), Username: s.account,
	}
	if lease != nil {
		r := lease.Result()
		event.Provisioned = provisioned(len(r.Statements), r.Duration)
		s.agent.metrics.provisioned(workActivate, len(r.Statements), r.Duration)
		s.log.Debug("database user activated", "created", r.Created, "changed", r.Changed, "took", r.Duration)
	}
	s.post(ctx, event)
}

// userReleased puts what became of the database user on record. While other
// sessions of it are open, nothing became of it.
func (s *session) userReleased(ctx context.Context, o provision.Outcome, err error) {
	if err == nil && o.Result != provision.Deactivated && o.Result != provision.Dropped {
		return
	}
	s.agent.metrics.provisioned(workRelease, len(o.Statements), o.Duration)
	s.post(ctx, audit.DatabaseUserDeactivate{
		Session: s.next(), Database: s.auditDatabase(), Outcome: releaseOutcome(o, err),
		Username: s.account, Delete: o.Result == provision.Dropped, Provisioned: provisioned(len(o.Statements), o.Duration),
	})
}

func releaseOutcome(o provision.Outcome, err error) audit.Outcome {
	result := audit.OutcomeOf(err)
	if err != nil {
		return result
	}
	var said []string
	if o.KeptBecause != "" {
		said = append(append(said, "disabled instead of dropped: "+o.KeptBecause), o.Dependents...)
	}
	if o.NotMoved != "" {
		said = append(said, "what it owns was not given away: "+o.NotMoved)
	}
	if len(o.Moved) > 0 {
		said = append(append(said, "given to "+provision.Inheritor+": "+o.Moved[0]), o.Moved[1:]...)
	}
	result.Message = strings.Join(said, "; ")
	return result
}

// swept puts what a sweep found and repaired on record.
func (s *Server) swept(ctx context.Context, d *database, o provision.Outcome) {
	event := audit.DatabaseUserDeactivate{
		Session: audit.Session{ServerID: s.cfg.Cluster}, Database: d.audited(),
		Outcome: releaseOutcome(o, o.Err), Username: o.User, Delete: o.Result == provision.Dropped,
		Provisioned: provisioned(len(o.Statements), o.Duration),
	}
	s.metrics.provisioned(workSweep, len(o.Statements), o.Duration)
	s.metrics.repair(d.resource.GetName(), "account", o.Err)
	event.DatabaseUser = o.User
	err := s.cfg.Audit.Post(ctx, event)
	if err != nil {
		s.log.Error("repair not on record", "database_user", o.User, "error", fault.Chain(err))
	}
}

// post puts an event on record soon. A log that cannot be written has already
// stopped the session; here it is only noted.
func (s *session) post(ctx context.Context, event audit.Event) {
	if err := s.agent.cfg.Audit.Post(ctx, event); err != nil {
		s.log.Error("event not on record", "error", fault.Chain(err))
	}
}

// provisioned is what events say about a change in PostgreSQL.
func provisioned(statements int, took time.Duration) audit.Provisioned {
	return audit.Provisioned{Statements: statements, DurationMS: float64(took.Microseconds()) / 1000}
}
