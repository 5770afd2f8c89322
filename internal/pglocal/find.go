package pglocal

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/postern-db/postern/internal/fault"
)

// debianRoot is where Debian and its relatives keep one directory per major version.
const debianRoot = "/usr/lib/postgresql"

// Installation is a PostgreSQL server found on this machine.
type Installation struct {
	Major int    // 15
	Dir   string // holds bin/, and lib/ and share/ where they are not the system's
}

// Find returns the installations below the directories given, each laid out as
// <dir>/<major>/bin, and those of the distribution. They come newest first;
// when two have the same major version, the one of the earlier directory wins.
func Find(dirs ...string) []Installation {
	byMajor := map[int]Installation{}
	for _, root := range append(slices.Clone(dirs), debianRoot) {
		entries, err := os.ReadDir(root)
		if err != nil {
			continue // not installed here
		}
		for _, entry := range entries {
			major, err := strconv.Atoi(entry.Name())
			if err != nil {
				continue
			}
			dir, err := filepath.Abs(filepath.Join(root, entry.Name()))
			if err != nil {
				continue
			}
			if _, taken := byMajor[major]; taken || !isFile(filepath.Join(dir, "bin", "postgres")) || !isFile(filepath.Join(dir, "bin", "initdb")) {
				continue
			}
			byMajor[major] = Installation{Major: major, Dir: dir}
		}
	}
	found := make([]Installation, 0, len(byMajor))
	for _, i := range byMajor {
		found = append(found, i)
	}
	slices.SortFunc(found, func(a, b Installation) int { return cmp.Compare(b.Major, a.Major) })
	return found
}

// Choose returns the installation of the major version, or the newest one of
// the distribution (else the newest of all) when major is 0. It returns a
// NotFound fault when there is none.
func Choose(found []Installation, major int) (Installation, error) {
	for _, i := range found {
		if i.Major == major || major == 0 && filepath.Dir(i.Dir) == debianRoot {
			return i, nil
		}
	}
	if major == 0 && len(found) > 0 {
		return found[0], nil
	}
	if major == 0 {
		return Installation{}, fault.New(fault.NotFound, "no PostgreSQL server is installed on this machine").
			WithHint("install one: apt-get install postgresql")
	}
	return Installation{}, fault.Newf(fault.NotFound, "PostgreSQL %d is not installed on this machine", major)
}

// bin returns the path of a program of the installation.
func (i Installation) bin(name string) string { return filepath.Join(i.Dir, "bin", name) }

// env returns the environment of the installation's programs: nothing of ours,
// and its own libraries first where it brings them.
func (i Installation) env() []string {
	env := []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	if lib := filepath.Join(i.Dir, "lib"); filepath.Dir(i.Dir) != debianRoot && isDir(lib) {
		env = append(env, "LD_LIBRARY_PATH="+lib, "DYLD_LIBRARY_PATH="+lib)
	}
	return env
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
