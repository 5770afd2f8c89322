// Package archtest holds the import direction of the project.
package archtest

import (
	"go/build"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/postern-db/postern/"

// layers is the permitted import graph. A package imports packages of lines
// below its own only. Packages of one line never import each other.
//
// DO NOT CHANGE THIS TEXT TO MAKE A BUILD PASS. Changing it is a design
// decision: discuss it in the commit.
const layers = `
cmd/postern
internal/cli
internal/daemon
internal/config
internal/hub internal/agent internal/client
internal/api
internal/ca internal/signin internal/store internal/portmux internal/pgwire internal/provision internal/pglocal internal/cloud/aws
internal/access internal/audit
internal/identity
internal/resource
internal/fault
`

// testOnly packages may be imported by test files only, and may import anything.
const testOnly = `
internal/archtest
internal/bench
internal/chaos
internal/pgtest
internal/rdstest
internal/storetest
internal/testenv
`

func TestImportsGoDownwards(t *testing.T) {
	rank := map[string]int{}
	for i, line := range strings.Split(strings.TrimSpace(layers), "\n") {
		for _, pkg := range strings.Fields(line) {
			rank[pkg] = i
		}
	}
	forTests := strings.Fields(testOnly)
	for dir, pkg := range packages(t) {
		own, listed := rank[dir]
		if !listed && !slices.Contains(forTests, dir) {
			t.Errorf("%s is not listed in the import graph", dir)
			continue
		}
		if !listed {
			continue
		}
		for _, path := range pkg.Imports {
			imported, ours := strings.CutPrefix(path, module)
			if !ours {
				continue
			}
			if slices.Contains(forTests, imported) {
				t.Errorf("%s imports %s outside tests", dir, imported)
				continue
			}
			if rank[imported] <= own {
				t.Errorf("%s imports %s, which is not below it", dir, imported)
			}
		}
	}
}

// packages returns every package of the module by its directory. It reads the
// sources with go/build, so that the test cache notices a change.
func packages(t *testing.T) map[string]*build.Package {
	t.Helper()
	const root = "../.."
	found := map[string]*build.Package{}
	for _, top := range []string{"cmd", "internal"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() || d.Name() == "testdata" {
				return err
			}
			entries, err := os.ReadDir(path)
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return strings.HasSuffix(e.Name(), ".go") }) {
				return nil
			}
			pkg, err := build.ImportDir(path, 0)
			if err != nil {
				if _, none := err.(*build.NoGoError); !none { //nolint:errorlint // go/build returns it unwrapped
					return err
				}
				return nil
			}
			dir, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			found[filepath.ToSlash(dir)] = pkg
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}
