package resource

import (
	"cmp"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Labels that name the admin user of a database which was registered without one.
const (
	LabelAdminUser            = "teleport.dev/db-admin"
	LabelAdminDefaultDatabase = "teleport.dev/db-admin-default-database"
	LabelWriter               = "postern.dev/writer" // where a replica's writer is, see [Database.Writer]
)

// ProtocolPostgres is the protocol of the databases that we serve.
const ProtocolPostgres = "postgres"

// Database is a registered PostgreSQL server, kind db v3.
type Database struct {
	Kind     string          `json:"kind"`
	SubKind  string          `json:"sub_kind,omitempty"`
	Version  string          `json:"version"`
	Metadata Metadata        `json:"metadata"`
	Spec     DatabaseSpec    `json:"spec"`
	Status   *DatabaseStatus `json:"status,omitempty"`
}

// DatabaseSpec says where a server is and how to reach it.
type DatabaseSpec struct {
	Protocol      string                  `json:"protocol"`
	URI           string                  `json:"uri"` // see ParseEndpoint
	DynamicLabels map[string]DynamicLabel `json:"dynamic_labels,omitempty"`
	TLS           TLSSpec                 `json:"tls,omitzero"`
	CACert        string                  `json:"ca_cert,omitempty"` // older place; TLS.CACert comes first
	AdminUser     AdminUser               `json:"admin_user,omitzero"`
	Auth          AuthMethod              `json:"auth,omitempty"` // how sessions authenticate; empty: by type
	AWS           AWS                     `json:"aws,omitzero"`
	GCP           GCP                     `json:"gcp,omitzero"`
	Azure         Azure                   `json:"azure,omitzero"`
	Other         Other                   `json:"-"`
}

func (DatabaseSpec) toleratedKeys() []string {
	return []string{"mysql", "oracle", "ad", "mongo_atlas", "cassandra", "mongodb", "alloydb"}
}

// DatabaseStatus is what discovery found out about a database.
type DatabaseStatus struct {
	CACert string `json:"ca_cert,omitempty"`
	Other  Other  `json:"-"`
}

func (DatabaseStatus) toleratedKeys() []string {
	return []string{"aws", "azure", "gcp", "mysql", "managed_users", "oracle", "alloydb"}
}

// DynamicLabel is a label whose value is the output of a command that the agent
// runs from time to time.
type DynamicLabel struct {
	Period  Duration `json:"period,omitempty"`
	Command []string `json:"command"`
	Result  string   `json:"result,omitempty"` // last output
}

// AdminUser is the database user that creates the others. In YAML it is a mapping
// or just the name.
type AdminUser struct {
	Name            string `json:"name,omitempty"`
	DefaultDatabase string `json:"default_database,omitempty"` // where the admin logs in; empty: the database of the session
	// URI is where the admin user logs in when the database is a replica: its writer.
	URI string `json:"uri,omitempty"`

	// Where the agent finds the admin's password, with auth: password. At most one is
	// set; none where the server asks for none, as over a Unix socket with peer.
	PasswordFile    string   `json:"password_file,omitempty"`    // path of a file that others cannot read
	PasswordEnv     string   `json:"password_env,omitempty"`     // environment variable
	PasswordCommand []string `json:"password_command,omitempty"` // prints it; in configuration files only
}

// UnmarshalText reads the short form.
func (a *AdminUser) UnmarshalText(text []byte) error {
	a.Name = string(text)
	return nil
}

// TLSSpec says how the agent verifies a server.
type TLSSpec struct {
	Mode                TLSMode `json:"mode,omitempty"`
	CACert              string  `json:"ca_cert,omitempty"`
	ServerName          string  `json:"server_name,omitempty"` // empty: the host of the URI
	TrustSystemCertPool bool    `json:"trust_system_cert_pool,omitempty"`
}

// TLSMode is how much of a server's certificate is verified. The zero value
// verifies everything.
type TLSMode string

// The TLS modes.
const (
	TLSVerifyFull TLSMode = "verify-full" // chain and name
	TLSVerifyCA   TLSMode = "verify-ca"   // chain only
	TLSInsecure   TLSMode = "insecure"    // encrypted, but anybody may answer
	TLSDisable    TLSMode = "disable"     // not encrypted
)

// UnmarshalText reads a mode by name, or by the numbers that other products use.
func (m *TLSMode) UnmarshalText(text []byte) error {
	switch string(text) {
	case "0":
		*m = TLSVerifyFull
	case "1":
		*m = TLSVerifyCA
	case "2":
		*m = TLSInsecure
	default:
		return keyword(m, text, "tls mode", "", TLSVerifyFull, TLSVerifyCA, TLSInsecure, TLSDisable)
	}
	return nil
}

// AuthMethod is how the agent proves to a server who the session is for.
type AuthMethod string

// The methods.
const (
	AuthCertificate AuthMethod = "certificate" // client certificate of the db_client CA
	AuthIAM         AuthMethod = "iam"         // token of the cloud provider
	AuthPassword    AuthMethod = "password"    // SCRAM
)

// UnmarshalText reads one of the methods.
func (m *AuthMethod) UnmarshalText(text []byte) error {
	return keyword(m, text, "auth", "", AuthCertificate, AuthIAM, AuthPassword)
}

// GetKind returns "db".
func (d *Database) GetKind() string { return KindDatabase }

// GetName returns the name under which the server is registered.
func (d *Database) GetName() string { return d.Metadata.Name }

// GetMetadata returns name, description and static labels.
func (d *Database) GetMetadata() Metadata { return d.Metadata }

// MarshalJSON returns the stored form.
func (d Database) MarshalJSON() ([]byte, error) { return encodeJSON(d) }

// UnmarshalJSON is [DecodeJSON] for this kind.
func (d *Database) UnmarshalJSON(data []byte) error {
	*d = Database{}
	return decodeJSONInto(data, d)
}

// Labels returns the static labels. The caller may change the map.
func (d *Database) Labels() map[string]string {
	labels := make(map[string]string, len(d.Metadata.Labels))
	maps.Copy(labels, d.Metadata.Labels)
	return labels
}

// AdminUser returns the name of the database user that creates the others and
// the logical database it logs into. Each comes from the spec, else from a label.
// An empty name means that provisioning is not set up; an empty default database
// means the database of the session.
func (d *Database) AdminUser() (name, defaultDatabase string) {
	name, defaultDatabase = d.Spec.AdminUser.Name, d.Spec.AdminUser.DefaultDatabase
	if name == "" {
		name = d.Metadata.Labels[LabelAdminUser]
	}
	if defaultDatabase == "" {
		defaultDatabase = d.Metadata.Labels[LabelAdminDefaultDatabase]
	}
	return name, defaultDatabase
}

// Writer returns where the writer of a read-only database is: as configured, else
// as the label says, else as the host name of an Aurora reader tells. The result
// has no hosts where nothing is known. A resource that was validated gives no error.
func (d *Database) Writer() (Endpoint, error) {
	uri := cmp.Or(d.Spec.AdminUser.URI, d.Metadata.Labels[LabelWriter], d.auroraWriter())
	if uri == "" {
		return Endpoint{}, nil
	}
	return ParseEndpoint(uri)
}

// CACert returns the PEM certificates that sign the server's certificate, from
// the most specific place that has any.
func (d *Database) CACert() string {
	switch {
	case d.Spec.TLS.CACert != "":
		return d.Spec.TLS.CACert
	case d.Spec.CACert != "":
		return d.Spec.CACert
	case d.Status != nil:
		return d.Status.CACert
	}
	return ""
}

// AuthMethod returns how sessions authenticate: as configured, else with cloud
// tokens for cloud databases and with certificates for the others.
func (d *Database) AuthMethod() AuthMethod {
	switch {
	case d.Spec.Auth != "":
		return d.Spec.Auth
	case d.Type() == TypeSelfHosted:
		return AuthCertificate
	}
	return AuthIAM
}

// TLSMode returns the mode, which is verify-full when none is configured.
func (d *Database) TLSMode() TLSMode {
	if d.Spec.TLS.Mode == "" {
		return TLSVerifyFull
	}
	return d.Spec.TLS.Mode
}

var databaseName = regexp.MustCompile(`^[A-Za-z]([A-Za-z0-9-]*[A-Za-z0-9])?$`)

func (d *Database) prepare() Problems {
	d.Kind, d.Version = KindDatabase, "v3"
	var ps Problems
	if !databaseName.MatchString(d.Metadata.Name) || len(d.Metadata.Name) > maxNameLength {
		ps = append(ps, Problem{
			Path: "metadata.name", Text: fmt.Sprintf("invalid database name %q", d.Metadata.Name),
			Hint: "a name begins with a letter, goes on with letters, digits and hyphens, and ends with a letter or digit",
		})
	}
	ps = append(ps, checkLabels("metadata.labels", slices.Collect(maps.Keys(d.Metadata.Labels)))...)
	ps = append(ps, checkLabels("spec.dynamic_labels", slices.Collect(maps.Keys(d.Spec.DynamicLabels)))...)
	ps = append(ps, d.checkDynamicLabels()...)
	if d.Spec.Protocol == "" {
		ps = append(ps, Problem{Path: "spec.protocol", Text: fmt.Sprintf("database %q protocol is empty", d.Metadata.Name), Hint: `write protocol: postgres`})
	} else if d.Spec.Protocol != ProtocolPostgres {
		ps = append(ps, Problem{
			Path: "spec.protocol", Text: fmt.Sprintf("database %q: protocol %q is not supported", d.Metadata.Name, d.Spec.Protocol),
			Hint: "only postgres is",
		})
	}
	for _, c := range []struct{ path, pem string }{{"spec.tls.ca_cert", d.Spec.TLS.CACert}, {"spec.ca_cert", d.Spec.CACert}} {
		if c.pem != "" && !validCertificates(c.pem) {
			ps = append(ps, Problem{Path: c.path, Text: "invalid server CA certificate", Hint: "paste the PEM text, beginning with -----BEGIN CERTIFICATE-----"})
		}
	}
	ps = append(ps, d.checkCloud()...) // fills in what the host name tells, so the type is known below
	ps = append(ps, d.checkAdminUser()...)
	if _, err := d.Writer(); err != nil {
		path := "metadata.labels." + LabelWriter
		if d.Spec.AdminUser.URI != "" {
			path = "spec.admin_user.uri"
		}
		ps = append(ps, Problem{Path: path, Text: err.Error(), Hint: "write the writer's host:port"})
	}
	return ps
}

func (d *Database) checkDynamicLabels() Problems {
	var ps Problems
	for _, name := range slices.Sorted(maps.Keys(d.Spec.DynamicLabels)) {
		if l := d.Spec.DynamicLabels[name]; len(l.Command) == 0 {
			ps = append(ps, Problem{Path: "spec.dynamic_labels." + name, Text: "a dynamic label needs a command", Hint: "write command: [hostname]"})
		}
	}
	return ps
}

func (d *Database) checkAdminUser() Problems {
	if ps := d.checkAdminPassword(); ps != nil {
		return ps
	}
	if d.Spec.AdminUser.Name == "" || d.CanProvision() {
		return nil
	}
	text := fmt.Sprintf("cannot set admin user on database %q: %s/%s databases don't support automatic user provisioning yet",
		d.Metadata.Name, d.Spec.Protocol, d.Type())
	return Problems{{Path: "spec.admin_user", Text: text, Hint: "leave admin_user out, or register the server as self-hosted or rds"}}
}

// checkAdminPassword checks where the admin's password is to be found.
func (d *Database) checkAdminPassword() Problems {
	a := d.Spec.AdminUser
	var set []string
	for _, source := range []struct {
		key string
		set bool
	}{{"password_file", a.PasswordFile != ""}, {"password_env", a.PasswordEnv != ""}, {"password_command", len(a.PasswordCommand) > 0}} {
		if source.set {
			set = append(set, source.key)
		}
	}
	switch {
	case len(set) == 0:
		return nil
	case len(set) > 1:
		return Problems{{Path: "spec.admin_user." + set[1], Text: "the password of the admin user is given twice", Hint: "keep one of " + strings.Join(set, ", ")}}
	case d.Spec.Auth != AuthPassword:
		return Problems{{Path: "spec.admin_user." + set[0], Text: set[0] + " is of use only with auth: password", Hint: "write auth: password beside admin_user"}}
	case a.PasswordFile != "" && !filepath.IsAbs(a.PasswordFile):
		return Problems{{Path: "spec.admin_user.password_file", Text: fmt.Sprintf("the path %q is not absolute", a.PasswordFile), Hint: "write it from the root: /etc/postern/example.password"}}
	case strings.ContainsAny(a.PasswordEnv, "= \x00"):
		return Problems{{Path: "spec.admin_user.password_env", Text: "that is not the name of an environment variable"}}
	}
	return nil
}

// validCertificates reports whether text is one or more PEM certificates.
func validCertificates(text string) bool {
	rest := []byte(text)
	for n := 0; ; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return n > 0
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return false
		}
	}
}
