// Package agent carries database sessions. It sits next to the databases, and it
// alone decides, provisions and speaks PostgreSQL.
//
// A session is six steps, one file each: admit, authorize, provision, connect,
// forward, finish. [session.run] calls them in that order.
//
//	client ── mutual TLS ──► admit ─► authorize ─► provision ─► connect ─► forward ─► finish
//	                           │          │            │            │         │          │
//	                      certificate   policy,   database user  PostgreSQL  relay    release,
//	                      and start-up  audit     and rights     login       audit    audit
//
// [New] checks a [Config] and starts nothing; [Server.Serve] runs until its
// context ends, then ends every session properly before it returns.
package agent
