package aws_test

import (
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/postern-db/postern/internal/cloud/aws"
)

func TestShippedRoots(t *testing.T) {
	t.Parallel()
	rest, regions := aws.New(aws.Config{}).Roots(), map[string]bool{}
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if !c.IsCA || c.CheckSignatureFrom(c) != nil {
			t.Errorf("%s is not a root", c.Subject.CommonName)
		}
		if time.Until(c.NotAfter) < 365*24*time.Hour {
			t.Errorf("%s ends %s: new roots are needed", c.Subject.CommonName, c.NotAfter)
		}
		words := strings.Fields(c.Subject.CommonName) // Amazon RDS <region> Root CA …
		if len(words) < 5 || words[0]+words[1]+words[3]+words[4] != "AmazonRDSRootCA" {
			t.Errorf("%s is not one of RDS", c.Subject.CommonName)
			continue
		}
		regions[words[2]] = true
	}
	if len(regions) < 27 || !regions["us-east-1"] || !regions["eu-west-1"] {
		t.Errorf("roots of %d regions only: %v", len(regions), regions)
	}
}
