package provision

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/semaphore"
)

// pool keeps admin connections warm. A connection is checked by using it (see
// [Server.withConn]), and by asking first when it has not been used for a while: a
// firewall that forgot it may swallow a question without an answer.
type pool struct {
	connect  func(ctx context.Context, database string) (*pgconn.PgConn, error)
	askAfter time.Duration       // unused for so long, a connection is asked
	slots    *semaphore.Weighted // one for each connection in use

	mu     sync.Mutex
	free   []idleConn // oldest first
	most   int        // connections to keep
	closed bool
}

type idleConn struct {
	conn     *pgconn.PgConn
	database string
	since    time.Time
}

// How an unused connection is asked whether it still works.
const (
	askAfter  = 30 * time.Second
	askAtMost = 2 * time.Second
)

func newPool(connect func(context.Context, string) (*pgconn.PgConn, error), most int) *pool {
	return &pool{connect: connect, askAfter: askAfter, slots: semaphore.NewWeighted(int64(most)), most: most}
}

// get returns a connection to the database and whether it was used before. Give
// it back with put.
func (p *pool) get(ctx context.Context, database string) (conn *pgconn.PgConn, warm bool, err error) {
	if err := p.slots.Acquire(ctx, 1); err != nil {
		return nil, false, err
	}
	for {
		free, ok := p.takeFree(database)
		if !ok {
			break
		}
		if time.Since(free.since) < p.askAfter || answers(ctx, free.conn) {
			return free.conn, true, nil
		}
		_ = closeAll(ctx, []idleConn{free}) // nothing can be done about it
	}
	conn, err = p.connect(ctx, database)
	if err != nil {
		p.slots.Release(1)
		return nil, false, err
	}
	return conn, false, nil
}

// answers reports whether the connection works.
func answers(ctx context.Context, conn *pgconn.PgConn) bool {
	ctx, cancel := context.WithTimeout(ctx, askAtMost)
	defer cancel()
	return conn.Ping(ctx) == nil
}

// takeFree takes the free connection to the database that was used last.
func (p *pool) takeFree(database string) (idleConn, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, c := range slices.Backward(p.free) {
		if c.database == database {
			p.free = slices.Delete(p.free, i, i+1)
			return c, true
		}
	}
	return idleConn{}, false
}

// put gives a connection back. It is kept when it is whole and outside a
// transaction, and closed otherwise.
func (p *pool) put(ctx context.Context, database string, conn *pgconn.PgConn) {
	defer p.slots.Release(1)
	var surplus []idleConn
	p.mu.Lock()
	if p.closed || conn.IsClosed() || conn.IsBusy() || conn.TxStatus() != 'I' {
		surplus = append(surplus, idleConn{conn: conn})
	} else {
		p.free = append(p.free, idleConn{conn: conn, database: database, since: time.Now()})
		if n := len(p.free) - p.most; n > 0 {
			surplus = append(surplus, p.free[:n]...)
			p.free = slices.Delete(p.free, 0, n)
		}
	}
	p.mu.Unlock()
	_ = closeAll(ctx, surplus) // nothing can be done about it
}

// closeIdle closes the connections unused since the time.
func (p *pool) closeIdle(ctx context.Context, since time.Time) {
	p.mu.Lock()
	n := 0
	for n < len(p.free) && !p.free[n].since.After(since) {
		n++
	}
	old := slices.Clone(p.free[:n])
	p.free = slices.Delete(p.free, 0, n)
	p.mu.Unlock()
	_ = closeAll(ctx, old) // nothing can be done about it
}

// close closes every connection, those in use when they are given back.
func (p *pool) close(ctx context.Context) error {
	p.mu.Lock()
	free := p.free
	p.free, p.closed = nil, true
	p.mu.Unlock()
	return closeAll(ctx, free)
}

// closeTimeout bounds the farewell to one connection.
const closeTimeout = 2 * time.Second

func closeAll(ctx context.Context, conns []idleConn) error {
	var errs []error
	for _, c := range conns {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		errs = append(errs, c.conn.Close(ctx))
		cancel()
	}
	return errors.Join(errs...)
}
