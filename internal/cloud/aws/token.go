package aws

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/feature/rds/auth"

	"github.com/postern-db/postern/internal/fault"
)

// Login is what a token is good for: one database user of one server. Nothing
// else accepts it.
type Login struct {
	Endpoint string // host:port, as the server knows itself
	Region   string
	User     string // database user
	Role     Role
}

// Token returns a password for one login at RDS. It is good for 15 minutes, and
// PostgreSQL looks at it only when the connection begins: make one for each. Errors are
// Invalid for a login that is not complete and Unavailable, with a hint, where
// there are no credentials.
func (c *Cloud) Token(ctx context.Context, l Login) (string, error) {
	if l.Region == "" {
		return "", fault.Newf(fault.Invalid, "the AWS region of %s is not known", l.Endpoint).WithHint("set aws.region of the database")
	}
	cfg, err := c.as(ctx, l.Region, l.Role)
	if err != nil {
		return "", err
	}
	token, err := auth.BuildAuthToken(ctx, l.Endpoint, l.Region, l.User, cfg.Credentials)
	if err != nil {
		if ctx.Err() != nil {
			return "", errors.Join(ctx.Err(), err)
		}
		return "", credentialsFault(l.Role, err)
	}
	return token, nil
}
