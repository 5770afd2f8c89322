// Package access decides what a user may do on a database, and says why.
//
// [NewPolicy] compiles roles, locks and cluster settings once; the [Policy] is
// immutable and safe for concurrent use. [Policy.Decide] answers one request with
// a [Decision]: the outcome, the provisioning mode, the db roles and permissions
// to hand out, the limits of the session, and the reason for each.
// [Policy.Overview] says what a user could do on a database, for listings.
//
// The rules are those of behaviour.md §2, §3, §5 and §9, with four differences
// towards safety:
//
//   - a template that fails inside a deny list refuses the session;
//   - deny.db_roles and deny.db_permissions of roles whose deny labels match or are
//     absent subtract from the result; they never refuse by themselves;
//   - names of users and databases over 63 bytes are refused, because PostgreSQL
//     would cut them: two people could become one, and a deny could be avoided;
//   - a broken label selector or expression disables its role, is listed by
//     [Policy.Warnings], and refuses when it stands in a deny position.
//
// Everything that cannot be decided is refused. The package does no I/O.
package access
