package pgwire

import (
	"context"
	"errors"

	"github.com/postern-db/postern/internal/fault"
)

// StartFunc says how to log in on a connection, and what to call after that, if
// anything. It reads and writes nothing on it.
type StartFunc func(ctx context.Context, conn *ServerConn) (StartConfig, func(), error)

// LogIn logs in as [ServerConn.Start] does, and goes on to the next host where the
// server is not of the kind that [DialConfig.Kind] asks for, or is just starting or
// stopping. It consumes c: of the connections it makes only the one that it returns
// is left open. As with libpq, a login that is refused ends the search, unless
// there is a kind to look for: then nobody knows yet whether this was the server
// meant, and a standby may not have heard of an account yet.
//
// start says how to log in; the function that it returns, if any, is called after
// each login. Errors are those of start,
// of Start and of [Dial]; Unavailable when every server that was reached is of
// another kind.
func (c *ServerConn) LogIn(ctx context.Context, start StartFunc) (*ServerConn, *Backend, error) {
	all := *c.from
	var refused error
	for i, kind := range all.Kind.passes() {
		if i > 0 {
			var err error
			if c, err = Dial(ctx, all); err != nil {
				return nil, nil, worse(refused, err)
			}
		}
		conn, b, err := c.search(ctx, kind, start)
		if err == nil {
			all.Last.learn(conn.host)
			conn.from, conn.rest = nil, nil
			return conn, b, nil
		}
		refused = worse(refused, err)
	}
	return nil, nil, refused
}

// search logs in on c and the hosts behind it until one is of the kind wanted.
func (c *ServerConn) search(ctx context.Context, want ServerKind, start StartFunc) (*ServerConn, *Backend, error) {
	var refused error
	for {
		b, err := c.logInOnce(ctx, want, start)
		if err == nil {
			return c, b, nil
		}
		refused = worse(refused, err)
		if len(c.rest) == 0 || ctx.Err() != nil || want == AnyServer && !passing(err) {
			return nil, nil, refused
		}
		next := *c.from
		next.Hosts, next.Last = c.rest, nil
		if c, err = Dial(ctx, next); err != nil {
			return nil, nil, worse(refused, err)
		}
	}
}

// logInOnce logs in and looks what kind of server it is. Unless it is the one
// wanted, its process is gone on return.
func (c *ServerConn) logInOnce(ctx context.Context, want ServerKind, start StartFunc) (*Backend, error) {
	if len(c.rest) > 0 { // one that hangs must leave time for the others
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.from.timeout())
		defer cancel()
	}
	cfg, b, err := c.startWith(ctx, start)
	if err != nil {
		c.Close()
		return nil, err
	}
	suits, err := c.suits(ctx, b, want, cfg.OwnReadOnly)
	if suits && err == nil {
		return b, nil
	}
	if err = errors.Join(err, c.Finish(ctx)); err != nil {
		return nil, dialFault(c.host, err)
	}
	return nil, fault.Newf(fault.Unavailable, "no server of the database is of the kind that its uri asks for: %s", want).
		WithDetail("The last one tried was " + c.host + ".").
		WithHint("Check the hosts and target_session_attrs in the database's uri.").
		WithCause(errOtherKind)
}

// startWith logs in as start says.
func (c *ServerConn) startWith(ctx context.Context, start StartFunc) (StartConfig, *Backend, error) {
	cfg, done, err := start(ctx, c)
	if err != nil {
		return cfg, nil, err
	}
	if done != nil {
		defer done()
	}
	b, err := c.Start(ctx, cfg)
	return cfg, b, err
}

// errOtherKind marks a server that is not of the kind wanted.
var errOtherKind = errors.New("a server of another kind")

// worse returns the error that says more: what a server answered, else that it is
// of another kind, else why it cannot be reached. Of equals that is the first.
func worse(first, second error) error {
	if first == nil || telling(second) > telling(first) {
		return second
	}
	return first
}

func telling(err error) int {
	if _, answered := errors.AsType[*Error](err); answered {
		return 2
	}
	if errors.Is(err, errOtherKind) {
		return 1
	}
	return 0
}

// passing reports whether a server refuses because it is starting or stopping.
func passing(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == "57P03" // cannot_connect_now
}
