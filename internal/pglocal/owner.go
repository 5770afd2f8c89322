package pglocal

import (
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"github.com/postern-db/postern/internal/fault"
)

// owner is the operating system user that the server runs as. The zero value
// is the user of this process.
type owner struct {
	other    bool // somebody else than this process
	uid, gid int
}

// serverOwner returns who must run the server: this process's user, or an
// unprivileged one when that is root.
func serverOwner() (owner, error) {
	if os.Geteuid() != 0 {
		return owner{}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.Atoi(u.Uid)
		gid, errGID := strconv.Atoi(u.Gid)
		if errUID == nil && errGID == nil && uid != 0 {
			return owner{other: true, uid: uid, gid: gid}, nil
		}
	}
	return owner{}, fault.New(fault.Unavailable, "PostgreSQL refuses to run as root, and there is no user postgres or nobody to run it as").
		WithHint("run this as an ordinary user")
}

// own gives the tree at path to the owner.
func (o owner) own(path string) error {
	if !o.other {
		return nil
	}
	return filepath.WalkDir(path, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, o.uid, o.gid)
	})
}

// canReach reports whether the owner can read what is at path, as far as the
// permissions for everybody on it and on every directory above tell.
func (o owner) canReach(path string) bool {
	if !o.other {
		return true
	}
	for p := path; ; p = filepath.Dir(p) {
		info, err := os.Stat(p)
		if err != nil || info.Mode().Perm()&0o005 == 0 || info.IsDir() && info.Mode().Perm()&0o001 == 0 {
			return false
		}
		if p == filepath.Dir(p) {
			return true
		}
	}
}
