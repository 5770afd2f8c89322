package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/postern-db/postern/internal/fault"
)

// Config says where and how to write. Dir and Cluster are needed.
type Config struct {
	// Dir holds the segments. It is made when missing, and must be closed to
	// everybody but the owner. One process writes at a time.
	Dir string
	// Cluster is written to every event.
	Cluster string
	// MaxSegment is the size in bytes from which a new segment begins; zero is 64
	// MiB. A new one begins with every UTC day, too.
	MaxSegment int64
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Log hears of repairs and of the failure that ends writing; nil: nobody.
	Log *slog.Logger
}

// The queue. Statements of all sessions pass through it; it is large enough to
// ride out a slow fsync and small enough to be given away in memory.
const (
	maxQueuedBytes  = 8 << 20
	maxQueuedEvents = 16 << 10
)

// Log writes events. It is safe for concurrent use; events of one goroutine keep
// their order.
type Log struct {
	log    *slog.Logger
	writer *writer
	lock   *os.File

	now     chan struct{} // holds one value when next is to be written at once
	late    *time.Timer   // gives it that value
	closing chan struct{}
	stop    func() error // closes once
	running sync.WaitGroup

	turns turns // of those who stream events

	mu      sync.Mutex // guards what follows
	encoder *encoder
	next    *batch // what is queued
	seq     uint64 // of the last line that was queued
	spare   *batch // whose buffers can be used again, or nil
	err     error  // why nothing can be written any more
}

// batch is what the writer takes at once.
type batch struct {
	lines   []byte // unsealed, one after the other
	ends    []int  // where each ends
	urgent  bool   // somebody waits for written
	taken   chan struct{}
	written chan struct{} // when closed, err is set, and nil means durable if urgent
	err     error
}

// newBatch returns an empty batch in the buffers of an old one, if there is one.
func newBatch(old *batch) *batch {
	b := &batch{taken: make(chan struct{}), written: make(chan struct{})}
	if old != nil {
		b.lines, b.ends = old.lines[:0], old.ends[:0]
	}
	return b
}

// add adds a line, which has grown out of lines and needs its chain.
func (b *batch) add(grown []byte, seq uint64) {
	b.lines = appendUnsealed(grown, seq)
	b.ends = append(b.ends, len(b.lines))
}

// Open opens the log in cfg.Dir for writing, or begins one. What a crash left at
// its end is repaired and the repair recorded. Faults: Invalid for a bad Config
// or a directory that others may enter; Unavailable when the log cannot be
// written or another process has it open.
func Open(ctx context.Context, cfg Config) (*Log, error) {
	if cfg.Dir == "" || cfg.Cluster == "" {
		return nil, fault.New(fault.Invalid, "the audit log needs a directory and the name of the cluster")
	}
	if cfg.MaxSegment <= 0 {
		cfg.MaxSegment = 64 << 20
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	enc, err := newEncoder(cfg.Cluster, cfg.Now)
	if err != nil {
		return nil, err
	}
	if err := prepareDir(cfg.Dir); err != nil {
		return nil, err
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	end, repairs, err := openTail(cfg.Dir)
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	l := &Log{
		encoder: enc, log: cfg.Log, lock: lock,
		writer: &writer{dir: cfg.Dir, maxSegment: cfg.MaxSegment, now: cfg.Now, tail: end, turns: turns{begun: time.Now()}},
		turns:  turns{begun: time.Now()},
		now:    make(chan struct{}, 1), closing: make(chan struct{}), next: newBatch(nil), seq: end.last.seq,
	}
	l.late = time.AfterFunc(writePause, l.Hurry)
	l.stop = sync.OnceValue(l.shutDown)
	l.running.Go(l.run)
	for _, r := range repairs {
		cfg.Log.Warn("audit log repaired", "segment", r.Segment, "offset", r.Offset, "removed", r.Removed, "file", r.File)
		if err := l.Emit(ctx, r); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, nil
}

// Emit writes ev and returns when it is durable. On any error the caller must
// not do what ev says: it may be on record or not. Faults: Unavailable when the
// log cannot be written; when ctx ends first, the error wraps ctx.Err().
func (l *Log) Emit(ctx context.Context, ev Event) error {
	durable, err := l.Submit(ctx, ev)
	if err != nil {
		return err
	}
	return durable(ctx)
}

// Submit queues ev in its place and returns; the log hurries to write it. durable
// waits until it is written, and returns what Emit does. Faults: those of Post.
func (l *Log) Submit(ctx context.Context, ev Event) (durable func(context.Context) error, err error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("write to the audit log: %w", err)
	}
	b, err := l.enqueue(ctx, ev, urgent)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		select {
		case <-b.written:
			return b.err
		case <-ctx.Done():
			return fmt.Errorf("wait for the audit log: %w", ctx.Err())
		}
	}, nil
}

// Post queues ev and returns. It is written at once and durable within 100 ms on
// a disk that can. When the queue is full, Post blocks until there is room or ctx
// ends; it never drops. Faults: Unavailable when the log cannot be written; then the
// caller must stop what it does.
func (l *Log) Post(ctx context.Context, ev Event) error {
	_, err := l.enqueue(ctx, ev, prompt)
	return err
}

// Stream is Post for the events of statements, of which there may be a hundred
// thousand in a second: to have each written by itself would cost several times what
// the event does. What is streamed is written after 40 ms, or earlier with what is posted,
// or when somebody calls [Log.Hurry], and durable within 100 ms, too. Now and then it
// lets others have the processor before it returns.
func (l *Log) Stream(ctx context.Context, ev Event) error {
	_, err := l.enqueue(ctx, ev, patient)
	l.turns.worked()
	return err
}

// Hurry has what is queued written at once. It does not wait.
func (l *Log) Hurry() { signal(l.now) }

// Err returns why the log refuses events, or nil while it works.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// urgency says how fast an event is to be written.
type urgency int

const (
	patient urgency = iota // together with others, within writePause
	prompt                 // at once
	urgent                 // at once, and an fsync follows
)

// enqueue encodes ev and adds it to the next batch, which it returns.
func (l *Log) enqueue(ctx context.Context, ev Event, u urgency) (*batch, error) {
	fields, err := l.encoder.fields(ev)
	if err != nil {
		return nil, err
	}
	b, err := l.lockForRoom(ctx, len(fields))
	if err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	grown := l.encoder.append(b.lines, ev, fields)
	if len(grown)-len(b.lines) > maxLine-chainSize {
		event, _ := ev.name()
		return nil, fault.Newf(fault.Invalid, "the audit event %s is larger than %d bytes", event, maxLine)
	}
	l.seq++
	b.add(grown, l.seq)
	b.urgent = b.urgent || u == urgent
	switch {
	case u > patient:
		signal(l.now)
	case len(b.ends) == 1: // otherwise the first one has started it
		l.late.Reset(writePause)
	}
	return b, nil
}

// signal puts a value into a channel that holds one, unless it is there already.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// lockForRoom returns the next batch when size bytes fit, with l.mu held. Size need not
// count the few thousand bytes of an event that is encoded in place.
func (l *Log) lockForRoom(ctx context.Context, size int) (*batch, error) {
	for {
		l.mu.Lock()
		b := l.next
		if l.err != nil {
			defer l.mu.Unlock()
			return nil, l.err
		}
		// An event larger than the whole queue goes when the queue is empty.
		if len(b.ends) == 0 || len(b.ends) < maxQueuedEvents && len(b.lines)+size <= maxQueuedBytes {
			return b, nil
		}
		l.mu.Unlock()
		signal(l.now) // it would be taken only after the pause
		select {
		case <-b.taken:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the audit log: %w", ctx.Err())
		}
	}
}

// Close writes and syncs what is queued and releases the log. It returns the
// error that ended writing, if one did. Later events are refused. A second Close
// does nothing more.
func (l *Log) Close() error { return l.stop() }

func (l *Log) shutDown() error {
	l.mu.Lock()
	if l.err == nil {
		l.err = errClosed
	}
	l.mu.Unlock()
	close(l.closing)
	l.running.Wait()
	l.late.Stop()
	failed := l.Err()
	if errors.Is(failed, errClosed) {
		failed = nil
	}
	return errors.Join(failed, l.writer.close(), l.lock.Close())
}

var errClosed = fault.New(fault.Unavailable, "the audit log is closed")
