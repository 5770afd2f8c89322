package pgwire

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/postern-db/postern/internal/fault"
)

// SASL mechanisms of PostgreSQL (RFC 5802, RFC 7677).
const (
	scramSHA256     = "SCRAM-SHA-256"
	scramSHA256Plus = "SCRAM-SHA-256-PLUS"

	// maxIterations bounds the work that a server can ask for: about 0.3 s.
	// PostgreSQL's default is 4,096.
	maxIterations = 1_000_000
)

// scram is the client's side of one SCRAM-SHA-256 exchange.
type scram struct {
	name     string // sent empty: PostgreSQL uses that of the StartupMessage
	password string
	salted   []byte // SaltedPassword; nil until it is derived from password
	header   string // gs2-header
	binding  []byte // channel binding data; nil without binding
	nonce    string
	// expected is the server's signature; known once the proof was made.
	expected []byte
	verified bool
}

// newSCRAM begins an exchange, for a password or a key that the caller sets. plus
// tells whether the server offers channel binding, and binding what it would be bound
// to, nil if nothing.
func newSCRAM(plus bool, binding []byte) *scram {
	s := &scram{nonce: rand.Text()}
	switch {
	case binding == nil:
		s.header = "n,,"
	case plus:
		s.header, s.binding = "p=tls-server-end-point,,", binding
	default:
		// We could, the server says it cannot: it checks that nobody in the middle
		// took the offer out of its list.
		s.header = "y,,"
	}
	return s
}

func (s *scram) mechanism() string {
	if s.binding != nil {
		return scramSHA256Plus
	}
	return scramSHA256
}

// firstBare is client-first-message-bare.
func (s *scram) firstBare() string { return "n=" + s.name + ",r=" + s.nonce }

func (s *scram) first() string { return s.header + s.firstBare() }

// proof answers server-first-message with client-final-message.
func (s *scram) proof(serverFirst []byte) ([]byte, error) {
	if s.expected != nil {
		return nil, scramFault("a second challenge")
	}
	fields := strings.Split(string(serverFirst), ",")
	if len(fields) < 3 {
		return nil, scramFault("a challenge that is too short")
	}
	nonce, ok1 := strings.CutPrefix(fields[0], "r=")
	salt64, ok2 := strings.CutPrefix(fields[1], "s=")
	count, ok3 := strings.CutPrefix(fields[2], "i=")
	if !ok1 || !ok2 || !ok3 {
		return nil, scramFault("a challenge with other attributes than r, s, i")
	}
	if !strings.HasPrefix(nonce, s.nonce) || len(nonce) == len(s.nonce) {
		return nil, scramFault("a nonce that does not extend ours")
	}
	salt, err := base64.StdEncoding.DecodeString(salt64)
	if err != nil || len(salt) == 0 {
		return nil, scramFault("a salt that is not base64")
	}
	iterations, err := strconv.Atoi(count)
	if err != nil || iterations < 1 || iterations > maxIterations {
		return nil, scramFault(fmt.Sprintf("an iteration count of %.20q", count))
	}
	if s.salted == nil {
		if s.salted, err = pbkdf2.Key(sha256.New, s.password, salt, iterations, sha256.Size); err != nil {
			return nil, err
		}
	}
	bound := base64.StdEncoding.EncodeToString(append([]byte(s.header), s.binding...))
	final := "c=" + bound + ",r=" + nonce
	message := s.firstBare() + "," + string(serverFirst) + "," + final

	clientKey := hmacSHA256(s.salted, "Client Key")
	storedKey := sha256.Sum256(clientKey)
	proof := hmacSHA256(storedKey[:], message)
	subtle.XORBytes(proof, proof, clientKey)
	s.expected = hmacSHA256(hmacSHA256(s.salted, "Server Key"), message)
	return []byte(final + ",p=" + base64.StdEncoding.EncodeToString(proof)), nil
}

// verify checks server-final-message: the proof that the server knows the
// password too.
func (s *scram) verify(serverFinal []byte) error {
	text, ok := strings.CutPrefix(string(serverFinal), "v=")
	text, _, _ = strings.Cut(text, ",")
	signature, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || s.expected == nil || !hmac.Equal(signature, s.expected) {
		return scramFault("a signature that is not right")
	}
	s.verified = true
	return nil
}

func scramFault(what string) error {
	return fault.New(fault.Unavailable, "the database server fails SCRAM authentication").
		WithDetail("It sent " + what + ".")
}

func hmacSHA256(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// endPointHash is the hash of a certificate that RFC 5929 §4.1 defines for
// tls-server-end-point: the one of its signature, but SHA-256 for MD5 and SHA-1.
// It returns nil for signatures that have none, such as Ed25519.
func endPointHash(cert *x509.Certificate) []byte {
	switch cert.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1,
		x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.ECDSAWithSHA256:
		h := sha256.Sum256(cert.Raw)
		return h[:]
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		h := sha512.Sum384(cert.Raw)
		return h[:]
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		h := sha512.Sum512(cert.Raw)
		return h[:]
	default:
		return nil
	}
}
