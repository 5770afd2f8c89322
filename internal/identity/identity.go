// Package identity says who a certificate speaks for.
//
// An [Identity] becomes an X.509 user certificate and comes back from one
// without loss; everything that is not understood is refused. The package does
// no I/O and holds no keys.
package identity

import "time"

// Identity is what a user certificate proves about its holder.
type Identity struct {
	User    string              // name of the user
	Cluster string              // cluster whose user CA issued the certificate
	Roles   []string            // roles at issue time; local decisions use the live ones
	Traits  map[string][]string // traits at issue time; local decisions use the live ones
	Route   Route               // zero for a login certificate
	Expires time.Time           // end of the certificate
	// LoginExpires is the end of the login behind a certificate that lives
	// shorter than the login does. Zero means the same as Expires.
	LoginExpires time.Time
}

// Route binds a certificate to one database. The zero Route binds to none: such
// a certificate is good for the API only.
type Route struct {
	Database     string   `json:"database,omitempty"`
	DatabaseUser string   `json:"db_user,omitempty"`  // empty: any that policy allows
	DatabaseName string   `json:"db_name,omitempty"`  // empty: any that policy allows
	DatabaseRole []string `json:"db_roles,omitempty"` // requested subset; nil: all that policy allows
}

// IsZero reports whether r names no database.
func (r Route) IsZero() bool { return r.Database == "" }
