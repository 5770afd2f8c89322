package pgwire

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"slices"
	"testing"
	"testing/iotest"
	"time"
)

// record is a TLS record with a body of n bytes, as far as its header tells.
func record(n int) []byte {
	return append([]byte{0x17, 3, 3, byte(n >> 8), byte(n)}, bytes.Repeat([]byte{byte(n)}, n)...)
}

// readerConn reads from a reader.
type readerConn struct {
	net.Conn
	io.Reader
}

func (c readerConn) Read(p []byte) (int, error) { return c.Reader.Read(p) }

// TestIntakeHandsOutRecords: however the bytes arrive, all of them are handed out, in
// whole records, and never those of two at once.
func TestIntakeHandsOutRecords(t *testing.T) {
	t.Parallel()
	var stream []byte
	ends := map[int]bool{}
	for _, n := range []int{1, 0, 16640, 100, 8192, 8192, 8192, 5, 16640, 16640, 3} {
		stream = append(stream, record(n)...)
		ends[len(stream)] = true
	}
	for name, arrives := range map[string]func(io.Reader) io.Reader{
		"at once": func(r io.Reader) io.Reader { return r }, "in halves": iotest.HalfReader, "in bytes": iotest.OneByteReader,
		"the end with the last": iotest.DataErrReader,
	} {
		for _, before := range []int{0, 3, 6, 9, 7000} { // handed out before the relay began, perhaps in the middle of a record
			in := &intake{Conn: readerConn{Reader: arrives(bytes.NewReader(stream))}, own: make([]byte, largeBuffer)}
			if _, err := io.ReadFull(in, make([]byte, before)); err != nil {
				t.Fatal(err)
			}
			in.poll()
			if n, err := in.Read(make([]byte, 1)); n != 0 || err != errNothing { //nolint:errorlint // the very value
				t.Errorf("%s: a read before anything has arrived: %d bytes, %v", name, n, err)
			}
			at, buf := before, make([]byte, largeBuffer)
			for {
				if err := in.await(); err != nil {
					t.Fatal(err)
				}
				n, err := in.Read(buf)
				if err == io.EOF { //nolint:errorlint // io.Reader wants the very value
					break
				}
				if err != nil || n == 0 || !bytes.Equal(buf[:n], stream[at:at+n]) {
					t.Fatalf("%s: after %d bytes: %d bytes that were not sent so, %v", name, at, n, err)
				}
				if at += n; !ends[at] {
					t.Errorf("%s, %d bytes before: what is handed out ends at %d, inside a record", name, before, at)
				}
			}
			if at != len(stream) {
				t.Errorf("%s, %d bytes before: %d bytes of %d were handed out", name, before, at, len(stream))
			}
		}
	}
}

// TestIntakeWithoutRoom: a record that is longer than the buffer, or than any may be, is
// handed out in pieces. Who reads it has to refuse it.
func TestIntakeWithoutRoom(t *testing.T) {
	t.Parallel()
	stream := append(record(65535), record(7)...)
	in := &intake{Conn: readerConn{Reader: bytes.NewReader(stream)}}
	in.poll()
	var got []byte
	for buf := make([]byte, 1000); ; {
		if err := in.await(); err != nil {
			t.Fatal(err)
		}
		n, err := in.Read(buf)
		got = append(got, buf[:n]...)
		if err != nil {
			break
		}
	}
	if !bytes.Equal(got, stream) {
		t.Errorf("%d bytes of %d, or others", len(got), len(stream))
	}
	if len(in.own) != ownBuffer {
		t.Errorf("a buffer of %d bytes", len(in.own))
	}
}

// FuzzRecords checks that records end at the same places however the stream is cut.
func FuzzRecords(f *testing.F) {
	f.Add(append(record(0), record(300)...), byte(1))
	f.Add(append(record(16640), record(2)[:4]...), byte(7))
	f.Add([]byte{0x17, 3, 3, 0xff, 0xff, 1, 2, 3}, byte(200))
	f.Fuzz(func(t *testing.T, data []byte, step byte) {
		var whole, pieces records
		var wantEnds, gotEnds []int
		for at := 0; at < len(data); {
			need := whole.need(data[at:])
			n := whole.cut(data[at:])
			if at += n; n <= 0 || n > len(data) || need > n && at < len(data) {
				t.Fatalf("%d bytes taken up to %d of %d, %d needed", n, at, len(data), need)
			}
			if whole.left == 0 && whole.have == 0 {
				wantEnds = append(wantEnds, at)
			}
		}
		for at := 0; at < len(data); {
			if at += pieces.cut(data[at:min(at+int(step)+1, len(data))]); pieces.left == 0 && pieces.have == 0 {
				gotEnds = append(gotEnds, at)
			}
		}
		if !slices.Equal(wantEnds, gotEnds) {
			t.Errorf("records end at %d, in pieces at %d", wantEnds, gotEnds)
		}
	})
}

// held is a connection whose writes can be held back, to be sent in other pieces.
type held struct {
	net.Conn
	hold bool
	data []byte
}

func (h *held) Write(p []byte) (int, error) {
	if !h.hold {
		return h.Conn.Write(p)
	}
	h.data = append(h.data, p...)
	return len(p), nil
}

// heldPair is a TLS connection of which the client's records are held back.
func heldPair(t *testing.T) (client *tls.Conn, sent *held, near *tls.Conn) {
	t.Helper()
	a, b := tcpPair(t)
	serverConfig, clientConfig := testTLS()
	sent = &held{Conn: a}
	client, near = tls.Client(sent, clientConfig), tls.Server(BelowTLS(b), serverConfig)
	done := make(chan error, 1)
	go func() { done <- near.HandshakeContext(context.Background()) }()
	if err := errors.Join(client.HandshakeContext(context.Background()), <-done); err != nil {
		t.Fatal(err)
	}
	sent.hold = true
	return client, sent, near
}

// TestRelayFindsWhatTLSHasRead: requests that came together with the start-up message, so
// that TLS has read them before the relay begins, do not wait for the next one.
func TestRelayFindsWhatTLSHasRead(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 10, 100, 1000, 20_000} {
		client, sent, near := heldPair(t)
		startup, requests := []byte("the start-up message"), [][]byte{msg('Q', "select 1\x00"), msg('d', string(make([]byte, size))), msg('S', ""), msg('H', "")}
		for _, record := range append([][]byte{startup}, requests...) {
			if _, err := client.Write(record); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := sent.Conn.Write(sent.data); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(near, make([]byte, len(startup))); err != nil {
			t.Fatal(err)
		}
		server, far := tlsPair(t)
		done := make(chan Result, 1)
		go func() { done <- NewRelay(RelayConfig{Client: near, Server: far}).Run(context.Background()) }()
		_ = server.SetReadDeadline(time.Now().Add(testTimeout))
		want := bytes.Join(requests, nil)
		if got, err := io.ReadAll(io.LimitReader(server, int64(len(want)))); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes between: the server reads %d bytes of %d, %v", size, len(got), len(want), err)
		}
		server.Close()
		<-done
	}
}

// TestRelayOfRecordsInPieces: records arrive byte by byte, and then one ends in the middle:
// that is no proper end of the client.
func TestRelayOfRecordsInPieces(t *testing.T) {
	t.Parallel()
	client, sent, near := heldPair(t)
	server, far := tlsPair(t)
	done := make(chan Result, 1)
	go func() { done <- NewRelay(RelayConfig{Client: near, Server: far}).Run(context.Background()) }()
	requests := append(msg('Q', "select 1\x00"), msg('d', string(make([]byte, 1000)))...)
	for _, request := range [][]byte{requests[:3], requests[3:20], requests[20:], msg('S', "")} { // also frames over several records
		if _, err := client.Write(request); err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range sent.data {
		if _, err := sent.Conn.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	_ = server.SetReadDeadline(time.Now().Add(testTimeout))
	want := append(requests, msg('S', "")...)
	if got, err := io.ReadAll(io.LimitReader(server, int64(len(want)))); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("the server reads %q, %v", got, err)
	}
	sent.data = nil
	if _, err := client.Write(msg('S', "")); err != nil {
		t.Fatal(err)
	}
	if _, err := sent.Conn.Write(sent.data[:len(sent.data)-1]); err != nil {
		t.Fatal(err)
	}
	_ = closeWrite(sent.Conn)
	if res := <-done; res.By != ByClient || !errors.Is(res.Err, io.ErrUnexpectedEOF) {
		t.Errorf("result %+v, want the client's connection cut", res)
	}
	if rest, err := io.ReadAll(server); len(rest) > 0 || err != nil {
		t.Errorf("the server reads %q, %v: half a record", rest, err)
	}
}

// TestRelayHoldsNothingWhileItWaits: whatever has passed, the buffers are back in their
// pool when a connection waits.
func TestRelayHoldsNothingWhileItWaits(t *testing.T) {
	t.Parallel()
	for _, tr := range transports[1:] {
		t.Run(tr.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, tr.pair, RelayConfig{})
			for _, size := range []int{1, 600, 9000, 40_000, 200_000} {
				frame := msg('d', string(make([]byte, size)))
				go r.send(r.client, frame)
				r.expect(r.server, frame)
				go r.send(r.server, frame)
				r.expect(r.client, frame)
			}
			r.client.Close()
			r.wait()
			for name, e := range map[string]*end{"client": r.relay.client, "server": r.relay.server} {
				if e.in.buf != nil || len(e.in.rest) > 0 || runtime.GOOS == "linux" && e.in.own != nil {
					t.Errorf("the %s's end holds %d bytes, and a buffer of %d", name, len(e.in.rest), len(e.in.own))
				}
			}
		})
	}
}

// TestRelayAfterwards: when a relay has ended, its connections wait for what is read again.
func TestRelayAfterwards(t *testing.T) {
	t.Parallel()
	client, near := tlsPair(t)
	server, far := tlsPair(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan Result, 1)
	go func() { done <- NewRelay(RelayConfig{Client: near, Server: far}).Run(ctx) }()
	cancel()
	<-done
	read := make(chan error, 1)
	_ = far.SetDeadline(time.Now().Add(testTimeout))
	go func() {
		_, err := io.ReadFull(far, make([]byte, 4))
		read <- err
	}()
	if _, err := server.Write([]byte("last")); err != nil {
		t.Fatal(err)
	}
	if err := <-read; err != nil {
		t.Errorf("a read after the relay: %v", err)
	}
	client.Close()
}
