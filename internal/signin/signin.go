// Package signin proves who a person is: local passwords, and the invitations
// with which people set them.
//
// [New] makes a [Passwords] over the records that the caller keeps.
// [Passwords.Check] answers whether a password is right and promises:
//
//   - an unknown user, a user without password and a wrong password get the same
//     answer after the same work;
//   - the memory and time that hashing may take are bounded, whoever asks;
//   - guessing is slowed down to a crawl, and nobody can keep a person out
//     from the places where that person usually signs in (see guard.go).
package signin

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"log/slog"
	"time"

	"github.com/postern-db/postern/internal/fault"
)

// Records keeps one record per user, as bytes that are secret. The hub adapts the
// state store to it.
type Records interface {
	// Get returns the record of user and its revision, or NotFound.
	Get(ctx context.Context, user string) (record []byte, rev int64, err error)
	// Put writes the record if its revision still is rev, where 0 means that
	// there is none; else it fails with Conflict.
	Put(ctx context.Context, user string, record []byte, rev int64) error
	// Delete removes the record; having none is no error.
	Delete(ctx context.Context, user string) error
}

// Config says how to sign people in. Only Records is needed.
type Config struct {
	Records Records
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// MaxHashes is how many passwords are hashed at a time, 19 MiB and one core
	// each; zero is the number of cores.
	MaxHashes int
	// MaxWaiting is how many sign-ins may wait for their turn; zero is 64.
	MaxWaiting int
	// MaxWait is how long a sign-in waits for its turn; zero is 5 seconds.
	MaxWait time.Duration
	// Log gets a line when somebody guesses passwords; nil logs nothing.
	Log *slog.Logger
}

// Passwords signs people in. It is safe for concurrent use.
type Passwords struct {
	records Records
	now     func() time.Time
	hasher  *hasher
	guard   *guard
}

// New returns a Passwords. It fails with Invalid when cfg is not usable.
func New(cfg Config) (*Passwords, error) {
	if cfg.Records == nil {
		return nil, fault.New(fault.Invalid, "sign-in needs a place for its records")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	h, err := newHasher(cfg.MaxHashes, cfg.MaxWaiting, cfg.MaxWait)
	if err != nil {
		return nil, err
	}
	return &Passwords{records: cfg.Records, now: cfg.Now, hasher: h, guard: newGuard(cfg.Now, cfg.Log)}, nil
}

// maxUserName is the longest name that a certificate takes. Nobody has a longer
// one, and the guard need not remember it.
const maxUserName = 255

// Check returns nil when password is the password of user. source is where the
// attempt comes from, an address with or without port. Faults: Unauthenticated
// when it is not, or after too many failures; Unavailable when too many sign-ins
// wait, or the records cannot be read.
func (p *Passwords) Check(ctx context.Context, user string, password Password, source string) error {
	wrong := fault.New(fault.Unauthenticated, "user name or password is wrong")
	if user == "" || len(user) > maxUserName {
		return wrong
	}
	attempt, err := p.guard.begin(user, network(source))
	if err != nil {
		return err
	}
	right, err := p.compare(ctx, user, password)
	switch {
	case err != nil:
		attempt.forget() // nothing was learnt about the password
		return err
	case !right:
		attempt.failed()
		return wrong
	}
	attempt.succeeded()
	return nil
}

// compare does the same work for everybody: read, hash, compare.
func (p *Passwords) compare(ctx context.Context, user string, password Password) (bool, error) {
	rec, _, err := p.load(ctx, user)
	if err != nil {
		return false, err
	}
	return p.hasher.compare(ctx, password, rec.Hash)
}

// SetPassword sets the password of user, whether there was one or not, and ends
// an open invitation. Faults: Invalid when the password is not acceptable,
// Conflict when the record changed meanwhile, Unavailable.
func (p *Passwords) SetPassword(ctx context.Context, user string, password Password) error {
	rec, rev, err := p.load(ctx, user)
	if err != nil {
		return err
	}
	return p.setPassword(ctx, user, password, rec, rev)
}

func (p *Passwords) setPassword(ctx context.Context, user string, password Password, rec record, rev int64) error {
	if err := password.check(); err != nil {
		return err
	}
	hash, err := p.hasher.hash(ctx, password)
	if err != nil {
		return err
	}
	rec.Hash, rec.Invitation = hash, nil
	if err := p.save(ctx, user, rec, rev); err != nil {
		return err
	}
	p.guard.forgive(user) // what was guessed was another password
	return nil
}

// DefaultInvitation is how long an invitation is good when nobody says otherwise.
const DefaultInvitation = time.Hour

// MaxInvitation bounds how long an invitation may be good: it is worth a password.
const MaxInvitation = 7 * 24 * time.Hour

// Invite returns a token with which user may set a password once, within ttl
// (zero is [DefaultInvitation]). It replaces an earlier invitation and leaves a
// present password as it is. Faults: Invalid, Conflict, Unavailable.
func (p *Passwords) Invite(ctx context.Context, user string, ttl time.Duration) (Token, error) {
	return p.invite(ctx, user, ttl, false)
}

// Reset is [Passwords.Invite] for a password that is lost or known to others: it
// stops working at once.
func (p *Passwords) Reset(ctx context.Context, user string, ttl time.Duration) (Token, error) {
	return p.invite(ctx, user, ttl, true)
}

func (p *Passwords) invite(ctx context.Context, user string, ttl time.Duration, reset bool) (Token, error) {
	if ttl == 0 {
		ttl = DefaultInvitation
	}
	if ttl < 0 || ttl > MaxInvitation {
		return "", fault.Newf(fault.Invalid, "an invitation is good for at most %s", MaxInvitation)
	}
	rec, rev, err := p.load(ctx, user)
	if err != nil {
		return "", err
	}
	token := Token(rand.Text()) // 130 bits
	rec.Invitation = &invitation{Hash: token.hash(), Expires: p.now().Add(ttl).UTC()}
	if reset {
		rec.Hash = ""
	}
	if err := p.save(ctx, user, rec, rev); err != nil {
		return "", err
	}
	return token, nil
}

// Redeem sets the password of user with a token that Invite returned. A token
// works once. Faults: Invalid when the password is not acceptable (the token
// stays good), Unauthenticated when there is no such invitation, Unavailable.
func (p *Passwords) Redeem(ctx context.Context, token Token, user string, password Password) error {
	if err := password.check(); err != nil {
		return err
	}
	refused := fault.New(fault.Unauthenticated, "the invitation is unknown, used or expired").
		WithHint("ask an administrator for a new one: postern ctl users reset")
	rec, rev, err := p.load(ctx, user)
	if err != nil {
		return err
	}
	if !rec.Invitation.good(token, p.now()) {
		return refused
	}
	err = p.setPassword(ctx, user, password, rec, rev)
	if err != nil && fault.KindOf(err) == fault.Conflict {
		return refused // somebody was faster; the token is used
	}
	return err
}

// Remove forgets everything about user. Removing an unknown user is no error.
func (p *Passwords) Remove(ctx context.Context, user string) error {
	return p.records.Delete(ctx, user)
}

// good reports whether token is the invitation and still in time. It takes the
// same time for every token.
func (i *invitation) good(token Token, now time.Time) bool {
	var want string
	if i != nil && now.Before(i.Expires) {
		want = i.Hash
	}
	return subtle.ConstantTimeCompare([]byte(token.hash()), []byte(want)) == 1
}

// hash is what is stored of a token. Tokens are random, so one round is enough.
func (t Token) hash() string {
	sum := sha256.Sum256([]byte(t))
	return hex.EncodeToString(sum[:])
}
