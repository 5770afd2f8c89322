package aws

import _ "embed"

// rdsRoots are the root certificates of RDS in every commercial region: those of
// Amazon's global-bundle.pem that have not expired, without the ones for previews.
// See docs/decisions/0018-rds-certificates.md for where they come from.
//
//go:embed rds.pem
var rdsRoots []byte

// Roots returns the certificates that sign those of RDS servers, as PEM. The
// caller must not change them.
func (c *Cloud) Roots() []byte {
	if c.cfg.Roots != nil {
		return c.cfg.Roots
	}
	return rdsRoots
}
