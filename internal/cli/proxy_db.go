package cli

import (
	"context"
	"fmt"
	"net"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/postern-db/postern/internal/client"
	"github.com/postern-db/postern/internal/fault"
)

type proxyDBOptions struct {
	route  routeOptions
	listen string
	port   int
	format string
}

func newProxy(a *App) *cobra.Command {
	return group("proxy", "Run a local proxy", "Run a local proxy for programs that bring no certificate.", newProxyDB(a))
}

func newProxyDB(a *App) *cobra.Command {
	var opts proxyDBOptions
	cmd := &cobra.Command{
		Use:   "db [NAME]",
		Short: "Run a local proxy to a database, for graphical tools",
		Long: `Listen on a local port and carry what connects there to a database, in your name. The program
needs neither TLS nor a password, so everyone on this machine can use the port while it is open.
The certificate is renewed as long as the login lasts. Ctrl-C ends the proxy.`,
		Example: `  ` + a.name + ` proxy db --port=5433 --db-name=shop example
  ` + a.name + ` proxy db --format=json example`,
		Args: positional("[NAME]"),
		RunE: a.run(func(cmd *cobra.Command, args []string) error {
			opts.route.name = optional(args)
			return a.proxyDB(cmd.Context(), opts)
		}),
	}
	opts.route.addFlags(a, cmd)
	acceptTunnel(cmd)
	cmd.Flags().StringVar(&opts.listen, "listen", "127.0.0.1", "loopback address to listen on, HOST or HOST:PORT")
	cmd.Flags().IntVarP(&opts.port, "port", "p", 0, "port to listen on (default: any that is free)")
	formatFlag(cmd, &opts.format, formatText, formatJSON, formatYAML)
	return cmd
}

// proxyInfo is what proxy db prints for programs.
type proxyInfo struct {
	Database     string `json:"database"`
	Host         string `json:"host"`
	Port         string `json:"port"`
	DatabaseUser string `json:"db_user"`
	DatabaseName string `json:"db_name,omitempty"`
}

func (a *App) proxyDB(ctx context.Context, opts proxyDBOptions) error {
	if err := checkFormat(opts.format, formatText, formatJSON, formatYAML); err != nil {
		return err
	}
	address, err := listenAddress(opts)
	if err != nil {
		return err
	}
	t, err := a.choose(ctx, opts.route)
	if err != nil {
		return err
	}
	defer t.hub.Close()
	cert, err := t.hub.DatabaseCertificate(ctx, t.route) // what is wrong shows now, not at the first connection
	if err != nil {
		return err
	}
	s, err := settingsOf(t, cert)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	ln, err := client.ListenLoopback(ctx, address)
	if err != nil {
		return err
	}
	if s.host, s.port, err = net.SplitHostPort(ln.Addr().String()); err != nil {
		return err
	}
	if err := a.announce(opts.format, t.database.Name, s); err != nil {
		return err
	}
	return t.hub.Proxy(t.route, a.logger()).Serve(ctx, ln)
}

func listenAddress(opts proxyDBOptions) (string, error) {
	host, port, err := net.SplitHostPort(opts.listen)
	if err != nil {
		return net.JoinHostPort(opts.listen, strconv.Itoa(opts.port)), nil
	}
	if opts.port != 0 && port != strconv.Itoa(opts.port) {
		return "", misused(fault.New(fault.Invalid, "--listen and --port name different ports").WithHint("give the port once"))
	}
	return net.JoinHostPort(host, port), nil
}

func (a *App) announce(format, database string, s settings) error {
	info := proxyInfo{Database: database, Host: s.host, Port: s.port, DatabaseUser: s.user, DatabaseName: s.name}
	err := a.write(format, info, func() error {
		conninfo := []client.Setting{
			{Key: "host", Value: s.host},
			{Key: "port", Value: s.port},
			{Key: "user", Value: s.user},
			{Key: "dbname", Value: s.name},
			{Key: "sslmode", Value: "disable"},
			{Key: "gssencmode", Value: "disable"},
		}
		if s.name == "" {
			conninfo[3].Value = "DATABASE" // for the reader to fill in
			info.DatabaseName = "(choose)"
		}
		_, err := fmt.Fprintf(a.Out, "Host:     %s\nPort:     %s\nUser:     %s\nDatabase: %s\nPassword: (none)\nTLS:      off, the proxy does it\n\npsql %s\n",
			info.Host, info.Port, info.DatabaseUser, info.DatabaseName, shellQuote(connectionString(conninfo)))
		return err
	})
	if err == nil {
		a.tell("\nproxy to database %s is open; Ctrl-C ends it", quote(database))
	}
	return err
}
