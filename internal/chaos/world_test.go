package chaos

import (
	"crypto/tls"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postern-db/postern/internal/ca"
	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/testenv"
)

const (
	peopleCount  = 8
	sessionsEach = 2 // at once, for each person
	// patience bounds the wait for what must come about by itself. It is long: nothing
	// waits for so long unless it is broken.
	patience = 90 * time.Second
)

// What policies are made of. The logical databases are of one server.
var (
	dbRoles    = []string{"r0", "r1", "r2", "r3"}
	privileges = []string{"SELECT", "INSERT", "UPDATE"} // on the table things
	databases  = []string{"one", "two"}
)

// world is everything there is: a server, two gateways of it, and people.
type world struct {
	t        *testing.T
	seed     uint64
	server   *pgtest.Server
	trouble  trouble // of the server
	link     *link   // between the gateways and the server
	gateways []*gateway
	people   []*person
	users    *ca.Authority
	stranger string // the rows of roles that are not ours

	sessions, refused, ended, cut atomic.Int64 // what happened, for the log
}

// gateway is a hub with an agent, in a process of its own.
type gateway struct {
	env     *testenv.Env
	address string // of the public port, also after a restart
	trouble trouble
}

// trouble is what excuses failures: what broke something, and when.
type trouble struct {
	mu    sync.Mutex
	going int // things being broken
	count int // changes of that
}

func (tr *trouble) during(breaks func()) {
	tr.add(1)
	defer tr.add(-1)
	breaks()
}

func (tr *trouble) add(n int) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.going += n
	tr.count++
}

// since returns a function that reports whether there has been trouble since now.
func (tr *trouble) since() func() bool {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	going, count := tr.going > 0, tr.count
	return func() bool {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		return going || tr.count != count
	}
}

// excuse returns a function that reports whether what is done through the gateway
// from now on may fail.
func (w *world) excuse(g *gateway) func() bool {
	server, gateway := w.trouble.since(), g.trouble.since()
	return func() bool { return server() || gateway() }
}

// rand returns a source of choices of its own for each part of the run.
func (w *world) rand(of ...string) *rand.Rand {
	h := fnv.New64()
	fmt.Fprint(h, of)
	return rand.New(rand.NewPCG(w.seed, h.Sum64()))
}

// The two gateways see the server through a link that breaks, and differ in where
// their admin works: in one database, or in the one of each session.
const service = `db_service:
  enabled: "yes"
  databases:
  - name: "example"
    protocol: "postgres"
    uri: "LINK"
    admin_user:
      name: "teleport-admin"
`

func newWorld(t *testing.T, version int, seed uint64) *world {
	t.Helper()
	w := &world{t: t, seed: seed}
	first := testenv.Start(t, testenv.Options{Version: version, Process: true})
	first.Stop(t)
	w.server = first.Server
	w.link = newLink(t, w.server.Addr())
	withDefault := strings.ReplaceAll(service, "LINK", w.link.addr()) + "      default_database: postgres\n"
	first.Reconfigure(withDefault)
	w.prepareServer()
	first.Restart(t)
	second := testenv.Start(t, testenv.Options{Beside: first, Process: true, Service: strings.ReplaceAll(service, "LINK", w.link.addr())})
	w.gateways = []*gateway{{env: first, address: first.Address}, {env: second, address: second.Address}}
	w.users = first.Authority(t, ca.User, time.Now)
	choices := w.rand("policies")
	for i := range peopleCount {
		p := &person{name: fmt.Sprintf("p%d", i), mode: []string{"keep", "best_effort_drop"}[i%2], certificates: map[string]tls.Certificate{}}
		w.people = append(w.people, p)
		w.edit(p, newPolicy(choices))
		for _, g := range w.gateways {
			g.env.AddUser(t, p.name, []string{p.name}, nil)
		}
	}
	w.stranger = w.strangers()
	return w
}

// prepareServer makes what a DBA makes, and roles that are nobody's business.
func (w *world) prepareServer() {
	t := w.t
	w.server.Exec(t, "CREATE ROLE stranger LOGIN PASSWORD 'x'", "COMMENT ON ROLE stranger IS 'not yours'",
		`CREATE ROLE "p0#12345678" LOGIN`, `CREATE ROLE "teleport-auto" NOLOGIN`)
	for _, role := range dbRoles {
		w.server.Exec(t, "CREATE ROLE "+role, "GRANT "+role+` TO "teleport-admin" WITH ADMIN OPTION`, "GRANT "+role+` TO stranger, "p0#12345678"`)
	}
	for _, name := range databases {
		w.server.Exec(t, "CREATE DATABASE "+name)
		conn := w.server.Superuser(t, name)
		for _, sql := range []string{"CREATE TABLE things (n int)", `GRANT ALL ON things TO "teleport-admin" WITH GRANT OPTION`} {
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
		}
	}
}
