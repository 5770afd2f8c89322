package audit_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/postern-db/postern/internal/audit"
)

// cachedBytes returns how much of a file the kernel has in its cache.
func cachedBytes(t *testing.T, path string) int {
	t.Helper()
	data, err := os.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	info, err := data.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() == 0 {
		return 0
	}
	mapped, err := unix.Mmap(int(data.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(mapped) }()
	page := os.Getpagesize()
	resident := make([]byte, (len(mapped)+page-1)/page)
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&mapped[0])), uintptr(len(mapped)), uintptr(unsafe.Pointer(&resident[0])))
	if errno != 0 {
		t.Fatal(errno)
	}
	n := 0
	for _, r := range resident {
		n += int(r&1) * page
	}
	return n
}

// needsForgetting skips where files are in memory only, as tmpfs has them.
func needsForgetting(t *testing.T) {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "probe"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := file.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
	if cachedBytes(t, file.Name()) > 0 {
		t.Skip("the file system of temporary files keeps them in memory")
	}
}

// The log takes little of the kernel's cache however much is written, and nobody who
// reads it notices: what went is read from the disk, also while more goes.
func TestLogLeavesTheCacheToOthers(t *testing.T) {
	t.Parallel()
	needsForgetting(t)
	dir := logDir(t)
	l := open(t, audit.Config{Dir: dir, MaxSegment: 25 << 20})
	statement := &audit.Statement{What: &audit.DatabaseQuery{Query: strings.Repeat("x", 500<<10)}}
	emit := func(n int) {
		for range n {
			if err := l.Emit(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
		}
	}
	check := func(segments, limit int) {
		t.Helper()
		cached := 0
		files := segmentFiles(t, dir)
		for _, path := range files {
			cached += cachedBytes(t, path)
		}
		if len(files) != segments || cached > limit {
			t.Errorf("of %d segments, want %d, %d KiB are in the cache", len(files), segments, cached>>10)
		}
	}
	const first, second, all = 48, 10, 80 // 24 MiB, 5, and so on
	emit(first)
	check(1, 17<<20)
	emit(second)
	check(2, 6<<20)
	followed := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() {
		for r, err := range audit.Follow(ctx, dir, 1, audit.Filter{}) {
			if err != nil || r.Seq == all {
				followed <- err
				return
			}
		}
	}()
	emit(all - first - second)
	if err := <-followed; err != nil {
		t.Errorf("who follows is told %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	verify(t, dir, all)
}
