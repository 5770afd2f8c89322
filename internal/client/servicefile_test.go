package client_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-db/postern/internal/client"
	"github.com/postern-db/postern/internal/fault"
)

const foreignServices = `# my servers
[mine]
host=db.example.com
# a remark about the next one

[other]
user=bob
`

func TestServiceFileKeepsWhatIsNotOurs(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pg_service.conf")
	if err := os.WriteFile(path, []byte(foreignServices), 0o640); err != nil {
		t.Fatal(err)
	}
	file := client.ServiceFile{Path: path}
	put := func(section, host string) {
		t.Helper()
		err := file.Put(section, []client.Setting{{Key: "host", Value: host}, {Key: "sslcert", Value: "/home/a/.postern/keys/x.pem"}})
		if err != nil {
			t.Fatal(err)
		}
	}
	put("main-example", "one")
	put("main-example", "two")
	put("main-second", "three")
	want := foreignServices + `
[main-example]
host=two
sslcert=/home/a/.postern/keys/x.pem

[main-second]
host=three
sslcert=/home/a/.postern/keys/x.pem
`
	if diff := cmp.Diff(want, read(t, path)); diff != "" {
		t.Error(diff)
	}
	if err := file.Remove(func(cert string) bool { return strings.HasPrefix(cert, "/home/a/.postern/") }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(foreignServices, read(t, path)); diff != "" {
		t.Error(diff)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestServiceFileStaysALink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(dir, "real"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "real"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (client.ServiceFile{Path: filepath.Join(dir, "link")}).Put("a", nil); err != nil {
		t.Fatal(err)
	}
	if got := read(t, filepath.Join(dir, "real")); got != "[a]\n" {
		t.Errorf("got %q", got)
	}
}

func TestServiceFileRefusesWhatItCannotWrite(t *testing.T) {
	t.Parallel()
	file := client.ServiceFile{Path: filepath.Join(t.TempDir(), "f")}
	for _, section := range []string{"a]b", "a\nb"} {
		if err := file.Put(section, nil); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%q: %v", section, err)
		}
	}
	if err := file.Put("a", []client.Setting{{Key: "host", Value: "x\n[b]"}}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("got %v", err)
	}
}
