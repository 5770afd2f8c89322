// Package api is the language between the hub and everyone who talks to it: the
// operations, what goes in and out of each, and the client.
//
// An operation is a row: an [Endpoint] with its path, its limits and who may
// call it. Requests and responses are JSON; every operation is a POST, so that
// one encoder, one decoder and one error mapping serve them all. The hub
// registers a handler per row; a caller uses [Endpoint.Call].
package api

import (
	"encoding/json"
	"time"

	"github.com/postern-db/postern/internal/identity"
)

// Caller says who may call an operation.
type Caller string

// The callers, from the least to the most trusted.
const (
	Anyone    Caller = "anyone"    // no certificate needed
	LoggedIn  Caller = "logged in" // a valid login certificate
	HubOwner  Caller = "hub owner" // the control socket in the hub's data directory
	kilobytes        = 1 << 10
	megabytes        = 1 << 20 // bytes
	brief            = 10 * time.Second
	slow             = 60 * time.Second // argon2id queues behind other logins
)

// Endpoint is one operation of the API.
type Endpoint[In, Out any] struct {
	ID      string        // name in the OpenAPI document
	Path    string        // always called with POST
	Summary string        // one line for the OpenAPI document
	Caller  Caller        // who may call it
	MaxBody int64         // limit of the request body in bytes
	Timeout time.Duration // limit of the whole call
}

// Empty is the request or response of an operation without one.
type Empty struct{}

// Ping tells a client which cluster it has reached.
func Ping() Endpoint[Empty, PingResponse] {
	return Endpoint[Empty, PingResponse]{"ping", "/v1/ping", "Which cluster is this", Anyone, kilobytes, brief}
}

// PingResponse describes the cluster to anybody who asks.
type PingResponse struct {
	Cluster string `json:"cluster" doc:"name of the cluster"`
	Version string `json:"version" doc:"version of the hub"`
	CAPin   string `json:"ca_pin" doc:"pin of the host CA, sha256:<hex>"`
}

// Login exchanges a password, or an invitation and a new password, for a certificate.
func Login() Endpoint[LoginRequest, LoginResponse] {
	return Endpoint[LoginRequest, LoginResponse]{"login", "/v1/login", "Log in and get a user certificate", Anyone, 64 * kilobytes, slow}
}

// LoginRequest proves who a person is. With Invitation set, Password becomes
// the password of the account.
type LoginRequest struct {
	User       string `json:"user" maxLength:"1024"`
	Password   string `json:"password" maxLength:"4096"`
	Invitation string `json:"invitation,omitempty" maxLength:"256"`
	CSR        string `json:"csr" doc:"PKCS #10 request in PEM; only its key is used"`
	TTLSeconds int64  `json:"ttl_seconds,omitempty" doc:"wanted lifetime; 0 means the default, roles may cap it"`
}

// LoginResponse carries the login certificate and what is needed to trust the hub from now on.
type LoginResponse struct {
	User        string    `json:"user"`
	Cluster     string    `json:"cluster"`
	Roles       []string  `json:"roles"`
	Certificate string    `json:"certificate" doc:"user certificate in PEM"`
	HostCAs     string    `json:"host_cas" doc:"host CA certificates in PEM"`
	Expires     time.Time `json:"expires"`
}

// ListDatabases lists the databases that the caller may reach.
func ListDatabases() Endpoint[ListDatabasesRequest, ListDatabasesResponse] {
	return Endpoint[ListDatabasesRequest, ListDatabasesResponse]{"list-databases", "/v1/databases/list", "List the databases that the caller may reach", LoggedIn, 64 * kilobytes, brief}
}

// ListDatabasesRequest narrows a listing. Zero fields do not.
type ListDatabasesRequest struct {
	Name   string            `json:"name,omitempty" doc:"exact name"`
	Labels map[string]string `json:"labels,omitempty" doc:"every one must be equal"`
	Search []string          `json:"search,omitempty" doc:"every word must occur in name, description or a label"`
	Query  string            `json:"query,omitempty" maxLength:"8192" doc:"expression that must be true of the labels, in the language of db_labels_expression"`
}

// ListDatabasesResponse is sorted by name.
type ListDatabasesResponse struct {
	Databases []Database `json:"databases"`
}

// Database is a database as one user sees it.
type Database struct {
	Name         string            `json:"name"`
	Description  string            `json:"description,omitempty"`
	Protocol     string            `json:"protocol"`
	Type         string            `json:"type"`
	URI          string            `json:"uri"`
	Labels       map[string]string `json:"labels,omitempty"`
	Mode         string            `json:"create_db_user_mode" doc:"off, keep, best_effort_drop or best_effort_reassign_and_drop"`
	Provisioning bool              `json:"provisioning" doc:"the session logs in as the user's own name"`
	Users        Allowance         `json:"users"`
	Names        Allowance         `json:"names"`
	Roles        []string          `json:"database_roles,omitempty" doc:"database roles that policy hands out here"`
	Frozen       *Freeze           `json:"frozen,omitempty" doc:"why automatic users are switched off"`
}

// Allowance is a set of names. A single "*" in Allowed means all but the Denied.
type Allowance struct {
	Allowed []string `json:"allowed,omitempty"`
	Denied  []string `json:"denied,omitempty"`
}

// IssueDatabaseCertificate issues a certificate that is bound to one database.
func IssueDatabaseCertificate() Endpoint[DatabaseCertificateRequest, DatabaseCertificateResponse] {
	return Endpoint[DatabaseCertificateRequest, DatabaseCertificateResponse]{"issue-database-certificate", "/v1/databases/certificate", "Get a certificate bound to one database", LoggedIn, 64 * kilobytes, brief}
}

// DatabaseCertificateRequest names the database and, where wanted, the database
// user, database name and roles that the certificate shall be good for.
type DatabaseCertificateRequest struct {
	CSR   string         `json:"csr"`
	Route identity.Route `json:"route"`
}

// DatabaseCertificateResponse carries the bound certificate.
type DatabaseCertificateResponse struct {
	Certificate  string    `json:"certificate" doc:"certificate in PEM"`
	Expires      time.Time `json:"expires"`
	ServerName   string    `json:"server_name" doc:"TLS server name that leads to the database"`
	DatabaseUser string    `json:"db_user" doc:"user to connect as; empty when the client must choose"`
	DatabaseName string    `json:"db_name" doc:"database name to use when none was asked for; may be empty"`
}

// PutResources creates or replaces resources, all of them or none.
func PutResources() Endpoint[PutResourcesRequest, PutResourcesResponse] {
	return Endpoint[PutResourcesRequest, PutResourcesResponse]{"put-resources", "/v1/resources/put", "Create or replace resources", HubOwner, 4 * megabytes, brief}
}

// PutResourcesRequest holds resources in their JSON form.
type PutResourcesRequest struct {
	Resources []Resource `json:"resources"`
	Replace   bool       `json:"replace,omitempty" doc:"replace what exists instead of refusing"`
	Check     bool       `json:"check,omitempty" doc:"change nothing: refuse what would be refused, and warn of what nobody could do"`
}

// Resource is a resource in its stored JSON form.
type Resource struct {
	Kind     string          `json:"kind"`
	Name     string          `json:"name"`
	Body     json.RawMessage `json:"body" doc:"the resource itself"`
	Revision int64           `json:"revision,omitempty" doc:"in a put: the revision that must still be current; 0 means any"`
}

// PutResourcesResponse says what was done, in the order of the request.
type PutResourcesResponse struct {
	Results  []PutResult `json:"results"`
	Warnings []string    `json:"warnings,omitempty"`
}

// PutResult is the result for one resource.
type PutResult struct {
	Kind    string `json:"kind"`
	Name    string `json:"name"`
	Created bool   `json:"created" doc:"false when it replaced an older one"`
}

// ListResources lists resources of a kind, or the one of that name.
func ListResources() Endpoint[ListResourcesRequest, ListResourcesResponse] {
	return Endpoint[ListResourcesRequest, ListResourcesResponse]{"list-resources", "/v1/resources/list", "List resources", HubOwner, 64 * kilobytes, brief}
}

// ListResourcesRequest selects resources. An empty name selects all of the kind.
type ListResourcesRequest struct {
	Kind string `json:"kind"`
	Name string `json:"name,omitempty"`
}

// ListResourcesResponse is sorted by name.
type ListResourcesResponse struct {
	Resources []Resource `json:"resources"`
}

// DeleteResource removes a resource, and with a user also the user's password.
func DeleteResource() Endpoint[DeleteResourceRequest, Empty] {
	return Endpoint[DeleteResourceRequest, Empty]{"delete-resource", "/v1/resources/delete", "Delete a resource", HubOwner, 64 * kilobytes, brief}
}

// DeleteResourceRequest names one resource.
type DeleteResourceRequest struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

// AddUser creates a user together with an invitation or a password.
func AddUser() Endpoint[AddUserRequest, InvitationResponse] {
	return Endpoint[AddUserRequest, InvitationResponse]{"add-user", "/v1/users/add", "Create a user", HubOwner, 64 * kilobytes, slow}
}

// AddUserRequest describes a new user. Without a password an invitation is made.
type AddUserRequest struct {
	Name     string              `json:"name"`
	Roles    []string            `json:"roles"`
	Traits   map[string][]string `json:"traits,omitempty"`
	Password string              `json:"password,omitempty"`
}

// InvitationResponse carries a one-time invitation; it is empty when a password was set.
type InvitationResponse struct {
	Invitation string    `json:"invitation,omitempty"`
	Expires    time.Time `json:"expires,omitzero"`
}

// ResetUser removes a user's password and makes an invitation, or sets the given password.
func ResetUser() Endpoint[ResetUserRequest, InvitationResponse] {
	return Endpoint[ResetUserRequest, InvitationResponse]{"reset-user", "/v1/users/reset", "Reset a user's password", HubOwner, 64 * kilobytes, slow}
}

// ResetUserRequest names the user.
type ResetUserRequest struct {
	Name     string `json:"name"`
	Password string `json:"password,omitempty"`
}

// SignDatabaseServer issues a server certificate for PostgreSQL.
func SignDatabaseServer() Endpoint[SignDatabaseServerRequest, SignDatabaseServerResponse] {
	return Endpoint[SignDatabaseServerRequest, SignDatabaseServerResponse]{"sign-database-server", "/v1/auth/sign", "Issue a server certificate for PostgreSQL", HubOwner, 64 * kilobytes, brief}
}

// SignDatabaseServerRequest names the hosts, DNS names or IP addresses; the
// first becomes the common name.
type SignDatabaseServerRequest struct {
	Hosts      []string `json:"hosts"`
	CSR        string   `json:"csr"`
	TTLSeconds int64    `json:"ttl_seconds,omitempty"`
}

// SignDatabaseServerResponse carries the certificate and the CA that signs the agents' client certificates.
type SignDatabaseServerResponse struct {
	Certificate string    `json:"certificate"`
	ClientCAs   string    `json:"client_cas"`
	Expires     time.Time `json:"expires"`
}

// ExportAuthority returns the public certificate of a CA.
func ExportAuthority() Endpoint[ExportAuthorityRequest, ExportAuthorityResponse] {
	return Endpoint[ExportAuthorityRequest, ExportAuthorityResponse]{"export-authority", "/v1/auth/export", "Export a CA certificate", HubOwner, kilobytes, brief}
}

// ExportAuthorityRequest names the CA: user, host, db or db-client.
type ExportAuthorityRequest struct {
	Type string `json:"type"`
}

// ExportAuthorityResponse carries certificates in PEM.
type ExportAuthorityResponse struct {
	Certificates string `json:"certificates"`
}

// Status describes the running cluster to its owner.
func Status() Endpoint[Empty, StatusResponse] {
	return Endpoint[Empty, StatusResponse]{"status", "/v1/status", "Describe the running cluster", HubOwner, kilobytes, brief}
}

// StatusResponse describes the running cluster.
type StatusResponse struct {
	Cluster   string           `json:"cluster"`
	Version   string           `json:"version"`
	Address   string           `json:"address" doc:"public address, host:port"`
	CAPin     string           `json:"ca_pin"`
	Parts     []string         `json:"parts" doc:"parts that run in this process: hub, agent"`
	Sessions  int              `json:"sessions" doc:"database sessions open now"`
	Databases []DatabaseHealth `json:"databases"`
}

// DatabaseHealth is what the agent knows about one database it serves.
type DatabaseHealth struct {
	Name    string    `json:"name"`
	Status  string    `json:"status" doc:"unknown, healthy or unhealthy"`
	Message string    `json:"message,omitempty"`
	Checked time.Time `json:"checked,omitzero"`
	Frozen  *Freeze   `json:"frozen,omitempty" doc:"why automatic users are switched off"`
}
