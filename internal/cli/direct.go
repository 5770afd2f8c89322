package cli

import (
	"context"
	"net"
	"strings"

	"github.com/postern-db/postern/internal/client"
	"github.com/postern-db/postern/internal/fault"
)

// direct are the settings with which libpq connects to the hub by itself: it
// shows the certificate of the route, and its server name leads to the database.
type direct struct {
	settings

	service  string // name of the section in the service file
	database string // as the hub calls it
	address  string // IP of the hub; the host is the server name, which no DNS knows
	hub      string // host of the hub, as the person logged in to it: for programs that cannot dial address and verify host
	ca       string
	files    *client.DatabaseCertificate
}

func directSettings(ctx context.Context, t target, cert *client.DatabaseCertificate) (direct, error) {
	s, err := settingsOf(t, cert)
	if err != nil {
		return direct{}, err
	}
	host, port, err := net.SplitHostPort(t.hub.Profile.Address)
	if err != nil {
		return direct{}, err
	}
	addresses, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return direct{}, fault.Newf(fault.Unavailable, "cannot find the hub: %w", err)
	}
	s.host, s.port = cert.ServerName, port
	return direct{
		settings: s,
		service:  t.hub.Profile.Cluster + "-" + t.database.Name,
		database: t.database.Name,
		address:  addresses[0],
		hub:      host,
		ca:       t.home.HostCAFile(t.hub.Profile),
		files:    cert,
	}, nil
}

// conninfo lists the settings under the names that libpq's connection strings and
// service files use.
func (d direct) conninfo() []client.Setting {
	all := []client.Setting{
		{Key: "host", Value: d.host},
		{Key: "hostaddr", Value: d.address},
		{Key: "port", Value: d.port},
		{Key: "user", Value: d.user},
		{Key: "dbname", Value: d.name},
		{Key: "sslmode", Value: "verify-full"},
		{Key: "sslrootcert", Value: d.ca},
		{Key: "sslcert", Value: d.files.File},
		{Key: "sslkey", Value: d.files.File},
		{Key: "gssencmode", Value: "disable"},
	}
	known := all[:0]
	for _, s := range all {
		if s.Value != "" { // the name of the database may be open
			known = append(known, s)
		}
	}
	return known
}

// connectionString writes settings for libpq.
func connectionString(all []client.Setting) string {
	var words []string
	for _, s := range all {
		value := s.Value
		if value == "" || strings.ContainsAny(value, ` '\`) {
			value = "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
		}
		words = append(words, s.Key+"="+value)
	}
	return strings.Join(words, " ")
}

// shellQuote writes a word for a POSIX shell.
func shellQuote(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=@%+,", r)
	}
	if word != "" && !strings.ContainsFunc(word, func(r rune) bool { return !plain(r) }) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
