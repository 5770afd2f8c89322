// Package provision keeps database users in PostgreSQL equal to what policy
// says: they can log in and hold their roles while they have a session, and
// neither before nor after.
//
// One [Server] stands for one registered PostgreSQL server. A session calls
// [Server.Activate] before it logs in, [Lease.Established] when it has, and [Lease.Release] after it has ended;
// [Server.Serve] sweeps what crashes leave behind. All three do the same thing
// with different wishes:
//
//	observe   one query, one round trip: account, memberships, sessions, what the admin may do
//	plan      pure: the statements that lead from what is to what is wanted; none when nothing differs
//	apply     one transaction under the account's lock, of what is observed there
//	verify    observe again; when the plan is not empty, go on
//
// What an activation did is verified when the session has logged in, before anybody can use it.
//
// # Which accounts are ours
//
// The database is the truth; there is no other record. An account is managed when
// it is a member of the group [Group] without ADMIN OPTION: whoever may hand the
// group on, such as the admin itself, is an administrator. Other roles are never altered,
// whatever their name. A managed account that is to be dropped when its
// last session ends says so in its comment, so that every agent knows it after a crash.
//
// # Object permissions
//
// Tables and other objects are never granted to an account but to a bundle: a
// role that holds what one policy gives in one logical database, which
// [Server.Bundle] makes and keeps equal to policy, and which the account holds like
// any other role. See docs/decisions/0007-bundles.md.
//
// # Several agents on one server
//
// Agents need not know of each other. See docs/decisions/0002-provisioning-locks.md
// for why each step is needed; in short:
//
//   - Every transaction that changes an existing account begins with COMMENT ON
//     ROLE on it. That takes a lock on the role (ShareUpdateExclusive on a shared
//     object), which, unlike an advisory lock, is the same in every logical
//     database, is held until the transaction ends, and writes nothing when the
//     comment is and stays empty. Two agents that create one account
//     at once meet at the unique index of pg_authid, and the second tries again.
//
//   - An activation that finds the account as wanted takes no lock and writes nothing.
//
//   - A password that an account has for a login is announced by VALID UNTIL: see password.go.
//
//   - A release disables login first and commits. From then on every login that
//     checks the account is refused. Then it takes the lock again and, unless
//     another agent has allowed login meanwhile, waits for the logins that
//     passed the check just before: PostgreSQL shows them as virtual
//     transactions in pg_locks until they appear in pg_stat_activity. If the user
//     has a session after all, login is allowed again; else the roles are taken away.
//
//   - Only an account that no session of another process may be using is given
//     other roles. See docs/decisions/0012-one-set-of-roles.md.
//
// So a login that races with a release in another process either is refused, and
// the agent calls [Lease.Reactivate] and logs in again, or is seen by the release.
// No session runs with less than policy grants it, and none is refused because another one ends.
package provision
