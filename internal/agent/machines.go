package agent

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/pgwire"
	"github.com/postern-db/postern/internal/provision"
)

const (
	// machineLife is how long an admin connection to a replica waits for the next
	// session. Within it an address may have moved to another machine unnoticed, as
	// with spare connections.
	machineLife = 20 * time.Second
	// maxMachines bounds those that wait, for each database.
	maxMachines = 4
	// machineAnswer bounds how long one that has waited may take to answer.
	machineAnswer = 2 * time.Second
)

// machines keeps admin connections to the machines behind a database whose writer is
// elsewhere: each session on a replica asks there whether its account has arrived. The
// provisioner's connections lead to the writer.
type machines struct {
	life time.Duration

	mu     sync.Mutex      // guards the fields below
	idle   []*machineAdmin // oldest first
	closed bool
}

// machineAdmin is an admin connection to one machine, to be given back.
type machineAdmin struct {
	*pgconn.PgConn
	at    string // machine and logical database
	to    *machines
	since time.Time // it has been waiting
}

// borrowMachine returns an admin connection to the very machine that conn reached.
func (d *database) borrowMachine(ctx context.Context, conn *pgwire.ServerConn, dbname string) (*machineAdmin, error) {
	_, defaultDatabase := d.resource.AdminUser()
	machine, dbname := conn.Machine(), cmp.Or(defaultDatabase, dbname)
	at := strings.Join(machine.Hosts, ",") + "/" + dbname
	if a := d.machines.take(at); a != nil {
		if a.answers(ctx) {
			return a, nil
		}
		closeAdmin(ctx, a.PgConn)
	}
	admin, err := d.logInAdmin(ctx, adminLogin{at: machine, host: conn.Host(), dbname: dbname, params: adminParams()})
	if err != nil {
		return nil, err
	}
	if err := provision.PrepareReplica(ctx, admin); err != nil {
		closeAdmin(ctx, admin)
		return nil, err
	}
	return &machineAdmin{PgConn: admin, at: at, to: &d.machines}, nil
}

// answers reports whether the connection still works. What the server reports by
// itself, such as that it was promoted, is known after that.
func (a *machineAdmin) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, machineAnswer)
	defer cancel()
	return a.Ping(ctx) == nil
}

// giveBack keeps the connection for another session if it is whole, and closes it
// otherwise.
func (a *machineAdmin) giveBack(ctx context.Context) {
	if a.IsClosed() || a.IsBusy() || a.TxStatus() != 'I' {
		closeAdmin(ctx, a.PgConn)
		return
	}
	for _, surplus := range a.to.put(a) {
		closeAdmin(ctx, surplus.PgConn)
	}
}

// put adds a connection to those that wait and returns what is too much.
func (m *machines) put(a *machineAdmin) (surplus []*machineAdmin) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return []*machineAdmin{a}
	}
	a.since = time.Now()
	m.idle = append(m.idle, a)
	return m.cut(len(m.idle) - maxMachines)
}

// take returns the connection that has waited for the shortest time, or nil.
func (m *machines) take(at string) *machineAdmin {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, a := range slices.Backward(m.idle) {
		if a.at == at {
			m.idle = slices.Delete(m.idle, i, i+1)
			return a
		}
	}
	return nil
}

// cut takes the n oldest off those that wait. m.mu is held.
func (m *machines) cut(n int) []*machineAdmin {
	n = max(n, 0)
	oldest := slices.Clone(m.idle[:n])
	m.idle = slices.Delete(m.idle, 0, n)
	return oldest
}

// serve closes what has waited for too long until ctx ends, and all of it then.
func (m *machines) serve(ctx context.Context) {
	ticker := time.NewTicker(m.life / 2)
	defer ticker.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
		for _, a := range m.old(ctx.Err() != nil) {
			closeAdmin(ctx, a.PgConn)
		}
	}
}

// old takes off what has waited for too long; all is true at the end, after which
// nothing waits any more.
func (m *machines) old(all bool) []*machineAdmin {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed = all; all {
		return m.cut(len(m.idle))
	}
	n := slices.IndexFunc(m.idle, func(a *machineAdmin) bool { return time.Since(a.since) < m.life/2 })
	if n < 0 {
		n = len(m.idle)
	}
	return m.cut(n)
}
