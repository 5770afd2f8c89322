package access

import (
	"errors"
	"fmt"
	"strings"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
)

// TestFile holds the unit tests of a policy: statements about who can do what.
//
//	from: [dev.yaml]
//	users:
//	- {name: alice, roles: [dev], traits: {team: [pay]}}
//	databases:
//	- {name: shop, labels: {env: dev}, admin_user: postern-admin}
//	tests:
//	- can: {user: alice, database: shop, db_name: app}
//	  with: {mode: keep, db_roles: [reader]}
//	- cannot: {user: alice, database: shop-prod}
//	  because: env=prod
//	- needs_mfa: {user: root, database: shop}
type TestFile struct {
	From      []string       `json:"from"`      // files and directories of the policy, seen from this file
	Users     []TestUser     `json:"users"`     // beside the users of the policy
	Databases []TestDatabase `json:"databases"` // beside the databases of the policy
	Tests     []Test         `json:"tests"`
}

// TestUser is a user made up for tests.
type TestUser struct {
	Name   string              `json:"name"`
	Roles  []string            `json:"roles"`
	Traits map[string][]string `json:"traits"`
}

// TestDatabase is a database made up for tests.
type TestDatabase struct {
	Name      string            `json:"name"`
	Labels    map[string]string `json:"labels"`
	URI       string            `json:"uri"` // default localhost:5432
	AdminUser string            `json:"admin_user"`
}

// Test is one statement; exactly one of Can, Cannot and NeedsMFA is set.
type Test struct {
	Name     string       `json:"name"`      // default: the statement in words
	Can      *TestRequest `json:"can"`       // access is allowed
	Cannot   *TestRequest `json:"cannot"`    // access is denied
	NeedsMFA *TestRequest `json:"needs_mfa"` // access is allowed after a second factor
	With     *TestWith    `json:"with"`      // further facts about what is allowed
	Because  string       `json:"because"`   // part of the error, its hint or a reason
}

// TestRequest is the question of a statement. What it leaves out may be anything.
type TestRequest struct {
	User     string   `json:"user"`
	Cluster  string   `json:"cluster"` // root cluster of a remote user, whose roles are then the mapped ones
	Database string   `json:"database"`
	DBUser   string   `json:"db_user"`
	DBName   string   `json:"db_name"`
	DBRoles  []string `json:"db_roles"`
	MFA      bool     `json:"mfa"` // the second factor was verified
}

// TestWith says what an allowed session has. What is left out is not checked.
type TestWith struct {
	Mode    *resource.CreateUserMode `json:"mode"`
	DBUser  string                   `json:"db_user"`
	DBRoles *[]string                `json:"db_roles"` // exactly these, in any order
	Objects []TestObject             `json:"objects"`
}

// TestObject says which permissions a session has on one object.
type TestObject struct {
	Kind        string   `json:"kind"` // default table
	Database    string   `json:"database"`
	Schema      string   `json:"schema"` // default public
	Name        string   `json:"name"`
	Permissions []string `json:"permissions"` // exactly these; none: no access to the object
}

// ParseTests reads a test file. The error is Invalid and lists every mistake.
func ParseTests(file string, data []byte) (*TestFile, error) {
	var f TestFile
	if err := resource.DecodeStrict(file, data, &f); err != nil {
		return nil, err
	}
	var problems []string
	if len(f.Tests) == 0 {
		problems = append(problems, "there are no tests")
	}
	for i, t := range f.Tests {
		if err := t.check(); err != nil {
			problems = append(problems, fmt.Sprintf("test %d: %v", i+1, err))
		}
	}
	for _, d := range f.Databases {
		if err := resource.Validate(d.resource()); err != nil {
			problems = append(problems, err.Error())
		}
	}
	for _, u := range f.Users {
		if err := resource.Validate(u.resource()); err != nil {
			problems = append(problems, err.Error())
		}
	}
	if len(problems) > 0 {
		return nil, fault.New(fault.Invalid, file+": "+strings.Join(problems, "\n"+file+": "))
	}
	return &f, nil
}

func (t *Test) check() error {
	statements := 0
	for _, q := range []*TestRequest{t.Can, t.Cannot, t.NeedsMFA} {
		if q == nil {
			continue
		}
		statements++
		if q.User == "" || q.Database == "" {
			return errors.New("a statement needs user and database")
		}
	}
	switch {
	case statements != 1:
		return errors.New("write exactly one of can, cannot and needs_mfa")
	case t.With != nil && t.Can == nil:
		return errors.New("with describes a session, so it needs can")
	}
	return nil
}

// statement returns the request and the outcome that the test expects.
func (t *Test) statement() (*TestRequest, Outcome) {
	switch {
	case t.Can != nil:
		return t.Can, Allowed
	case t.NeedsMFA != nil:
		return t.NeedsMFA, MFARequired
	}
	return t.Cannot, Denied
}

// title returns the name of the test, or the statement in words.
func (t *Test) title() string {
	if t.Name != "" {
		return t.Name
	}
	q, want := t.statement()
	verb := map[Outcome]string{Allowed: " can", Denied: " cannot", MFARequired: " needs a second factor to"}[want]
	text := q.User + verb + " connect to " + q.Database
	if q.DBName != "" {
		text += "/" + q.DBName
	}
	if q.DBUser != "" {
		text += " as " + q.DBUser
	}
	if len(q.DBRoles) > 0 {
		text += " with " + strings.Join(q.DBRoles, ", ")
	}
	return text
}

func (u TestUser) resource() *resource.User {
	return &resource.User{
		Kind: resource.KindUser, Version: "v2", Metadata: resource.Metadata{Name: u.Name},
		Spec: resource.UserSpec{Roles: u.Roles, Traits: u.Traits},
	}
}

func (d TestDatabase) resource() *resource.Database {
	db := &resource.Database{Metadata: resource.Metadata{Name: d.Name, Labels: d.Labels}}
	db.Spec.Protocol, db.Spec.URI, db.Spec.AdminUser.Name = resource.ProtocolPostgres, d.URI, d.AdminUser
	if db.Spec.URI == "" {
		db.Spec.URI = "localhost:5432"
	}
	return db
}
