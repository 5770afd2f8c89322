package client

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/identity"
)

const (
	// minValidity is how long a database certificate must still be good to be used
	// again: connecting must not race with its end.
	minValidity = time.Minute

	// routeBlock is the PEM type that holds, beside key and certificate, what the
	// certificate is for. Other readers of the file skip it.
	routeBlock = "POSTERN ROUTE"
)

// DatabaseCertificate is a certificate that is good for one database, and what is
// needed to use it.
type DatabaseCertificate struct {
	Route        identity.Route `json:"route"`       // as asked for
	ServerName   string         `json:"server_name"` // TLS name that leads to the database
	DatabaseUser string         `json:"db_user"`     // to connect as; empty when the program chooses
	DatabaseName string         `json:"db_name"`     // to connect to; empty when the program chooses
	Expires      time.Time      `json:"expires"`     //
	File         string         `json:"-"`           // key and certificate in PEM, for programs that do TLS themselves

	cert *certificate
}

// DatabaseCertificate returns a certificate for the route: the stored one while
// it is good for another minute, else a new one, which is then stored. Errors
// are those of the API; Unauthenticated carries the command to log in.
func (h *Hub) DatabaseCertificate(ctx context.Context, route identity.Route) (*DatabaseCertificate, error) {
	route = normalRoute(route)
	return h.certificateIn(ctx, route, h.routeFile(route))
}

// LogInToDatabase does the same, remembers the route as the one to use for this
// database until [Home.LogOutOfDatabase], and writes the files for other programs.
func (h *Hub) LogInToDatabase(ctx context.Context, route identity.Route) (*DatabaseCertificate, error) {
	route = normalRoute(route)
	return h.filesIn(ctx, route, h.home.activeFile(h.Profile, route.Database))
}

// CertificateFiles is [Hub.DatabaseCertificate] with the files for other programs:
// those of the login to the database where it is for the same route.
func (h *Hub) CertificateFiles(ctx context.Context, route identity.Route) (*DatabaseCertificate, error) {
	route = normalRoute(route)
	file := h.home.activeFile(h.Profile, route.Database)
	if active, err := readDatabaseCertificate(file); err != nil || !sameRoute(active.Route, route) {
		file = h.routeFile(route)
	}
	return h.filesIn(ctx, route, file)
}

func (h *Hub) filesIn(ctx context.Context, route identity.Route, file string) (*DatabaseCertificate, error) {
	cert, err := h.certificateIn(ctx, route, file)
	if err != nil {
		return nil, err
	}
	return cert, h.home.writeParts(cert)
}

func (h *Hub) certificateIn(ctx context.Context, route identity.Route, file string) (*DatabaseCertificate, error) {
	stored, err := readDatabaseCertificate(file)
	if err == nil && sameRoute(stored.Route, route) && h.usable(stored) {
		return stored, nil
	}
	key, err := NewKey() // a file that cannot be used is replaced
	if err != nil {
		return nil, err
	}
	resp, err := api.IssueDatabaseCertificate().Call(ctx, h.caller, api.DatabaseCertificateRequest{CSR: key.CSR, Route: route})
	if err != nil {
		return nil, h.explain(err)
	}
	if resp.ServerName == "" {
		return nil, fault.New(fault.Unavailable, "the hub's answer names no server")
	}
	bundle, err := key.bundle(resp.Certificate)
	if err != nil {
		return nil, err
	}
	cert := &DatabaseCertificate{
		Route:        route,
		ServerName:   resp.ServerName,
		DatabaseUser: resp.DatabaseUser,
		DatabaseName: resp.DatabaseName,
		Expires:      resp.Expires,
		File:         file,
	}
	about, err := json.Marshal(cert)
	if err != nil {
		return nil, fmt.Errorf("encode route: %w", err)
	}
	if cert.cert, err = parseBundle(bundle); err != nil {
		return nil, err
	}
	if err := h.home.sweep(h.Profile); err != nil {
		return nil, err
	}
	return cert, h.home.write(file, append(pem.EncodeToMemory(&pem.Block{Type: routeBlock, Bytes: about}), bundle...))
}

// usable reports whether a certificate is good for long enough to connect with it.
func (h *Hub) usable(cert *DatabaseCertificate) bool {
	return h.home.now().Add(minValidity).Before(cert.Expires)
}

func readDatabaseCertificate(file string) (*DatabaseCertificate, error) {
	data, err := ReadFile(file, maxFile)
	if err != nil {
		return nil, err
	}
	cert := &DatabaseCertificate{File: file}
	if err := json.Unmarshal(pemBlock(data, routeBlock), cert); err != nil {
		return nil, err
	}
	cert.cert, err = parseBundle(data)
	return cert, err
}

// ActiveDatabases returns the databases that the profile is logged in to, sorted
// by name. Expired ones are among them: they renew themselves when used.
func (h *Home) ActiveDatabases(p *Profile) ([]*DatabaseCertificate, error) {
	entries, err := os.ReadDir(h.databases(p))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list database certificates: %w", err)
	}
	var active []*DatabaseCertificate
	for _, entry := range entries {
		if strings.Contains(entry.Name(), routeMark) || !strings.HasSuffix(entry.Name(), bundleSuffix) {
			continue
		}
		cert, err := readDatabaseCertificate(filepath.Join(h.databases(p), entry.Name()))
		if err != nil { // removed meanwhile, or damaged: the next use replaces it
			continue
		}
		active = append(active, cert)
	}
	slices.SortFunc(active, func(a, b *DatabaseCertificate) int { return strings.Compare(a.Route.Database, b.Route.Database) })
	return active, nil
}

// sweep removes the certificates of single routes that have expired. Those of
// active databases stay: they are how a login to a database is remembered.
func (h *Home) sweep(p *Profile) error {
	files, err := filepath.Glob(filepath.Join(globQuote(h.databases(p)), "*"+routeMark+"*"+bundleSuffix))
	if err != nil {
		return fmt.Errorf("list certificates: %w", err)
	}
	for _, file := range files {
		if cert, err := readDatabaseCertificate(file); err == nil && h.now().Before(cert.Expires) {
			continue
		}
		if err := removeCertificate(file); err != nil {
			return err
		}
	}
	return nil
}

// LogOutOfDatabase removes every certificate for one database. NotFound when the
// profile is not logged in to it.
func (h *Home) LogOutOfDatabase(p *Profile, database string) error {
	_, err := os.Stat(h.activeFile(p, database))
	if errors.Is(err, fs.ErrNotExist) {
		return fault.Newf(fault.NotFound, "not logged in to database %q", database).WithHint("'postern status' shows the databases logged in to")
	}
	if err == nil {
		err = removeCertificate(h.activeFile(p, database))
	}
	if err != nil {
		return fmt.Errorf("remove certificate: %w", err)
	}
	others, err := filepath.Glob(filepath.Join(globQuote(h.databases(p)), fileName(database)+routeMark+"*"+bundleSuffix))
	if err != nil {
		return fmt.Errorf("list certificates: %w", err)
	}
	for _, file := range others {
		if err := removeCertificate(file); err != nil {
			return err
		}
	}
	return nil
}

const (
	// routeMark separates database and route in file names. Encoded names hold none.
	routeMark = "+"
	// bundleSuffix is that of files with key and certificate.
	bundleSuffix = ".pem"
)

func (h *Home) databases(p *Profile) string {
	return filepath.Join(h.keys(p), fileName(p.User)+"-db", fileName(p.Cluster))
}

func (h *Home) activeFile(p *Profile, database string) string {
	return filepath.Join(h.databases(p), fileName(database)+bundleSuffix)
}

func (h *Hub) routeFile(r identity.Route) string {
	parts := []string{r.DatabaseUser, r.DatabaseName}
	if r.DatabaseRole != nil { // no subset and an empty one are different routes
		parts = append(parts, append([]string{"roles"}, r.DatabaseRole...)...)
	}
	return filepath.Join(h.home.databases(h.Profile), fileName(r.Database)+routeMark+digest(strings.Join(parts, "\x00"))+bundleSuffix)
}

// normalRoute sorts the roles, so that equal routes look equal.
func normalRoute(r identity.Route) identity.Route {
	roles := slices.Clone(r.DatabaseRole) // nil stays nil: it asks for all roles
	slices.Sort(roles)
	r.DatabaseRole = slices.Compact(roles)
	return r
}

// sameRoute compares two normal routes.
func sameRoute(a, b identity.Route) bool {
	return a.Database == b.Database && a.DatabaseUser == b.DatabaseUser && a.DatabaseName == b.DatabaseName &&
		(a.DatabaseRole == nil) == (b.DatabaseRole == nil) && slices.Equal(a.DatabaseRole, b.DatabaseRole)
}
