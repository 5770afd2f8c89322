// Package portmux lets many protocols share one public TCP port. It looks at the
// first bytes of a connection and hands it on, with those bytes still to be read,
// to one of several [net.Listener]s:
//
//	first bytes                                    handed on as
//	0x16 ClientHello ............................. KindTLS
//	0x00 SSLRequest, answered 'S', ClientHello ... KindNegotiatedTLS
//	0x00 GSSENCRequest, answered 'N', once ....... and on with the next packet
//	0x00 CancelRequest ........................... KindCancel, in clear text
//	0x00 StartupMessage .......................... KindStartup, in clear text
//	anything else ................................ closed
//
// TLS is not terminated here: the ClientHello is only read for its server name and
// its protocols, and a Route function given by the caller picks the listener.
//
// Make a [Mux] with [New], take its listeners with [Mux.Listener], then call
// [Mux.Serve]. Until a connection is handed on it has a deadline and a size limit.
// Until it is admitted ([Admit]), because it has proven who it is, it gives way to
// newer ones when there are too many: no number of silent peers keeps others out,
// or holds up a session that runs.
//
// Behind load balancers the address of a client comes from their PROXY protocol
// header.
package portmux
