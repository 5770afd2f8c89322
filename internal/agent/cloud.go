package agent

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/cloud/aws"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
)

// iamRole is the role that makes RDS ask for a token instead of a password.
const iamRole = "rds_iam"

// unsupported says why nobody can connect to a server of this type, or nil. Such a
// database is registered all the same, so that people read why.
func unsupported(r *resource.Database) error {
	switch kind := r.Type(); kind {
	case resource.TypeRedshift, resource.TypeRedshiftServerless:
		return fault.Newf(fault.Invalid, "database %q is Amazon Redshift (type %s), which is not supported", r.GetName(), kind).
			WithHint("Redshift is not PostgreSQL any more. Reach it without this gateway, or remove the database.")
	case resource.TypeCloudSQL, resource.TypeAzure, resource.TypeAlloyDB:
		if r.AuthMethod() == resource.AuthIAM {
			return fault.Newf(fault.Invalid, "database %q is of type %s, whose tokens are not supported", r.GetName(), kind).
				WithHint("use passwords instead of tokens: auth: password")
		}
	case resource.TypeSelfHosted:
		if r.AuthMethod() == resource.AuthIAM {
			return fault.Newf(fault.Invalid, "database %q logs in with tokens of Amazon RDS, but is not there", r.GetName()).
				WithHint("set aws.region of the database, or another auth")
		}
	case resource.TypeRDS, resource.TypeRDSProxy:
	}
	return nil
}

// credentialsOf returns how to log in to a server.
func (s *Server) credentialsOf(r *resource.Database) credentials {
	in := r.Spec.AWS
	return credentials{
		method: r.AuthMethod(), clients: s.clients, cloud: s.cfg.AWS, admin: r.Spec.AdminUser,
		login: aws.Login{Region: in.Region, Role: aws.Role{ARN: in.AssumeRoleARN, ExternalID: in.ExternalID}},
	}
}

// roles returns what every database user needs to log in by this method, beside
// its own roles.
func (c *credentials) roles(r *resource.Database) []string {
	if c.method == resource.AuthIAM && r.Type() == resource.TypeRDS {
		return []string{iamRole}
	}
	return nil
}

// refusesToken reports whether a login failed because a server of Amazon's does not
// take the token.
func (c *credentials) refusesToken(pg *pgconn.PgError) bool {
	return c.method == resource.AuthIAM && (pg.Code == invalidAuthorization || pg.Code == invalidPassword)
}

// tokenHint lists what has to be true for a token to be taken: the server does not
// say which of it is not. option belongs to the GRANT.
func (d *database) tokenHint(databaseUser, option string) string {
	in := d.resource.Spec.AWS
	resourceID := cmp.Or(in.RDS.ResourceID, "<resource id>")
	return strings.Join([]string{
		fmt.Sprintf("GRANT %s TO %s%s;", iamRole, quote(databaseUser), option),
		"Switch IAM database authentication on for the server.",
		fmt.Sprintf("Allow the agent's AWS identity rds-db:connect on arn:aws:rds-db:%s:%s:dbuser:%s/%s.",
			in.Region, cmp.Or(in.AccountID, "<account>"), resourceID, databaseUser),
		fmt.Sprintf("Check that the server is in the region %s, and that the agent's clock is right: a token is good for 15 minutes.", in.Region),
	}, "\n")
}
