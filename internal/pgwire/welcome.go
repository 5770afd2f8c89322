package pgwire

import "encoding/binary"

// AppendWelcome appends everything that a client is sent between its
// StartupMessage and its first query: AuthenticationOk, the server's parameters
// and notices, BackendKeyData with PostgreSQL's own process id and secret in
// place of PostgreSQL's, and ReadyForQuery. Written in one go, after
// [Startup.AppendNegotiation], it costs one packet.
func AppendWelcome(dst []byte, b *Backend, secret []byte) []byte {
	dst, at := begin(dst, 'R')
	dst = finish(binary.BigEndian.AppendUint32(dst, authOK), at)
	for _, p := range b.Params {
		dst, at = begin(dst, 'S')
		dst = finish(appendCString(appendCString(dst, p.Name), p.Value), at)
	}
	dst = append(dst, b.Notices...)
	dst, at = begin(dst, 'K')
	dst = finish(append(binary.BigEndian.AppendUint32(dst, b.PID), secret...), at)
	dst, at = begin(dst, 'Z')
	return finish(append(dst, b.TxStatus), at)
}
