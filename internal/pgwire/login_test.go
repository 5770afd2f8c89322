package pgwire

import (
	"context"
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/pgtest"
)

// deadAddress is a port at which nobody listens.
func deadAddress(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestLogInFindsTheServer among a dead one, a standby and a primary, as the
// database's uri asks for it. Before version 14 servers do not report what they are.
func TestLogInFindsTheServer(t *testing.T) {
	t.Parallel()
	for _, version := range []int{13, pgtest.Newest(t)} {
		primary, standby := pgtest.Shared(t, version), pgtest.Start(t, pgtest.Options{Version: version})
		for _, s := range []*pgtest.Server{primary, standby} {
			s.Exec(t, "DROP ROLE IF EXISTS seeker", "CREATE ROLE seeker LOGIN")
		}
		primary.Exec(t, "DROP ROLE IF EXISTS newcomer", "CREATE ROLE newcomer LOGIN")
		standby.MakeReplica(t)
		dead := deadAddress(t)
		names := map[string]string{primary.Addr(): "primary", standby.Addr(): "standby", dead: "dead"}

		for _, c := range []struct {
			hosts []string
			kind  ServerKind
			user  string
			want  string // "" refused
		}{
			{[]string{dead, standby.Addr(), primary.Addr()}, "", "seeker", "standby"},
			{[]string{dead, standby.Addr(), primary.Addr()}, AnyServer, "seeker", "standby"},
			{[]string{dead, standby.Addr(), primary.Addr()}, PrimaryServer, "seeker", "primary"},
			{[]string{standby.Addr(), dead, primary.Addr()}, ReadWriteServer, "seeker", "primary"},
			{[]string{standby.Addr(), primary.Addr(), dead}, ReadWriteServer, "newcomer", "primary"},
			{[]string{standby.Addr(), primary.Addr()}, AnyServer, "newcomer", ""},
			{[]string{primary.Addr(), standby.Addr()}, StandbyServer, "seeker", "standby"},
			{[]string{primary.Addr(), standby.Addr()}, ReadOnlyServer, "seeker", "standby"},
			{[]string{primary.Addr(), standby.Addr()}, PreferStandbyServer, "seeker", "standby"},
			{[]string{primary.Addr(), dead}, PreferStandbyServer, "seeker", "primary"},
			{[]string{primary.Addr(), dead}, StandbyServer, "seeker", ""},
			{[]string{standby.Addr(), dead}, PrimaryServer, "seeker", ""},
			{[]string{dead}, AnyServer, "seeker", ""},
		} {
			cfg := DialConfig{Hosts: c.hosts, Kind: c.kind, TLS: primary.ClientTLS(t, c.user), Last: &HostMemory{}}
			// The two servers have, and trust, different authorities.
			cfg.TLS.InsecureSkipVerify = true
			cfg.TLS.Certificates = append(cfg.TLS.Certificates, standby.ClientTLS(t, c.user).Certificates...)
			for range 2 { // the second time with what was remembered
				if got := names[logInto(t, cfg, c.user)]; got != c.want {
					t.Errorf("%d: %s of %v: got %q, want %q", version, c.kind, c.hosts, got, c.want)
				}
			}
			if order := cfg.Last.order(c.hosts); c.want != "" && names[order[0]] != c.want {
				t.Errorf("%d: %s of %v: remembered %v", version, c.kind, c.hosts, order)
			}
		}
	}
}

// always logs in to every host in the same way.
func always(cfg StartConfig) StartFunc {
	return func(context.Context, *ServerConn) (StartConfig, func(), error) { return cfg, nil, nil }
}

// logInto returns the host that took the session, or "".
func logInto(t *testing.T, cfg DialConfig, user string) string {
	t.Helper()
	conn, err := Dial(t.Context(), cfg)
	if err != nil {
		return ""
	}
	conn, backend, err := conn.LogIn(t.Context(), always(StartConfig{User: user, Database: "postgres"}))
	if err != nil {
		if f := fault.Of(err); cfg.Kind != AnyServer && (f.Kind != fault.Unavailable || f.Hint == "") {
			t.Errorf("refused with %v, hint %q", f, f.Hint)
		}
		return ""
	}
	defer conn.Close()
	if backend.TxStatus != 'I' {
		t.Errorf("the server is not ready: %c", backend.TxStatus)
	}
	if _, err := conn.ask("SELECT 1"); err != nil { // nothing is left of questions before
		t.Error(err)
	}
	return conn.Host()
}

// TestOwnReadOnly: a client that wants to be read-only is not taken for a server
// that is.
func TestOwnReadOnly(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t, pgtest.Newest(t))
	server.Exec(t, "DROP ROLE IF EXISTS careful", "CREATE ROLE careful LOGIN")
	for own, want := range map[bool]string{true: "", false: "refused"} {
		conn, err := Dial(t.Context(), DialConfig{Hosts: []string{server.Addr()}, Kind: ReadWriteServer, TLS: server.ClientTLS(t, "careful")})
		if err != nil {
			t.Fatal(err)
		}
		conn, _, err = conn.LogIn(t.Context(), always(StartConfig{
			User: "careful", Database: "postgres", OwnReadOnly: own,
			Params: []Param{{"default_transaction_read_only", "on"}},
		}))
		got := ""
		if err != nil {
			got = "refused"
		} else {
			conn.Close()
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("own choice %t: %s (%v)", own, diff, err)
		}
	}
}
