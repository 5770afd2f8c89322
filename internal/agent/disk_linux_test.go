package agent_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/testenv"
)

// TestNoSessionWithoutRecord: when the disk is full, running sessions end, new
// ones are refused, and accounts are released all the same.
func TestNoSessionWithoutRecord(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t, testenv.Options{})
	alice := env.Hire(t, "alice", "keep", "reader")
	cfg := alice.Direct(t, identity.Route{Database: "example"})
	conn := testenv.Connect(t, cfg)
	exec(t, conn, "SELECT 1")
	fillDisk(t, env.AuditDir())

	// The events of statements are durable soon, not at once: one may still pass.
	testenv.Eventually(t, "the session ends", func() bool {
		_, err := conn.Exec(t.Context(), "SELECT 2")
		return err != nil && conn.IsClosed()
	})
	awaitAccount(t, env, "alice", testenv.Account{Exists: true, Roles: []string{testenv.Group}})
	got := testenv.Refused(t, cfg)
	if got.Code != "57P03" {
		t.Errorf("got %s %s", got.Code, got.Message)
	}
	awaitAccount(t, env, "alice", testenv.Account{Exists: true, Roles: []string{testenv.Group}})
	if err := alice.TryLogin(t, testenv.Password); err == nil {
		t.Error("a login without a record succeeded")
	}
	if status := env.Get(t, "/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("/readyz answers %d", status)
	}
	if status := env.Get(t, "/healthz"); status != http.StatusOK {
		t.Errorf("/healthz answers %d", status)
	}
	env.ExpectUncleanEnd()
}

// fillDisk makes writes to the files that this process has open below dir fail
// as on a full disk.
func fillDisk(t *testing.T, dir string) {
	t.Helper()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(target, dir+"/") || !strings.HasSuffix(target, ".jsonl") {
			continue
		}
		var fd int
		if _, err := fmt.Sscan(filepath.Base(link), &fd); err != nil {
			t.Fatal(err)
		}
		if err := unix.Dup3(int(full.Fd()), fd, unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		found = true
	}
	if !found {
		t.Fatal("the audit log has no open file")
	}
}
