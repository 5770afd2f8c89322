package cli

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/postern-db/postern/internal/pglocal"
	"github.com/postern-db/postern/internal/provision"
)

// writeFiles writes what a person would have written. The password is random,
// because other users of this machine can reach the hub's port.
func (d *demoRun) writeFiles(context.Context) error {
	setup := demoSQL
	if d.install.Major >= 16 {
		setup += demoSQL16
	}
	return cmp.Or(
		d.write("postern.yaml", demoConfig),
		d.write("setup.sql", setup),
		d.write("roles.yaml", demoRoles),
		d.write("password", rand.Text()+"\n"),
	)
}

func (d *demoRun) startHub(context.Context) (err error) {
	line := startCommand + " 2>" + demoLog
	d.shell.command(line + " &")
	d.hub, err = d.shell.start("exec "+line, false)
	return err
}

// startPostgres starts PostgreSQL as the output of 'ctl auth sign' says, or as it
// comes from a distribution.
func (d *demoRun) startPostgres(ctx context.Context) error {
	cfg, err := d.postgresConfig()
	if err != nil {
		return err
	}
	if d.pg, err = pglocal.Start(ctx, cfg); err != nil {
		return err
	}
	d.shell.env = append(d.shell.env,
		"PGHOST="+d.pg.SocketDir(), fmt.Sprintf("PGPORT=%d", d.pg.Port()), "PGUSER="+d.pg.Superuser(), "PGDATABASE=shop")
	if d.stock {
		return d.giveDBAPassword(ctx)
	}
	return d.write("example.yaml", fmt.Sprintf(demoDatabase, d.pg.Port()))
}

// giveDBAPassword does what whoever installed the server has done.
func (d *demoRun) giveDBAPassword(ctx context.Context) error {
	secret, verifier, err := provision.NewPassword()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, d.psql, "-Xq", "-d", "postgres", "-c", "ALTER ROLE "+d.pg.Superuser()+" PASSWORD '"+verifier+"'")
	cmd.Env = d.shell.env
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("give the superuser a password: %w: %s", err, out)
	}
	d.shell.env = append(d.shell.env, "PGPASSWORD="+secret)
	return nil
}

func (d *demoRun) postgresConfig() (pglocal.Config, error) {
	cfg := pglocal.Config{Installation: d.install, HBA: demoStockHBA}
	if d.stock {
		return cfg, nil
	}
	var tls pglocal.TLS
	for name, into := range map[string]*[]byte{"server.crt": &tls.Certificate, "server.key": &tls.Key, "server.cas": &tls.ClientCAs} {
		data, err := os.ReadFile(filepath.Join(d.dir, name))
		if err != nil {
			return cfg, err
		}
		*into = data
	}
	cfg.TLS, cfg.HBA = &tls, demoHBA
	return cfg, nil
}

func (d *demoRun) openSession(context.Context) (err error) {
	d.shell.command(aliceConnect)
	d.session, err = d.shell.start("exec "+aliceConnect, true)
	return err
}

func (d *demoRun) closeSession(ctx context.Context) error {
	if _, err := io.WriteString(d.session.stdin, "\\q\n"); err != nil {
		return fmt.Errorf("alice's psql has ended already: %w", err)
	}
	if err := d.session.wait(ctx); err != nil {
		return err
	}
	return d.session.err
}
