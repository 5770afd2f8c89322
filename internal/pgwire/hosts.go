package pgwire

import "sync"

// HostMemory remembers which of several hosts took the last session. [Dial] tries
// it first, so that a host that is down or a standby costs nothing until something
// changes.
//
// The zero value is ready; it is safe for concurrent use. Keep one for each
// registered database: a nil *HostMemory remembers nothing.
type HostMemory struct {
	mu   sync.Mutex
	last string // guarded by mu
}

// order returns the hosts in the order to try them.
func (m *HostMemory) order(hosts []string) []string {
	if m == nil || len(hosts) < 2 {
		return hosts
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	ordered := make([]string, 0, len(hosts))
	for _, h := range hosts {
		if h == m.last {
			ordered = append(ordered, h)
			break
		}
	}
	for _, h := range hosts {
		if h != m.last {
			ordered = append(ordered, h)
		}
	}
	return ordered
}

func (m *HostMemory) learn(host string) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last = host
}
