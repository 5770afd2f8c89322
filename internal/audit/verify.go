package audit

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Report is what [Verify] found.
type Report struct {
	Segments int      `json:"segments"`
	Events   uint64   `json:"events"`
	First    uint64   `json:"first"` // sequence number; above 1 when older segments were removed
	Last     uint64   `json:"last"`
	Head     string   `json:"head"`              // hash of the last line: compare it with one noted earlier or elsewhere
	Torn     int64    `json:"torn"`              // bytes after the last line: being written, or left by a crash
	Damaged  []string `json:"damaged,omitempty"` // files that repairs moved out of the log
}

// Verify checks every line of the log in dir and the chain between them, without
// help of the process that wrote it. Faults: Invalid with the place where the
// chain breaks, NotFound, Unavailable.
//
// A chain proves that nothing inside was changed, added or removed. That nothing
// is missing at its end only a head noted elsewhere can prove.
func Verify(ctx context.Context, dir string) (Report, error) {
	firsts, err := segments(dir)
	if err != nil {
		return Report{}, err
	}
	rep := Report{Segments: len(firsts)}
	if rep.Damaged, err = damagedFiles(dir); err != nil {
		return rep, err
	}
	var last link
	for i, first := range firsts {
		if i == 0 {
			rep.First = first
			last.seq = first - 1
		}
		if first != last.seq+1 {
			return rep, broken(segmentName(first), 0, fmt.Errorf("the segment with line %d is missing", last.seq+1))
		}
		last, rep.Torn, err = verifySegment(ctx, dir, first, last)
		rep.Last, rep.Events = last.seq, last.seq-rep.First+1
		rep.Head = hex.EncodeToString(last.hash[:])
		if err != nil {
			return rep, err
		}
		if rep.Torn > 0 && i < len(firsts)-1 {
			return rep, broken(segmentName(first), 0, errors.New("the segment ends with half a line"))
		}
	}
	return rep, nil
}

// verifySegment checks the segment that begins with line first and follows last.
// It returns the segment's last line and the number of bytes after it.
func verifySegment(ctx context.Context, dir string, first uint64, last link) (link, int64, error) {
	name := segmentName(first)
	file, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return last, 0, unreadable(err)
	}
	defer func() { _ = file.Close() }()
	r := lineReader{file: file}
	oldest := last.hash == [len(last.hash)]byte{} && first > 1 // what came before was removed
	for {
		if err := ctx.Err(); err != nil {
			return last, 0, fmt.Errorf("verify audit log: %w", err)
		}
		start := r.off
		line, err := r.next()
		if errors.Is(err, errNoLine) {
			torn, err := r.rest()
			return last, torn, err
		}
		var l link
		if err == nil {
			var prev [len(last.hash)]byte
			if l, prev, err = parseLine(line); err == nil {
				if oldest {
					last.hash, oldest = prev, false
				}
				err = l.follows(last, prev)
			}
		}
		if err != nil {
			return last, 0, broken(name, start, err)
		}
		last = l
	}
}
