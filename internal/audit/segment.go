package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/postern-db/postern/internal/fault"
)

// A segment is a file of the log. Its name holds the sequence number of its first
// line, so that names sort in the order of the log and a reader finds a line
// without an index.
const (
	segmentPrefix = "events-"
	segmentSuffix = ".jsonl"
	segmentDigits = 20 // of the largest uint64
	damagedPrefix = "damaged-"
)

func segmentName(first uint64) string {
	return fmt.Sprintf("%s%0*d%s", segmentPrefix, segmentDigits, first, segmentSuffix)
}

// segments returns the sequence numbers of the first lines of all segments in
// dir, in order. Other files do not matter.
func segments(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Newf(fault.NotFound, "there is no audit log in %s", dir)
	}
	if err != nil {
		return nil, unreadable(err)
	}
	var firsts []uint64
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), segmentPrefix)
		if !ok {
			continue
		}
		first, err := strconv.ParseUint(strings.TrimSuffix(digits, segmentSuffix), 10, 64)
		if err == nil && e.Name() == segmentName(first) {
			firsts = append(firsts, first)
		}
	}
	slices.Sort(firsts)
	return firsts, nil
}

// damagedFiles returns the names of what repairs have moved out of the log.
func damagedFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, unreadable(err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), damagedPrefix) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// prepareDir makes dir, or checks that nobody but the owner can enter it.
func prepareDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return unwritable(err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return unwritable(err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fault.Newf(fault.Invalid, "%s holds the audit log and is open to others (mode %04o)", dir, mode).
			WithHint("chmod go-rwx " + dir)
	}
	return nil
}

// createFile makes a new file in dir, durably named: after a power cut it is
// still there.
func createFile(dir, name string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syncDir(dir); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// syncDir makes the names in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func unreadable(cause error) error {
	return fault.New(fault.Unavailable, "the audit log cannot be read").WithCause(cause)
}

func unwritable(cause error) *fault.Error {
	return fault.New(fault.Unavailable, "the audit log cannot be written").
		WithHint("an administrator must make room or repair the disk, then restart postern").WithCause(cause)
}
