package provision

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/fault"
)

// A database user that logs in with a password has one for the time of its logins
// only. Nobody knows it, not even we: instead of a password, the key is random that
// SCRAM derives from passwords. It stays in this process. PostgreSQL gets the
// verifier of it, with VALID UNTIL a minute ahead, and loses it as soon as
// the login is done. Between logins VALID UNTIL is -infinity, which no password
// that a person gives the own account gets past.
//
// VALID UNTIL is also how agents see each other: as long as it lies ahead, somebody
// logs in with that password, and others wait before they set theirs. Its
// microseconds are random and tell each agent whether it is its own. See
// docs/decisions/0017-passwords.md.

// key is what an account has in the place of a password for the time of its logins.
type key struct {
	verifier string // what PostgreSQL stores; the secret cannot be told from it
	mark     int    // microseconds of VALID UNTIL, from 1 to 999,999; 0: no key
}

// newKey returns a key and its secret, the SaltedPassword of RFC 5802. Deriving that
// from a password takes thousands of rounds, so that passwords cannot be guessed.
// Nobody guesses 256 random bits.
func newKey() (k key, secret []byte) {
	secret = random(sha256.Size)
	return key{verifier: verifier(secret, random(saltLength)), mark: 1 + mathrand.IntN(999_999)}, secret
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// What PostgreSQL itself makes verifiers with (scram-common.h).
const (
	scramIterations = 4096
	saltLength      = 16
)

// NewPassword returns a random password and its SCRAM verifier, which PostgreSQL
// takes in the place of the password.
func NewPassword() (secret, verifier string, err error) {
	secret = rand.Text()
	verifier, err = verifierOf(secret, random(saltLength))
	return secret, verifier, err
}

// verifierOf returns the verifier of a password of ASCII letters and digits.
func verifierOf(password string, salt []byte) (string, error) {
	salted, err := pbkdf2.Key(sha256.New, password, salt, scramIterations, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("derive a SCRAM verifier: %w", err)
	}
	return verifier(salted, salt), nil
}

// verifier returns the SCRAM-SHA-256 verifier of a SaltedPassword, in the form of
// pg_authid.rolpassword (RFC 5802, section 3).
func verifier(salted, salt []byte) string {
	stored := sha256.Sum256(keyed(salted, "Client Key"))
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", scramIterations, encode(salt), encode(stored[:]), encode(keyed(salted, "Server Key")))
}

func keyed(salted []byte, text string) []byte {
	h := hmac.New(sha256.New, salted)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// planKey returns the key to set, and until when it is to be valid, or "" where
// the account has it or none is wanted.
func planKey(have state, want target) (key, string) {
	if want.key.mark == 0 || have.Account.Password.has(want.key) {
		return key{}, ""
	}
	return want.key, fmt.Sprintf("%s.%06d+00", have.Soon, want.key.mark)
}

// has reports whether the password is this key's.
func (p passwordState) has(k key) bool { return p.Open && p.Mark == k.mark }

// othersKeyWait is how long an agent waits for logins of other agents. They take
// milliseconds; an agent that takes longer has perhaps died, and can log in again.
const othersKeyWait = 2 * time.Second

// errOthersKey stops a transaction because another agent logs in.
var errOthersKey = errors.New("another agent logs in to the account")

// Password gives the account a password for one login. It returns the key that SCRAM
// derives from a password (SaltedPassword of RFC 5802) in the place of one, to be read
// only, and what must be called when that login has succeeded or failed, and which
// takes the password away again. Logins of this process to one account at the same time share
// a password; those of other agents are waited for. Where PostgreSQL refuses the
// login with SQLSTATE 28000 or 28P01 another agent has come between: call
// [Lease.Reactivate], and Password again. Errors are those of [Server.Activate].
func (l *Lease) Password(ctx context.Context) (secret []byte, done func(context.Context) error, err error) {
	o, first, err := l.s.accounts.open(ctx, l.entry)
	if err != nil {
		if o != nil {
			err = errors.Join(err, l.closePassword(context.WithoutCancel(ctx), o))
		}
		return nil, nil, tooLate(err)
	}
	if first {
		o.key, o.secret = newKey()
		err = l.setKey(ctx, o.key)
		l.s.accounts.opened(l.entry, o, err)
		if err != nil {
			return nil, nil, err
		}
	}
	return o.secret, func(ctx context.Context) error { return l.closePassword(ctx, o) }, nil
}

// setKey writes the key, when no other agent is logging in.
func (l *Lease) setKey(ctx context.Context, k key) error {
	l.mu.Lock()
	want, e := l.want, l.entry
	l.mu.Unlock()
	want.key = k
	patient, written := true, false
	t := transaction{want: want, guard: func(now state) error {
		if p := now.Account.Password; patient && p.Open && !p.has(k) {
			return errOthersKey
		}
		if err := l.s.mayChange(e, now, want, true); err != nil {
			return refusal(fault.Unavailable, codeInvalidAuthorization, "the database user has been given other db roles")
		}
		return nil
	}}
	err := poll(ctx, othersKeyWait, func() (bool, error) {
		err := l.changeKey(ctx, t)
		if errors.Is(err, errOthersKey) {
			return false, nil
		}
		written = err == nil
		return true, err
	})
	if err != nil || written {
		return err
	}
	patient = false
	return l.changeKey(ctx, t)
}

// closePassword takes the password away after its last login, unless somebody
// else has done so or has set another.
func (l *Lease) closePassword(ctx context.Context, o *opening) error {
	if !l.s.accounts.lastLogin(o) {
		return nil
	}
	defer l.s.accounts.closed(l.entry, o)
	l.mu.Lock()
	want := target{user: l.want.user, login: true, keepRoles: true, replication: l.want.replication, after: l.want.after, erase: true}
	l.mu.Unlock()
	err := l.changeKey(ctx, transaction{want: want, guard: func(now state) error {
		p := now.Account.Password
		if !now.Account.Managed || !now.Account.Login || p.Open && !p.has(o.key) {
			return errTaken
		}
		return nil
	}})
	if errors.Is(err, errTaken) {
		return nil
	}
	return err
}

// changeKey runs a transaction about the account's password.
func (l *Lease) changeKey(ctx context.Context, template transaction) error {
	return l.entry.exclusively(ctx, func() error {
		l.s.accounts.changed(l.entry)
		return l.s.withConn(ctx, l.database, func(conn *pgconn.PgConn) error {
			have, err := observe(ctx, conn, template.want.user, template.want.roles)
			if err != nil {
				return err
			}
			if err := template.guard(have); err != nil {
				return err
			}
			t := template
			t.s, t.conn = l.s, conn
			return t.run(ctx, have)
		})
	})
}
