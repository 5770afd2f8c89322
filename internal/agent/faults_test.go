package agent_test

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2/toxics"
	"github.com/jackc/pgx/v5"

	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/testenv"
)

// TestFaultsOnTheWay: whatever happens between the client and the gateway, or
// between the gateway and PostgreSQL, the session ends, its end is on record with
// the reason, PostgreSQL's process is gone and the account released. That no
// goroutine is left is checked when the package has ended.
func TestFaultsOnTheWay(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	// Others shall run too while a stream keeps all buffers full.
	paced := toxics.ToxicWrapper{Type: "bandwidth", Toxicity: 1, Toxic: &toxics.BandwidthToxic{Rate: 6400}}
	// Where this is, toxiproxy resets what it ends. With a toxicity it would not wait
	// for that, and end everything with the first data.
	reset := toxics.ToxicWrapper{Type: "reset_peer", Toxicity: 0, Toxic: &toxics.ResetToxic{}}
	for name, open := range map[string]func(*testing.T, string) faultyWay{
		"cut":         func(t *testing.T, target string) faultyWay { return newToxic(t, target, paced) },
		"reset":       func(t *testing.T, target string) faultyWay { return newToxic(t, target, paced, reset) },
		"end to near": func(t *testing.T, target string) faultyWay { return newFaulty(t, target, (*link).endToNear) },
		"end to far":  func(t *testing.T, target string) faultyWay { return newFaulty(t, target, (*link).endToFar) },
		"silence":     func(t *testing.T, target string) faultyWay { return newFaulty(t, target, (*link).silence) },
	} {
		for _, side := range []string{"client", "server"} {
			states := []string{"idle", "busy", "copying"}
			if name == "silence" || name == "end to near" {
				states = states[:2] // in a stream these take as long as the limits of an end
			}
			for _, state := range states {
				t.Run(strings.Join([]string{name, side, state}, ", "), func(t *testing.T) {
					t.Parallel()
					s := hireVictim(t, env, side, open)
					conn := testenv.Connect(t, s.cfg)
					ended := make(chan struct{})
					switch state {
					case "busy":
						go func() {
							defer close(ended)
							_, _ = conn.Exec(t.Context(), "SELECT pg_sleep(600)")
						}()
						env.AwaitQuery(t, s.name, "pg_sleep")
					case "copying": // in mid-stream, all buffers full
						var flow counter
						go func() {
							defer close(ended)
							_, _ = conn.PgConn().CopyTo(t.Context(), &flow, "COPY (SELECT repeat('x', 1000), generate_series(1, 1000000000)) TO STDOUT")
						}()
						testenv.Eventually(t, "data flows", func() bool { return flow.Load() > 1<<20 })
					default:
						close(ended)
					}
					s.way.strike()
					goodbye := false
					switch {
					case name == "silence" && side == "client":
						// Nobody can know; the idle limit ends it.
					case name == "silence":
						_ = conn.PgConn().Conn().Close() // the person gives up
						env.AwaitAudit(t, 1, of(s.name, "TDB01I"))
						s.way.cut() // the admin's connections were silenced too
					case name == "end to near" && side == "client":
						<-ended // the client notices, and can still say goodbye
						testenv.Close(t, conn)
						goodbye = true
					}
					s.check(t, env, goodbye)
					s.way.cut()
					<-ended
				})
			}
		}
	}
}

// counter counts what is written to it.
type counter struct{ atomic.Int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.Add(int64(len(p)))
	return len(p), nil
}

// TestSlowWay: with delays, at a trickle, and in pieces of one byte, everything
// works, and the end is a goodbye.
func TestSlowWay(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	for name, slow := range map[string]toxics.ToxicWrapper{
		"latency":   {Type: "latency", Toxicity: 1, Toxic: &toxics.LatencyToxic{Latency: 5, Jitter: 4}},
		"bandwidth": {Type: "bandwidth", Toxicity: 1, Toxic: &toxics.BandwidthToxic{Rate: 50}},
		"drip":      {Type: "slicer", Toxicity: 1, Toxic: &toxics.SlicerToxic{AverageSize: 1}},
		"slow drip": {Type: "slicer", Toxicity: 1, Toxic: &toxics.SlicerToxic{AverageSize: 16, SizeVariation: 8, Delay: 500}},
	} {
		for _, side := range []string{"client", "server"} {
			t.Run(name+", "+side, func(t *testing.T) {
				t.Parallel()
				s := hireVictim(t, env, side, func(t *testing.T, target string) faultyWay { return newToxic(t, target, slow) })
				conn := testenv.Connect(t, s.cfg)
				if got := text(t, conn, "SELECT repeat($1, 100)", "x"); got != strings.Repeat("x", 100) {
					t.Errorf("got %d bytes", len(got))
				}
				if _, err := conn.Exec(t.Context(), "SELECT 1/0"); err == nil {
					t.Error("no error comes through")
				}
				exec(t, conn, "SELECT 1")
				testenv.Close(t, conn)
				s.check(t, env, true)
			})
		}
	}
}

// victim is a person with a way on which things happen.
type victim struct {
	name string
	way  faultyWay
	cfg  *pgx.ConnConfig
}

// hireVictim returns a person whose sessions go over a way that open makes, on one
// side of the gateway. An idle client is given two seconds.
func hireVictim(t *testing.T, env *testenv.Env, side string, open func(t *testing.T, target string) faultyWay) victim {
	t.Helper()
	name := "victim" + strconv.FormatInt(time.Now().UnixNano(), 36)
	role := testenv.Role(name, "keep")
	env.Apply(t, strings.Replace(role, "options:\n", "options:\n    client_idle_timeout: 2s\n", 1))
	env.AddUser(t, name, []string{name}, nil)
	database, target := "example", env.Address
	if side == "server" {
		database, target = name, env.Server.Addr()
	}
	v := victim{name: name, way: open(t, target)}
	if side == "server" {
		env.Apply(t, fmt.Sprintf(`kind: db
version: v3
metadata: {name: %s}
spec: {protocol: postgres, uri: %q, admin_user: {name: teleport-admin}}
`, name, v.way.addr))
		awaitServed(t, env, name)
	}
	v.cfg = env.As(t, name).Direct(t, identity.Route{Database: database})
	if side == "client" {
		host, port, err := net.SplitHostPort(v.way.addr)
		if err != nil {
			t.Fatal(err)
		}
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			t.Fatal(err)
		}
		v.cfg.Host, v.cfg.Port = host, uint16(number)
	}
	return v
}

// check waits for the one end of the session and for what has to follow from it.
func (v victim) check(t *testing.T, env *testenv.Env, goodbye bool) {
	t.Helper()
	ends := env.AwaitAudit(t, 1, of(v.name, "TDB01I"))
	if reason := ends[0].Text("reason"); (reason == "") != goodbye {
		t.Errorf("the session ended for the reason %q", reason)
	}
	awaitAccount(t, env, v.name, testenv.Account{Exists: true, Roles: []string{testenv.Group}})
	testenv.Eventually(t, "PostgreSQL's process is gone", func() bool { return len(env.Queries(t, v.name)) == 0 })
	if starts, ends := env.Audit(t, of(v.name, "TDB00I")), env.Audit(t, of(v.name, "TDB01I")); len(starts) != 1 || len(ends) != 1 {
		t.Errorf("%d starts and %d ends are on record", len(starts), len(ends))
	}
}
