package pgwire

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postern-db/postern/internal/fault"
)

// Limits of a session that is ending.
const (
	// terminateGrace is how long a FATAL error may wait for the end of a frame that
	// is under way, and for a client that does not read.
	terminateGrace = 2 * time.Second
	// defaultHalfClose is how long a client that said it will send no more may wait
	// for answers. Nothing tells it from one that is gone.
	defaultHalfClose = 5 * time.Second
	// lingerTime is how long [CloseClient] waits for the client.
	lingerTime = time.Second
	// maxPending bounds the notices that wait for a frame boundary.
	maxPending = 64 << 10
)

// RelayConfig says what to relay.
type RelayConfig struct {
	// The connections: TLS made on [BelowTLS], or none. Others work, and need more memory.
	Client net.Conn // just after [AppendWelcome] was written
	Server net.Conn // a [ServerConn] just after Start
	// Observe is shown the frames that it asks for; nil shows nothing.
	Observe *Observe
	// HalfClose bounds the time between the client's end of file and the server's;
	// zero means 5 s.
	HalfClose time.Duration
}

// Traffic counts one direction.
type Traffic struct{ Bytes, Frames int64 }

// EndedBy tells who ended a relay.
type EndedBy int

// Who ended a relay.
const (
	ByClient EndedBy = iota + 1 // it closed, or broke the protocol
	ByServer                    // it closed, or broke the protocol
	ByUs                        // Terminate, the context, or the observer
)

func (e EndedBy) String() string {
	switch e {
	case ByClient:
		return "client"
	case ByServer:
		return "server"
	case ByUs:
		return "gateway"
	}
	return "nobody"
}

// Result tells how a relay ended.
type Result struct {
	By EndedBy
	// Err is nil when the client sent Terminate or closed its side properly, or the
	// server did; otherwise what went wrong, or the [*Error] of Terminate.
	Err error
	// Goodbye tells that the client's last message was Terminate.
	Goodbye            bool
	ToServer, ToClient Traffic
}

// Relay carries a session between a client and a server, frame by frame and
// untouched. Its methods are safe for concurrent use.
type Relay struct {
	cfg            RelayConfig
	client, server *end
	toServer       pump
	toClient       pump
	lastClient     atomic.Int64 // Unix nanoseconds
	waiting        atomic.Bool  // pending is not empty
	stopped        atomic.Bool  // Terminate was called

	mu sync.Mutex
	// All below is guarded by mu.
	pending []byte  // messages of ours for the client
	final   bool    // pending ends, or ended, with the last one
	by      EndedBy // the first who ended the relay
	err     error   // and why
}

// NewRelay returns a relay that [Relay.Run] starts.
func NewRelay(cfg RelayConfig) *Relay {
	if cfg.HalfClose <= 0 {
		cfg.HalfClose = defaultHalfClose
	}
	r := &Relay{cfg: cfg, client: newEnd(cfg.Client), server: newEnd(cfg.Server)}
	var observe *Observe
	if cfg.Observe != nil && cfg.Observe.Frame != nil {
		o := *cfg.Observe
		if o.Limit <= 0 {
			o.Limit = defaultObserveLimit
		}
		observe = &o
	}
	r.toServer = pump{relay: r, src: r.client, dst: r.server, active: &r.lastClient, scan: scanner{dir: ToServer, observe: observe}}
	r.toClient = pump{relay: r, src: r.server, dst: r.client, scan: scanner{dir: ToClient, observe: observe}}
	r.lastClient.Store(time.Now().UnixNano())
	return r
}

// Run relays until both directions have ended, or ctx does: then the client is
// sent the cause of ctx as by [Relay.Terminate]. It closes the writing half of
// both connections; the caller ends them with [ServerConn.Finish] and
// [CloseClient]. Call it once.
func (r *Relay) Run(ctx context.Context) Result {
	release := r.endWith(ctx)
	r.client.in.poll()
	r.server.in.poll()
	var client sync.WaitGroup
	client.Go(func() { r.clientEnded(r.toServer.run()) })
	r.serverEnded(r.toClient.run())
	client.Wait()
	r.client.in.block()
	r.server.in.block()
	release()
	_ = r.server.closeWrite()
	return r.result()
}

// endWith terminates the session when ctx ends, until release is called.
func (r *Relay) endWith(ctx context.Context) (release func()) {
	terminated := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(terminated)
		r.Terminate(causeError(ctx))
	})
	return func() {
		if !stop() {
			<-terminated
		}
	}
}

func (r *Relay) result() Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Result{
		By: r.by, Err: r.err, Goodbye: r.toServer.scan.typ == 'X',
		ToServer: r.Traffic(ToServer), ToClient: r.Traffic(ToClient),
	}
}

// causeError is what a client is told when its context ends.
func causeError(ctx context.Context) *Error {
	cause := context.Cause(ctx)
	if cause == ctx.Err() { //nolint:errorlint // the very value: nobody gave a cause
		return &Error{Severity: SeverityFatal, Code: "57P01", Message: "terminating connection due to administrator command"}
	}
	return FromFault(cause)
}

// Notice sends the client a NoticeResponse at the next frame boundary. It does not
// wait. What a client does not read in time is dropped at 64 KiB.
func (r *Relay) Notice(e *Error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.final && len(r.pending) < maxPending {
		r.pending = e.AppendNotice(r.pending)
		r.waiting.Store(true)
		r.server.wake()
	}
}

// Terminate ends the session: the client is sent e, with severity FATAL, at the
// next frame boundary and nothing after it, and no more of its frames reach the
// server. A statement that is running goes on until the server notices: cancel it
// first. Terminate does not wait; the first call counts.
func (r *Relay) Terminate(e *Error) {
	c := *e
	c.makeFatal()
	r.ended(ByUs, &c)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.final {
		return
	}
	r.pending, r.final = c.Append(r.pending), true
	r.waiting.Store(true)
	r.stopped.Store(true)
	grace := time.Now().Add(terminateGrace)
	_ = r.client.SetWriteDeadline(grace)
	_ = r.server.SetWriteDeadline(grace)
	r.client.limitRead(past)
	r.server.limitRead(grace)
	r.server.wake()
}

// LastClient returns when the client last sent something, for idle limits.
func (r *Relay) LastClient() time.Time { return time.Unix(0, r.lastClient.Load()) }

// Traffic returns what was sent on in one direction so far.
func (r *Relay) Traffic(d Direction) Traffic {
	p := &r.toServer
	if d == ToClient {
		p = &r.toClient
	}
	return Traffic{Bytes: p.bytes.Load(), Frames: p.frames.Load()}
}

// ended notes who ended the relay; the first counts.
func (r *Relay) ended(by EndedBy, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.by == 0 {
		r.by, r.err = by, err
	}
}

// clientEnded follows the end of the direction to the server.
func (r *Relay) clientEnded(err *pumpError) {
	switch {
	case err.scan != nil:
		r.ended(err.blame(ByClient), err.scan)
		r.Terminate(FromFault(err.scan))
	case err.write != nil:
		// The server is gone; what it still said is read and passed on.
		r.server.limitRead(time.Now().Add(terminateGrace))
	case err.read == io.EOF && !r.client.cut(): //nolint:errorlint // crypto/tls and net return it unwrapped
		r.ended(ByClient, nil)
		_ = r.server.closeWrite()
		r.server.limitRead(time.Now().Add(r.cfg.HalfClose))
	case r.stopped.Load():
		// The read was interrupted; the other direction still has to tell the client why.
		_ = r.server.closeWrite()
	default:
		// Reset, or gone without TLS's goodbye, as a program is that was killed: nobody is
		// there to be answered.
		cause := err.read
		if cause == io.EOF { //nolint:errorlint // as above
			cause = ErrNoGoodbye
		}
		r.ended(ByClient, r.unlessGoodbye(cause))
		_ = r.client.SetWriteDeadline(past)
		_ = r.server.closeWrite()
		r.server.limitRead(past)
	}
}

// ErrNoGoodbye is the end of a client that has not said that it goes: neither Terminate
// nor, with TLS, that it will send no more.
var ErrNoGoodbye = errors.New("the client closed the connection without a goodbye")

// unlessGoodbye drops the error of a client that had sent Terminate: how it hangs
// up after that is of no interest.
func (r *Relay) unlessGoodbye(err error) error {
	if r.toServer.scan.typ == 'X' && r.toServer.scan.atBoundary() {
		return nil
	}
	return err
}

// serverEnded follows the end of the direction to the client.
func (r *Relay) serverEnded(err *pumpError) {
	switch {
	case err.scan != nil:
		r.ended(err.blame(ByServer), err.scan)
	case err.write != nil:
		r.ended(ByClient, err.write)
	case err.read == io.EOF: //nolint:errorlint // as above
		r.ended(ByServer, nil)
	default:
		r.ended(ByServer, err.read)
	}
	_ = r.client.closeWrite()
	r.client.limitRead(past)
}

// blame tells a frame that breaks the protocol from one that the observer refused.
func (e *pumpError) blame(peer EndedBy) EndedBy {
	if f, ok := errors.AsType[*fault.Error](e.scan); ok && f.Kind == fault.Invalid {
		return peer
	}
	return ByUs
}

// take returns the messages of ours that wait for a frame boundary. last tells that
// nothing may follow them.
func (r *Relay) take() (messages []byte, last bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	messages, r.pending = r.pending, nil
	r.waiting.Store(false)
	return messages, r.final
}

// CloseClient ends a client's connection so that it can read the last message: it
// closes our side and waits up to a second for the client to close its own. Bytes
// left unread would make the kernel answer with a reset, which destroys what the
// client has not read yet.
func CloseClient(conn net.Conn) error {
	if closeWrite(conn) == nil {
		_ = conn.SetReadDeadline(time.Now().Add(lingerTime))
		_ = drain(conn)
	}
	return conn.Close()
}
