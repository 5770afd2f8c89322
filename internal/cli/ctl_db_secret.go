package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/postern-db/postern/internal/client"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/provision"
	"github.com/postern-db/postern/internal/resource"
)

// passwordDir is where passwords of admin users are kept, below the data directory.
const passwordDir = "passwords"

// findSecret says where the agent finds the admin user's password: where the
// person says, or in a file with one that the person enters or that is made up.
func (add *dbAddition) findSecret(ctx context.Context) error {
	admin := &add.db.Spec.AdminUser
	admin.PasswordFile, admin.PasswordEnv = add.opts.passwordFile, add.opts.passwordEnv
	if admin.PasswordFile != "" {
		path, err := filepath.Abs(admin.PasswordFile)
		admin.PasswordFile = path
		return err
	}
	if add.db.AuthMethod() != resource.AuthPassword || admin.PasswordEnv != "" || !add.seen.asksPassword {
		return nil
	}
	dir, err := add.dataDir()
	if err != nil {
		return err
	}
	admin.PasswordFile = filepath.Join(dir, passwordDir, add.db.GetName())
	if _, err := os.Lstat(admin.PasswordFile); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			add.tell("the admin user's password is in %s, from an earlier time", admin.PasswordFile)
		}
		return err
	}
	var secret string
	if add.AskSecret != nil {
		secret, err = add.AskSecret(ctx, "Password of "+printable(admin.Name)+" (empty: a new one is made up): ")
		if err != nil {
			return err
		}
	}
	if secret == "" {
		if secret, add.verifier, err = provision.NewPassword(); err != nil {
			return err
		}
	}
	return add.keepSecret(dir, admin.PasswordFile, secret)
}

// keepSecret writes a password file for the user that the hub runs as.
func (add *dbAddition) keepSecret(dataDir, path, secret string) error {
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fault.Newf(fault.Invalid, "the password cannot be kept: %w", err).WithHint("run this as the user that runs 'postern start', or give --password-file")
	}
	if err := client.WriteFile(path, []byte(secret+"\n"), 0o600); err != nil {
		return fault.Newf(fault.Invalid, "the password cannot be kept: %w", err)
	}
	for _, made := range []string{filepath.Dir(path), path} {
		if err := giveToOwnerOf(dataDir, made); err != nil {
			return fmt.Errorf("give %s to the hub's owner: %w", made, err)
		}
	}
	add.tell("the admin user's password is kept in %s", path)
	return nil
}
