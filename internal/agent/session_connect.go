package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/pgwire"
	"github.com/postern-db/postern/internal/provision"
	"github.com/postern-db/postern/internal/resource"
)

const (
	// connectTimeout bounds TCP, TLS and login towards PostgreSQL.
	connectTimeout = 30 * time.Second
	// maxLogins is how often a login is tried when another agent has released the
	// database user between its activation and the login, or given it other db roles.
	maxLogins = 10
	// aheadLife is how long a connection made ahead may wait. A server that is shutting
	// down answers nobody else, such as the admin, before the last such connection is gone.
	aheadLife = 3 * time.Second
	// welcomeTimeout bounds how long a client may take to read the first answer.
	welcomeTimeout = 15 * time.Second
)

// dialled is a connection to PostgreSQL on its way.
type dialled struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when the fields below are set
	conn   *pgwire.ServerConn
	spare  bool // conn was made before the session asked for it
	err    error
	giveUp *time.Timer // closes conn when it has waited for too long; nil without conn
}

// dialAhead sets up TCP and TLS to PostgreSQL, or takes a spare connection. It
// needs the name of the database user, but not that it exists.
func (s *session) dialAhead(ctx context.Context, account string) *dialled {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	d := &dialled{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(d.done)
		if d.conn, d.spare, d.err = s.database.dialSoon(ctx, account); d.err == nil {
			d.giveUp = time.AfterFunc(aheadLife, func() { d.conn.Close() })
		}
	}()
	return d
}

// wait waits for the connection, and reports false for one that was given up.
func (d *dialled) wait() (fresh bool, err error) {
	<-d.done
	d.cancel()
	return d.err != nil || d.giveUp.Stop(), d.err
}

// discard gives the connection up, whenever it comes.
func (d *dialled) discard() {
	d.cancel()
	<-d.done
	if d.err == nil && d.giveUp.Stop() {
		d.conn.Close()
	}
}

// connect logs in to PostgreSQL as the database user and begins the session.
func (s *session) connect(ctx context.Context, ahead *dialled) error {
	if s.account != s.decision.DatabaseUser { // a sibling needs a certificate of its own
		ahead.discard()
		ahead = s.dialAhead(ctx, s.account)
	}
	fresh, err := ahead.wait()
	if !fresh {
		ahead = s.dialAhead(ctx, s.account)
		_, err = ahead.wait()
	}
	if err != nil {
		return s.connectHint(err)
	}
	if err := s.logIn(ctx, ahead); err != nil {
		return s.connectHint(err)
	}
	s.database.spares.want(s.account)
	return s.begin(ctx)
}

// begin tells the client that the session is open. That it was let in has become
// durable meanwhile: without that nothing the client sends is read.
func (s *session) begin(ctx context.Context) error {
	if err := <-s.authorized; err != nil {
		return err
	}
	if err := s.sessionStarted(ctx); err != nil {
		return err
	}
	if err := s.welcome(); err != nil {
		return err
	}
	s.log.Info("session started", "db_name", s.databaseName(), "db_user", s.account,
		"db_roles", s.decision.DatabaseRoles, "pid", s.backend.PID, "server", s.server.Host(), "took", time.Since(s.accepted).Round(time.Microsecond))
	return nil
}

// logIn authenticates, and again on new connections where [session.logInOnce] asks
// for it. A spare connection that does not lead to a session is given up for a new
// one: the server may have gone or changed since it was made.
func (s *session) logIn(ctx context.Context, ahead *dialled) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, spare, timeout := ahead.conn, ahead.spare, connectTimeout
	if spare {
		timeout = spareLoginTimeout
	}
	for try := 1; ; try++ {
		again, err := s.logInOnce(ctx, conn, timeout)
		if err == nil || try == maxLogins || s.server != nil || !again && (!spare || errors.Is(err, provision.ErrBehind)) {
			return err
		}
		spare, timeout = false, connectTimeout
		if s.lease != nil && s.account != s.lease.User() {
			s.account = s.lease.User()
			s.userCreated(ctx, s.lease, nil)
		}
		if conn, err = s.database.dial(ctx, s.account); err != nil {
			return err
		}
	}
}

// logInOnce authenticates on conn, which it consumes. It is to be done again where
// the database user was found disabled or with other db roles: then another agent has
// just released it, and it has been activated again, perhaps as a sibling; and
// where the server refused a setting of ours.
func (s *session) logInOnce(ctx context.Context, conn *pgwire.ServerConn, timeout time.Duration) (again bool, err error) {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, backend, err := conn.LogIn(limited, s.startOn)
	if err == nil {
		s.backend, s.server = backend, conn
		s.database.traits.learn(backend)
		if s.lease == nil || s.anchor != nil {
			return false, nil
		}
		again, err := s.establish(ctx, backend.PID)
		if again {
			s.finishServer(ctx)
			s.server = nil
		}
		return again, err
	}
	if s.database.traits.refusesClientCheck(err) || errors.Is(err, errMovedAside) {
		return true, err
	}
	if s.lease == nil || !overtaken(err) {
		return false, err
	}
	if failed := s.lease.Reactivate(ctx); failed != nil {
		return false, s.activationError(failed)
	}
	return !s.asksAnotherProof(err), err
}

// asksAnotherProof reports whether the server asks for another proof because its
// pg_hba.conf says so, and not because another line of that counted while the account was
// without its db roles. It can tell neither where passwords prove who somebody is, which
// come and go with each login, nor on a replica, which may be behind what we have seen.
func (s *session) asksAnotherProof(err error) bool {
	return errors.Is(err, pgwire.ErrMethod) && s.database.credentials.method != resource.AuthPassword && s.database.writer == nil && s.lease.Untouched()
}

// establish makes sure that the session has its rights, now that everybody can see
// it by a backend of the database user. That is to be given up and made again where
// another agent has the account for other db roles.
func (s *session) establish(ctx context.Context, pid uint32) (again bool, err error) {
	sure, err := s.lease.Established(ctx, pid)
	if s.bundle != nil && errors.Is(err, provision.ErrBundleGone) {
		s.releaseBundle()
		if err := s.prepareBundle(ctx); err != nil {
			return false, err
		}
		sure, err = s.lease.Established(ctx, pid)
	}
	if err != nil {
		return false, s.activationError(err)
	}
	if sure {
		return false, nil
	}
	return true, fault.New(fault.Unavailable, "the database user is in use with other db roles").WithHint("Try again in a moment.").WithCause(errMovedAside)
}

// errMovedAside marks a login to an account that other agents have for other db
// roles; the session has another account now.
var errMovedAside = errors.New("the session has another account now")

// startOn returns how to log in on a connection, and what to call after that. For
// a replica it waits until that is ready.
func (s *session) startOn(ctx context.Context, conn *pgwire.ServerConn) (cfg pgwire.StartConfig, done func(), err error) {
	replica, err := s.prepareReplica(ctx, conn)
	if err != nil {
		return cfg, nil, err
	}
	answer, forget, err := s.database.credentials.ofSession(ctx, conn.Host(), s)
	if replica == nil {
		return answer.to(s.startConfig()), forget, err
	}
	defer replica.giveBack(ctx)
	if err != nil {
		return cfg, nil, err
	}
	if err := s.lease.Await(ctx, replica.PgConn); err != nil {
		forget()
		return cfg, nil, fmt.Errorf("wait for the replica: %w", err)
	}
	return answer.to(s.startConfig()), forget, nil
}

// startConfig passes the client's parameters on. The id of the session becomes
// the application_name only where the client has set none, by whatever means.
func (s *session) startConfig() pgwire.StartConfig {
	cfg := pgwire.StartConfig{User: s.account, Database: s.startup.Database(), ProtocolMinor: maxProtocolMinor}
	named := false
	for _, p := range s.startup.Params {
		switch p.Name {
		case "user", "database", "replication":
			continue
		}
		cfg.OwnReadOnly = cfg.OwnReadOnly || sets(p, "default_transaction_read_only")
		named = named || p.Value != "" && sets(p, "application_name")
		cfg.Params = append(cfg.Params, p)
	}
	if kind, value := s.startup.Replication(); kind != pgwire.NoReplication {
		cfg.Params = append(cfg.Params, pgwire.Param{Name: "replication", Value: value}) // one, of which the decision was made
	}
	if !named {
		cfg.Extra = append(cfg.Extra, pgwire.Param{Name: "application_name", Value: "postern " + s.id})
	}
	cfg.Extra = append(cfg.Extra, s.database.traits.clientCheckParams(cfg.Params)...)
	return cfg
}

// welcome sends the client everything up to ReadyForQuery, in one write.
func (s *session) welcome() error {
	secret, release := s.agent.cancels.Register(s.backend.PID, s.startup.Negotiated(), func(ctx context.Context) error {
		return s.server.Cancel(ctx, s.backend)
	})
	s.releaseCancel = release
	if s.account != s.decision.DatabaseUser {
		s.backend.Notices = noticeSibling(s.account, s.decision.DatabaseUser).AppendNotice(s.backend.Notices)
	}
	if s.bundle != nil && s.bundle.Result().Missing != nil {
		s.backend.Notices = noticeMissing(s.bundle.Result().Missing).AppendNotice(s.backend.Notices)
	}
	message := s.startup.AppendNegotiation(nil)
	message = pgwire.AppendWelcome(message, s.backend, secret)
	if err := s.conn.SetWriteDeadline(time.Now().Add(welcomeTimeout)); err != nil {
		return &silent{err}
	}
	if _, err := s.conn.Write(message); err != nil {
		return &silent{err}
	}
	s.greeted = true
	return s.conn.SetWriteDeadline(time.Time{})
}
