package provision_test

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"

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

var verifiers = regexp.MustCompile(`SCRAM-SHA-256\$4096:([^$]+)\$([^:]+):([^']+)`)

// The forms of a key, 32 bytes, in characters.
const (
	base64Size = 44 // the last one is =
	hexSize    = 64
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
	for _, word := range s.find(log) {
		found = append(found, fmt.Errorf("the server's log holds the key %q", word))
	}
	if strings.Contains(log, adminSecret) {
		found = append(found, errors.New("the server's log holds the admin's password"))
	}
	return errors.Join(found...)
}

// find returns which of the secrets a log holds. It may have tens of megabytes, for
// which a regular expression takes long under the race detector.
func (s *secretSet) find(log string) (found []string) {
	check := func(start, end int) {
		if start >= 0 && s.all[log[start:end]] {
			found = append(found, log[start:end])
		}
	}
	for at := 0; ; at++ {
		n := strings.IndexByte(log[at:], '=')
		if n < 0 {
			break
		}
		at += n
		check(at+1-base64Size, at+1)
	}
	digits := 0 // hexadecimal, up to here
	for i := range len(log) {
		if c := log[i]; c < '0' || c > '9' && c < 'a' || c > 'f' {
			digits = 0
		} else if digits++; digits >= hexSize {
			check(i+1-hexSize, i+1)
		}
	}
	return found
}

// TestSecretsAreFound wherever they stand in a log.
func TestSecretsAreFound(t *testing.T) {
	t.Parallel()
	var s secretSet
	s.add(make([]byte, 32))
	if len(s.all) != 4 {
		t.Fatalf("%d forms of two keys", len(s.all))
	}
	for form := range s.all {
		for _, log := range []string{form, "a=b '" + form + "' c", "\\x" + form, "0" + form + "=", strings.Repeat("f", 100) + form, form + form} {
			if got := s.find(log); len(got) == 0 || got[0] != form {
				t.Errorf("found %q in %q", got, log)
			}
		}
		for _, log := range []string{"", "=", "=" + form[1:], form[:len(form)-1]} {
			if got := s.find(log); len(got) > 0 {
				t.Errorf("found %q in %q", got, log)
			}
		}
	}
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
