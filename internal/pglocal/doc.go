// Package pglocal runs throwaway PostgreSQL servers on this machine: for
// `postern demo` and, through pgtest, for the tests.
//
// [Find] lists the installed servers, [Choose] picks one, and [Start] makes a
// cluster in a temporary directory, starts it on a free loopback port and waits
// until it accepts connections. [Cluster.Close] stops it and removes every trace.
//
// PostgreSQL refuses to run as root. Called by root, the server runs as the user
// postgres, or nobody where that user does not exist. On Linux the server dies
// with this process, however it ends, and the directory that a killed process
// could not remove is removed by the next [Start].
//
// The superuser logs in without a password through the Unix socket, whose
// directory only the owner of the cluster and root can enter. Over TCP nobody
// gets in unless Config.HBA says so.
package pglocal
