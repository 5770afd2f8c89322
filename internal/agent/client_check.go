package agent

import (
	"errors"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/pgwire"
)

// clientCheck is the setting with which PostgreSQL notices during a statement that
// its client is gone. Our client side can be cut off at any moment, also by a crash
// of this process: then nobody is left to cancel the statement, and as long as it
// runs the account is in use.
const clientCheck = "client_connection_check_interval"

// serverTraits are what is known of a server from earlier logins.
type serverTraits struct {
	major         atomic.Int32
	noClientCheck atomic.Bool // the server refuses clientCheck, as it does on Windows
}

// learn notes the version that a server reports.
func (t *serverTraits) learn(b *pgwire.Backend) {
	version, _ := b.Param("server_version") // 15.4 (Debian …), 18beta1
	digits := strings.IndexFunc(version, func(r rune) bool { return r < '0' || r > '9' })
	if digits < 0 {
		digits = len(version)
	}
	if major, err := strconv.ParseInt(version[:digits], 10, 32); err == nil {
		t.major.Store(int32(major))
	}
}

// clientCheckParams returns the start-up parameter, unless the client has set it
// itself or the server does not know it.
func (t *serverTraits) clientCheckParams(given []pgwire.Param) []pgwire.Param {
	if t.major.Load() < 14 || t.noClientCheck.Load() {
		return nil
	}
	for _, p := range given {
		if sets(p, clientCheck) {
			return nil
		}
	}
	return []pgwire.Param{{Name: clientCheck, Value: "1s"}}
}

// refusesClientCheck reports whether a login failed for a setting, and notes not
// to ask for ours again.
func (t *serverTraits) refusesClientCheck(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || pg.Code != "22023" && pg.Code != "42704" {
		return false
	}
	return t.major.Load() >= 14 && !t.noClientCheck.Swap(true)
}
