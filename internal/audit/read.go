package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/postern-db/postern/internal/fault"
)

// Record is one line of the log. The fields are those that people search by; Raw
// has them all.
type Record struct {
	Seq      uint64    `json:"seq"`
	Event    string    `json:"event"`
	Code     string    `json:"code"`
	Time     time.Time `json:"time"`
	UID      string    `json:"uid"`
	User     string    `json:"user"`
	Session  string    `json:"sid"`
	Database string    `json:"db_service"`
	Raw      []byte    `json:"-"` // the line without its end
}

// Filter says which records are wanted. Every field that is set must match; the
// zero Filter wants all.
type Filter struct {
	Events   []string // types or codes, any of them
	User     string
	Session  string
	Database string
	Since    time.Time // inclusive
	Until    time.Time // exclusive
}

// Matches reports whether f wants r.
func (f Filter) Matches(r Record) bool {
	switch {
	case len(f.Events) > 0 && !slices.Contains(f.Events, r.Event) && !slices.Contains(f.Events, r.Code),
		f.User != "" && f.User != r.User,
		f.Session != "" && f.Session != r.Session,
		f.Database != "" && f.Database != r.Database,
		!f.Since.IsZero() && r.Time.Before(f.Since),
		!f.Until.IsZero() && !r.Time.Before(f.Until):
		return false
	}
	return true
}

// Read yields the records in dir that match f, from sequence number from to the
// present end. It ends with an error when the log cannot be read (Unavailable),
// there is none (NotFound), or a line is not what was written (Invalid). Use
// [Verify] to check the chain between lines too. When ctx ends, the sequence
// does, with an error that wraps ctx.Err().
func Read(ctx context.Context, dir string, from uint64, f Filter) iter.Seq2[Record, error] {
	return records(ctx, dir, from, f, false)
}

// Follow is [Read] that goes on with what is written next, until ctx ends. It
// sees a new line within 200 ms.
func Follow(ctx context.Context, dir string, from uint64, f Filter) iter.Seq2[Record, error] {
	return records(ctx, dir, from, f, true)
}

// End returns the sequence number of the last record in dir, 0 when there is
// none. Following from a few before it shows the latest. Faults are those of
// [Read].
func End(ctx context.Context, dir string) (uint64, error) {
	firsts, err := segments(dir)
	if err != nil {
		return 0, err
	}
	for _, first := range slices.Backward(firsts) {
		last, err := lastLine(filepath.Join(dir, segmentName(first)))
		if err != nil {
			return 0, err
		}
		if last.seq > 0 {
			return last.seq, nil
		}
	}
	return 0, nil
}

// pollEvery is how often Follow looks for more. Looking is one read at the end of
// a file; being woken instead would need another mechanism on every system.
const pollEvery = 100 * time.Millisecond

func records(ctx context.Context, dir string, from uint64, f Filter, follow bool) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		c := cursor{dir: dir, from: from}
		defer c.close()
		for {
			r, err := c.next()
			switch {
			case err == nil && r.Seq >= from && f.Matches(r):
				if !yield(r, nil) {
					return
				}
			case errors.Is(err, errNoLine) && follow:
				err = wait(ctx, pollEvery)
			case errors.Is(err, errNoLine):
				return
			}
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(Record{}, c.explain(err))
				return
			}
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// decode reads a line and checks that it is what was written. Of a line before
// from, only the sequence number is read.
func decode(line []byte, from uint64) (Record, error) {
	l, _, err := parseLine(line)
	if err != nil || l.seq < from {
		return Record{Seq: l.seq}, err
	}
	var r Record
	if err := json.Unmarshal(line, &r); err != nil {
		return Record{}, err
	}
	r.Seq, r.Raw = l.seq, bytes.Clone(line)
	return r, nil
}

// cursor goes through the lines of a log, from segment to segment.
type cursor struct {
	dir    string
	from   uint64 // the line wanted first
	last   uint64 // the line that next returned last; 0 before the first
	reader lineReader
}

// next returns the record of the next line, or errNoLine at the present end.
func (c *cursor) next() (Record, error) {
	line, err := c.line()
	if err != nil {
		return Record{}, err
	}
	r, err := decode(line, c.from)
	if err != nil {
		return Record{}, err
	}
	if c.last > 0 && r.Seq != c.last+1 {
		return Record{}, errMissing
	}
	c.last = r.Seq
	return r, nil
}

var errMissing = errors.New("lines are missing")

func (c *cursor) line() ([]byte, error) {
	if c.reader.file != nil {
		line, err := c.reader.next()
		if !errors.Is(err, errNoLine) {
			return line, err
		}
	}
	following, err := c.following()
	switch {
	case err != nil:
		return nil, err
	case following == 0:
		return nil, errNoLine
	case c.last > 0 && following > c.last+1:
		// The open segment got its last lines after we looked and before the next
		// one was made.
		line, err := c.reader.next()
		if errors.Is(err, errNoLine) {
			err = errMissing
		}
		return line, err
	}
	if err := c.open(following); err != nil {
		return nil, err
	}
	return c.reader.next()
}

// following returns the first line of the segment to read next, 0 when there is
// none. A segment that is open but had no line yet is returned again: a repair
// may have replaced it.
func (c *cursor) following() (uint64, error) {
	firsts, err := segments(c.dir)
	if err != nil {
		return 0, err
	}
	for i, first := range firsts {
		if first <= c.last {
			continue
		}
		// To begin with, skip segments that end before the line wanted.
		if c.last == 0 && i+1 < len(firsts) && firsts[i+1] <= c.from {
			continue
		}
		return first, nil
	}
	return 0, nil
}

// open goes on with the segment that begins with line first.
func (c *cursor) open(first uint64) error {
	if c.reader.off > 0 {
		if rest, err := c.reader.rest(); err != nil || rest != 0 {
			return errors.Join(err, errNotALine)
		}
	}
	file, err := os.Open(filepath.Join(c.dir, segmentName(first)))
	if errors.Is(err, fs.ErrNotExist) {
		return errNoLine // it had none, and a repair took it away
	}
	if err != nil {
		return unreadable(err)
	}
	c.close()
	c.reader = lineReader{file: file}
	return nil
}

func (c *cursor) close() {
	if c.reader.file != nil {
		_ = c.reader.file.Close()
	}
}

// explain says where in the log err was found.
func (c *cursor) explain(err error) error {
	if _, ok := errors.AsType[*fault.Error](err); ok || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	segment := "the first segment"
	if c.reader.file != nil {
		segment = filepath.Base(c.reader.file.Name())
	}
	return broken(segment, c.reader.off, err)
}

func broken(segment string, offset int64, cause error) error {
	return fault.New(fault.Invalid, "the audit log is not what was written").
		WithDetail(fmt.Sprintf("%s, near byte %d: %v", segment, offset, cause)).WithCause(cause)
}
