package pgwire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-db/postern/internal/fault"
)

// rig is a relay between two scripted peers.
type rig struct {
	t              *testing.T
	client, server net.Conn // the peers' ends
	near, far      net.Conn // the relay's ends
	relay          *Relay
	cancel         context.CancelCauseFunc
	done           chan struct{}
	result         Result // once done is closed
}

func newRig(t *testing.T, pair func(testing.TB) (net.Conn, net.Conn), cfg RelayConfig) *rig {
	t.Helper()
	r := &rig{t: t, done: make(chan struct{})}
	r.client, r.near = pair(t)
	r.server, r.far = pair(t)
	for _, c := range []net.Conn{r.client, r.server} {
		_ = c.SetDeadline(time.Now().Add(testTimeout))
	}
	cfg.Client, cfg.Server = r.near, r.far
	r.relay = NewRelay(cfg)
	ctx, cancel := context.WithCancelCause(context.Background())
	r.cancel = cancel
	go func() {
		r.result = r.relay.Run(ctx)
		r.far.Close()
		_ = CloseClient(r.near)
		close(r.done)
	}()
	t.Cleanup(func() {
		r.client.Close()
		r.server.Close()
		cancel(nil)
		<-r.done
	})
	return r
}

func (r *rig) send(c net.Conn, data []byte) {
	r.t.Helper()
	if _, err := c.Write(data); err != nil {
		r.t.Errorf("write: %v", err)
	}
}

func (r *rig) expect(c net.Conn, want []byte) {
	r.t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil {
		r.t.Fatalf("read %q, want %q: %v", got[:n], want, err)
	}
	if !bytes.Equal(got, want) {
		r.t.Fatalf("read %q, want %q", got, want)
	}
}

func (r *rig) expectEnd(c net.Conn) {
	r.t.Helper()
	if n, err := c.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		r.t.Fatalf("read %d bytes, %v, want the end", n, err)
	}
}

func (r *rig) wait() Result {
	r.t.Helper()
	select {
	case <-r.done:
		return r.result
	case <-time.After(testTimeout):
		r.t.Fatal("the relay does not end")
		return Result{}
	}
}

func TestRelayPassesEverything(t *testing.T) {
	t.Parallel()
	for _, tr := range transports {
		t.Run(tr.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, tr.pair, RelayConfig{})
			requests := [][]byte{
				msg('Q', "select 1\x00"), msg('S', ""), msg('!', "from the future"), msg('d', string(make([]byte, 100_000))),
				bytes.Join([][]byte{msg('P', "\x00select $1\x00\x00\x00"), msg('B', "\x00\x00\x00\x00\x00\x00\x00\x00"), msg('E', "\x00\x00\x00\x00\x00"), msg('S', "")}, nil),
				msg('d', string(make([]byte, worthMore-headerSize))), msg('d', string(make([]byte, worthMore))),
			}
			answers := [][]byte{
				msg('T', "row"), msg('D', string(make([]byte, 70_000))), msg('1', ""), msg('Z', "I"), msg('~', ""),
				bytes.Repeat(msg('D', "0123456789"), 5000),
			}
			var frames Traffic
			for i := range max(len(requests), len(answers)) {
				if i < len(requests) {
					go r.send(r.client, requests[i])
					r.expect(r.server, requests[i])
					frames.Bytes += int64(len(requests[i]))
				}
				if i < len(answers) {
					go r.send(r.server, answers[i])
					r.expect(r.client, answers[i])
				}
			}
			go r.send(r.client, msg('X', ""))
			r.expect(r.server, msg('X', ""))
			frames.Bytes += headerSize
			frames.Frames = 11
			r.server.Close()
			res := r.wait()
			if !res.Goodbye || res.By != ByServer || res.Err != nil {
				t.Errorf("result %+v", res)
			}
			if diff := cmp.Diff(frames, res.ToServer); diff != "" {
				t.Errorf("traffic to server (-want +got):\n%s", diff)
			}
			r.expectEnd(r.client)
		})
	}
}

func TestRelayManySmallWritesBothWays(t *testing.T) {
	t.Parallel()
	for _, tr := range transports {
		t.Run(tr.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, tr.pair, RelayConfig{})
			rng := rand.New(rand.NewPCG(1, 2))
			var stream []byte
			for len(stream) < 200_000 {
				stream = append(stream, msg(byte('A'+rng.IntN(50)), string(make([]byte, rng.IntN(3)*rng.IntN(700))))...)
			}
			sizes := make([]int, 4000)
			for i := range sizes {
				sizes[i] = 1 + rng.IntN(1+rng.IntN(900))
			}
			var wg sync.WaitGroup
			defer wg.Wait()
			for _, c := range []net.Conn{r.client, r.server} {
				wg.Go(func() {
					rest := stream
					for i := 0; len(rest) > 0; i++ {
						n := min(sizes[i%len(sizes)], len(rest))
						if _, err := c.Write(rest[:n]); err != nil {
							t.Errorf("write: %v", err)
							return
						}
						rest = rest[n:]
					}
				})
			}
			wg.Go(func() { r.expect(r.client, stream) })
			r.expect(r.server, stream)
		})
	}
}

// TestRelayDelaysNothing checks that a frame goes on although the peer sends no
// more, whatever the size of its writes.
func TestRelayDelaysNothing(t *testing.T) {
	t.Parallel()
	for _, tr := range transports {
		t.Run(tr.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, tr.pair, RelayConfig{})
			for _, size := range []int{5, 6, worthMore - 1, worthMore, worthMore + 1, 2 * worthMore, largeBuffer - 1, largeBuffer, largeBuffer + 1, 100_000} {
				frame := msg('d', string(make([]byte, size-headerSize)))
				go r.send(r.client, frame)
				r.expect(r.server, frame)
				// A complete frame with the beginning of the next must not wait for its rest.
				begun := append(bytes.Clone(frame), header('d', 3)...)
				go r.send(r.server, begun)
				r.expect(r.client, begun)
				go r.send(r.server, []byte("abc"))
				r.expect(r.client, []byte("abc"))
			}
		})
	}
}

func TestRelayHalfClose(t *testing.T) {
	t.Parallel()
	for _, tr := range transports[1:] { // net.Pipe has no halves
		t.Run(tr.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, tr.pair, RelayConfig{})
			r.send(r.client, msg('Q', "select 1\x00"))
			if err := closeWrite(r.client); err != nil {
				t.Fatal(err)
			}
			r.expect(r.server, msg('Q', "select 1\x00"))
			r.expectEnd(r.server)
			r.send(r.server, msg('Z', "I"))
			r.expect(r.client, msg('Z', "I"))
			r.server.Close()
			if res := r.wait(); res.By != ByClient || res.Err != nil || res.Goodbye {
				t.Errorf("result %+v", res)
			}
		})
	}
}

func TestRelayHalfCloseHasALimit(t *testing.T) {
	t.Parallel()
	r := newRig(t, tlsPair, RelayConfig{HalfClose: 30 * time.Millisecond})
	if err := closeWrite(r.client); err != nil {
		t.Fatal(err)
	}
	if res := r.wait(); res.By != ByClient || res.Err != nil {
		t.Errorf("result %+v", res)
	}
	r.expectEnd(r.client)
}

// TestRelayEndsWithItsClient: a client whose program was killed ends TCP and not TLS. Its session
// does not go on as that of a client that only sends no more.
func TestRelayEndsWithItsClient(t *testing.T) {
	t.Parallel()
	for goodbye, want := range map[string]Result{"": {By: ByClient, Err: ErrNoGoodbye}, string(msg('X', "")): {By: ByClient, Goodbye: true}} {
		r := newRig(t, tlsPair, RelayConfig{HalfClose: testTimeout})
		sent := append(msg('Q', "select pg_sleep(60)\x00"), goodbye...)
		r.send(r.client, sent)
		r.expect(r.server, sent)
		tcpBelow(t, r.client).Close()
		r.expectEnd(r.server)
		if res := r.wait(); res.By != want.By || !errors.Is(res.Err, want.Err) || res.Goodbye != want.Goodbye {
			t.Errorf("result %+v, want %+v", res, want)
		}
	}
}

func TestRelayEndsWhenClientIsCut(t *testing.T) {
	t.Parallel()
	client, near := tcpPair(t)
	server, far := tcpPair(t)
	relay := NewRelay(RelayConfig{Client: near, Server: far})
	done := make(chan Result, 1)
	go func() { done <- relay.Run(context.Background()) }()
	if _, err := client.Write(header('Q', 100)); err != nil {
		t.Fatal(err)
	}
	_ = tcpBelow(t, client).SetLinger(0)
	client.Close()
	res := <-done
	if res.By != ByClient || res.Err == nil {
		t.Errorf("result %+v, want an error of the client", res)
	}
	_ = server.SetDeadline(time.Now().Add(testTimeout))
	if got, err := io.ReadAll(server); err != nil || !bytes.Equal(got, header('Q', 100)) {
		t.Errorf("server reads %q, %v", got, err)
	}
}

func TestRelayServerGoneWhileClientIdles(t *testing.T) {
	t.Parallel()
	for _, tr := range transports {
		t.Run(tr.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, tr.pair, RelayConfig{})
			fatal := (&Error{Severity: SeverityFatal, Code: "57P01", Message: "bye"}).Append(nil)
			go func() {
				r.send(r.server, fatal)
				r.server.Close()
			}()
			r.expect(r.client, fatal)
			r.expectEnd(r.client)
			if res := r.wait(); res.By != ByServer || res.Err != nil {
				t.Errorf("result %+v", res)
			}
		})
	}
}

func TestRelayTerminate(t *testing.T) {
	t.Parallel()
	why := &Error{Severity: SeverityFatal, Code: "57P05", Message: "idle", Hint: "connect again"}
	tests := []struct {
		name   string
		before []byte   // from the server, before Terminate
		after  [][]byte // from the server, after it
		want   []byte   // of before and after, what the client gets
	}{
		{name: "between frames", before: msg('Z', "I"), want: msg('Z', "I")},
		{name: "inside a frame", before: header('D', 6), after: [][]byte{[]byte("abc"), []byte("def")}, want: msg('D', "abcdef")},
		{name: "inside a header", before: header('D', 2)[:3], after: [][]byte{header('D', 2)[3:], []byte("xy")}, want: msg('D', "xy")},
	}
	for _, tr := range transports {
		for _, tt := range tests {
			t.Run(tr.name+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				r := newRig(t, tr.pair, RelayConfig{})
				go r.send(r.server, tt.before)
				r.expect(r.client, tt.before)
				r.relay.Terminate(why)
				r.relay.Terminate(&Error{Message: "the second does not count"})
				var wg sync.WaitGroup
				defer wg.Wait()
				wg.Go(func() {
					for _, piece := range tt.after {
						r.send(r.server, piece)
					}
				})
				r.expect(r.client, append(bytes.Clone(tt.want[len(tt.before):]), why.Append(nil)...))
				r.expectEnd(r.client)
				if res := r.wait(); res.By != ByUs || res.Err == nil || res.Err.Error() != why.Error() {
					t.Errorf("result %+v", res)
				}
			})
		}
	}
}

// TestRelayTerminateBeforeRun also has a request that is decrypted already: it must
// not reach the server.
func TestRelayTerminateBeforeRun(t *testing.T) {
	t.Parallel()
	client, near := tlsPair(t)
	server, far := tlsPair(t)
	relay := NewRelay(RelayConfig{Client: near, Server: far})
	why := &Error{Severity: SeverityFatal, Code: "57P01", Message: "bye"}
	if _, err := client.Write(append(msg('S', ""), msg('Q', "drop table t\x00")...)); err != nil {
		t.Fatal(err)
	}
	// Its first byte is read, so the rest is decrypted and waits.
	if _, err := io.ReadFull(near, make([]byte, headerSize)); err != nil {
		t.Fatal(err)
	}
	relay.Terminate(why)
	relay.Run(t.Context())
	_ = server.SetDeadline(time.Now().Add(testTimeout))
	if got, err := io.ReadAll(server); err != nil || len(got) != 0 {
		t.Errorf("server reads %q, %v, want nothing", got, err)
	}
	go func() { _ = CloseClient(near) }()
	_ = client.SetDeadline(time.Now().Add(testTimeout))
	if got, err := io.ReadAll(client); err != nil || !bytes.Equal(got, why.Append(nil)) {
		t.Errorf("read %q, %v", got, err)
	}
}

// TestRelayTerminateReachesNobody checks the end when the client does not read
// and the server never finishes its frame.
func TestRelayTerminateReachesNobody(t *testing.T) {
	t.Parallel()
	r := newRig(t, tcpPair, RelayConfig{})
	go func() {
		_, _ = r.server.Write(header('D', 1<<30))
		for {
			if _, err := r.server.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	}()
	r.expect(r.client, header('D', 1<<30))
	start := time.Now()
	r.relay.Terminate(&Error{Code: "57P01"})
	r.wait()
	if d := time.Since(start); d > 2*terminateGrace {
		t.Errorf("took %v", d)
	}
}

func TestRelayContextEnds(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		cause error
		want  string // SQLSTATE
	}{
		{"without a cause", nil, "57P01"},
		{"with a fault", fault.New(fault.Denied, "locked").WithHint("ask"), "42501"},
		{"with an error of ours", &Error{Severity: SeverityFatal, Code: "57P05", Message: "idle"}, "57P05"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, tlsPair, RelayConfig{})
			r.cancel(tt.cause)
			typ, body, err := readMessage(r.client, nil, 1000)
			if err != nil || typ != 'E' {
				t.Fatalf("read %q, %v", typ, err)
			}
			if e := ParseError(body); e.Code != tt.want || e.Severity != SeverityFatal {
				t.Errorf("got %v, want %s", e, tt.want)
			}
			r.expectEnd(r.client)
		})
	}
}

func TestRelayNotice(t *testing.T) {
	t.Parallel()
	notice := &Error{Severity: SeverityNotice, Code: "01000", Message: "five minutes left"}
	for _, tr := range transports {
		t.Run(tr.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, tr.pair, RelayConfig{})
			r.relay.Notice(notice)
			r.expect(r.client, notice.AppendNotice(nil))

			// Inside a frame it waits for its end, and the rest follows.
			go r.send(r.server, header('D', 3))
			r.expect(r.client, header('D', 3))
			r.relay.Notice(notice)
			rest := append([]byte("abc"), append(msg('Z', "I"), header('D', 1)...)...)
			go r.send(r.server, rest)
			r.expect(r.client, rest[:3+6])
			r.expect(r.client, notice.AppendNotice(nil))
			r.expect(r.client, rest[3+6:])
			go r.send(r.server, []byte("x"))
			r.expect(r.client, []byte("x"))

			// The session goes on.
			go r.send(r.client, msg('Q', "\x00"))
			r.expect(r.server, msg('Q', "\x00"))
			go r.send(r.server, msg('Z', "I"))
			r.expect(r.client, msg('Z', "I"))
		})
	}
}

func TestRelayManyNoticesDuringTraffic(t *testing.T) {
	t.Parallel()
	r := newRig(t, tlsPair, RelayConfig{})
	notice := (&Error{Severity: SeverityNotice, Message: "n"})
	const notices, rows = 200, 20000
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for range notices {
			r.relay.Notice(notice)
			time.Sleep(50 * time.Microsecond)
		}
	})
	wg.Go(func() {
		for i := range rows {
			r.send(r.server, msg('D', string(make([]byte, i%1500))))
		}
	})
	var got [256]int
	buf := make([]byte, 4096)
	for got['N'] < notices || got['D'] < rows {
		typ, _, err := readMessage(r.client, buf, 4096)
		if err != nil {
			t.Fatalf("after %d rows and %d notices: %v", got['D'], got['N'], err)
		}
		if typ != 'N' && typ != 'D' {
			t.Fatalf("message of type %q", typ)
		}
		got[typ]++
	}
}

func TestRelayRefusesBadLengths(t *testing.T) {
	t.Parallel()
	for _, length := range []string{"\x00\x00\x00\x03", "\x00\x00\x00\x00", "\xff\xff\xff\xff", "\x80\x00\x00\x00"} {
		bad := "Q" + length
		t.Run("client", func(t *testing.T) {
			t.Parallel()
			r := newRig(t, tcpPair, RelayConfig{})
			r.send(r.client, []byte(bad))
			typ, body, err := readMessage(r.client, nil, 1000)
			if err != nil || typ != 'E' || ParseError(body).Code != "08P01" {
				t.Errorf("client reads %q %q, %v, want 08P01", typ, body, err)
			}
			r.expectEnd(r.server)
			if res := r.wait(); res.By != ByClient || fault.KindOf(res.Err) != fault.Invalid {
				t.Errorf("result %+v", res)
			}
		})
		t.Run("server", func(t *testing.T) {
			t.Parallel()
			r := newRig(t, tcpPair, RelayConfig{})
			r.send(r.server, append(msg('Z', "I"), bad...))
			r.expect(r.client, msg('Z', "I"))
			typ, body, err := readMessage(r.client, nil, 1000)
			if err != nil || typ != 'E' || ParseError(body).Code != "08P01" {
				t.Errorf("client reads %q %q, %v, want 08P01", typ, body, err)
			}
			r.expectEnd(r.server)
			if res := r.wait(); res.By != ByServer || fault.KindOf(res.Err) != fault.Invalid {
				t.Errorf("result %+v", res)
			}
		})
	}
}

func TestObserverRefuses(t *testing.T) {
	t.Parallel()
	r := newRig(t, tlsPair, RelayConfig{Observe: &Observe{
		Bodies: [2]TypeSet{ToServer: Types("Q")},
		Frame: func(f *Frame) error {
			if bytes.HasPrefix(f.Body, []byte("drop")) {
				return fault.New(fault.Unavailable, "audit is full")
			}
			return nil
		},
	}})
	r.send(r.client, msg('Q', "select\x00"))
	r.expect(r.server, msg('Q', "select\x00"))
	r.send(r.client, msg('Q', "drop table t\x00"))
	typ, body, err := readMessage(r.client, nil, 1000)
	if err != nil || typ != 'E' || ParseError(body).Code != "57P03" {
		t.Errorf("client reads %q %q, %v, want 57P03", typ, body, err)
	}
	r.expectEnd(r.server)
	if res := r.wait(); res.By != ByUs || fault.KindOf(res.Err) != fault.Unavailable {
		t.Errorf("result %+v", res)
	}
}

func TestLastActivity(t *testing.T) {
	t.Parallel()
	r := newRig(t, tcpPair, RelayConfig{})
	before := r.relay.LastClient()
	r.send(r.client, msg('S', ""))
	r.expect(r.server, msg('S', ""))
	if !r.relay.LastClient().After(before) {
		t.Error("LastClient does not move")
	}
	if got := r.relay.Traffic(ToServer); got != (Traffic{5, 1}) {
		t.Errorf("traffic %+v", got)
	}
}

// TestScanner feeds the same stream in pieces of every kind and expects the same
// frames.
func TestScanner(t *testing.T) {
	t.Parallel()
	stream := bytes.Join([][]byte{
		msg('Q', "select 1\x00"), msg('S', ""), msg('d', "not wanted"), msg('B', string(bytes.Repeat([]byte("x"), 100))), msg('B', ""), msg('d', ""), msg('Q', "2\x00"),
	}, nil)
	type seen struct {
		Type   byte
		Length int
		Body   string
	}
	want := []seen{{'Q', 9, "select 1\x00"}, {'d', 10, ""}, {'B', 100, string(bytes.Repeat([]byte("x"), 20))}, {'B', 0, ""}, {'d', 0, ""}, {'Q', 2, "2\x00"}}
	for name, reader := range map[string]io.Reader{
		"whole":    bytes.NewReader(stream),
		"one byte": iotest.OneByteReader(bytes.NewReader(stream)),
		"halves":   iotest.HalfReader(bytes.NewReader(stream)),
	} {
		t.Run(name, func(t *testing.T) {
			var got []seen
			s := scanner{dir: ToServer, observe: &Observe{
				Bodies: [2]TypeSet{Types("QB")}, Headers: [2]TypeSet{Types("d")}, Limit: 20,
				Frame: func(f *Frame) error {
					got = append(got, seen{f.Type, f.Length, string(f.Body)})
					return nil
				},
			}}
			buf := make([]byte, 64)
			for {
				n, err := reader.Read(buf)
				if errors.Is(err, io.EOF) {
					break
				}
				if _, err := s.scan(buf[:n]); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("frames (-want +got):\n%s", diff)
			}
			if !s.atBoundary() || s.pieces != nil || s.frames != 7 {
				t.Errorf("boundary %v, pieces %v, %d frames", s.atBoundary(), s.pieces, s.frames)
			}
		})
	}
}
