package pglocal

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/postern-db/postern/internal/fault"
)

func TestFindAndChoose(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	for _, path := range []string{
		filepath.Join(first, "31", "bin", "postgres"), filepath.Join(first, "31", "bin", "initdb"),
		filepath.Join(first, "32", "bin", "postgres"), // without initdb it is of no use
		filepath.Join(first, "notes", "bin", "postgres"),
		filepath.Join(second, "31", "bin", "postgres"), filepath.Join(second, "31", "bin", "initdb"),
		filepath.Join(second, "33", "bin", "postgres"), filepath.Join(second, "33", "bin", "initdb"),
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	found := Find(first, second, filepath.Join(first, "missing"))
	if len(found) < 2 || found[0].Dir != filepath.Join(second, "33") || found[1].Dir != filepath.Join(first, "31") {
		t.Fatalf("found %+v, want 33 of the second and 31 of the first directory first", found)
	}
	if in, err := Choose(found, 31); err != nil || in.Major != 31 {
		t.Errorf("choose 31: %+v, %v", in, err)
	}
	if _, err := Choose(found, 32); fault.KindOf(err) != fault.NotFound {
		t.Errorf("choose 32: %v, want not found", err)
	}
	ours := found[:2]
	if in, err := Choose(ours, 0); err != nil || in.Major != 33 {
		t.Errorf("choose any: %+v, %v, want the newest", in, err)
	}
	if in, err := Choose(append(ours, Installation{Major: 15, Dir: debianRoot + "/15"}), 0); err != nil || in.Major != 15 {
		t.Errorf("choose any: %+v, %v, want the distribution's", in, err)
	}
	if _, err := Choose(nil, 0); fault.Of(err).Hint == "" {
		t.Errorf("choose of nothing: %v, want a hint", err)
	}
}
