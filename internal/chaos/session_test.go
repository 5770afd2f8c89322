package chaos

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/ca"
	"github.com/postern-db/postern/internal/identity"
)

// session is an open session, and what may be expected of it.
type session struct {
	w      *world
	p      *person
	conn   *pgx.Conn
	raw    net.Conn
	chosen []string    // db roles asked for; nil: all that there are
	mark   int         // policies that count for its db roles begin here
	excuse func() bool // whether it may be cut off
}

// work is a person's day: sessions, one after the other, until it ends.
func (w *world) work(p *person, r *rand.Rand, end time.Time) {
	for time.Now().Before(end) && !w.t.Failed() {
		s := &session{w: w, p: p}
		if r.IntN(3) > 0 {
			p.mu.Lock()
			all := p.versions[len(p.versions)-1].roles
			p.mu.Unlock()
			s.chosen = subset(r, all)
		}
		if !s.open(r.IntN(len(w.gateways)), databases[r.IntN(len(databases))]) {
			continue
		}
		for range 1 + r.IntN(5) {
			if !s.check() {
				break
			}
			time.Sleep(time.Duration(r.IntN(150)) * time.Millisecond) // a person thinks
		}
		if r.IntN(4) == 0 {
			_ = s.raw.Close() // the cable is pulled
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		_ = s.conn.Close(ctx)
		cancel()
	}
}

// open connects. A connect fails only when something was broken meanwhile, or
// policy does not allow what was asked for.
func (s *session) open(gateway int, dbname string) bool {
	w := s.w
	g := w.gateways[gateway]
	s.mark, s.excuse = s.p.mark(gateway), w.excuse(g)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, s.config(g, dbname))
	policies := s.p.since(s.mark)
	allowed := func(p policy) bool { return within(s.chosen, p.roles) }
	if err != nil {
		pg, _ := errors.AsType[*pgconn.PgError](err)
		switch {
		case s.excuse():
			w.cut.Add(1)
		case pg != nil && pg.Code == "28000" && !some(policies[:1], allowed) || pg != nil && pg.Code == "28000" && len(policies) > 1:
			w.refused.Add(1)
		case pg != nil && pg.Code == "57P01" && len(policies) > 1:
			w.ended.Add(1)
		default:
			w.t.Errorf("P4: %s (%v in %s through gateway %d, policies %v) cannot connect: %v%s", s.p.name, s.chosen, dbname, gateway, policies, err, detail(pg))
		}
		return false
	}
	s.conn = conn
	w.sessions.Add(1)
	if !some(policies, allowed) {
		w.t.Errorf("P2: %s was given %v, and policy is %v", s.p.name, s.chosen, policies)
	}
	return true
}

func detail(pg *pgconn.PgError) string {
	if pg == nil {
		return ""
	}
	return fmt.Sprintf(" (detail %q, hint %q)", pg.Detail, pg.Hint)
}

// config connects to the public port of a gateway with a certificate.
func (s *session) config(g *gateway, dbname string) *pgx.ConnConfig {
	t := s.w.t
	cfg, err := pgx.ParseConfig("sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	host, port, _ := strings.Cut(g.address, ":")
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Host, cfg.Port, cfg.User, cfg.Database, cfg.Password, cfg.Fallbacks = host, uint16(number), s.p.name, dbname, "", nil
	cfg.TLSConfig = &tls.Config{
		InsecureSkipVerify: true, // whom the client trusts is not tested here
		ServerName:         api.DatabaseServerName("example", g.env.Cluster),
		Certificates:       []tls.Certificate{s.p.certificate(s.w, identity.Route{Database: "example", DatabaseName: dbname, DatabaseRole: s.chosen})},
		MinVersion:         tls.VersionTLS12,
	}
	dial := cfg.DialFunc
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		raw, err := dial(ctx, network, addr)
		if s.raw == nil { // pgx also dials to cancel
			s.raw = raw
		}
		return raw, err
	}
	return cfg
}

// certificate returns a certificate of the person for a route. Both gateways are
// of one cluster, and know it.
func (p *person) certificate(w *world, route identity.Route) tls.Certificate {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := fmt.Sprintf("%#v", route)
	if cert, ok := p.certificates[key]; ok {
		return cert
	}
	private, err := ca.NewKey()
	if err != nil {
		w.t.Error(err)
	}
	cert, err := w.users.IssueUser(identity.Identity{User: p.name, Cluster: w.gateways[0].env.Cluster, Roles: []string{p.name}, Route: route}, private.Public(), time.Hour)
	if err != nil {
		w.t.Error(err)
		return tls.Certificate{}
	}
	p.certificates[key] = tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: private}
	return p.certificates[key]
}

// rights is what a session holds, as PostgreSQL tells the session itself.
type rights struct {
	account           string
	roles, privileges []string
}

func (s *session) rights() (r rights, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err = s.conn.QueryRow(ctx, `SELECT current_user,
		ARRAY(SELECT r FROM unnest($1::text[]) WITH ORDINALITY AS u(r, n) WHERE pg_has_role(r, 'USAGE') ORDER BY n),
		ARRAY(SELECT p FROM unnest($2::text[]) WITH ORDINALITY AS u(p, n) WHERE has_table_privilege('public.things', p) ORDER BY n)`,
		dbRoles, privileges).Scan(&r.account, &r.roles, &r.privileges)
	return r, err
}

// check looks at what the session holds (P2), again and again until that follows
// the policy of today. It reports whether the session goes on.
func (s *session) check() bool {
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		policy, settled := s.p.settled(len(s.w.gateways))
		now, err := s.rights()
		if err != nil {
			s.checkEnd(err)
			return false
		}
		if !s.allowed(now) {
			return false
		}
		late := s.late(now, policy)
		if !settled || late == "" {
			return true
		}
		if time.Now().After(end) {
			s.w.t.Errorf("P5: %s as %s %s for longer than %s: holds %v %v, policy is %v", s.p.name, now.account, late, patience, now.roles, now.privileges, policy)
			return false
		}
	}
}

// allowed reports whether policy gives exactly these rights. Object permissions
// are shared by all sessions on the account, through whichever gateway, so that for a
// moment they may be those of an older policy, by which one of them goes; see late. When
// policy has changed they may be none: they are taken away first where
// PostgreSQL has no time for those that are left.
func (s *session) allowed(now rights) bool {
	policies := s.p.since(s.mark)
	okay := some(s.p.since(0), func(p policy) bool { return slices.Equal(now.privileges, p.privileges) }) ||
		len(policies) > 1 && len(now.privileges) == 0
	if s.chosen != nil {
		okay = okay && slices.Equal(now.roles, s.chosen)
	} else {
		okay = okay && some(policies, func(p policy) bool { return slices.Equal(now.roles, p.roles) })
	}
	if !okay {
		s.w.t.Errorf("P2: a session of %s (asked for %v) as %s, process %d, holds %v %v; policy is one of %v",
			s.p.name, s.chosen, now.account, s.conn.PgConn().PID(), now.roles, now.privileges, policies)
	}
	return okay
}

// late says what a session may not do for long, when policy has changed.
func (s *session) late(now rights, policy policy) string {
	switch {
	case !within(now.roles, policy.roles):
		return "goes on with db roles that were taken away"
	case !slices.Equal(now.privileges, policy.privileges):
		return "goes on with other object permissions"
	}
	return ""
}

// checkEnd judges why a session has ended.
func (s *session) checkEnd(err error) {
	pg, _ := errors.AsType[*pgconn.PgError](err)
	switch {
	case s.excuse():
		s.w.cut.Add(1)
	case pg != nil && pg.Code == "57P01" && len(s.p.since(s.mark)) > 1:
		s.w.ended.Add(1)
	default:
		s.w.t.Errorf("P4: a session of %s has ended: %v", s.p.name, err)
	}
}
