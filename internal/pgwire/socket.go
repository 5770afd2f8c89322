package pgwire

import "net"

// Sockets returns a listener like l whose TCP connections cost less CPU time to read
// and write, where the system allows (socket_linux.go says how).
func Sockets(l net.Listener) net.Listener { return sockets{l} }

type sockets struct{ net.Listener }

func (s sockets) Accept() (net.Conn, error) {
	conn, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newSocket(conn), nil
}
