package pglocal

import (
	"os"
	"path/filepath"
	"time"
)

const (
	dirPrefix = "postern-pg-"
	// longestBase keeps the path of the Unix socket within the 103 bytes that
	// every system allows: base + "/postern-pg-4294967295/s/.s.PGSQL.65535".
	longestBase = 103 - len("/postern-pg-4294967295/s/.s.PGSQL.65535")
	// staleAfter is the age from which an unlocked directory is taken for one
	// whose process was killed, and not for one that is being made.
	staleAfter = time.Minute
)

// baseDir returns where clusters are made: the temporary directory, unless the
// owner cannot reach it or its name is too long for a Unix socket.
func baseDir(o owner) string {
	if dir := os.TempDir(); len(dir) <= longestBase && o.canReach(dir) {
		return dir
	}
	return "/tmp"
}

// newDir makes the directory of a cluster and takes the lock that says its
// process is alive. The lock ends with the process.
func newDir(base string) (dir string, lock *os.File, err error) {
	dir, err = os.MkdirTemp(base, dirPrefix)
	if err != nil {
		return "", nil, err
	}
	lock, err = lockFile(filepath.Join(dir, "lock"))
	if err != nil {
		_ = os.RemoveAll(dir) // the first error is the one to report
		return "", nil, err
	}
	return dir, lock, nil
}

// removeStale removes the directories of clusters whose process was killed:
// those with a lock file that nobody holds.
func removeStale(base string) {
	dirs, err := filepath.Glob(filepath.Join(base, dirPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		path := filepath.Join(dir, "lock")
		info, err := os.Stat(path)
		if err != nil || time.Since(info.ModTime()) < staleAfter {
			continue // somebody may be just making it
		}
		lock, err := lockFile(path)
		if err != nil {
			continue // alive, or somebody else's
		}
		_ = os.RemoveAll(dir) // what remains is tried again next time
		_ = lock.Close()
	}
}
