package hub_test

import (
	"context"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/client"
	"github.com/postern-db/postern/internal/config"
	"github.com/postern-db/postern/internal/daemon"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/testenv"
)

// TestEverythingInTheDataDirectoryIsPrivate, whatever the umask is.
func TestEverythingInTheDataDirectoryIsPrivate(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t, testenv.Options{NewCluster: "private.test"})
	env.Hire(t, "alice", "keep", "reader").Connect(t, "example", "postgres")
	seen := 0
	err := filepath.WalkDir(env.DataDir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if info.IsDir() {
			want = 0o700
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", strings.TrimPrefix(path, env.DataDir), got, want)
		}
		seen++
		return nil
	})
	if err != nil || seen < 5 {
		t.Errorf("%d files, %v", seen, err)
	}
}

// TestRestartKeepsEverything that people and administrators made.
func TestRestartKeepsEverything(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t, testenv.Options{})
	env.Apply(t, testenv.Role("readers", "keep", "reader"))
	env.AddUser(t, "alice", []string{"readers"}, nil)
	alice := env.As(t, "alice")
	before := alice.DatabaseCertificate(t, identity.Route{Database: "example"})
	seen, err := stored(t, env, "role", "readers")
	if err != nil {
		t.Fatal(err)
	}
	pin := env.Pin
	env.Restart(t)
	if env.Pin != pin {
		t.Errorf("the pin changed from %s to %s", pin, env.Pin)
	}
	after, err := stored(t, env, "role", "readers")
	if err != nil || string(after.Body) != string(seen.Body) || after.Revision != seen.Revision {
		t.Errorf("the role changed from %+v to %+v, %v", seen, after, err)
	}
	if _, err := alice.Hub(t).Databases(t.Context(), api.ListDatabasesRequest{}); err != nil {
		t.Errorf("the login certificate: %v", err)
	}
	if after := alice.DatabaseCertificate(t, identity.Route{Database: "example"}); !after.Leaf.Equal(before.Leaf) {
		t.Error("the certificate was not used again")
	}
	alice.Login(t)
}

func TestClusterNameCannotChange(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t, testenv.Options{NoServer: true})
	env.Stop(t)
	cfg := env.Config(t)
	cfg.Hub.ClusterName = "renamed.test"
	err := runDaemon(t, cfg)
	if f := fault.Of(err); f.Kind != fault.Invalid || !strings.Contains(f.Text, `belongs to cluster "main.test", not "renamed.test"`) {
		t.Errorf("got %v", err)
	}
	env.Restart(t)
}

// TestSecondProcessIsRefused and does not disturb the first.
func TestSecondProcessIsRefused(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t, testenv.Options{NoServer: true})
	cfg := env.Config(t)
	cfg.Hub.ListenAddr = "127.0.0.1:0"
	err := runDaemon(t, cfg)
	if f := fault.Of(err); f.Kind == fault.Internal || !strings.Contains(err.Error(), "another process") {
		t.Errorf("got %v", err)
	}
	if _, err := api.Ping().Call(t.Context(), env.Admin(), api.Empty{}); err != nil {
		t.Errorf("the first does not answer any more: %v", err)
	}
}

func TestAddressInUse(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	other := testenv.Start(t, testenv.Options{NoServer: true})
	other.Stop(t)
	cfg := other.Config(t)
	cfg.Hub.ListenAddr = env.Address
	err := runDaemon(t, cfg)
	if f := fault.Of(err); f.Kind != fault.Unavailable || !strings.Contains(f.Hint, "hub.listen_addr") {
		t.Errorf("got %v", err)
	}
	other.Restart(t)
}

func TestDataDirectoryOpenToOthersIsRefused(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t, testenv.Options{NoServer: true})
	env.Stop(t)
	if err := os.Chmod(env.DataDir, 0o755); err != nil { //nolint:gosec // that is the point
		t.Fatal(err)
	}
	if f := fault.Of(runDaemon(t, env.Config(t))); f.Kind != fault.Invalid || f.Hint != "run: chmod 700 "+env.DataDir {
		t.Errorf("got %q, hint %q", f.Text, f.Hint)
	}
	if err := os.Chmod(env.DataDir, 0o700); err != nil { //nolint:gosec // a directory needs the x bit
		t.Fatal(err)
	}
	env.Restart(t)
}

// TestFreshClusterHasItsOwnAuthorities: nothing of one cluster counts in another.
func TestFreshClusterHasItsOwnAuthorities(t *testing.T) {
	t.Parallel()
	env, other := testenv.Shared(t), testenv.Start(t, testenv.Options{NoServer: true, NewCluster: "other.test"})
	if env.Pin == other.Pin {
		t.Error("both have the same pin")
	}
	other.AddUser(t, "stranger", nil, nil)
	certificate := other.As(t, "stranger").Certificate(t)
	if _, err := api.ListDatabases().Call(t.Context(), env.API(t, certificate), api.ListDatabasesRequest{}); fault.KindOf(err) != fault.Unauthenticated {
		t.Errorf("a certificate of another cluster: %v", err)
	}
	for _, kind := range []string{"user", "host", "db", "db-client"} {
		a, errA := api.ExportAuthority().Call(t.Context(), env.Admin(), api.ExportAuthorityRequest{Type: kind})
		b, errB := api.ExportAuthority().Call(t.Context(), other.Admin(), api.ExportAuthorityRequest{Type: kind})
		if errA != nil || errB != nil || a.Certificates == b.Certificates || strings.Contains(a.Certificates, "PRIVATE") {
			t.Errorf("%s: %v, %v", kind, errA, errB)
		}
	}
	if _, err := api.ExportAuthority().Call(t.Context(), env.Admin(), api.ExportAuthorityRequest{Type: "root"}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("unknown authority: %v", err)
	}
}

// runDaemon runs a gateway that must not start, and returns why.
func runDaemon(t *testing.T, cfg *config.Config) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := daemon.Run(ctx, cfg, daemon.Options{Version: "test", Out: &strings.Builder{}, Log: slog.New(slog.DiscardHandler)})
	if err == nil {
		t.Fatal("it started")
	}
	return err
}

// TestListedDatabases are those that one's roles show.
func TestListedDatabases(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	env.Apply(t, "kind: db\nversion: v3\nmetadata: {name: listed-dev, labels: {env: dev, list: test}, description: the shop}\nspec: {protocol: postgres, uri: 'localhost:1', admin_user: {name: x}}\n",
		"kind: db\nversion: v3\nmetadata: {name: listed-prod, labels: {env: prod, list: test}}\nspec: {protocol: postgres, uri: 'localhost:1', admin_user: {name: x}}\n",
		"kind: role\nversion: v7\nmetadata: {name: developers}\nspec: {options: {create_db_user_mode: keep}, allow: {db_labels: {env: dev}, db_names: [app], db_roles: [writer, reader]}}\n",
		"kind: role\nversion: v7\nmetadata: {name: everyone}\nspec: {options: {create_db_user_mode: keep}, allow: {db_labels: {list: test}, db_names: ['*']}}\n")
	env.AddUser(t, "developer", []string{"developers"}, nil)
	env.AddUser(t, "everybody", []string{"everyone"}, nil)
	names := func(user string, in api.ListDatabasesRequest) string {
		t.Helper()
		all, err := hubOf(t, env, user).Databases(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, d := range all {
			names = append(names, d.Name)
		}
		return strings.Join(names, " ")
	}
	testenv.Eventually(t, "both are served", func() bool { return names("everybody", api.ListDatabasesRequest{}) == "listed-dev listed-prod" })
	for want, in := range map[string]api.ListDatabasesRequest{
		"listed-prod": {Labels: map[string]string{"env": "prod"}}, "listed-dev": {Search: []string{"SHOP"}}, "": {Name: "example"},
	} {
		if got := names("everybody", in); got != want {
			t.Errorf("%+v lists %q, want %q", in, got, want)
		}
	}
	all, err := hubOf(t, env, "developer").Databases(t.Context(), api.ListDatabasesRequest{})
	if err != nil || len(all) != 1 {
		t.Fatalf("got %v, %v", all, err)
	}
	d := all[0]
	if d.Name != "listed-dev" || !d.Provisioning || strings.Join(d.Roles, " ") != "reader writer" || strings.Join(d.Users.Allowed, " ") != "developer" || strings.Join(d.Names.Allowed, " ") != "app" {
		t.Errorf("got %+v", d)
	}
}

func hubOf(t *testing.T, env *testenv.Env, user string) *client.Hub {
	t.Helper()
	return env.As(t, user).Hub(t)
}
