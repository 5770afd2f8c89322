package pgtest

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/postern-db/postern/internal/pglocal"
)

// defaultVersions are the major versions that we promise to work with.
const defaultVersions = "13,14,15,16,17,18"

// Versions returns the major versions that the test must run on: those of the
// environment variable POSTERN_PG_VERSIONS (comma separated), else all that
// Postern supports. It fails the test when one of them is not installed.
func Versions(t testing.TB) []int {
	t.Helper()
	list := os.Getenv("POSTERN_PG_VERSIONS")
	if list == "" {
		list = defaultVersions
	}
	var versions []int
	for text := range strings.SplitSeq(list, ",") {
		version, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil {
			t.Fatalf("POSTERN_PG_VERSIONS=%q: %v", list, err)
		}
		installation(t, version)
		versions = append(versions, version)
	}
	return versions
}

// Newest returns the newest version of [Versions], for tests that need one only.
func Newest(t testing.TB) int {
	t.Helper()
	versions := Versions(t)
	return versions[len(versions)-1]
}

// installation returns the server of the version, 0 being the distribution's.
func installation(t testing.TB, version int) pglocal.Installation {
	t.Helper()
	found, err := pglocal.Choose(pglocal.Find(filepath.Join(repository(t), ".pg")), version)
	if err != nil {
		t.Fatalf("%v: run `make deps`", err)
	}
	return found
}

// repository returns the root of the repository: tests run in their package's directory.
func repository(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
	}
	t.Fatal("no go.mod above the working directory")
	return ""
}
