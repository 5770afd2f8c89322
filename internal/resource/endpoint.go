package resource

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postern-db/postern/internal/fault"
)

// DefaultPort is PostgreSQL's own.
const DefaultPort = 5432

// maxHosts bounds the servers in one URI; each may cost a connection attempt.
const maxHosts = 32

// Endpoint is where the servers behind one database are.
type Endpoint struct {
	Hosts  []Host            // at least one, in the order to try
	Params map[string]string // other query parameters of the URI
	// Target is target_session_attrs: which of several hosts take a session. Empty
	// means any.
	Target string
	// ConnectTimeout is connect_timeout, for each host; zero when it is not set.
	ConnectTimeout time.Duration
}

// Host is one server: a host name or address with a port, or the directory of a
// Unix socket (Host begins with a slash).
type Host struct {
	Host string
	Port uint16
}

// Network returns "unix" or "tcp".
func (h Host) Network() string {
	if strings.HasPrefix(h.Host, "/") {
		return "unix"
	}
	return "tcp"
}

// Address returns what to dial on [Host.Network].
func (h Host) Address() string {
	if h.Network() == "unix" {
		return fmt.Sprintf("%s/.s.PGSQL.%d", strings.TrimSuffix(h.Host, "/"), h.Port)
	}
	return net.JoinHostPort(h.Host, strconv.Itoa(int(h.Port)))
}

// Endpoint returns where the servers of d are. A resource that was validated has
// at least one, except for AlloyDB URIs, which have none. The error is Invalid.
func (d *Database) Endpoint() (Endpoint, error) { return ParseEndpoint(d.Spec.URI) }

// Hosts returns the servers of d, or none when the URI has no PostgreSQL form.
func (d *Database) Hosts() []Host {
	e, err := d.Endpoint()
	if err != nil {
		return nil
	}
	return e.Hosts
}

// ParseEndpoint reads the URI of a database: what follows postgres:// in a
// connection string, with or without that scheme. Several hosts are separated by
// commas; [address]:port is IPv6; a directory, percent-encoded in the host place,
// as the whole URI, or in the parameter host, is a Unix socket. User, password
// and database name in it are dropped, because every session has its own. The
// error is Invalid.
func ParseEndpoint(uri string) (Endpoint, error) {
	rest := uri
	for _, scheme := range []string{"postgres://", "postgresql://"} {
		rest = strings.TrimPrefix(rest, scheme)
	}
	if strings.Contains(rest, "://") {
		return Endpoint{}, fault.Newf(fault.Invalid, "invalid database URI %q: expected host:port or postgres://host:port", uri)
	}
	rest, query, _ := strings.Cut(rest, "?")
	params, err := endpointParams(query)
	if err != nil {
		return Endpoint{}, fault.Newf(fault.Invalid, "invalid database URI %q: %v", uri, err)
	}
	hosts := rest
	if !strings.HasPrefix(rest, "/") { // else the whole is a socket directory
		if _, after, found := strings.Cut(rest, "@"); found {
			hosts = after
		}
		hosts, _, _ = strings.Cut(hosts, "/")
	}
	// Like libpq: a host parameter replaces the hosts, a port parameter their ports.
	hosts = cmp.Or(params["host"], hosts)
	port := params["port"]
	delete(params, "host")
	delete(params, "port")
	e := Endpoint{Params: params}
	if err := e.takeParams(); err != nil {
		return Endpoint{}, fault.Newf(fault.Invalid, "invalid database URI %q: %v", uri, err)
	}
	for _, text := range strings.Split(hosts, ",") {
		h, err := parseHost(text, port)
		if err != nil {
			return Endpoint{}, fault.Newf(fault.Invalid, "invalid database URI %q: %v", uri, err)
		}
		e.Hosts = append(e.Hosts, h)
	}
	if len(e.Hosts) > maxHosts {
		return Endpoint{}, fault.Newf(fault.Invalid, "invalid database URI: more than %d hosts", maxHosts)
	}
	return e, nil
}

// targets are the words of target_session_attrs.
func targets() []string {
	return []string{"any", "read-write", "read-only", "primary", "standby", "prefer-standby"}
}

// takeParams moves the parameters that have fields of their own there.
func (e *Endpoint) takeParams() error {
	if target, given := e.Params["target_session_attrs"]; given {
		if !slices.Contains(targets(), target) {
			return fmt.Errorf("target_session_attrs=%q, want one of %s", target, strings.Join(targets(), ", "))
		}
		e.Target = target
		delete(e.Params, "target_session_attrs")
	}
	if text, given := e.Params["connect_timeout"]; given {
		seconds, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return fmt.Errorf("connect_timeout=%q, want seconds", text)
		}
		e.ConnectTimeout = time.Duration(seconds) * time.Second // 0: the default, not libpq's forever
		delete(e.Params, "connect_timeout")
	}
	return nil
}

func endpointParams(query string) (map[string]string, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, err
	}
	params := make(map[string]string, len(values))
	for k, v := range values {
		params[k] = v[len(v)-1] // the last one counts, as in libpq
	}
	return params, nil
}

func parseHost(text, port string) (Host, error) {
	h := Host{Host: text, Port: DefaultPort}
	switch end := strings.LastIndex(text, "]"); {
	case strings.HasPrefix(text, "[") && end > 0:
		h.Host = text[1:end]
		if net.ParseIP(h.Host) == nil {
			return Host{}, fmt.Errorf("%q is not an IPv6 address", h.Host)
		}
		if p, found := strings.CutPrefix(text[end+1:], ":"); found {
			port = cmp.Or(p, port)
		} else if text[end+1:] != "" {
			return Host{}, fmt.Errorf("unexpected text after %q", text[:end+1])
		}
	default:
		name, p, _ := strings.Cut(text, ":")
		if strings.Contains(p, ":") {
			return Host{}, fmt.Errorf("write the IPv6 address %q in brackets", text)
		}
		decoded, err := url.PathUnescape(name)
		if err != nil {
			return Host{}, err
		}
		h.Host, port = decoded, cmp.Or(p, port)
	}
	if h.Host == "" {
		return Host{}, fmt.Errorf("a host is empty")
	}
	if strings.ContainsFunc(h.Host, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return Host{}, fmt.Errorf("the host %q has blanks in it", h.Host)
	}
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return Host{}, fmt.Errorf("invalid port %q", port)
		}
		h.Port = uint16(n)
	}
	return h, nil
}
