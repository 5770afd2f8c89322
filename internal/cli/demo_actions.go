package cli

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/postern-db/postern/internal/pglocal"
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

// startPostgres starts PostgreSQL as the output of 'ctl auth sign' says.
func (d *demoRun) startPostgres(ctx context.Context) error {
	var tls pglocal.TLS
	for name, into := range map[string]*[]byte{"server.crt": &tls.Certificate, "server.key": &tls.Key, "server.cas": &tls.ClientCAs} {
		data, err := os.ReadFile(filepath.Join(d.dir, name))
		if err != nil {
			return err
		}
		*into = data
	}
	var err error
	d.pg, err = pglocal.Start(ctx, pglocal.Config{Installation: d.install, TLS: &tls, HBA: demoHBA})
	if err != nil {
		return err
	}
	d.shell.env = append(d.shell.env,
		"PGHOST="+d.pg.SocketDir(), fmt.Sprintf("PGPORT=%d", d.pg.Port()), "PGUSER="+d.pg.Superuser(), "PGDATABASE=shop")
	return d.write("example.yaml", fmt.Sprintf(demoDatabase, d.pg.Port()))
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
