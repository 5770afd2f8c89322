// Package client is the person's machine: the profile on disk, logging in, the
// certificates for databases and the local listener that programs connect to.
//
// Start with a [Home], the directory that remembers logins. [Home.Login] makes a
// [Profile]; [Home.Connect] turns a profile into a [Hub] to ask things of;
// [Hub.DatabaseCertificate] gets a certificate that is bound to one database,
// and a [Proxy] carries connections with it:
//
//	program ── clear text, on this machine only ──► Proxy ── mutual TLS ──► hub ──► agent
//
// Private keys are made here and never leave. The hub is trusted because of its
// host CA, which a first login learns through a pin or the system's roots.
package client
