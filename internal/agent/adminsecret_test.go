package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
)

// TestAdminSecret: where it may be, in which form, and what is said where it is
// not: never any of it.
func TestAdminSecret(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	byFile := func(path string) resource.AdminUser { return resource.AdminUser{Name: "boss", PasswordFile: path} }
	command := func(args ...string) resource.AdminUser {
		return resource.AdminUser{Name: "boss", PasswordCommand: args}
	}
	t.Setenv("TEST_SECRET", "hush hush")
	for _, c := range []struct {
		name string
		from resource.AdminUser
		want string // the secret
		text string // of the error
	}{
		{"file", byFile(file("a", "hush hush", 0o600)), "hush hush", ""},
		{"file with a line's end", byFile(file("b", "hush hush\n", 0o400)), "hush hush", ""},
		{"file of another system", byFile(file("c", "hush hush\r\n", 0o600)), "hush hush", ""},
		{"blanks are kept", byFile(file("d", " hush \n", 0o600)), " hush ", ""},
		{"environment", resource.AdminUser{PasswordEnv: "TEST_SECRET"}, "hush hush", ""},
		{"command", command("echo", "hush hush"), "hush hush", ""},
		{"everybody's file", byFile(file("e", "hush hush", 0o604)), "", "mode is 0604"},
		{"the group may write", byFile(file("f", "hush hush", 0o620)), "", "mode is 0620"},
		{"no file", byFile(filepath.Join(dir, "none")), "", "no such file"},
		{"a directory", byFile(dir), "", "is not a file"},
		{"a device", byFile("/dev/zero"), "", "is not a file"},
		{"empty file", byFile(file("g", "\n", 0o600)), "", "empty"},
		{"two lines", byFile(file("h", "hush\nhush\n", 0o600)), "", "not one line"},
		{"too long", byFile(file("i", strings.Repeat("hush", 2000), 0o600)), "", "not one line"},
		{"unset", resource.AdminUser{PasswordEnv: "TEST_SECRET_UNSET"}, "", "variable TEST_SECRET_UNSET: it is empty"},
		{"a command that fails", command("sh", "-c", "echo hush hush; echo hush hush >&2; exit 3"), "", "exit status 3"},
		{"no command", command("/does/not/exist"), "", "/does/not/exist"},
		{"nowhere", resource.AdminUser{Name: "boss"}, "", "none is configured"},
	} {
		got, err := adminSecret(t.Context(), c.from)
		if got != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%s: got %q, %v", c.name, got, err)
		}
		if err != nil && (!strings.Contains(fault.Chain(err), c.text) || strings.Contains(fault.Chain(err), "hush") || fault.KindOf(err) != fault.Unavailable) {
			t.Errorf("%s: got %v %s, want %q and no secret", c.name, fault.KindOf(err), fault.Chain(err), c.text)
		}
	}
}
