// Package testenv gives tests the whole product in one process against a real
// PostgreSQL: hub, agent, people with profiles of their own.
//
//	func TestMain(m *testing.M) { testenv.Main(m) }
//
//	func TestX(t *testing.T) {
//		env := testenv.Shared(t)
//		env.DBRole(t, "reader")
//		env.Apply(t, testenv.Role("readers", "keep", "reader"))
//		env.AddUser(t, "alice", []string{"readers"}, nil)
//		conn := env.As(t, "alice").Connect(t, "example", "postgres")
//		…
//
// [Shared] is one gateway and one server per test binary: tests on it use names
// of their own, for users, roles and db roles alike, and run in parallel as
// sessions do. [Start] gives a test its own, to configure, restart or kill.
//
// The server's certificate comes from the cluster's db authority and it accepts
// client certificates of the db_client authority only, as `postern auth sign`
// sets it up.
package testenv
