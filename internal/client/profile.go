package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/postern-db/postern/internal/fault"
)

const (
	currentProfile = "current-profile" // file with the address of the active profile
	profileSuffix  = ".json"
)

// Profile is one login at one hub. It holds no secrets.
type Profile struct {
	Address     string    `json:"address"` // host:port of the hub
	User        string    `json:"user"`
	Cluster     string    `json:"cluster"`
	Roles       []string  `json:"roles"`
	Expires     time.Time `json:"expires"`      // end of the login
	SystemRoots bool      `json:"system_roots"` // the hub may also prove itself by the system's roots
}

// name is the file name of the profile, without a suffix. Host names hold no
// colon or underscore-digit ending of their own that matters: the port ends it.
func (p *Profile) name() string { return profileName(p.Address) }

func profileName(address string) string {
	return strings.NewReplacer(":", "_", "[", "", "]", "").Replace(address)
}

// LoginHint is the command that renews the login.
func (p *Profile) LoginHint() string {
	return fmt.Sprintf("postern login --proxy=%s --user=%s", p.Address, p.User)
}

// Current returns the active profile, expired or not. Without one the error is
// Unauthenticated.
func (h *Home) Current() (*Profile, error) {
	data, err := ReadFile(filepath.Join(h.Dir, currentProfile), maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.Unauthenticated, "not logged in").WithHint("postern login --proxy=HOST:PORT --user=NAME")
	}
	if err != nil {
		return nil, err
	}
	return h.Profile(strings.TrimSpace(string(data)))
}

// Profile returns the profile of a hub by its address, expired or not. Without
// one the error is Unauthenticated.
func (h *Home) Profile(address string) (*Profile, error) {
	address, err := ParseAddress(address)
	if err != nil {
		return nil, err
	}
	p, err := h.readProfile(filepath.Join(h.Dir, profileName(address)+profileSuffix))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Newf(fault.Unauthenticated, "not logged in to %s", address).
			WithHint("postern login --proxy=" + address + " --user=NAME")
	}
	return p, err
}

// Profiles returns every profile, sorted by file name.
func (h *Home) Profiles() ([]*Profile, error) {
	paths, err := filepath.Glob(filepath.Join(globQuote(h.Dir), "*"+profileSuffix))
	if err != nil {
		return nil, fmt.Errorf("list profiles: %w", err)
	}
	var all []*Profile
	for _, path := range paths {
		p, err := h.readProfile(path)
		if errors.Is(err, fs.ErrNotExist) { // logged out meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

func globQuote(dir string) string {
	return strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `\`, `\\`).Replace(dir)
}

func (h *Home) readProfile(path string) (*Profile, error) {
	data, err := ReadFile(path, maxFile)
	if err != nil {
		return nil, err
	}
	var p Profile
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, fault.Newf(fault.Invalid, "the profile %s is damaged: %w", path, err).WithHint("log in again")
	}
	// The address becomes part of other paths, so it is not believed unchecked.
	if address, err := ParseAddress(p.Address); err != nil || address != p.Address || p.User == "" {
		return nil, fault.Newf(fault.Invalid, "the profile %s is damaged", path).WithHint("log in again")
	}
	return &p, nil
}

// saveProfile writes p and makes it the active one.
func (h *Home) saveProfile(p *Profile) error {
	data, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return fmt.Errorf("encode profile: %w", err)
	}
	if err := h.write(filepath.Join(h.Dir, p.name()+profileSuffix), append(data, '\n')); err != nil {
		return err
	}
	return h.write(filepath.Join(h.Dir, currentProfile), []byte(p.Address+"\n"))
}

// Logout forgets p: its keys, its certificates and the profile itself.
func (h *Home) Logout(p *Profile) error {
	// Keys first: when something fails, the profile is still there to try again.
	if err := os.RemoveAll(h.keys(p)); err != nil {
		return fmt.Errorf("remove keys: %w", err)
	}
	current, err := h.Current()
	if err == nil && current.Address == p.Address {
		if err := remove(filepath.Join(h.Dir, currentProfile)); err != nil {
			return err
		}
	}
	return remove(filepath.Join(h.Dir, p.name()+profileSuffix))
}

// remove deletes a file that may be gone already.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove: %w", err)
	}
	return nil
}

// Expired reports whether the login of p has ended.
func (h *Home) Expired(p *Profile) bool { return !h.now().Before(p.Expires) }
