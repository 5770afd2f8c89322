package aws

import (
	"context"
	"sync"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// Config says how Amazon is reached. The zero value is how its own tools do it.
type Config struct {
	// Endpoint is the URL that every API is asked at, instead of Amazon's own. The
	// variable AWS_ENDPOINT_URL does the same.
	Endpoint string
	// Credentials replace those of the machine.
	Credentials sdk.CredentialsProvider
	// Roots replace the certificates of RDS that are shipped: PEM.
	Roots []byte
	// DiscoveryInterval is how often discovery asks; zero means 5 minutes.
	DiscoveryInterval time.Duration
	// Now replaces time.Now for deciding how long credentials are good.
	Now func() time.Time
}

// Role is what an agent becomes to reach a database of another account. The zero
// value means that it stays what it is.
type Role struct {
	ARN        string
	ExternalID string // that the role's trust policy asks for
}

// Cloud is Amazon's cloud as this machine may use it. Its methods may be called concurrently.
type Cloud struct {
	cfg Config

	mu    sync.Mutex // guards the fields below
	base  *sdk.Config
	roles map[roleKey]*credentials
}

// roleKey tells assumed roles apart. The region is where the role is asked for: a
// partition such as China knows only its own.
type roleKey struct {
	region string
	role   Role
}

// New returns a Cloud. It asks nobody.
func New(cfg Config) *Cloud {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Cloud{cfg: cfg, roles: map[roleKey]*credentials{}}
}

// requestTimeout bounds one request to Amazon.
const requestTimeout = 10 * time.Second

// machine returns the configuration of the machine, which is read once.
func (c *Cloud) machine(ctx context.Context) (sdk.Config, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.base != nil {
		return c.base.Copy(), nil
	}
	options := []func(*config.LoadOptions) error{config.WithHTTPClient(http.NewBuildableClient().WithTimeout(requestTimeout))}
	if c.cfg.Credentials != nil {
		options = append(options, config.WithCredentialsProvider(c.cfg.Credentials))
	}
	if c.cfg.Endpoint != "" {
		options = append(options, config.WithBaseEndpoint(c.cfg.Endpoint))
	}
	base, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return sdk.Config{}, cloudFault("the AWS configuration of this machine cannot be read", err)
	}
	base.Credentials = &credentials{source: base.Credentials, now: c.cfg.Now}
	c.base = &base
	return base.Copy(), nil
}

// as returns the configuration for a region and a role.
func (c *Cloud) as(ctx context.Context, region string, role Role) (sdk.Config, error) {
	cfg, err := c.machine(ctx)
	if err != nil {
		return cfg, err
	}
	cfg.Region = region
	if role.ARN == "" {
		return cfg, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	key := roleKey{region: region, role: role}
	assumed, ok := c.roles[key]
	if !ok {
		assumed = &credentials{now: c.cfg.Now, source: stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), role.ARN, func(o *stscreds.AssumeRoleOptions) {
			o.RoleSessionName = "postern"
			if role.ExternalID != "" {
				o.ExternalID = &role.ExternalID
			}
		})}
		c.roles[key] = assumed
	}
	cfg.Credentials = assumed
	return cfg, nil
}
