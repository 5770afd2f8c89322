package pgwire

import (
	"bytes"
	"context"
	"io"
	"net"
	"runtime"
	"testing"
)

// benchRelay starts a relay between two pairs and returns the peers' ends.
func benchRelay(b testing.TB, pair func(testing.TB) (net.Conn, net.Conn), observe *Observe) (client, server net.Conn) {
	client, near := pair(b)
	server, far := pair(b)
	done := make(chan struct{})
	go func() {
		defer close(done)
		NewRelay(RelayConfig{Client: near, Server: far, Observe: observe}).Run(context.Background())
		far.Close()
		near.Close()
	}()
	b.Cleanup(func() {
		client.Close()
		server.Close()
		<-done
	})
	return client, server
}

func benchObserve() *Observe {
	return &Observe{
		Bodies: [2]TypeSet{Types("QPBECF"), Types("CEZt")},
		Frame:  func(*Frame) error { return nil },
	}
}

// BenchmarkRelay moves COPY-like rows of 105 bytes in writes of 8 KiB, as
// PostgreSQL sends them, from the server to the client.
func BenchmarkRelay(b *testing.B) {
	for _, tr := range transports[1:] {
		for name, observe := range map[string]*Observe{"plain": nil, "observed": benchObserve()} {
			b.Run(tr.name+"/"+name, func(b *testing.B) {
				client, server := benchRelay(b, tr.pair, observe)
				chunk := bytes.Repeat(msg('d', string(make([]byte, 100))), 8192)
				b.SetBytes(int64(len(chunk)))
				b.ReportAllocs()
				read := make(chan error, 1)
				go func() {
					buf := make([]byte, 64<<10)
					for n := 0; n < b.N*len(chunk); {
						m, err := client.Read(buf)
						if n += m; err != nil {
							read <- err
							return
						}
					}
					read <- nil
				}()
				b.ResetTimer()
				for range b.N {
					for rest := chunk; len(rest) > 0; {
						n := min(8192, len(rest))
						if _, err := server.Write(rest[:n]); err != nil {
							b.Fatal(err)
						}
						rest = rest[n:]
					}
				}
				if err := <-read; err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				client.Close() // the goroutine's buffers are no part of the figures
			})
		}
	}
}

// BenchmarkRoundTrip is a small query and its answer, as pgbench -S has them.
func BenchmarkRoundTrip(b *testing.B) {
	request := msg('Q', "SELECT abalance FROM pgbench_accounts WHERE aid = 12345;\x00")
	answer := bytes.Join([][]byte{msg('T', string(make([]byte, 28))), msg('D', "\x00\x01\x00\x00\x00\x010"), msg('C', "SELECT 1\x00"), msg('Z', "I")}, nil)
	for _, tr := range transports[1:] {
		for name, observe := range map[string]*Observe{"plain": nil, "observed": benchObserve()} {
			b.Run(tr.name+"/"+name, func(b *testing.B) {
				client, server := benchRelay(b, tr.pair, observe)
				roundTrips(b, client, server, request, answer)
				b.ReportAllocs()
				for b.Loop() {
					roundTrip(b, client, server, request, answer)
				}
			})
		}
	}
}

var space [1 << 20]byte

func roundTrip(b testing.TB, client, server net.Conn, request, answer []byte) {
	if _, err := client.Write(request); err != nil {
		b.Fatal(err)
	}
	if _, err := io.ReadFull(server, space[:len(request)]); err != nil {
		b.Fatal(err)
	}
	if _, err := server.Write(answer); err != nil {
		b.Fatal(err)
	}
	if _, err := io.ReadFull(client, space[:len(answer)]); err != nil {
		b.Fatal(err)
	}
}

func roundTrips(b testing.TB, client, server net.Conn, request, answer []byte) {
	for range 50 {
		roundTrip(b, client, server, request, answer)
	}
}

// TestRelayAllocatesNothing proves that frames cost no allocation of ours once a
// session is warm: small ones, ones that need a large buffer, and observed ones that
// arrive in pieces.
func TestRelayAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates, and makes sync.Pool forget")
	}
	tests := []struct {
		name            string
		request, answer []byte
		records         float64 // TLS records that are read, by the peers too
	}{
		{"small", msg('Q', "select 1\x00"), bytes.Repeat(msg('D', "12345"), 20), 4},
		{"large", msg('Q', string(make([]byte, 9000))), bytes.Repeat(msg('D', string(make([]byte, 1000))), 100), 17},
	}
	for _, tr := range transports[1:] {
		for _, tt := range tests {
			t.Run(tr.name+"/"+tt.name, func(t *testing.T) {
				client, server := benchRelay(t, tr.pair, benchObserve())
				roundTrips(t, client, server, tt.request, tt.answer)
				got := testing.AllocsPerRun(200, func() { roundTrip(t, client, server, tt.request, tt.answer) })
				limit := 0.0
				if tr.name == "tls" {
					limit = tt.records // crypto/tls allocates 24 bytes for each record that it reads
				}
				if got > limit {
					t.Errorf("%v allocations per round trip", got)
				}
			})
		}
	}
}

// TestIdleSessionsAreSmall measures what a relay holds while it waits, with TLS on
// both sides, after large traffic.
func TestIdleSessionsAreSmall(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector needs memory of its own")
	}
	const sessions = 200
	var before, after runtime.MemStats
	type pair struct{ client, near, server, far net.Conn }
	var pairs []pair
	for range sessions {
		var p pair
		p.client, p.near = tlsPair(t)
		p.server, p.far = tlsPair(t)
		pairs = append(pairs, p)
	}
	warm := func(p pair, through bool) {
		payload := bytes.Repeat(msg('D', string(make([]byte, 1000))), 100)
		if !through {
			// The same bytes without a relay, so that TLS has its buffers in both cases.
			for _, ends := range [][2]net.Conn{{p.client, p.near}, {p.near, p.client}, {p.server, p.far}, {p.far, p.server}} {
				go func() { _, _ = ends[0].Write(payload) }()
				if _, err := io.ReadFull(ends[1], space[:len(payload)]); err != nil {
					t.Fatal(err)
				}
			}
			return
		}
		roundTrip(t, p.client, p.server, msg('Q', "select 1\x00"), payload)
	}
	for _, p := range pairs {
		warm(p, false)
	}
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&before)
	for _, p := range pairs {
		done := make(chan struct{})
		go func() {
			defer close(done)
			NewRelay(RelayConfig{Client: p.near, Server: p.far, Observe: benchObserve()}).Run(context.Background())
		}()
		t.Cleanup(func() {
			p.client.Close()
			p.server.Close()
			<-done
		})
		warm(p, true)
	}
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&after)
	heap := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / sessions
	stack := (int64(after.StackInuse) - int64(before.StackInuse)) / sessions
	t.Logf("per idle session: %d bytes of heap, %d of stack", heap, stack)
	if heap > 8<<10 {
		t.Errorf("an idle relay holds %d bytes of heap", heap)
	}
}

// TestHugeFrameIsNotBuffered sends one value of 128 MiB through an observed relay.
func TestHugeFrameIsNotBuffered(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector needs memory of its own")
	}
	const size = 128 << 20
	client, server := benchRelay(t, tlsPair, &Observe{
		Bodies: [2]TypeSet{ToClient: Types("D")},
		Frame:  func(*Frame) error { return nil },
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	go func() {
		if _, err := server.Write(header('D', size)); err != nil {
			t.Errorf("write: %v", err)
		}
		for range size / len(space) {
			if _, err := server.Write(space[:]); err != nil {
				t.Errorf("write: %v", err)
				return
			}
		}
	}()
	if n, err := io.CopyN(io.Discard, client, headerSize+size); err != nil {
		t.Fatalf("after %d bytes: %v", n, err)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 4<<20 {
		t.Errorf("%d bytes were allocated on the way", grown)
	}
}
