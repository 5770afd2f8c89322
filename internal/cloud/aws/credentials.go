package aws

import (
	"context"
	"sync"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
)

const (
	// refreshAhead is how long before their end credentials are fetched anew.
	refreshAhead = 5 * time.Minute
	// refreshTimeout bounds that attempt: a login should not wait for what it does not need.
	refreshTimeout = 3 * time.Second
	// refreshAgain is the pause after an attempt that failed while the old ones are good.
	refreshAgain = 30 * time.Second
	// spare is how long credentials must still be good to be used: a token dies with them.
	spare = 30 * time.Second
)

// credentials keep what a source gives. Some time before its end one caller
// fetches anew, for a bounded time, while the others go on with what there is; only without any
// do all wait.
type credentials struct {
	source sdk.CredentialsProvider
	now    func() time.Time

	fetching sync.Mutex // held by whoever asks the source

	mu      sync.Mutex // guards the fields below
	current *sdk.Credentials
	next    time.Time // not before then they are fetched ahead
}

// Retrieve returns credentials that are good for a while.
func (c *credentials) Retrieve(ctx context.Context) (sdk.Credentials, error) {
	current, good, due := c.look()
	switch {
	case good && !due:
		return current, nil
	case good && c.fetching.TryLock():
		defer c.fetching.Unlock()
		limited, cancel := context.WithTimeout(ctx, refreshTimeout)
		defer cancel()
		if fresh, err := c.fetch(limited); err == nil {
			return fresh, nil
		}
		c.postpone()
		return current, nil
	case good:
		return current, nil
	}
	c.fetching.Lock()
	defer c.fetching.Unlock()
	if current, good, _ := c.look(); good { // somebody else was faster
		return current, nil
	}
	return c.fetch(ctx)
}

// look returns what there is, whether it can be used, and whether it should be
// fetched anew.
func (c *credentials) look() (current sdk.Credentials, good, due bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current == nil {
		return sdk.Credentials{}, false, true
	}
	if !c.current.CanExpire {
		return *c.current, true, false
	}
	now := c.now()
	left := c.current.Expires.Sub(now)
	return *c.current, left > spare, left <= refreshAhead && !now.Before(c.next)
}

// fetch asks the source; c.fetching is held.
func (c *credentials) fetch(ctx context.Context) (sdk.Credentials, error) {
	if cache, ok := c.source.(*sdk.CredentialsCache); ok {
		cache.Invalidate() // it would go on with what it has to the very end
	}
	fresh, err := c.source.Retrieve(ctx)
	if err != nil {
		return sdk.Credentials{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current, c.next = &fresh, time.Time{}
	return fresh, nil
}

func (c *credentials) postpone() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next = c.now().Add(refreshAgain)
}
