package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/postern-db/postern/internal/client"
	"github.com/postern-db/postern/internal/fault"
)

// clientConfig says how one program is set up.
type clientConfig struct {
	name string
	// settings are the program's own names of them; text is what a person pastes.
	settings func(direct) []client.Setting
	text     func(direct, []client.Setting) string
}

// clientConfigs are the programs that people asked for.
func clientConfigs() []clientConfig {
	return []clientConfig{
		{"psql", direct.conninfo, func(_ direct, all []client.Setting) string {
			return "psql " + shellQuote(connectionString(all)) + "\n"
		}},
		{"pgadmin", pgAdminSettings, pgAdminText},
		{"dbeaver", dbeaverSettings, dbeaverText},
		{"jdbc", jdbcSettings, func(_ direct, all []client.Setting) string { return all[0].Value + "\n" }},
		{"psycopg", direct.conninfo, func(_ direct, all []client.Setting) string {
			return "import psycopg  # or psycopg2\n\nconn = psycopg.connect(" + quote(connectionString(all)) + ")\n"
		}},
		{"pgx", byHub, func(_ direct, all []client.Setting) string {
			return "conn, err := pgx.Connect(ctx, " + quote(connectionString(all)) + ")\n"
		}},
		{"node-postgres", byHub, nodeText},
	}
}

func clientNames() []string {
	var names []string
	for _, c := range clientConfigs() {
		names = append(names, c.name)
	}
	return names
}

// clientConfig prints the settings for one program. The name of the database has to
// be known: few programs choose one themselves, and what is printed is to work.
func (a *App) clientConfig(ctx context.Context, opts dbConfigOptions) error {
	if err := checkFormat(opts.format, formatText, formatJSON, formatYAML); err != nil {
		return err
	}
	configs := clientConfigs()
	i := slices.IndexFunc(configs, func(c clientConfig) bool { return c.name == opts.client })
	if i < 0 {
		return misused(fault.Newf(fault.Invalid, "unknown client %q", opts.client).WithHint("use one of " + strings.Join(clientNames(), ", ")))
	}
	d, err := a.directTo(ctx, opts.route)
	if err != nil {
		return err
	}
	if d.name == "" {
		return misused(fault.Newf(fault.Invalid, "settings for %s need the name of a database", opts.client).WithHint("add --db-name=NAME"))
	}
	all := configs[i].settings(d)
	values := map[string]string{}
	for _, s := range all {
		values[s.Key] = s.Value
	}
	return a.write(opts.format, values, func() error {
		_, err := fmt.Fprint(a.Out, configs[i].text(d, all))
		return err
	})
}

// byHub are the settings for drivers that dial what they verify. The route to the
// database is in the certificate.
func byHub(d direct) []client.Setting {
	return []client.Setting{
		{Key: "host", Value: d.hub},
		{Key: "port", Value: d.port},
		{Key: "user", Value: d.user},
		{Key: "dbname", Value: d.name},
		{Key: "sslmode", Value: "verify-full"},
		{Key: "sslrootcert", Value: d.ca},
		{Key: "sslcert", Value: d.files.CertFile()},
		{Key: "sslkey", Value: d.files.KeyFile()},
	}
}

func jdbcSettings(d direct) []client.Setting {
	parameters := url.Values{
		"user": {d.user}, "sslmode": {"verify-full"}, "sslrootcert": {d.ca}, "sslcert": {d.files.CertFile()}, "sslkey": {d.files.KeyDERFile()},
	}
	// A plus sign would stay one: only some readers of these URLs take it for a blank.
	query := strings.ReplaceAll(parameters.Encode(), "+", "%20")
	return []client.Setting{
		{Key: "url", Value: "jdbc:postgresql://" + net.JoinHostPort(d.hub, d.port) + "/" + url.PathEscape(d.name) + "?" + query},
		{Key: "user", Value: d.user},
		{Key: "sslmode", Value: "verify-full"},
		{Key: "sslrootcert", Value: d.ca},
		{Key: "sslcert", Value: d.files.CertFile()},
		{Key: "sslkey", Value: d.files.KeyDERFile()},
	}
}

func dbeaverSettings(d direct) []client.Setting {
	return []client.Setting{
		{Key: "Host", Value: d.hub},
		{Key: "Port", Value: d.port},
		{Key: "Database", Value: d.name},
		{Key: "Username", Value: d.user},
		{Key: "Root certificate", Value: d.ca},
		{Key: "SSL certificate", Value: d.files.CertFile()},
		{Key: "SSL certificate key", Value: d.files.KeyDERFile()},
		{Key: "SSL mode", Value: "verify-full"},
	}
}

func dbeaverText(_ direct, all []client.Setting) string {
	var b strings.Builder
	b.WriteString("New connection, PostgreSQL, tab Main:\n")
	for i, s := range all {
		if i == 4 {
			b.WriteString("Authentication: Database Native, password empty\n\nTab SSL, with \"Use SSL\":\n")
		}
		fmt.Fprintf(&b, "%s: %s\n", s.Key, s.Value)
	}
	return b.String()
}

func pgAdminSettings(d direct) []client.Setting {
	return append([]client.Setting{{Key: "name", Value: d.service}}, d.conninfo()...)
}

// pgAdminText is a file for Tools, Import/Export Servers.
func pgAdminText(d direct, _ []client.Setting) string {
	port := json.Number(d.port)
	parameters := map[string]string{}
	for _, s := range d.conninfo() {
		switch s.Key {
		case "host", "port", "user", "dbname":
		default:
			parameters[s.Key] = s.Value
		}
	}
	var b strings.Builder
	_ = writeJSON(&b, map[string]any{"Servers": map[string]any{"1": map[string]any{ // a Builder takes everything
		"Name": d.service, "Group": "Postern", "Host": d.host, "Port": port, "Username": d.user, "MaintenanceDB": d.name,
		"ConnectionParameters": parameters,
	}}})
	return b.String()
}

func nodeText(d direct, _ []client.Setting) string {
	text := func(value string) string {
		encoded, _ := json.Marshal(value) // a string always can be
		return string(encoded)
	}
	return `import fs from 'node:fs'
import pg from 'pg'

const client = new pg.Client({
  host: ` + text(d.hub) + `,
  port: ` + d.port + `,
  user: ` + text(d.user) + `,
  database: ` + text(d.name) + `,
  ssl: {
    ca: fs.readFileSync(` + text(d.ca) + `),
    cert: fs.readFileSync(` + text(d.files.CertFile()) + `),
    key: fs.readFileSync(` + text(d.files.KeyFile()) + `),
  },
})
`
}
