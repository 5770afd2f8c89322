// Package aws is what Postern needs of Amazon's cloud: tokens that RDS takes as
// passwords, the certificates that RDS servers show, and which databases there are.
//
// A [Cloud] is made once for a process. It reads the credentials of the machine
// (environment, shared files, web identity, instance role) when they are first
// needed, so a process that serves no database of Amazon's never asks for any.
//
// [Cloud.Token] signs locally: a login costs no call to Amazon. Credentials of an
// assumed role are kept, and fetched anew while the old ones are still good.
package aws
