package testenv

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/ca"
	"github.com/postern-db/postern/internal/client"
	"github.com/postern-db/postern/internal/config"
	"github.com/postern-db/postern/internal/daemon"
	"github.com/postern-db/postern/internal/pglocal"
	"github.com/postern-db/postern/internal/store"
)

// cluster is the state of a hub right after its first start, and a certificate
// that it signed for PostgreSQL. Environments begin with a copy: this way one
// server can be trusted by, and trust, several of them.
type cluster struct {
	name   string
	files  map[string][]byte // of the data directory
	server *pglocal.TLS
}

// first is the cluster that the environments of this binary share. Go offers no
// place but a package variable for what outlives a test.
var first struct {
	sync.Mutex
	*cluster
}

func sharedCluster(t testing.TB) *cluster {
	t.Helper()
	first.Lock()
	defer first.Unlock()
	if first.cluster == nil {
		first.cluster = found(t, Cluster)
	}
	return first.cluster
}

// found starts a hub on an empty directory, has it sign a server certificate and
// keeps its state.
func found(t testing.TB, name string) *cluster {
	t.Helper()
	dir := shortDir(t)
	defer os.RemoveAll(dir)
	cfg, err := config.Parse("found.yaml", []byte("data_dir: "+dir+"\nhub: {cluster_name: "+name+", listen_addr: '127.0.0.1:0'}\n"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ready, ended := newAnnouncement(), make(chan error, 1)
	go func() {
		ended <- daemon.Run(ctx, cfg, daemon.Options{Version: "test", Out: ready, Log: slog.New(slog.DiscardHandler)})
	}()
	select {
	case <-ready.done:
	case err := <-ended:
		t.Fatalf("found a cluster: %v", err)
	}
	c := &cluster{name: name, server: sign(t, dir)}
	cancel()
	if err := <-ended; err != nil {
		t.Fatalf("found a cluster: %v", err)
	}
	c.files = readFiles(t, filepath.Join(dir, "state.db*"))
	return c
}

// sign does what `postern ctl auth sign --format=db` does.
func sign(t testing.TB, dataDir string) *pglocal.TLS {
	t.Helper()
	key, err := client.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	signed, err := api.SignDatabaseServer().Call(t.Context(), client.Control(dataDir), api.SignDatabaseServerRequest{
		Hosts: []string{"localhost", "127.0.0.1"}, CSR: key.CSR,
	})
	if err != nil {
		t.Fatal(err)
	}
	return &pglocal.TLS{Certificate: []byte(signed.Certificate), Key: key.PEM, ClientCAs: []byte(signed.ClientCAs)}
}

func readFiles(t testing.TB, pattern string) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Base(path)] = data
	}
	return files
}

// newDataDir makes a data directory with the state of the cluster.
func (c *cluster) newDataDir(t testing.TB) string {
	t.Helper()
	dir := shortDir(t)
	for name, data := range c.files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// shortDir makes a private directory whose path leaves room for a socket; that
// of t.TempDir does not.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pt") //nolint:usetesting // its path is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// Authority returns an authority of the cluster with a clock of its own: what an
// attacker who stole its key has, or what it issued in the past.
func (e *Env) Authority(t testing.TB, kind ca.Kind, now func() time.Time) *ca.Authority {
	t.Helper()
	dir := e.founded.newDataDir(t)
	defer os.RemoveAll(dir)
	state, err := store.Open(t.Context(), store.Config{Path: filepath.Join(dir, "state.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	entry, err := state.Get(t.Context(), "authority/"+string(kind))
	if err != nil {
		t.Fatal(err)
	}
	authority, err := ca.Load(entry.Value, now)
	if err != nil {
		t.Fatal(err)
	}
	return authority
}
