// Package pgwire speaks the PostgreSQL frontend/backend protocol 3.0 and 3.2 on
// both sides of a gateway: it reads what a client sends first, connects and
// authenticates to a server, and relays frames between the two. It knows
// nothing of users or policy.
//
// One session, in the order of the calls:
//
//	client                    gateway                            server
//	  │ StartupMessage           │                                  │
//	  ├─────────────────────────►│ ReadStartup                      │
//	  │                          │ Dial            TCP, SSLRequest, TLS
//	  │                          ├─────────────────────────────────►│
//	  │                          │ ServerConn.LogIn  authentication │
//	  │                          │◄────────────────────────────────►│ ReadyForQuery
//	  │   AppendNegotiation,     │                                  │
//	  │◄──AppendWelcome (1 write)│                                  │
//	  │◄────────────────────────►│ Relay.Run                        │
//	  │                          │◄────────────────────────────────►│
//	  │                          │ ServerConn.Finish  until EOF     │
//
// Start with [ReadStartup] on the client side and [Dial] on the server side.
// A refusal is an [Error], made from any Go error by [Refusal] or [FromFault].
//
// Promises: frames that are forwarded are never re-encoded and never buffered
// as a whole, whatever their size; unknown message types pass; everything read
// from a peer has a size limit; a decoder never panics. Deadlines before a
// session runs are the caller's, set on the connection or through the context.
package pgwire
