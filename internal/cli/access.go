package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/client"
	"github.com/postern-db/postern/internal/config"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
)

func newAccess(a *App) *cobra.Command {
	return group("access", "Ask what the policy allows, and why",
		`Ask what the policy allows, and why: on the hub of this machine, or with --from on files before they
are applied.`, newAccessExplain(a), newAccessWhoCan(a), newAccessTest(a))
}

// rules is a policy with the users and databases it is about.
type rules struct {
	policy    *access.Policy
	users     []*resource.User
	databases []*resource.Database // of two with one name the first is meant
	files     bool                 // all of it was read from files
}

// user returns a user by name. The error is NotFound.
func (r *rules) user(name string) (*resource.User, error) {
	i := slices.IndexFunc(r.users, func(u *resource.User) bool { return u.GetName() == name })
	if i < 0 {
		hint := "'postern ctl users ls' lists the users"
		if r.files {
			hint = "add the file that holds the user to --from"
		}
		return nil, fault.Newf(fault.NotFound, "user %q not found", name).WithHint(hint)
	}
	return r.users[i], nil
}

// database returns a database by name. The error is NotFound.
func (r *rules) database(name string) (*resource.Database, error) {
	i := slices.IndexFunc(r.databases, func(d *resource.Database) bool { return d.GetName() == name })
	if i < 0 {
		hint := "'postern ctl status' lists the databases that are served"
		if r.files {
			hint = "add the file that holds it to --from; databases of a configuration file are looked up with --config"
		}
		return nil, fault.Newf(fault.NotFound, "database %q not found", name).WithHint(hint)
	}
	return r.databases[i], nil
}

// fromFlag adds --from to a command.
func fromFlag(cmd *cobra.Command, from *[]string) {
	cmd.Flags().StringSliceVar(from, "from", nil, "files or directories with resources, instead of those of the hub (repeatable)")
}

// rules reads the resources that a question is about: those in files, with the
// databases of the configuration file where one is named, else those of the hub.
func (a *App) rules(ctx context.Context, from []string) (*rules, error) {
	if len(from) == 0 {
		all, err := a.hubResources(ctx)
		if f, ok := errors.AsType[*fault.Error](err); ok && f.Kind == fault.Unavailable {
			err = f.WithHint("ask about files with --from, or name the hub's directory with --data-dir or its configuration with --config")
		}
		if err != nil {
			return nil, err
		}
		return rulesOf(all), nil
	}
	all, err := fileResources(from)
	if err != nil {
		return nil, err
	}
	if a.hub.config != "" {
		cfg, err := config.Load(a.hub.config)
		if err != nil {
			return nil, err
		}
		static, err := cfg.DBService.Static()
		if err != nil {
			return nil, err
		}
		for _, d := range static {
			all = append(all, d)
		}
	}
	r := rulesOf(all)
	r.files = true
	return r, nil
}

func rulesOf(all []resource.Resource) *rules {
	var r rules
	var in access.Input
	for _, one := range all {
		switch one := one.(type) {
		case *resource.User:
			r.users = append(r.users, one)
		case *resource.Database:
			r.databases = append(r.databases, one)
		default:
			in.Add(one)
		}
	}
	r.policy = access.NewPolicy(in)
	return &r
}

// hubResources asks the hub for every resource, and first for the databases as
// they are served: those of its configuration file are among them, and all have
// the labels that commands gave them.
func (a *App) hubResources(ctx context.Context) ([]resource.Resource, error) {
	hub, err := a.control()
	if err != nil {
		return nil, err
	}
	served, err := api.ServedDatabases().Call(ctx, hub, api.Empty{})
	if err != nil {
		return nil, err
	}
	found := served.Databases
	for _, kind := range resource.Kinds() {
		some, err := a.listResources(ctx, kind, "")
		if err != nil {
			return nil, err
		}
		found = append(found, some...)
	}
	all := make([]resource.Resource, 0, len(found))
	for _, f := range found {
		r, err := resource.DecodeJSON(f.Kind, f.Body)
		if err != nil {
			return nil, fmt.Errorf("read %s %s: %w", f.Kind, f.Name, err)
		}
		all = append(all, r)
	}
	return all, nil
}

// fileResources reads files, and of directories every .yaml and .yml file below.
func fileResources(paths []string) ([]resource.Resource, error) {
	var all []resource.Resource
	for _, path := range paths {
		err := filepath.WalkDir(path, func(file string, entry fs.DirEntry, err error) error {
			if err != nil {
				return fault.Newf(fault.NotFound, "%s cannot be read: %w", file, err)
			}
			if entry.IsDir() || file != path && !isResourceFile(file) {
				return nil
			}
			data, err := client.ReadFile(file, maxResourceFile)
			if err != nil {
				return err
			}
			found, err := resource.Parse(file, data)
			all = append(all, found...)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// isResourceFile tells resources from policy tests, which lie beside them.
func isResourceFile(file string) bool {
	name := filepath.Base(file)
	return (strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml")) &&
		!strings.HasSuffix(name, "_test.yaml") && !strings.HasSuffix(name, "_test.yml")
}
