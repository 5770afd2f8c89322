package provision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// batch is a list of queries that go to the server in one round trip. The first
// that fails ends it; the server ignores the rest.
type batch struct {
	queries []query
}

type query struct {
	send func(*pgconn.Pipeline)
	// read takes the result, or the error instead of it. It returns what run returns.
	read func(*pgconn.Result, error) error
}

// exec adds a statement without parameters. read may be nil when only an error matters.
func (b *batch) exec(sql string, read func(*pgconn.Result, error) error) {
	b.queries = append(b.queries, query{
		send: func(p *pgconn.Pipeline) { p.SendQueryParams(sql, nil, nil, nil, nil) },
		read: func(r *pgconn.Result, err error) error {
			if read != nil {
				return read(r, err)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", sql, err)
			}
			return nil
		},
	})
}

// observe adds the observation of an account.
func (b *batch) observe(user string, roles []string, into *state) {
	b.prepared(observeStatement, observeParams(user, roles), func(r *pgconn.Result, err error) error {
		if err == nil {
			*into = state{}
			err = decodeJSON(r, into)
		}
		if err != nil {
			return fmt.Errorf("observe %q: %w", user, err)
		}
		return nil
	})
}

// prepared adds a statement that the connection has prepared.
func (b *batch) prepared(name string, params [][]byte, read func(*pgconn.Result, error) error) {
	b.queries = append(b.queries, query{
		send: func(p *pgconn.Pipeline) { p.SendQueryPrepared(name, params, nil, nil) },
		read: read,
	})
}

// run sends the batch and reads the results.
func (b *batch) run(ctx context.Context, conn *pgconn.PgConn) (err error) {
	p := conn.StartPipeline(ctx)
	// Close reads what is left; an error that it finds there has been returned.
	defer func() { err = errors.Join(err, p.Close()) }()
	for _, q := range b.queries {
		q.send(p)
	}
	if err := p.Sync(); err != nil {
		return err
	}
	for _, q := range b.queries {
		if err := q.read(readResult(p)); err != nil {
			return err
		}
	}
	return nil
}

// readResult reads the next result of a pipeline.
func readResult(p *pgconn.Pipeline) (*pgconn.Result, error) {
	results, err := p.GetResults()
	if err != nil {
		return nil, err
	}
	reader, ok := results.(*pgconn.ResultReader)
	if !ok {
		return nil, fmt.Errorf("unexpected answer %T in the pipeline", results)
	}
	r := reader.Read()
	return r, r.Err
}

// decodeJSON decodes a result of one row with one column.
func decodeJSON(r *pgconn.Result, into any) error {
	if len(r.Rows) != 1 || len(r.Rows[0]) != 1 {
		return errors.New("not exactly one value")
	}
	return json.Unmarshal(r.Rows[0][0], into)
}
