package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// tail is the end of an existing log, ready to be continued.
type tail struct {
	file   *os.File // the last segment, or nil when there is none
	size   int64    // of file
	cached int64    // what stands before this the kernel was told to forget
	day    string   // of the last line
	last   link     // the last line
}

// openTail finds the end of the log in dir, repairs it if a crash or somebody
// has damaged it, and says what it repaired.
//
// After a crash the last segment may end with half a line, and after a power cut
// with pages that never reached the disk. Everything from the first byte that
// does not belong to the chain is moved to a file of its own, so that nothing is
// lost. None of it was acknowledged as durable, unless somebody tampered with
// it; the record of the repair and the file tell.
func openTail(dir string) (tail, []LogRepaired, error) {
	firsts, err := segments(dir)
	if err != nil {
		return tail{}, nil, err
	}
	var repairs []LogRepaired
	for i := len(firsts) - 1; i >= 0; i-- {
		t, repaired, err := openSegment(dir, firsts[i])
		if err != nil {
			return tail{}, nil, err
		}
		if repaired != nil {
			repairs = append(repairs, *repaired)
		}
		if t.size > 0 {
			return t, repairs, nil
		}
		// A segment without any line says nothing about the chain. It goes, and
		// the segment before it is the last.
		if err := errors.Join(t.file.Close(), os.Remove(t.file.Name()), syncDir(dir)); err != nil {
			return tail{}, nil, unwritable(err)
		}
	}
	return tail{}, repairs, nil
}

// openSegment opens the segment that begins with line first, and cuts off what
// does not belong to the chain.
func openSegment(dir string, first uint64) (tail, *LogRepaired, error) {
	path := filepath.Join(dir, segmentName(first))
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return tail{}, nil, unwritable(err)
	}
	t := tail{file: file, last: link{seq: first - 1}}
	if err := t.readAll(first); err != nil {
		_ = file.Close()
		return tail{}, nil, err
	}
	repaired, err := cutOff(dir, file, t.size)
	if err != nil {
		_ = file.Close()
		return tail{}, nil, unwritable(err)
	}
	return t, repaired, nil
}

// readAll moves the end of t over all lines of its segment that belong to the
// chain, the first of which is line first.
func (t *tail) readAll(first uint64) error {
	r := lineReader{file: t.file}
	var last []byte
	for {
		line, err := r.next()
		if err != nil && !errors.Is(err, errNoLine) && !errors.Is(err, errTooBig) {
			return err
		}
		if err != nil || !t.extend(line, first) {
			t.day = dayOf(last)
			return nil
		}
		t.size = r.off
		last = append(last[:0], line...)
	}
}

// extend moves the end of t over line, if line belongs there. What the first line
// of a segment says about the line before is taken as it is: that line is in
// another segment, and Verify compares them.
func (t *tail) extend(line []byte, first uint64) bool {
	l, prev, err := parseLine(line)
	if err != nil {
		return false
	}
	before := t.last
	if l.seq == first && first > 1 {
		before.hash = prev
	}
	if l.follows(before, prev) != nil {
		return false
	}
	t.last = l
	return true
}

// cutOff moves what file holds from offset on to a file of its own. There may be
// nothing.
func cutOff(dir string, file *os.File, offset int64) (*LogRepaired, error) {
	end, err := file.Seek(0, io.SeekEnd)
	if err != nil || end == offset {
		return nil, err
	}
	segment := filepath.Base(file.Name())
	name := fmt.Sprintf("%s%s-%d-%d", damagedPrefix, segment, offset, time.Now().UnixNano())
	aside, err := createFile(dir, name)
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	_, err = io.Copy(io.MultiWriter(aside, sum), io.NewSectionReader(file, offset, end-offset))
	if err := errors.Join(err, aside.Sync(), aside.Close()); err != nil {
		return nil, err
	}
	if err := errors.Join(file.Truncate(offset), file.Sync()); err != nil {
		return nil, err
	}
	return &LogRepaired{
		Segment: segment, Offset: offset, Removed: end - offset,
		SHA256: hex.EncodeToString(sum.Sum(nil)), File: name,
	}, nil
}

// day names the UTC day of t; a segment holds one.
func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// dayOf returns the day of a line, or "", which is no day: the next line then
// begins a segment.
func dayOf(line []byte) string {
	var common struct {
		Time time.Time `json:"time"`
	}
	if err := json.Unmarshal(line, &common); err != nil {
		return ""
	}
	return day(common.Time)
}
