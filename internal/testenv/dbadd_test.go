package testenv_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/cli"
	"github.com/postern-db/postern/internal/resource"
	"github.com/postern-db/postern/internal/testenv"
)

// person answers what `postern ctl db add` asks, and fails the test when it asks
// something else.
type person struct {
	t       *testing.T
	answers [][2]string // question, answer; a question in brackets is for a secret
	out     bytes.Buffer
	err     bytes.Buffer
}

func (p *person) ask(secret bool) func(context.Context, string) (string, error) {
	return func(_ context.Context, prompt string) (string, error) {
		if len(p.answers) == 0 || !strings.Contains(prompt, p.answers[0][0]) {
			p.t.Errorf("asked %q, expected %q", prompt, p.answers)
			return "", context.Canceled
		}
		fmt.Fprintln(&p.err, prompt) // as a terminal shows it
		if !secret {
			fmt.Fprintln(&p.err, p.answers[0][1])
		}
		answer := p.answers[0][1]
		p.answers = p.answers[1:]
		return answer, nil
	}
}

// add runs the command and returns its exit code.
func (p *person) add(env *testenv.Env, args ...string) int {
	p.t.Helper()
	code := cli.Main(p.t.Context(), append([]string{"postern", "ctl", "db", "add"}, args...), cli.IO{
		In: strings.NewReader(""), Out: &p.out, Err: &p.err, AskLine: p.ask(false), AskSecret: p.ask(true),
		Env: []string{"POSTERN_DATA_DIR=" + env.DataDir, "HOME=" + p.t.TempDir()},
	})
	if len(p.answers) > 0 {
		p.t.Errorf("not asked: %q", p.answers)
	}
	if p.t.Failed() {
		p.t.Logf("out:\n%s\nerr:\n%s", &p.out, &p.err)
	}
	return code
}

// TestDBAddAsks: everything that is needed is asked for on a terminal, and nothing
// is done to the server without consent.
func TestDBAddAsks(t *testing.T) {
	t.Parallel()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	env := testenv.Start(t, testenv.Options{
		OnlyHBA: fmt.Sprintf("host all all 127.0.0.1/32 scram-sha-256\nlocal all %q peer\nlocal all all scram-sha-256", me.Username),
		Service: "db_service: {resources: [{labels: {'*': '*'}}]}\n",
	})
	env.Server.Exec(t, "SET password_encryption = 'scram-sha-256'; ALTER ROLE postgres PASSWORD 'super secret'", fmt.Sprintf("CREATE ROLE %q LOGIN CREATEROLE", me.Username))
	alice := env.Hire(t, "alice", "keep", "reader")

	t.Run("consent", func(t *testing.T) {
		p := &person{t: t, answers: [][2]string{
			{"Where is the server", env.Server.Addr()},
			{"What shall people call it", "asked"},
			{"makes the others? [postern-admin]", ""},
			{"Superuser", "postgres"},
			{"Password of postgres", "super secret"},
			{"Password of postern-admin (empty: a new one", ""},
			{"Run this on the server as postgres? [y/N]", "y"},
		}}
		if env.Server.Version >= 16 {
			p.answers = append(p.answers, [2]string{"Run this", "yes"}) // ADMIN OPTION on reader
		}
		if code := p.add(env); code != 0 || p.out.Len() > 0 || strings.Contains(p.err.String(), "super secret") {
			t.Errorf("exit code %d\nout:\n%s\nerr:\n%s", code, &p.out, &p.err)
		}
		testenv.Close(t, alice.Connect(t, "asked", "postgres"))
	})
	t.Run("no consent", func(t *testing.T) {
		p := &person{t: t, answers: [][2]string{
			{"Superuser", "postgres"}, {"Password of postgres", "super secret"}, {"Password of stranger", ""}, {"Run this", "n"},
		}}
		if code := p.add(env, "refused", "--uri", env.Server.Addr(), "--admin", "stranger"); code != 1 || !strings.Contains(p.out.String(), `ALTER ROLE "stranger" PASSWORD 'SCRAM-SHA-256$`) {
			t.Errorf("exit code %d\nout:\n%s\nerr:\n%s", code, &p.out, &p.err)
		}
		if env.Account(t, "stranger").Exists {
			t.Error("the SQL was run without consent")
		}
	})
	t.Run("a password that is there already", func(t *testing.T) {
		env.Server.Exec(t, "SET password_encryption = 'scram-sha-256'; CREATE ROLE known LOGIN CREATEROLE PASSWORD 'known secret'")
		p := &person{t: t, answers: [][2]string{{"Superuser", ""}, {"Password of known", "known secret"}}}
		code := p.add(env, "known", "--uri", env.Server.Addr(), "--admin", "known")
		if want := min(1, max(0, env.Server.Version-15)); code != want {
			t.Errorf("exit code %d\nout:\n%s\nerr:\n%s", code, &p.out, &p.err)
		}
		kept, err := os.ReadFile(filepath.Join(env.DataDir, "passwords", "known"))
		if err != nil || string(kept) != "known secret\n" {
			t.Errorf("kept %q, %v", kept, err)
		}
	})
	t.Run("through the socket, without a password", func(t *testing.T) {
		p := &person{t: t, answers: [][2]string{{"Superuser", ""}}}
		code := p.add(env, "socket", "--uri", fmt.Sprintf("%s:%d", env.Server.SocketDir(), env.Server.Port), "--admin", me.Username)
		if want := min(1, max(0, env.Server.Version-15)); code != want {
			t.Errorf("exit code %d\nout:\n%s\nerr:\n%s", code, &p.out, &p.err)
		}
		if _, err := os.Stat(filepath.Join(env.DataDir, "passwords", "socket")); !os.IsNotExist(err) {
			t.Errorf("a password was made up: %v", err)
		}
	})
	t.Run("a name that is taken", func(t *testing.T) {
		p := &person{t: t}
		if code := p.add(env, "asked", "--uri", env.Server.Addr(), "--admin", "x"); code != 1 || !strings.Contains(p.err.String(), "already exists") {
			t.Errorf("exit code %d\nout:\n%s\nerr:\n%s", code, &p.out, &p.err)
		}
	})
}

// TestDBAddThatNobodyServes: a database that no agent would serve is refused before
// anything is done, with what helps.
func TestDBAddThatNobodyServes(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t, testenv.Options{HBA: "host all all 127.0.0.1/32 scram-sha-256"}) // serves what its file names only
	env.Server.Exec(t, "SET password_encryption = 'scram-sha-256'; ALTER ROLE postgres PASSWORD 'super secret'")
	for name, why := range map[string]string{
		testenv.Database: "the configuration file has a database of this name",
		"other":          "no matcher below db_service.resources",
	} {
		p := &person{t: t}
		code := p.add(env, name, "--uri", env.Server.Addr(), "--admin=nobody", "--auth=password", "--superuser=postgres", "--apply")
		if text := p.err.String(); code != 1 || !strings.Contains(text, why) || !strings.Contains(text, `resources: [{labels: {"*": "*"}}]`) {
			t.Errorf("exit code %d\nout:\n%s\nerr:\n%s", code, &p.out, text)
		}
		if _, err := os.Stat(filepath.Join(env.DataDir, "passwords", name)); !os.IsNotExist(err) {
			t.Errorf("a password was made up: %v", err)
		}
		list, err := api.ListResources().Call(t.Context(), env.Admin(), api.ListResourcesRequest{Kind: resource.KindDatabase})
		if err != nil || len(list.Resources) != 0 {
			t.Errorf("registered: %+v, %v", list.Resources, err)
		}
	}
	if env.Account(t, "nobody").Exists {
		t.Error("the admin user was made")
	}
}
