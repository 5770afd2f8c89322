package cli

// Names in the demo's directory.
const (
	demoData = "data"
	demoLog  = "postern.log"
)

// The files of the demo. They are what a person would write by hand.
const (
	demoConfig = `version: v1
data_dir: data
hub:
  cluster_name: demo
  listen_addr: 127.0.0.1:0   # any free port
`

	demoDatabase = `kind: db
version: v3
metadata:
  name: example
  description: the shop
spec:
  protocol: "postgres"
  uri: "localhost:%d"
  admin_user:
    name: "teleport-admin"
`

	demoRoles = `kind: role
version: v7
metadata:
  name: auto-db-users
spec:
  options:
    create_db_user_mode: keep
  allow:
    db_labels:
      "*": "*"
    db_names:
    - "*"
    db_roles:
    - reader
    - "{{internal.db_roles}}"
    - "{{external.db_roles}}"
---
kind: role
version: v7
metadata:
  name: temporary-db-users
spec:
  options:
    create_db_user_mode: best_effort_drop
  allow:
    db_labels:
      "*": "*"
    db_names:
    - "*"
    db_roles:
    - reader
`

	demoSQL = `CREATE DATABASE shop;
\connect shop
CREATE USER "teleport-admin" login createrole;
CREATE ROLE reader;
CREATE ROLE writer;
CREATE TABLE orders (item text, quantity int);
CREATE TABLE notes (note text, author text DEFAULT current_user);
CREATE TABLE salaries (name text, salary int);
INSERT INTO orders VALUES ('lamp', 2), ('chair', 4);
GRANT SELECT ON orders TO reader;
GRANT SELECT, INSERT ON notes TO writer;
`
	// demoSQL16 is needed since PostgreSQL 16: CREATEROLE alone no longer lets the
	// admin user hand out roles of others.
	demoSQL16 = `GRANT reader, writer TO "teleport-admin" WITH ADMIN OPTION;
`

	// demoHBA lets in over TCP whoever shows a certificate for the database user.
	// It is what 'ctl auth sign' prints.
	demoHBA = `hostssl all             all             ::/0                    cert
hostssl all             all             0.0.0.0/0               cert
`
	// demoStockHBA asks everybody for a password, as distributions do.
	demoStockHBA = `host    all             all             127.0.0.1/32            scram-sha-256
host    all             all             ::1/128                 scram-sha-256
`
)
