package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/pgwire"
)

// spareTest keeps spare connections to a server.
type spareTest struct {
	*spares
	stop  func() // and wait until nothing is kept
	certs map[string]*tls.Certificate
}

func startSpares(t *testing.T, server *pgtest.Server, life time.Duration, users ...string) *spareTest {
	t.Helper()
	certs := map[string]*tls.Certificate{}
	dials := map[string]*tls.Config{}
	for _, user := range users {
		dials[user] = server.ClientTLS(t, user)
		certs[user] = &dials[user].Certificates[0]
	}
	s := newSpares(func(ctx context.Context, user string) (*pgwire.ServerConn, *tls.Certificate, error) {
		conn, err := pgwire.Dial(ctx, pgwire.DialConfig{Hosts: []string{server.Addr()}, TLS: dials[user]})
		return conn, certs[user], err
	})
	s.life = life
	ctx, cancel := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() { s.serve(ctx, slog.New(slog.DiscardHandler)) })
	it := &spareTest{spares: s, certs: certs, stop: sync.OnceFunc(func() { cancel(); serving.Wait() })}
	t.Cleanup(it.stop)
	return it
}

// ready returns whose spare connections wait to be taken, sorted.
func (s *spareTest) ready() (users []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, user := range slices.Sorted(maps.Keys(s.held)) {
		if s.held[user] != nil {
			users = append(users, user)
		}
	}
	return users
}

// await waits until the condition holds.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not so: " + what)
		}
	}
}

func TestSpareConnection(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t, 0)
	server.Exec(t, "DROP ROLE IF EXISTS spare_alice, spare_bob", "CREATE ROLE spare_alice LOGIN", "CREATE ROLE spare_bob LOGIN")
	s := startSpares(t, server, time.Hour, "spare_alice", "spare_bob")
	prepare := func() {
		s.want("spare_alice")
		await(t, "there is a spare connection", func() bool { return slices.Equal(s.ready(), []string{"spare_alice"}) })
	}

	prepare()
	s.want("spare_alice") // has one
	if conn := s.take("spare_bob", s.certs["spare_bob"]); conn != nil {
		t.Error("bob was given alice's connection")
	}
	conn := s.take("spare_alice", s.certs["spare_alice"])
	if conn == nil {
		t.Fatal("alice was not given her connection")
	}
	defer conn.Close()
	if s.take("spare_alice", s.certs["spare_alice"]) != nil {
		t.Error("the connection was given away twice")
	}
	if _, err := conn.Start(t.Context(), pgwire.StartConfig{User: "spare_alice", Database: "postgres"}); err != nil {
		t.Errorf("log in: %v", err)
	}

	prepare()
	renewed := *s.certs["spare_alice"]
	if s.take("spare_alice", &renewed) != nil {
		t.Error("a connection that had shown another certificate was given away")
	}

	prepare()
	stolen := s.take("spare_alice", s.certs["spare_alice"])
	if _, err := stolen.Start(t.Context(), pgwire.StartConfig{User: "spare_bob", Database: "postgres"}); err == nil {
		t.Error("PostgreSQL let bob in with alice's certificate")
	}
	stolen.Close()

	prepare()
	s.stop()
	if len(s.held) > 0 || s.take("spare_alice", s.certs["spare_alice"]) != nil {
		t.Errorf("kept beyond the end: %v", s.held)
	}
}

// TestSpareConnectionsAreBounded in number and in age.
func TestSpareConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t, 0)
	var users []string
	for i := range 3 * maxSpares {
		users = append(users, fmt.Sprintf("spare_user%d", i))
	}
	s := startSpares(t, server, time.Hour, users...)
	for _, user := range users {
		await(t, "the request is taken", func() bool { return len(s.wanted) == 0 })
		s.want(user)
	}
	await(t, "there are spare connections", func() bool { return len(s.ready()) == maxSpares })
	await(t, "every request was looked at", func() bool { return len(s.wanted) == 0 })
	if got := s.ready(); len(got) != maxSpares {
		t.Errorf("%d spare connections: %v", len(got), got)
	}

	old := startSpares(t, server, time.Millisecond, users[0])
	old.want(users[0])
	await(t, "the request is taken", func() bool { return len(old.wanted) == 0 })
	await(t, "the spare connection is gone", func() bool {
		old.mu.Lock()
		defer old.mu.Unlock()
		return len(old.held) == 0
	})
}

// TestSpareConnectionThatFails is asked for again by whoever connects next.
func TestSpareConnectionThatFails(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t, 0)
	s := startSpares(t, server, time.Hour, "spare_alice")
	dial, failed := s.dial, make(chan struct{})
	s.dial = func(context.Context, string) (*pgwire.ServerConn, *tls.Certificate, error) {
		close(failed)
		return nil, nil, errors.New("the machine is busy")
	}
	s.want("spare_alice")
	<-failed
	await(t, "the wish is forgotten", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.held) == 0
	})
	s.dial = dial
	s.want("spare_alice")
	await(t, "there is a spare connection", func() bool { return len(s.ready()) == 1 })
}

// TestSpareConnectionOfServerThatEnds is given up at once.
func TestSpareConnectionOfServerThatEnds(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, pgtest.Options{})
	s := startSpares(t, server, time.Hour, "alice")
	s.want("alice")
	await(t, "there is a spare connection", func() bool { return len(s.ready()) == 1 })
	server.Stop(t)
	await(t, "the spare connection is gone", func() bool { return len(s.ready()) == 0 })
	s.want("alice") // and nothing comes of it
	await(t, "the request is taken", func() bool { return len(s.wanted) == 0 })
	s.stop()
	if len(s.held) > 0 {
		t.Errorf("kept: %v", s.held)
	}
}
