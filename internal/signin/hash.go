package signin

import (
	"context"
	"crypto/rand"
	"fmt"
	"runtime"
	"time"

	"github.com/alexedwards/argon2id"

	"github.com/postern-db/postern/internal/fault"
)

// hasher runs argon2id, which wants memory and time on purpose, for a bounded
// number of callers at a time.
type hasher struct {
	running chan struct{} // holds one value per running hash
	waiting chan struct{} // holds one value per caller that waits
	maxWait time.Duration
	dummy   string // the hash that unknown users are compared with
}

// params are those of the OWASP password storage guide: 19 MiB, 2 passes, 1
// lane; about 75 ms. Hashes name their parameters, so they may be raised.
func params() *argon2id.Params {
	return &argon2id.Params{Memory: 19 << 10, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32}
}

func newHasher(maxHashes, maxWaiting int, maxWait time.Duration) (*hasher, error) {
	if maxHashes <= 0 {
		maxHashes = runtime.GOMAXPROCS(0)
	}
	if maxWaiting <= 0 {
		maxWaiting = 64
	}
	if maxWait <= 0 {
		maxWait = 5 * time.Second
	}
	dummy, err := argon2id.CreateHash(rand.Text(), params())
	if err != nil {
		return nil, fmt.Errorf("hash password: %w", err)
	}
	return &hasher{
		running: make(chan struct{}, maxHashes), waiting: make(chan struct{}, maxWaiting),
		maxWait: maxWait, dummy: dummy,
	}, nil
}

// enter waits for a turn; leave ends it.
func (h *hasher) enter(ctx context.Context) error {
	select {
	case h.running <- struct{}{}:
		return nil
	default:
	}
	busy := fault.New(fault.Unavailable, "too many people are signing in right now").WithHint("try again in a few seconds")
	select {
	case h.waiting <- struct{}{}:
	default:
		return busy
	}
	defer func() { <-h.waiting }()
	timeout := time.NewTimer(h.maxWait)
	defer timeout.Stop()
	select {
	case h.running <- struct{}{}:
		return nil
	case <-timeout.C:
		return busy
	case <-ctx.Done():
		return fmt.Errorf("wait to check a password: %w", ctx.Err())
	}
}

func (h *hasher) leave() { <-h.running }

func (h *hasher) hash(ctx context.Context, password Password) (string, error) {
	if err := h.enter(ctx); err != nil {
		return "", err
	}
	defer h.leave()
	hash, err := argon2id.CreateHash(password.normal(), params())
	if err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	return hash, nil
}

// compare reports whether hash, which may be empty, is of password. It always
// hashes once.
func (h *hasher) compare(ctx context.Context, password Password, hash string) (bool, error) {
	known := hash != ""
	if !known {
		hash = h.dummy
	}
	text := ""
	if len(password) <= MaxPassword { // a longer one can be nobody's
		text = password.normal()
	}
	if err := h.enter(ctx); err != nil {
		return false, err
	}
	defer h.leave()
	match, err := argon2id.ComparePasswordAndHash(text, hash)
	if err != nil {
		return false, fmt.Errorf("compare password: %w", err)
	}
	return match && known, nil
}
