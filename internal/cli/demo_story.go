package cli

import "fmt"

// Command lines of the story that come more than once.
const (
	startCommand = "postern start -c postern.yaml"
	aliceConnect = "postern db connect --db-name=shop example"
	asBob        = "POSTERN_HOME=bob " // uses bob's profile and not alice's
)

// States of a database user.
const (
	demoAbsent   = "absent"
	aliceAtWork  = "LOGIN in reader, teleport-auto-user, writer"
	aliceWasHere = "NOLOGIN in teleport-auto-user"
)

// story returns the scenes in their order.
func (d *demoRun) story() []func() demoScene {
	return []func() demoScene{
		d.setUpPostern, d.setUpPostgres, d.setUpPeople,
		d.before, d.connecting, d.whileConnected, d.after, d.afterDrop,
		d.auditLog,
	}
}

func (d *demoRun) setUpPostern() demoScene {
	scene := demoScene{"SET-UP: Postern starts", []demoStep{
		{say: "everything is in " + d.dir + " and goes away at the end", do: d.writeFiles},
		{say: "the configuration", run: "cat postern.yaml"},
		{say: "hub and agent, in one process", do: d.startHub, until: demoState{"Postern", "ready", d.hubReady}},
		{
			say:   "a certificate for PostgreSQL, and the lines that make it accept Postern's",
			run:   "postern ctl auth sign --format=db --host=localhost --out=server --ttl=24h",
			shows: []string{`^ssl_ca_file = '.*server\.cas'$`, `^hostssl all +all +0\.0\.0\.0/0 +cert$`},
		},
	}}
	if d.stock {
		scene.steps = scene.steps[:len(scene.steps)-1] // no certificate is needed
	}
	return scene
}

func (d *demoRun) setUpPostgres() demoScene {
	if d.stock {
		return d.setUpStockPostgres()
	}
	return demoScene{"SET-UP: a PostgreSQL with an admin user that may create roles", []demoStep{
		{
			say: fmt.Sprintf("PostgreSQL %d starts with that certificate and those lines; plain psql is the DBA, on the Unix socket", d.install.Major),
			do:  d.startPostgres,
		},
		{
			say:   "the admin user, two roles to hand out, and three tables",
			run:   "psql -d postgres -e -v ON_ERROR_STOP=1 -f setup.sql",
			shows: []string{"^CREATE ROLE$", "^GRANT$"},
		},
		{say: "what Postern has to know about the database", run: "cat example.yaml"},
		{
			say:   "it is served at once",
			run:   "postern ctl create -f example.yaml",
			until: demoState{"the database", "healthy", d.health},
		},
		{say: "and can be reached", run: "postern ctl status", shows: []string{`^example +healthy`}},
	}}
}

// setUpStockPostgres registers a server on which nothing is changed.
func (d *demoRun) setUpStockPostgres() demoScene {
	return demoScene{"SET-UP: a PostgreSQL as it comes from a distribution", []demoStep{
		{
			say: fmt.Sprintf("PostgreSQL %d starts, and asks everybody for a password; plain psql is the DBA, on the Unix socket", d.install.Major),
			do:  d.startPostgres,
		},
		{
			say:   "two roles to hand out, and three tables",
			run:   "psql -d postgres -e -v ON_ERROR_STOP=1 -f setup.sql",
			shows: []string{"^CREATE ROLE$", "^GRANT$"},
		},
		{
			say: "one command registers it and gives the admin user a password; that of the superuser is in PGPASSWORD",
			run: "postern ctl db add example --uri=localhost:$PGPORT --admin=teleport-admin --superuser=$PGUSER --apply",
			shows: []string{
				"^the way to log in is password$", `ALTER ROLE "teleport-admin" PASSWORD 'SCRAM-SHA-256\$4096:`, "^example: nothing stands in the way$",
			},
			until: demoState{"the database", "healthy", d.health},
		},
		{say: "and can be reached", run: "postern ctl status", shows: []string{`^example +healthy`}},
	}}
}

func (d *demoRun) setUpPeople() demoScene {
	return demoScene{"SET-UP: who may do what", []demoStep{
		{say: "two roles: one keeps database users between sessions, disabled; the other drops them", run: "cat roles.yaml"},
		{say: "they are created", run: "postern ctl create -f roles.yaml"},
		{
			say: "alice gets the db role writer by a trait of her own",
			run: "postern ctl users add alice --roles=auto-db-users --db-roles=writer --password-file=password",
		},
		{say: "bob is temporary", run: "postern ctl users add bob --roles=temporary-db-users --password-file=password"},
		{say: "alice logs in", run: d.login("alice"), shows: []string{`User: +alice$`}},
	}}
}

func (d *demoRun) before() demoScene {
	return demoScene{"BEFORE: PostgreSQL does not know alice", []demoStep{
		{
			say: "the DBA looks", run: d.listUsers(),
			shows: []string{`^ *teleport-admin\b`}, hides: []string{`\balice\b`},
			until: d.account("alice", demoAbsent),
		},
	}}
}

func (d *demoRun) connecting() demoScene {
	return demoScene{"CONNECT: alice opens PostgreSQL as herself", []demoStep{
		{say: "what she may use", run: "postern db ls -v", shows: []string{`^example .*\[alice\] .*\[reader writer\]`}},
		{
			say: "who she is there, and the roles that she holds",
			run: aliceConnect + ` -- -c 'SELECT current_user' -c 'SELECT roleid::regrole AS role FROM pg_auth_members WHERE member = current_user::regrole'`,
			shows: []string{
				"^ alice$", "^ reader$", "^ writer$", `^ "teleport-auto-user"$`,
			},
		},
		{say: "a reader may read orders", run: aliceConnect + ` -- -c 'SELECT * FROM orders'`, shows: []string{`^ lamp +\| +2$`}},
		{
			say:   "a writer may write notes",
			run:   aliceConnect + ` -- -c "INSERT INTO notes VALUES ('lamps sell well') RETURNING *"`,
			shows: []string{`^ lamps sell well \| alice$`},
		},
		{
			say: "neither may read salaries: PostgreSQL itself refuses",
			run: aliceConnect + ` -- -c 'SELECT * FROM salaries'`, fails: true,
			shows: []string{`^ERROR: +permission denied for table salaries$`},
		},
		{
			say: "she may ask for less than she could have",
			run: "postern db connect --db-name=shop --db-roles=reader example -- -c 'SELECT * FROM notes'", fails: true,
			shows: []string{`^ERROR: +permission denied for table notes$`},
		},
	}}
}

func (d *demoRun) whileConnected() demoScene {
	scene := demoScene{"WHILE CONNECTED: the account exists, with exactly these roles", []demoStep{
		{say: "alice opens psql and leaves it open", do: d.openSession, until: d.account("alice", aliceAtWork)},
		{say: "the DBA looks", run: d.listUsers(), shows: []string{`^ *alice\b`}, hides: []string{`^ *alice .*Cannot login`}},
	}}
	if d.stock {
		scene.steps = append(scene.steps, demoStep{
			say:   "her password was there for the milliseconds of the login only; even one that she sets herself opens nothing",
			run:   `psql -c "SELECT rolname, rolpassword IS NULL AS no_password, rolvaliduntil FROM pg_authid WHERE rolname = 'alice'"`,
			shows: []string{`^ alice +\| t +\| -infinity$`},
		})
	}
	return scene
}

func (d *demoRun) after() demoScene {
	return demoScene{"AFTER: nothing is left that could be used", []demoStep{
		{say: `alice leaves psql with \q`, do: d.closeSession, until: d.account("alice", aliceWasHere)},
		{
			say: "the DBA looks: no login, and no role but the group that marks her as Postern's",
			run: d.listUsers(), shows: []string{`^ *alice .*Cannot login`},
		},
	}}
}

func (d *demoRun) afterDrop() demoScene {
	return demoScene{"AFTER, with best_effort_drop: not even the name is left", []demoStep{
		{say: "bob logs in, with a profile of his own", run: asBob + d.login("bob"), shows: []string{`User: +bob$`}},
		{
			say: "he works, and leaves",
			run: asBob + aliceConnect + ` -- -c 'SELECT current_user' -c 'SELECT count(*) FROM orders'`, shows: []string{`^ bob$`, `^ +2$`},
			until: d.account("bob", demoAbsent),
		},
		{say: "the DBA looks: no bob", run: d.listUsers(), hides: []string{`\bbob\b`}, until: d.ended("bob")},
	}}
}

func (d *demoRun) auditLog() demoScene {
	return demoScene{"AUDIT: who did what", []demoStep{
		{
			say: "what alice asked, and the whole visit of bob",
			run: fmt.Sprintf("postern audit tail -n %d | grep -E 'query=|user=bob'", demoEvents),
			shows: []string{
				`db\.session\.query user=alice .*query="SELECT \* FROM salaries"$`,
				`db\.user\.create user=bob`, `db\.session\.start user=bob`, `db\.session\.query user=bob`,
				`db\.user\.deactivate user=bob`, `db\.session\.end user=bob`,
			},
		},
	}}
}

func (d *demoRun) login(user string) string {
	return fmt.Sprintf("postern login --proxy=%s --ca-pin=%s --user=%s --password-file=password", d.address, d.pin, user)
}

// listUsers is how the DBA lists database users. Since version 16, psql has a
// command of its own for what they are members of.
func (d *demoRun) listUsers() string {
	if d.major >= 16 {
		return `psql -c '\du' -c '\drg'`
	}
	return `psql -c '\du'`
}
