package agent

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/pgwire"
	"github.com/postern-db/postern/internal/provision"
)

// A session on a replica has its account made on the writer, waits until the
// replica has it, and holds a second, idle connection to the writer as the same
// database user: its anchor. So the writer's pg_stat_activity counts the session like
// any other, for every agent, and nothing else in provisioning has to know of
// replicas. See docs/decisions/0019-replicas.md.

// setWriter sets where the writer is, if the database has one that is not itself:
// the one that is configured, or the primary among the hosts of a database that asks
// for standbys. The error is Invalid.
func (d *database) setWriter() error {
	endpoint, err := d.resource.Writer()
	if err != nil {
		return err
	}
	writer := d.dialing
	writer.Kind, writer.Last = pgwire.PrimaryServer, nil
	if len(endpoint.Hosts) > 0 {
		writer.Hosts, writer.Kind, writer.Timeout = nil, pgwire.ServerKind(endpoint.Target), endpoint.ConnectTimeout
		for _, h := range endpoint.Hosts {
			writer.Hosts = append(writer.Hosts, h.Address())
		}
		if slices.Equal(writer.Hosts, d.dialing.Hosts) {
			return nil
		}
		if writer.TLS != nil {
			writer.TLS = writer.TLS.Clone()
			writer.TLS.ServerName = "" // the one that is configured is the replica's
		}
	} else if len(writer.Hosts) == 1 || !d.dialing.Kind.Standbys() {
		return nil
	}
	d.writer = &writer
	return nil
}

// connectWriter logs in as the admin user where something can be written: here, if
// this is not a replica (any more), else at its writer.
func (d *database) connectWriter(ctx context.Context, dbname string, params []pgwire.Param) (*pgconn.PgConn, error) {
	conn, err := d.logInAdmin(ctx, adminLogin{at: d.dialing, dbname: dbname, params: params})
	if err == nil {
		replica, err := provision.InRecovery(ctx, conn)
		if err == nil && !replica {
			d.elsewhere.Store(false)
			return conn, nil
		}
		closeAdmin(ctx, conn)
	}
	d.elsewhere.Store(true) // also when the replica does not answer: what it left behind is still to be released
	conn, err = d.logInAdmin(ctx, adminLogin{at: *d.writer, dbname: dbname, params: params})
	return conn, writerFault(err)
}

// writerFault says of which server an error speaks: the person has asked for another.
func writerFault(err error) error {
	if fault.KindOf(err) == fault.Internal { // or nil, or what PostgreSQL says
		return err
	}
	f := *fault.Of(err)
	f.Text, f.Cause = "the writer of this replica does not serve us: "+f.Text, err
	return &f
}

// closeAdmin closes an admin connection that has done its work.
func closeAdmin(ctx context.Context, conn *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_ = conn.Close(ctx) // what was learnt stays true
}

// prepareReplica is called before a login on conn. Where that leads to a replica it
// anchors the session and returns an admin connection to that machine, to be given
// back by the caller; else it returns nil.
func (s *session) prepareReplica(ctx context.Context, conn *pgwire.ServerConn) (admin *machineAdmin, err error) {
	d := s.database
	if d.writer == nil || s.lease == nil {
		return nil, nil
	}
	admin, err = d.borrowMachine(ctx, conn, s.databaseName())
	if err != nil {
		return nil, err
	}
	replica, err := provision.InRecovery(ctx, admin.PgConn)
	if err == nil && replica {
		if err = s.dropAnchor(ctx); err == nil {
			return admin, nil
		}
	}
	admin.giveBack(ctx)
	if err == nil && d.elsewhere.Swap(false) {
		// It was promoted since the account was made, on the former writer.
		d.provisioner.Moved(ctx)
		err = s.lease.Reactivate(ctx)
	}
	return nil, err
}

// dropAnchor logs in to the writer as the database user, to stay there idle, unless
// the session is anchored already.
func (s *session) dropAnchor(ctx context.Context) error {
	if s.anchor != nil && s.anchored == s.account {
		return nil
	}
	s.finishAnchor(ctx)
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	ahead, _, err := s.database.dialTo(ctx, *s.database.writer, s.account)
	if err != nil {
		return writerFault(err)
	}
	conn, backend, err := ahead.LogIn(ctx, s.startAnchor)
	if err != nil {
		return err
	}
	s.anchor, s.anchored = conn, s.account
	if _, err = s.establish(ctx, backend.PID); err != nil {
		s.finishAnchor(ctx)
	}
	return err
}

// startAnchor returns how to log in to the writer, and what to call after that.
func (s *session) startAnchor(ctx context.Context, conn *pgwire.ServerConn) (pgwire.StartConfig, func(), error) {
	answer, done, err := s.database.credentials.ofSession(ctx, conn.Host(), s)
	return answer.to(pgwire.StartConfig{
		User: s.account, Database: s.databaseName(),
		Params: []pgwire.Param{{Name: "application_name", Value: "postern " + s.id + " (on a replica)"}},
	}), done, err
}

// The pauses between attempts to anchor a session again.
const (
	firstAnchorPause = 200 * time.Millisecond
	lastAnchorPause  = 5 * time.Second
)

// watchAnchor keeps a session on a replica anchored until ctx ends. A writer that is
// away does not end the session; one that does not give the database user back does.
func (s *session) watchAnchor(ctx context.Context) {
	for s.anchor != nil {
		awaitEnd(ctx, s.anchor)
		if ctx.Err() != nil {
			return
		}
		s.anchor.Close()
		s.anchor = nil
		s.log.Warn("the writer has closed the connection that stands for this session")
		for pause := firstAnchorPause; s.anchor == nil; pause = min(2*pause, lastAnchorPause) {
			if s.promoted(ctx) {
				s.log.Info("the replica of this session was promoted")
				s.database.provisioner.Moved(ctx)
				return // the session is to be seen where it runs
			}
			err := s.anchorAgain(ctx)
			if final := fault.KindOf(err); err != nil && final != fault.Unavailable && final != fault.Internal && ctx.Err() == nil {
				s.end(endTaken(fault.Of(err)))
				return
			}
			if err == nil {
				break
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
		}
	}
}

// anchorAgain makes the account what the session needs, and anchors it.
func (s *session) anchorAgain(ctx context.Context) error {
	if err := s.lease.Reactivate(ctx); err != nil {
		return err
	}
	if s.lease.User() != s.account {
		return fault.New(fault.Conflict, "it is in use with other db roles").WithHint("Connect again.")
	}
	return s.dropAnchor(ctx)
}

// promoted reports whether the server of the session is no replica any more.
func (s *session) promoted(ctx context.Context) bool {
	admin, err := s.database.borrowMachine(ctx, s.server, s.databaseName())
	if err != nil {
		return false
	}
	defer admin.giveBack(ctx)
	replica, err := provision.InRecovery(ctx, admin.PgConn)
	return err == nil && !replica
}

// awaitEnd reads and drops what an idle server says, until it hangs up or ctx ends.
func awaitEnd(ctx context.Context, conn *pgwire.ServerConn) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var waste [512]byte
	for {
		if _, err := conn.Read(waste[:]); err != nil {
			return
		}
	}
}

// finishAnchor ends the anchor and waits until it is gone, so that the release
// does not find it.
func (s *session) finishAnchor(ctx context.Context) {
	if s.anchor == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, finishTimeout)
	defer cancel()
	if err := s.anchor.Finish(ctx); err != nil {
		s.log.Warn("connection to the writer not seen to end", "error", fault.Chain(err))
	}
	s.anchor = nil
}
