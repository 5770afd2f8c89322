package store

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/postern-db/postern/internal/fault"
)

const (
	applicationID = 0x506f7374 // "Post", in the file header: this file is ours
	schemaVersion = 1
)

// schema of version 1. A deleted key leaves a tombstone, for watchers that were
// away. expires_at is in milliseconds since 1970, 0 for never; in a tombstone it
// is when the tombstone itself goes. The one row of meta counts revisions and
// remembers in horizon the newest revision of a tombstone that is gone.
const schema = `
CREATE TABLE state (
	key        TEXT    NOT NULL PRIMARY KEY,
	value      BLOB    NOT NULL,
	rev        INTEGER NOT NULL,
	version    INTEGER NOT NULL,
	expires_at INTEGER NOT NULL,
	deleted    INTEGER NOT NULL
) STRICT;
CREATE INDEX state_rev ON state (rev);
CREATE INDEX state_expires ON state (expires_at) WHERE expires_at > 0;
CREATE TABLE meta (
	id      INTEGER PRIMARY KEY CHECK (id = 1),
	rev     INTEGER NOT NULL,
	horizon INTEGER NOT NULL
) STRICT;
INSERT INTO meta (id, rev, horizon) VALUES (1, 0, 0);
`

// migrate makes the schema in an empty file and refuses every file that is not
// exactly what this code knows.
func migrate(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return trouble(ctx, err)
	}
	defer func() { _ = tx.Rollback() }()
	var app, version, tables int
	err = tx.QueryRowContext(ctx, `SELECT (SELECT application_id FROM pragma_application_id),
		(SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_schema)`).Scan(&app, &version, &tables)
	if err != nil {
		return trouble(ctx, err)
	}
	switch {
	case app == applicationID && version == schemaVersion:
		return nil
	case app == applicationID && version > schemaVersion:
		return fault.Newf(fault.Invalid, "the state store has schema version %d, this Postern knows %d", version, schemaVersion).
			WithHint("a newer Postern has used it; start that version, or restore a backup from before")
	case app != 0 || version != 0 || tables != 0:
		return fault.New(fault.Invalid, "the file is a database, but not a Postern state store").
			WithHint("check data_dir")
	}
	_, err = tx.ExecContext(ctx, fmt.Sprintf("%s PRAGMA application_id = %d; PRAGMA user_version = %d;", schema, applicationID, schemaVersion))
	if err != nil {
		return trouble(ctx, err)
	}
	return trouble(ctx, tx.Commit())
}
