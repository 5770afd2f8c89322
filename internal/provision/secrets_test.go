package provision_test

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/postern-db/postern/internal/pgtest"
)

// adminSecret is the password of the admin where everybody needs one.
const adminSecret = "the admin's own secret"

// secretSet holds the passwords that accounts of the tests have had.
type secretSet struct {
	mu  sync.Mutex
	all map[string]bool
}

// secrets are those of this package's tests, which share the servers whose logs
// must not hold them.
var secrets secretSet

func (s *secretSet) add(secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[string]bool{}
	}
	s.all[secret] = true
}

var (
	verifiers = regexp.MustCompile(`SCRAM-SHA-256\$4096:([^$]+)\$([^:]+):([^']+)`)
	likely    = regexp.MustCompile(`[A-Z2-7]{26}`) // the form of our passwords, see rand.Text
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
			found = append(found, fmt.Errorf("the server's log holds the password %q", word))
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
