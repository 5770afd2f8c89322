package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/client"
	"github.com/postern-db/postern/internal/fault"
)

func newAuth(a *App) *cobra.Command {
	return group("auth", "Issue and export certificates",
		"Issue server certificates for PostgreSQL and export the certificates of the authorities.",
		newAuthSign(a), newAuthExport(a))
}

type authSignOptions struct {
	format    string
	hosts     []string
	out       string
	ttl       ttlValue
	overwrite bool
}

func newAuthSign(a *App) *cobra.Command {
	opts := authSignOptions{ttl: ttlValue(2190 * time.Hour)}
	cmd := &cobra.Command{
		Use:   "sign",
		Short: "Issue a server certificate for PostgreSQL",
		Long: `Make a key on this machine, have the database authority certify it for a PostgreSQL server, and
write NAME.crt, NAME.key and NAME.cas. Prints the lines for postgresql.conf and pg_hba.conf with
which the server uses them and accepts the agents' certificates.`,
		Example: `  ` + a.path("auth sign") + ` --format=db --host=db.example.com --out=server --ttl=2190h
  ` + a.path("auth sign") + ` --format=db --host=db1,db1.example.com,10.0.0.7 --out=/etc/postgresql/server`,
		Args: positional(),
		RunE: a.run(func(cmd *cobra.Command, _ []string) error { return a.authSign(cmd.Context(), opts) }),
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.format, "format", "db", "what the certificate is for: db")
	flags.StringSliceVar(&opts.hosts, "host", nil, "names and addresses of the server (required)")
	flags.StringVarP(&opts.out, "out", "o", "server", "path of the files to write, without their endings")
	flags.Var(&opts.ttl, "ttl", "lifetime of the certificate")
	flags.BoolVar(&opts.overwrite, "overwrite", false, "replace files that exist")
	if err := cmd.MarkFlagRequired("host"); err != nil {
		panic(err) // the flag is a few lines above
	}
	return cmd
}

func (a *App) authSign(ctx context.Context, opts authSignOptions) error {
	if err := checkFormat(opts.format, "db"); err != nil {
		return err
	}
	base, err := filepath.Abs(opts.out)
	if err != nil {
		return err
	}
	crt, key, cas := base+".crt", base+".key", base+".cas"
	for _, path := range []string{crt, key, cas} {
		if _, err := os.Lstat(path); !opts.overwrite && !errors.Is(err, fs.ErrNotExist) {
			return fault.Newf(fault.Conflict, "%s exists", path).WithHint("choose another --out, or add --overwrite")
		}
	}
	made, err := client.NewKey()
	if err != nil {
		return err
	}
	hub, err := a.control()
	if err != nil {
		return err
	}
	resp, err := api.SignDatabaseServer().Call(ctx, hub, api.SignDatabaseServerRequest{
		Hosts: opts.hosts, CSR: made.CSR, TTLSeconds: int64(time.Duration(opts.ttl) / time.Second),
	})
	if err != nil {
		return err
	}
	for _, f := range []struct {
		path string
		data []byte
		mode os.FileMode
	}{{key, made.PEM, 0o600}, {crt, []byte(resp.Certificate), 0o644}, {cas, []byte(resp.ClientCAs), 0o644}} {
		if err := client.WriteFile(f.path, f.data, f.mode); err != nil {
			return err
		}
	}
	a.tell("wrote %s, %s and %s; the certificate is good until %s", crt, key, cas, resp.Expires.Local().Format("2006-01-02 15:04 MST"))
	a.tell("the key must belong to the user that PostgreSQL runs as: chown postgres %s", shellQuote(key))
	a.tell("put these lines into the server's configuration and reload it:\n")
	return writeServerLines(a.Out, crt, key, cas)
}

// writeServerLines prints what makes a PostgreSQL server use the files.
func writeServerLines(w io.Writer, crt, key, cas string) error {
	setting := func(path string) string { return "'" + strings.ReplaceAll(path, "'", "''") + "'" }
	_, err := fmt.Fprintf(w, `# postgresql.conf
ssl = on
ssl_cert_file = %s
ssl_key_file = %s
ssl_ca_file = %s

# pg_hba.conf, above other lines for host and hostssl: the first that matches counts
hostssl all             all             ::/0                    cert
hostssl all             all             0.0.0.0/0               cert
`, setting(crt), setting(key), setting(cas))
	return err
}

type authExportOptions struct{ kind string }

func newAuthExport(a *App) *cobra.Command {
	var opts authExportOptions
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Print the certificate of an authority",
		Long: `Print the certificates of an authority in PEM. The types are user, host, db (signs the certificates
of PostgreSQL servers) and db-client (signs what agents show to PostgreSQL; for ssl_ca_file).`,
		Example: `  ` + a.path("auth export") + ` --type=db-client > postern-clients.cas
  ` + a.path("auth export") + ` --type=host`,
		Args: positional(),
		RunE: a.run(func(cmd *cobra.Command, _ []string) error { return a.authExport(cmd.Context(), opts) }),
	}
	cmd.Flags().StringVar(&opts.kind, "type", "", "which authority: user, host, db or db-client (required)")
	completeWith(cmd, "type", "user", "host", "db", "db-client")
	if err := cmd.MarkFlagRequired("type"); err != nil {
		panic(err) // the flag is two lines above
	}
	return cmd
}

func (a *App) authExport(ctx context.Context, opts authExportOptions) error {
	hub, err := a.control()
	if err != nil {
		return err
	}
	resp, err := api.ExportAuthority().Call(ctx, hub, api.ExportAuthorityRequest{Type: opts.kind})
	if err != nil {
		return err
	}
	_, err = io.WriteString(a.Out, resp.Certificates)
	return err
}
