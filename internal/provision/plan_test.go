package provision

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// have builds a state: an account with what is said about it.
func have(version int, change ...func(*account)) state {
	s := state{Version: version, Admin: attributes{CreateRole: true}, Group: group{Exists: true, AdminOf: true}}
	if len(change) > 0 {
		s.Account = account{OID: 1, Managed: true, AdminOf: true, Inherit: true, ConnLimit: unlimited}
	}
	for _, c := range change {
		c(&s.Account)
	}
	return s
}

// replicating is an account that may, under an admin.
func replicating(by attributes) state {
	s := have(160000, loggedIn, func(a *account) { a.Attributes.Replication = true })
	s.Admin = by
	return s
}

func loggedIn(a *account) { a.Login = true }

// powerful is an account that can log in and has every power, seen by an admin with some.
func powerful(version int, admin attributes, change ...func(*account)) state {
	s := have(version, append([]func(*account){loggedIn, func(a *account) {
		a.Inherit = false
		a.Attributes = attributes{Superuser: true, CreateRole: true, CreateDB: true, Replication: true, BypassRLS: true}
	}}, change...)...)
	s.Admin = admin
	return s
}

func holds(role string, options ...func(*membership)) func(*account) {
	m := membership{Role: role, Grantor: "admin", Inherit: true, Set: true, Revocable: true}
	for _, o := range options {
		o(&m)
	}
	return func(a *account) { a.Memberships = append(a.Memberships, m) }
}

func TestPlan(t *testing.T) {
	on := target{user: "alice", login: true}
	on.roles = []string{"reader", "writer"}
	off := target{user: "alice"}
	handsOn := func(m *membership) { m.Admin = true }
	by := func(grantor string) func(*membership) { return func(m *membership) { m.Grantor = grantor } }
	foreign := func(m *membership) { m.Revocable = false }
	const (
		login   = `ALTER ROLE "alice" LOGIN PASSWORD NULL`
		nologin = `ALTER ROLE "alice" NOLOGIN PASSWORD NULL`
		lock    = `COMMENT ON ROLE "alice" IS NULL`
		marked  = `COMMENT ON ROLE "alice" IS 'Managed by Postern; dropped after its last session.'`
		group   = `CREATE ROLE "teleport-auto-user" NOLOGIN`
		create  = `CREATE ROLE "alice" LOGIN IN ROLE "teleport-auto-user"`
		options = " WITH ADMIN FALSE, INHERIT TRUE, SET TRUE"
	)
	tests := []struct {
		name string
		have state
		want target
		plan []string
		over []string // what a superuser would have to do
	}{
		{name: "no group, no account", have: state{Version: 150000}, want: on, plan: []string{
			group, create, `GRANT "reader" TO "alice"`, `GRANT "writer" TO "alice"`,
		}},
		{name: "no account, dropped after use", have: have(180000), want: target{user: "alice", login: true, roles: on.roles, after: Drop}, plan: []string{
			create, marked, `GRANT "reader" TO "alice"` + options, `GRANT "writer" TO "alice"` + options,
		}},
		{name: "as wanted", have: have(180000, loggedIn, holds("writer"), holds("reader")), want: on},
		{name: "disabled", have: have(150000, func(*account) {}), want: on, plan: []string{
			lock, login, `GRANT "reader" TO "alice"`, `GRANT "writer" TO "alice"`,
		}},
		{name: "one role too many, one too few", have: have(150000, loggedIn, holds("admin"), holds("reader")), want: on, plan: []string{
			lock, `REVOKE "admin" FROM "alice"`, `GRANT "writer" TO "alice"`,
		}},
		{name: "several grantors", have: have(160000, loggedIn, holds("x", by("a")), holds("x", by("b"))), want: off, plan: []string{
			lock, nologin, `REVOKE "x" FROM "alice" GRANTED BY "a"`, `REVOKE "x" FROM "alice" GRANTED BY "b"`,
		}},
		{
			name: "one plain row is enough", have: have(160000, loggedIn, holds("reader", by("a")), holds("reader", by("b")), holds("writer")),
			want: on,
		},
		{name: "may hand the role on", have: have(140000, loggedIn, holds("reader", handsOn), holds("writer")), want: on, plan: []string{
			lock, `REVOKE "reader" FROM "alice"`, `GRANT "reader" TO "alice"`,
		}},
		{
			name: "holds a role without its use", have: have(160000, loggedIn, holds("reader", func(m *membership) { m.Inherit = false }), holds("writer")),
			want: on, plan: []string{lock, `REVOKE "reader" FROM "alice" GRANTED BY "admin"`, `GRANT "reader" TO "alice"` + options},
		},
		{
			name: "granted by somebody out of reach", have: have(160000, loggedIn, holds("reader"), holds("writer"), holds("root", foreign)),
			want: on, over: []string{`REVOKE "root" FROM "alice" GRANTED BY "admin";`},
		},
		{name: "replicates", have: have(160000, loggedIn), want: target{user: "alice", login: true, replication: true}, plan: []string{
			lock, `ALTER ROLE "alice" REPLICATION`,
		}},
		{name: "replicated", have: replicating(attributes{Replication: true}), want: off, plan: []string{
			lock, `ALTER ROLE "alice" NOLOGIN PASSWORD NULL NOREPLICATION`,
		}},
		{
			name: "replicated, and the admin may not change that", have: replicating(attributes{}), want: off, plan: []string{lock, nologin},
			over: []string{`ALTER ROLE "alice" NOREPLICATION;`},
		},
		{name: "powers, of a superuser", have: powerful(160000, attributes{Superuser: true}), want: target{user: "alice", login: true}, plan: []string{
			lock, `ALTER ROLE "alice" NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS INHERIT`,
		}},
		{name: "powers that the admin has", have: powerful(160000, attributes{CreateRole: true, CreateDB: true}, func(a *account) {
			a.Attributes.Superuser, a.Attributes.Replication = false, false
		}), want: target{user: "alice"}, plan: []string{
			lock, `ALTER ROLE "alice" NOLOGIN PASSWORD NULL NOCREATEROLE NOCREATEDB INHERIT`,
		}, over: []string{`ALTER ROLE "alice" NOBYPASSRLS;`}},
		{name: "powers before 16", have: powerful(150000, attributes{CreateRole: true}, func(a *account) {
			a.Attributes.Superuser, a.Attributes.Replication = false, false
		}), want: target{user: "alice"}, plan: []string{
			lock, `ALTER ROLE "alice" NOLOGIN PASSWORD NULL NOCREATEROLE NOCREATEDB INHERIT`,
		}, over: []string{`ALTER ROLE "alice" NOBYPASSRLS;`}},
		{
			name: "a superuser is out of reach", have: powerful(180000, attributes{CreateRole: true}), want: target{user: "alice"},
			over: []string{`ALTER ROLE "alice" NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS;`},
		},
		{name: "limits", have: have(160000, loggedIn, func(a *account) { a.ConnLimit, a.Password.Dated = 0, true }), want: target{user: "alice", login: true}, plan: []string{
			lock, `ALTER ROLE "alice" PASSWORD NULL VALID UNTIL '-infinity' CONNECTION LIMIT -1`,
		}},
		{name: "settings", have: have(160000, func(a *account) {
			a.Settings = []setting{
				{Database: "shop", Text: "role=dba", Revocable: true},
				{Text: "work_mem=1GB", Revocable: true},
				{Text: "jit=off", Revocable: true},
				{Database: "x", Text: "log_statement=none"},
			}
		}), want: off, plan: []string{lock, `ALTER ROLE "alice" RESET ALL`, `ALTER ROLE "alice" IN DATABASE "shop" RESET ALL`}},
		{name: "heirs", have: have(160000, func(a *account) {
			a.Heirs = []heir{{Role: "mallory", Grantor: "admin", Revocable: true}, {Role: "eve", Grantor: "postgres"}}
		}), want: off, plan: []string{lock, `REVOKE "alice" FROM "mallory" GRANTED BY "admin"`}},
		{name: "now kept", have: have(160000, loggedIn, func(a *account) { a.Comment = dropMarker }), want: target{user: "alice", login: true}, plan: []string{lock}},
		{name: "now gives away what it owns", have: have(160000, loggedIn, func(a *account) { a.Comment = dropMarker }), want: target{user: "alice", login: true, after: Reassign}, plan: []string{
			`COMMENT ON ROLE "alice" IS 'Managed by Postern; gives away what it owns and is dropped after its last session.'`,
		}},
		{name: "now dropped", have: have(160000, loggedIn), want: target{user: "alice", login: true, after: Drop}, plan: []string{marked}},
		{name: "somebody's comment stays", have: have(160000, loggedIn, func(a *account) { a.Comment = "it's Al" }), want: off, plan: []string{
			`COMMENT ON ROLE "alice" IS 'it''s Al'`, nologin,
		}},
		{name: "roles stay", have: have(160000, loggedIn, holds("x")), want: target{user: "alice", keepRoles: true}, plan: []string{lock, nologin}},
		{name: "released", have: have(160000, func(*account) {}), want: off},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			steps, over := plan(tt.have, tt.want)
			if diff := cmp.Diff(append([]string{}, tt.plan...), texts(steps)); diff != "" {
				t.Errorf("plan differs (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.over, over.sql("alice")); diff != "" {
				t.Errorf("what is out of reach differs (-want +got):\n%s", diff)
			}
		})
	}
}

// model carries a plan out as PostgreSQL does, as far as plans go.
func model(s state, steps []statement) (state, error) {
	acc := s.Account
	acc.Memberships = slices.Clone(acc.Memberships)
	for i, step := range steps {
		switch step.action {
		case createGroup:
			if s.Group.Exists {
				return s, fmt.Errorf("%v: exists", step)
			}
			s.Group.Exists = true
		case createAccount:
			if acc.exists() || !s.Group.Exists {
				return s, fmt.Errorf("%v: exists, or no group", step)
			}
			acc = account{OID: 2, Managed: true, Inherit: true, ConnLimit: unlimited, Login: slices.Contains(step.words, "LOGIN")}
			acc.Attributes.Replication = slices.Contains(step.words, "REPLICATION")
		case disown:
			acc.Heirs = slices.DeleteFunc(slices.Clone(acc.Heirs), func(h heir) bool {
				return h.Role == step.role && (s.Version < version16 || h.Grantor == step.grantor)
			})
		case reset:
			acc.Settings = slices.DeleteFunc(slices.Clone(acc.Settings), func(x setting) bool { return x.Database == step.database && x.Revocable })
		case comment:
			acc.Comment = step.text
		case alter:
			for _, word := range step.words {
				switch word {
				case "LOGIN":
					acc.Login = true
				case "NOLOGIN":
					acc.Login = false
				case "INHERIT":
					acc.Inherit = true
				case "CONNECTION LIMIT -1":
					acc.ConnLimit = unlimited
				case "VALID UNTIL '-infinity'":
					acc.Password.Dated = false
				case "NOSUPERUSER":
					acc.Attributes.Superuser = false
				case "NOCREATEROLE":
					acc.Attributes.CreateRole = false
				case "NOCREATEDB":
					acc.Attributes.CreateDB = false
				case "REPLICATION":
					acc.Attributes.Replication = true
				case "NOREPLICATION":
					acc.Attributes.Replication = false
				case "NOBYPASSRLS":
					acc.Attributes.BypassRLS = false
				}
			}
		case revoke:
			before := len(acc.Memberships)
			acc.Memberships = slices.DeleteFunc(acc.Memberships, func(m membership) bool {
				return m.Role == step.role && (s.Version < version16 || m.Grantor == step.grantor)
			})
			if len(acc.Memberships) == before {
				return s, fmt.Errorf("%v: no such membership", step)
			}
		case grant:
			// A second grant by the same grantor would change the first.
			acc.Memberships = append(acc.Memberships, membership{Role: step.role, Grantor: "admin", Inherit: true, Set: true, Revocable: true})
		case drop:
			acc = account{}
		case bequeath:
			return s, fmt.Errorf("%v: no plan gives anything away", step)
		}
		if i == 0 && s.Account.exists() && step.action != comment {
			return s, fmt.Errorf("%v comes before the account's lock", step)
		}
	}
	s.Account = acc
	return s, nil
}

func TestPlanLeadsToWhatIsWanted(t *testing.T) {
	names := []string{"a", "b", "c", "d"}
	rapid.Check(t, func(t *rapid.T) {
		s := state{Version: rapid.SampledFrom([]int{130000, 159999, 160000, 180004}).Draw(t, "version")}
		s.Group.Exists = rapid.Bool().Draw(t, "group")
		s.Admin = drawAttributes(t, "admin ")
		s.Admin.CreateRole = true
		if s.Group.Exists && rapid.Bool().Draw(t, "account") {
			s.Account = drawAccount(t, s.Version, names)
		}
		want := target{
			user: "alice", login: rapid.Bool().Draw(t, "want login"),
			keepRoles: rapid.Bool().Draw(t, "keep roles"), after: rapid.SampledFrom([]Mode{Keep, Drop, Reassign}).Draw(t, "after"),
		}
		want.chosen = want.login && rapid.Bool().Draw(t, "chosen")
		want.replication = want.login && rapid.Bool().Draw(t, "want replication")
		want.roles = slices.Sorted(slices.Values(rapid.SliceOfDistinct(rapid.SampledFrom(names), rapid.ID[string]).Draw(t, "want roles")))

		steps, over := plan(s, want)
		after, err := model(s, steps)
		if err != nil {
			t.Fatalf("plan %q: %v", texts(steps), err)
		}
		if !s.sealed(want) {
			checkAccount(t, after.Account, over, want)
		}
		if was := s.Account.chosen() && (want.keepRoles || s.Account.Login && want.login); after.Account.chosen() != (want.chosen || was) {
			t.Fatalf("plan %q leads to the comment %q from %q", texts(steps), after.Account.Comment, s.Account.Comment)
		}
		if !want.keepRoles {
			checkMemberships(t, after.Account.Memberships, over.memberships, want.roles)
			if len(after.Account.Heirs) != len(over.heirs) {
				t.Fatalf("plan %q leaves the heirs %v", texts(steps), after.Account.Heirs)
			}
		}
		again, overAgain := plan(after, want)
		if len(again) != 0 || !cmp.Equal(over, overAgain, cmp.AllowUnexported(beyond{}), cmpopts.EquateEmpty()) {
			t.Fatalf("the second plan is not empty: %q, %v", texts(again), overAgain)
		}
	})
}

// checkAccount wants an account that is altered as far as the admin can.
func checkAccount(t *rapid.T, got account, over beyond, want target) {
	powers := got.Attributes
	powers.Replication = powers.Replication != want.replication // what differs
	if got.Login != want.login || !got.Inherit || afterwards(got.Comment) != want.after || want.chosen && !got.chosen() || got.ConnLimit != unlimited || got.Password.Dated && !got.Password.Open ||
		(powers == attributes{}) != (len(over.powers) == 0) || len(got.Settings) != len(over.settings) {
		t.Fatalf("the plan leads to %+v", got)
	}
}

// checkMemberships wants exactly the roles, plainly, beside what is stuck.
func checkMemberships(t *rapid.T, got, stuck []membership, roles []string) {
	var held []string
	for _, m := range got {
		if slices.Contains(stuck, m) {
			continue
		}
		if !m.plain() {
			t.Fatalf("%+v is more than the use of the role", m)
		}
		held = append(held, m.Role)
	}
	slices.Sort(held)
	if diff := cmp.Diff(append([]string{}, roles...), append([]string{}, slices.Compact(held)...)); diff != "" {
		t.Fatalf("roles differ (-want +got):\n%s", diff)
	}
}

func drawAttributes(t *rapid.T, whose string) attributes {
	flag := func(name string) bool { return rapid.Bool().Draw(t, whose+name) }
	return attributes{
		Superuser: flag("super"), CreateRole: flag("createrole"), CreateDB: flag("createdb"),
		Replication: flag("replication"), BypassRLS: flag("bypassrls"),
	}
}

func drawAccount(t *rapid.T, version int, names []string) account {
	flag := func(name string) bool { return rapid.Bool().Draw(t, name) }
	a := account{
		OID: 1, Managed: true, Login: flag("login"), Inherit: flag("inherit"),
		Comment:    rapid.SampledFrom([]string{"", "somebody's", dropMarker, reassignMarker, chosenMarker, dropChosenMarker, reassignChosenMarker}).Draw(t, "comment"),
		Attributes: drawAttributes(t, ""), ConnLimit: rapid.IntRange(-1, 1).Draw(t, "limit"),
	}
	if a.Password.Dated = flag("dated"); a.Password.Dated {
		a.Password.Open = flag("open")
	}
	for _, database := range []string{"", "shop"} {
		for range rapid.IntRange(0, 2).Draw(t, "settings") {
			a.Settings = append(a.Settings, setting{Database: database, Text: "x=y", Revocable: flag("revocable")})
		}
	}
	grantors := []string{"admin"}
	if version >= version16 {
		grantors = []string{"admin", "other", "third"}
	}
	for _, grantor := range grantors {
		if flag("heir") {
			a.Heirs = append(a.Heirs, heir{Role: "mallory", Grantor: grantor, Revocable: version < version16 || flag("revocable")})
		}
	}
	for _, role := range names {
		for _, grantor := range grantors {
			if !flag("has " + role) {
				continue
			}
			m := membership{Role: role, Grantor: grantor, Admin: flag("admin"), Inherit: true, Set: true, Revocable: true}
			if version >= version16 {
				m.Inherit, m.Set, m.Revocable = flag("inherit"), flag("set"), flag("revocable")
			}
			a.Memberships = append(a.Memberships, m)
		}
	}
	return a
}
