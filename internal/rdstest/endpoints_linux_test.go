package rdstest_test

import (
	"strings"
	"testing"

	"github.com/postern-db/postern/internal/cloud/aws"
	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/rdstest"
)

// TestEndpointsHaveTokensOfTheirOwn: what logs in at the writer of a cluster does
// not at its reader, although both have one port.
func TestEndpointsHaveTokensOfTheirOwn(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, pgtest.Options{})
	server.Exec(t, "CREATE ROLE rds_iam", "CREATE ROLE alice LOGIN IN ROLE rds_iam")
	fake := rdstest.Start(t)
	ends := fake.Endpoints(t, "eu-west-1", server, server)
	writer, reader := ends[0], ends[1]
	if writer.Port != reader.Port || writer.Host == reader.Host {
		t.Fatalf("the endpoints are %s and %s", writer.Addr(), reader.Addr())
	}
	token := fake.Token(t.Context(), t, aws.Login{Endpoint: writer.Addr(), Region: "eu-west-1", User: "alice"})
	if why := try(t, fake, reader, "alice", token); !strings.Contains(why, "for host "+writer.Addr()) {
		t.Errorf("the reader refused the writer's token because %q", why)
	}
	if why := try(t, fake, writer, "alice", token); why != "" {
		t.Errorf("the writer refused its token: %s", why)
	}
}
