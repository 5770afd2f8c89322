package audit

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// lineReader reads complete lines from a file that may still grow.
type lineReader struct {
	file *os.File
	off  int64  // where the line that next returns begins
	buf  []byte // what was read and not returned is buf[used:], from off on
	used int
}

var (
	// errNoLine says that there is no complete line yet.
	errNoLine = errors.New("no complete line")
	errTooBig = errors.New("the line is longer than any line of an audit log")
)

// next returns the line at r.off without its end and moves on. The line is valid
// until the next call. After errNoLine, next looks again at the same place.
func (r *lineReader) next() ([]byte, error) {
	for searched := 0; ; {
		ahead := r.buf[r.used:]
		if i := bytes.IndexByte(ahead[searched:], '\n'); i >= 0 {
			line := ahead[:searched+i]
			r.used += len(line) + 1
			r.off += int64(len(line)) + 1
			return line, nil
		}
		if len(ahead) > maxLine {
			return nil, errTooBig
		}
		searched = len(ahead)
		if err := r.fill(); err != nil {
			return nil, err
		}
	}
}

// fill reads more, or forgets the part of a line it has and returns errNoLine:
// a repair may replace that part.
func (r *lineReader) fill() error {
	r.buf = r.buf[:copy(r.buf, r.buf[r.used:])]
	r.used = 0
	if len(r.buf) == cap(r.buf) {
		r.buf = slices.Grow(r.buf, max(64<<10, len(r.buf)))
	}
	n, err := r.file.ReadAt(r.buf[len(r.buf):cap(r.buf)], r.off+int64(len(r.buf)))
	r.buf = r.buf[:len(r.buf)+n]
	switch {
	case n > 0:
		return nil
	case errors.Is(err, io.EOF):
		r.buf = r.buf[:0]
		return errNoLine
	}
	return unreadable(err)
}

// rest returns how many bytes the file has from r.off on.
func (r *lineReader) rest() (int64, error) {
	info, err := r.file.Stat()
	if err != nil {
		return 0, unreadable(err)
	}
	return info.Size() - r.off, nil
}

// lastLine returns the place of the last complete line of a segment, reading
// from its end; a zero link means that there is none.
func lastLine(path string) (link, error) {
	file, err := os.Open(path)
	if err != nil {
		return link{}, unreadable(err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return link{}, unreadable(err)
	}
	for size := int64(64 << 10); ; size *= 8 {
		start := max(0, info.Size()-size)
		data := make([]byte, info.Size()-start)
		if _, err := file.ReadAt(data, start); err != nil && !errors.Is(err, io.EOF) {
			return link{}, unreadable(err)
		}
		end := bytes.LastIndexByte(data, '\n')
		begin := bytes.LastIndexByte(data[:max(end, 0)], '\n')
		switch {
		case end >= 0 && (begin >= 0 || start == 0):
			l, _, err := parseLine(data[begin+1 : end])
			if err != nil {
				return link{}, broken(filepath.Base(path), start+int64(begin)+1, err)
			}
			return l, nil
		case start == 0:
			return link{}, nil
		case size > 2*maxLine:
			return link{}, broken(filepath.Base(path), start, errTooBig)
		}
	}
}
