// Package pgtest gives tests a real PostgreSQL of every supported version.
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
//
//	func TestX(t *testing.T) {
//		for _, version := range pgtest.Versions(t) {
//			t.Run(fmt.Sprint(version), func(t *testing.T) {
//				server := pgtest.Shared(t, version)
//				conn := server.Superuser(t, server.Database(t))
//				…
//
// [Shared] is one cluster per test binary and version; give each test its own
// [Server.Database]. Roles belong to the whole cluster, so tests on a shared one
// use role names of their own; a test that cannot share calls [Start].
//
// A server speaks TLS with certificates of its own authorities: log in over TLS
// with [Server.ClientTLS], or without a password and without TLS as anybody.
// Options.HBA replaces these rules.
//
// A version that must run and is not installed fails the test, it is never skipped.
package pgtest
