package agent

import (
	"crypto/tls"
	"encoding/binary"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/audit"
	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/pgwire"
	"github.com/postern-db/postern/internal/resource"
)

// exchange is one transaction as pgbench -S has it: what both sides send.
type exchange []pgwire.Frame

func (x *exchange) add(d pgwire.Direction, typ byte, body string) {
	*x = append(*x, pgwire.Frame{Direction: d, Type: typ, Length: len(body), Body: []byte(body)})
}

const benchSQL = "SELECT abalance FROM pgbench_accounts WHERE aid = "

func simpleExchange() exchange {
	var x exchange
	x.add(pgwire.ToServer, 'Q', benchSQL+"12345;\x00")
	x.add(pgwire.ToClient, 'T', "")
	x.add(pgwire.ToClient, 'C', "SELECT 1\x00")
	x.add(pgwire.ToClient, 'Z', "I")
	return x
}

// preparedExchange binds one value to a statement that is prepared, or prepares it too.
func preparedExchange(parse bool) exchange {
	var x exchange
	if parse {
		x.add(pgwire.ToServer, 'P', "\x00"+benchSQL+"$1\x00\x00\x00")
	}
	value := "12345"
	bind := append([]byte("\x00\x00\x00\x00\x00\x01"), binary.BigEndian.AppendUint32(nil, uint32(len(value)))...)
	x.add(pgwire.ToServer, 'B', string(bind)+value+"\x00\x00")
	x.add(pgwire.ToServer, 'D', "P\x00")
	x.add(pgwire.ToServer, 'E', "\x00\x00\x00\x00\x00")
	x.add(pgwire.ToServer, 'S', "")
	if parse {
		x.add(pgwire.ToClient, '1', "")
	}
	x.add(pgwire.ToClient, '2', "")
	x.add(pgwire.ToClient, 'T', "")
	x.add(pgwire.ToClient, 'C', "SELECT 1\x00")
	x.add(pgwire.ToClient, 'Z', "I")
	return x
}

// cpuTime returns how much CPU time this process has used.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkRecord is what audit adds to a transaction, from the frames to the log on
// disk: events is how many each has.
func BenchmarkRecord(b *testing.B) {
	for _, level := range []resource.RecordLevel{resource.RecordTag, resource.RecordFull} {
		for _, tt := range []struct {
			name string
			x    exchange
		}{{"simple", simpleExchange()}, {"extended", preparedExchange(true)}, {"prepared", preparedExchange(false)}} {
			b.Run(string(level)+"/"+tt.name, func(b *testing.B) {
				log, err := audit.Open(b.Context(), audit.Config{Dir: b.TempDir() + "/audit", Cluster: "main.example.com"})
				if err != nil {
					b.Fatal(err)
				}
				defer log.Close()
				s := benchSession(log, level)
				go s.agent.recorder.run(b.Context())
				observe, err := s.observe(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				for _, f := range preparedExchange(true) { // so that there is a statement to bind to
					if err := observe.Frame(&f); err != nil {
						b.Fatal(err)
					}
				}
				var shown pgwire.Frame
				var read time.Time
				before, used := s.events.Load(), cpuTime(b)
				b.ReportAllocs()
				for b.Loop() {
					for i, f := range tt.x {
						// What goes in one direction is read at once.
						if i == 0 || f.Direction != tt.x[i-1].Direction {
							read = time.Now()
						}
						shown = f
						shown.At = read
						if err := observe.Frame(&shown); err != nil {
							b.Fatal(err)
						}
					}
				}
				b.ReportMetric(float64((cpuTime(b)-used).Nanoseconds())/float64(b.N), "cpu-ns/op")
				b.ReportMetric(float64(s.events.Load()-before)/float64(b.N), "events/op")
			})
		}
	}
}

func benchSession(log *audit.Log, level resource.RecordLevel) *session {
	near, _ := net.Pipe()
	return &session{
		agent:    &Server{cfg: Config{Audit: log, Cluster: "main.example.com"}, recorder: newRecorder(log)},
		id:       newID(),
		conn:     tls.Server(near, &tls.Config{MinVersion: tls.VersionTLS13}),
		identity: identity.Identity{User: "alice", Route: identity.Route{Database: "orders"}},
		startup:  &pgwire.Startup{Params: []pgwire.Param{{Name: "user", Value: "alice"}, {Name: "database", Value: "shop"}}},
		database: &database{resource: &resource.Database{Metadata: resource.Metadata{Name: "orders"}, Spec: resource.DatabaseSpec{Protocol: "postgres", URI: "db.example.com:5432"}}},
		decision: access.Decision{DatabaseRoles: []string{"reader", "writer"}, Limits: access.Limits{Record: level}},
	}
}
