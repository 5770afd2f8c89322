package aws

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
)

const (
	// defaultInterval is how often Amazon is asked. It limits how often it may be.
	defaultInterval = 5 * time.Minute
	// searchTimeout bounds one search, retries of the SDK included.
	searchTimeout = time.Minute
)

// Discovery follows which databases there are. A search that fails keeps what it
// found last: only an answer that is complete takes a database away.
type Discovery struct {
	cloud    *Cloud
	searches []Search
	interval time.Duration
	log      *slog.Logger

	mu    sync.Mutex // guards the fields below
	last  []*Found   // by search; nil before the first answer
	newer chan struct{}
}

// Discovery returns a Discovery of the searches. interval is how often they are
// repeated; zero means that of the cloud's configuration, else 5 minutes.
func (c *Cloud) Discovery(searches []Search, interval time.Duration, log *slog.Logger) *Discovery {
	if interval <= 0 {
		interval = c.cfg.DiscoveryInterval
	}
	if interval <= 0 {
		interval = defaultInterval
	}
	return &Discovery{
		cloud: c, searches: searches, interval: interval, log: log,
		last: make([]*Found, len(searches)), newer: make(chan struct{}),
	}
}

// Serve searches at once and then in the interval, until ctx ends.
func (d *Discovery) Serve(ctx context.Context) {
	ticker := time.NewTicker(d.interval)
	defer ticker.Stop()
	for {
		var searching sync.WaitGroup
		for i := range d.searches {
			searching.Go(func() { d.search(ctx, i) })
		}
		searching.Wait()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (d *Discovery) search(ctx context.Context, i int) {
	s := d.searches[i]
	limited, cancel := context.WithTimeout(ctx, searchTimeout)
	defer cancel()
	found, err := d.cloud.Find(limited, s)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		d.log.Warn("discovery failed, what was found before stays", "search", s.String(), "error", fault.Chain(err), "hint", fault.Of(err).Hint)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last[i] != nil && reflect.DeepEqual(*d.last[i], found) {
		return
	}
	d.log.Info("databases discovered", "search", s.String(), "databases", len(found.Databases), "skipped", len(found.Skipped))
	for _, skipped := range found.Skipped {
		d.log.Info("database not registered", "search", s.String(), "name", skipped.Name, "why", skipped.Why)
	}
	d.last[i] = &found
	close(d.newer)
	d.newer = make(chan struct{})
}

// Databases returns what there is, each name once, and a channel that is closed
// when that changes.
func (d *Discovery) Databases() ([]*resource.Database, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []*resource.Database
	names := map[string]bool{}
	for _, found := range d.last {
		if found == nil {
			continue
		}
		for _, r := range found.Databases {
			if !names[r.GetName()] { // else the first one stays
				names[r.GetName()] = true
				all = append(all, r)
			}
		}
	}
	return all, d.newer
}

// Complete returns the searches that have been answered at least once: what they do
// not find does not exist.
func (d *Discovery) Complete() map[string]bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	complete := map[string]bool{}
	for i, found := range d.last {
		s := d.searches[i].String()
		answered, known := complete[s]
		complete[s] = found != nil && (answered || !known)
	}
	return complete
}

// Result is what one search finds now.
type Result struct {
	Search Search
	Found  Found
	Err    error
}

// Preview searches once, and changes nothing.
func (d *Discovery) Preview(ctx context.Context) ([]Result, error) {
	results := make([]Result, len(d.searches))
	var searching sync.WaitGroup
	for i, s := range d.searches {
		searching.Go(func() {
			found, err := d.cloud.Find(ctx, s)
			results[i] = Result{Search: s, Found: found, Err: err}
		})
	}
	searching.Wait()
	return results, errors.Join(ctx.Err())
}
