// Package rdstest gives tests the parts of Amazon's cloud that Postern talks to:
// the APIs of RDS and STS, and servers that log in the way RDS does.
//
//	fake := rdstest.Start(t)
//	front := fake.Front(t, server, "eu-west-1")
//	fake.Put(rdstest.Instance{ID: "orders", Region: "eu-west-1", Host: front.Host, Port: front.Port, …})
//	cloud := aws.New(fake.Config())
//
// Nothing is taken on trust. Every API request must carry a Signature Version 4
// that a second signing of the same request gives again. A [Front] stands before a
// real PostgreSQL and lets a member of rds_iam in with a token only: correctly
// signed, not expired, and for exactly this host, port, region and user. Everybody
// else is asked for a password by PostgreSQL itself.
// [Fake.Endpoints] are fronts like those of an Aurora cluster.
package rdstest
