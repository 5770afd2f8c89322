package provision_test

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/postern-db/postern/internal/pgtest"
)

// adminSecret is the password of the admin where everybody needs one.
const adminSecret = "the admin's own secret"

// secretSet holds the keys that accounts of the tests have had, in the forms in which
// a log could hold them.
type secretSet struct {
	mu  sync.Mutex
	all map[string]bool
}

// secrets are those of this package's tests, which share the servers whose logs
// must not hold them.
var secrets secretSet

// add notes a key, and what a client proves that it knows.
func (s *secretSet) add(salted []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[string]bool{}
	}
	for _, key := range [][]byte{salted, mac(salted, "Client Key")} {
		s.all[base64.StdEncoding.EncodeToString(key)] = true
		s.all[hex.EncodeToString(key)] = true
	}
}

var (
	verifiers = regexp.MustCompile(`SCRAM-SHA-256\$4096:([^$]+)\$([^:]+):([^']+)`)
	likely    = regexp.MustCompile(`[0-9a-f]{64}|[A-Za-z0-9+/]{43}=`) // 32 bytes
)

// inLog looks for secrets in a server's log that holds every statement.
func (s *secretSet) inLog(log string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) == 0 {
		return nil
	}
	var found []error
	if !strings.Contains(log, "ALTER ROLE") || !verifiers.MatchString(log) {
		found = append(found, errors.New("the server's log does not tell what happened"))
	}
	for _, word := range likely.FindAllString(log, -1) {
		if s.all[word] {
			found = append(found, fmt.Errorf("the server's log holds the key %q", word))
		}
	}
	if strings.Contains(log, adminSecret) {
		found = append(found, errors.New("the server's log holds the admin's password"))
	}
	return errors.Join(found...)
}

// lookForSecrets looks into the logs of all servers that ask for passwords, when the
// tests are over.
func lookForSecrets() error {
	var errs []error
	for _, log := range pgtest.StockLogs() {
		errs = append(errs, secrets.inLog(log))
	}
	return errors.Join(errs...)
}
