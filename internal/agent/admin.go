package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/postern-db/postern/internal/pgwire"
)

// adminParams are set on every admin connection, whatever the server's or the
// role's defaults are: nothing of ours may run under somebody else's settings.
func adminParams() []pgwire.Param {
	return []pgwire.Param{
		{Name: "application_name", Value: "postern"},
		{Name: "client_encoding", Value: "UTF8"},
		{Name: "search_path", Value: "pg_catalog"},
		{Name: "default_transaction_read_only", Value: "off"},
		{Name: "default_transaction_isolation", Value: "read committed"},
	}
}

// connectAdmin logs in as the admin user, the same way as sessions do, and hands
// the connection to pgx.
func (d *database) connectAdmin(ctx context.Context, dbname string) (*pgconn.PgConn, error) {
	return d.connectAdminWith(ctx, dbname, adminParams())
}

func (d *database) connectAdminWith(ctx context.Context, dbname string, params []pgwire.Param) (*pgconn.PgConn, error) {
	if d.writer != nil {
		return d.connectWriter(ctx, dbname, params)
	}
	return d.logInAdmin(ctx, adminLogin{at: d.dialing, dbname: dbname, params: params})
}

// adminLogin is a login of the admin user.
type adminLogin struct {
	at     pgwire.DialConfig // without a client certificate
	host   string            // as the server knows itself; empty: as dialled
	dbname string
	params []pgwire.Param
}

func (d *database) logInAdmin(ctx context.Context, l adminLogin) (*pgconn.PgConn, error) {
	admin, _ := d.resource.AdminUser()
	ahead, _, err := d.dialTo(ctx, l.at, admin)
	if err != nil {
		return nil, fmt.Errorf("connect as admin user %s: %w", admin, err)
	}
	conn, backend, err := ahead.LogIn(ctx, func(_ context.Context, conn *pgwire.ServerConn) (pgwire.StartConfig, func(), error) {
		answer := d.credentials.ofAdmin(cmp.Or(l.host, conn.Host()), admin)
		return answer.to(pgwire.StartConfig{User: admin, Database: l.dbname, Params: l.params}), nil, nil
	})
	if err != nil {
		return nil, fmt.Errorf("log in as admin user %s: %w", admin, d.adminHint(err, admin, l.dbname))
	}
	d.traits.learn(backend)
	statuses := map[string]string{}
	for _, p := range backend.Params {
		statuses[p.Name] = p.Value
	}
	return pgconn.Construct(&pgconn.HijackedConn{
		Conn: conn.Conn, PID: backend.PID, SecretKey: backend.Secret,
		ParameterStatuses: statuses, TxStatus: backend.TxStatus, Config: pgxConfig(func(ctx context.Context) error { return conn.Cancel(ctx, backend) }),
	})
}

// pgxConfig is what pgx needs to go on with a connection that is open already. It
// is built by hand: pgx's own parser would mix in the environment of the process.
func pgxConfig(cancel func(context.Context) error) *pgconn.Config {
	return &pgconn.Config{
		BuildFrontend: func(r io.Reader, w io.Writer) *pgproto3.Frontend { return pgproto3.NewFrontend(r, w) },
		BuildContextWatcherHandler: func(c *pgconn.PgConn) ctxwatch.Handler {
			return &pgconn.DeadlineContextWatcherHandler{Conn: c.Conn()}
		},
		// When a context ends during a statement, pgx dials to send a cancel request.
		// It would send the key in clear text, not knowing that the connection is TLS:
		// we send the request ourselves, and give pgx no connection.
		DialFunc: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return nil, errors.Join(errCancelSent, cancel(ctx))
		},
	}
}

// errCancelSent tells pgx that the cancel request is not its business.
var errCancelSent = errors.New("cancel requests are sent by the agent")
