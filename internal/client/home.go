package client

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// maxFile bounds what is read of one of our own files; the largest, a bundle of
// host CAs, has a few kilobytes.
const maxFile = 1 << 20

// Home is the directory that holds profiles, keys and certificates. Everything
// in it is readable by its owner only, and every file is replaced as a whole, so
// that several commands may run at once.
type Home struct {
	Dir string           // created on first use
	Now func() time.Time // nil means time.Now
}

func (h *Home) now() time.Time {
	if h.Now != nil {
		return h.Now()
	}
	return time.Now()
}

// keys is the directory of everything secret that belongs to a profile.
func (h *Home) keys(p *Profile) string { return filepath.Join(h.Dir, "keys", p.name()) }

func (h *Home) hostCAFile(p *Profile) string { return filepath.Join(h.keys(p), "host-ca.pem") }

func (h *Home) loginFile(p *Profile) string {
	return filepath.Join(h.keys(p), fileName(p.User)+".pem")
}

// HostCAFile returns the file with the host CAs of p, for programs that verify
// the hub themselves.
func (h *Home) HostCAFile(p *Profile) string { return h.hostCAFile(p) }

// write replaces the file below the home with data, in one step.
func (h *Home) write(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make the profile directory: %w", err)
	}
	// The directory may have been made by hand, and more open.
	if err := os.Chmod(h.Dir, 0o700); err != nil {
		return fmt.Errorf("protect the profile directory: %w", err)
	}
	return WriteFile(path, data, 0o600)
}

// WriteFile replaces a file in one step: readers see the old content or the new,
// also after a crash. The directory must exist.
func WriteFile(path string, data []byte, mode os.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", path, errors.Join(err, f.Close(), os.Remove(f.Name())))
		}
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	_ = f.Close() // synced; the name is taken, so there is nothing to undo
	return nil
}

// ReadFile reads a whole file, up to a limit in bytes.
func ReadFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err // names the file, like that of Open
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("read %s: larger than %d bytes", path, limit)
	}
	return data, nil
}

// fileName turns any text into the name of a file: names of users and clusters
// come from the hub and must not lead elsewhere.
func fileName(text string) string {
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-', c == '@',
			c == '.' && i > 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	if b.Len() > 120 { // file systems end at 255 bytes, and a suffix follows
		return b.String()[:80] + "~" + digest(text)
	}
	return b.String()
}
