package provision

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
)

// state is what the catalogs say about one account, and what the admin may do about it.
type state struct {
	Version  int    `json:"version"`  // server_version_num: 150018
	Recovery bool   `json:"recovery"` // a replica
	Soon     string `json:"soon"`     // a bit less than a minute ahead by the server's clock, in UTC, without fractions
	// Admin is what the admin may do: since version 16 only who has a power may give and take it.
	Admin   attributes `json:"admin"`
	Group   group      `json:"group"`
	Account account    `json:"account"`
	Roles   []role     `json:"roles"` // those asked for
}

type group struct {
	Exists  bool `json:"exists"`
	AdminOf bool `json:"admin_of"` // the admin has ADMIN OPTION on it
}

// account is the role with the user's name.
type account struct {
	Name        string        `json:"name"`
	OID         uint32        `json:"oid"` // 0: there is none
	Managed     bool          `json:"managed"`
	AdminOf     bool          `json:"admin_of"` // the admin has ADMIN OPTION on it
	Login       bool          `json:"login"`
	Inherit     bool          `json:"inherit"`
	Attributes  attributes    `json:"attributes"`
	Comment     string        `json:"comment"`     // empty: none
	Memberships []membership  `json:"memberships"` // direct ones, without the group
	Held        string        `json:"held"`        // the versions of all its memberships: another one given again has another
	Sessions    []uint32      `json:"sessions"`    // process ids of its backends
	Password    passwordState `json:"password"`
	ConnLimit   int           `json:"conn_limit"` // -1: none
	Settings    []setting     `json:"settings"`
	// Heirs are members of the account, who then have its rights. Administrators, who hold
	// it with ADMIN OPTION, are none. Before version 15 everybody may hand on the own role.
	Heirs []heir `json:"heirs"`
}

func (a account) exists() bool { return a.OID != 0 }

// passwordState is what can be seen of an account's password: nothing but VALID UNTIL.
type passwordState struct {
	Dated bool `json:"dated"` // a password would be valid for a time, not for ever and not never
	Open  bool `json:"open"`  // that time is not over
	Mark  int  `json:"mark"`  // its microseconds, which tell whose password it is
}

// setting is a default of a parameter that ALTER ROLE … SET left for the account.
type setting struct {
	Database  string `json:"database"` // the logical database it is for; empty: all
	Text      string `json:"text"`     // name=value
	Revocable bool   `json:"revocable"`
}

// heir is a row of pg_auth_members about somebody who holds the account.
type heir struct {
	Role      string `json:"role"`
	Grantor   string `json:"grantor"`
	Revocable bool   `json:"revocable"` // the admin may act for the grantor
}

// attributes are the powers that no managed account has, but for Replication while
// a session is a replication connection.
type attributes struct {
	Superuser   bool `json:"superuser"`
	CreateRole  bool `json:"createrole"`
	CreateDB    bool `json:"createdb"`
	Replication bool `json:"replication"`
	BypassRLS   bool `json:"bypassrls"`
}

// membership is a row of pg_auth_members. Before version 16 there is one for a
// role, and Inherit and Set are true.
type membership struct {
	Role      string `json:"role"`
	Grantor   string `json:"grantor"`
	Admin     bool   `json:"admin"`
	Inherit   bool   `json:"inherit"`
	Set       bool   `json:"set"`
	Revocable bool   `json:"revocable"` // the admin may act for the grantor
	Bundle    bool   `json:"bundle"`    // the role is a bundle
}

// plain reports whether m grants the use of the role and nothing beyond it.
func (m membership) plain() bool { return !m.Admin && m.Inherit && m.Set }

// passive reports whether m grants what the role holds, and where that can be
// told apart not the right to become it: then nothing is done or owned in a
// bundle's name.
func (m membership) passive(version int) bool {
	return !m.Admin && m.Inherit && m.Set == (version < version16)
}

// role is a role that was asked for.
type role struct {
	Name      string `json:"name"`
	Exists    bool   `json:"exists"`
	Superuser bool   `json:"superuser"`
	AdminOf   bool   `json:"admin_of"` // the admin has ADMIN OPTION on it
}

// The names of the statements that every admin connection has prepared.
const (
	observeStatement = "postern_observe"
	virtualStatement = "postern_virtual"
	clearStatement   = "postern_clear"
	knownStatement   = "postern_known"
	aloneStatement   = "postern_alone"
)

// statementTimeout bounds every statement of ours.
const statementTimeout = "15s"

// setupSQL pins what an admin connection depends on. The limits bound how long a
// mishap can hold locks: nothing we do takes a tenth of them. The plan of
// observeSQL does not depend on its parameters, and making it costs more than using it. It is
// made when there are few roles, perhaps, and used when there are many: hence by index.
const setupSQL = `SELECT
  pg_catalog.set_config('search_path', 'pg_catalog', false),
  pg_catalog.set_config('lock_timeout', '5s', false),
  pg_catalog.set_config('statement_timeout', '` + statementTimeout + `', false),
  pg_catalog.set_config('idle_in_transaction_session_timeout', '15s', false),
  pg_catalog.set_config('jit', 'off', false), -- compiling costs more than any query of ours
  pg_catalog.set_config('plan_cache_mode', 'force_generic_plan', false),
  pg_catalog.set_config('enable_seqscan', 'off', false),
  pg_catalog.set_config('standard_conforming_strings', 'on', false)`

// prepare readies a new admin connection, in one round trip.
func prepare(ctx context.Context, conn *pgconn.PgConn) error {
	d, err := dialectOf(conn)
	if err != nil {
		return err
	}
	p := conn.StartPipeline(ctx)
	p.SendQueryParams(setupSQL, nil, nil, nil, nil)
	p.SendPrepare(observeStatement, d.observeSQL(), nil)
	p.SendPrepare(virtualStatement, virtualSQL, nil)
	p.SendPrepare(clearStatement, clearSnapshotSQL, nil)
	p.SendPrepare(knownStatement, knownSQL, nil)
	p.SendPrepare(aloneStatement, aloneSQL, nil)
	return errors.Join(p.Sync(), p.Close())
}

// observeParams returns the parameters of observeSQL.
func observeParams(user string, roles []string) [][]byte {
	if roles == nil {
		roles = []string{}
	}
	asked, err := json.Marshal(roles)
	if err != nil {
		panic(err) // a list of strings always has a JSON form
	}
	return [][]byte{[]byte(user), asked}
}

// observe reads the state of an account, in one round trip.
func observe(ctx context.Context, conn *pgconn.PgConn, user string, roles []string) (have state, err error) {
	var b batch
	b.observe(user, roles, &have)
	err = b.run(ctx, conn)
	return have, err
}
