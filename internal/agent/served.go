package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
)

// closeTimeout bounds how long giving up a database may take.
const closeTimeout = 5 * time.Second

// Served is a database that this agent serves, with its labels as they are now.
type Served struct {
	Database *resource.Database
	Labels   map[string]string
}

// Databases returns what is served, sorted by name.
func (s *Server) Databases() []Served {
	var all []Served
	for _, d := range s.servedNow() {
		all = append(all, Served{Database: d.resource, Labels: d.labels.effective()})
	}
	return all
}

// Health returns what is known about every database, sorted by name.
func (s *Server) Health() []api.DatabaseHealth {
	var all []api.DatabaseHealth
	for _, d := range s.servedNow() {
		all = append(all, d.healthNow())
	}
	return all
}

func (s *Server) servedNow() []*database {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*database
	for _, name := range slices.Sorted(maps.Keys(s.databases)) {
		all = append(all, s.databases[name])
	}
	return all
}

// acquire sets the database of a session, or returns NotFound. It stays usable
// until the session calls sessions.Done, also when it is given up meanwhile.
func (s *Server) acquire(sess *session, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d, ok := s.databases[name]; ok {
		d.sessions.Add(1)
		sess.database = d
		return nil
	}
	return fault.Newf(fault.NotFound, "database %q not found among registered databases in cluster %q", name, s.cfg.Cluster).
		WithHint("list the databases you may reach with: postern db ls")
}

// followResources keeps the served databases, and what running sessions may do,
// equal to the resources until ctx ends.
func (s *Server) followResources(ctx context.Context) {
	for {
		view, newer := s.cfg.View()
		_, found := s.cfg.Discovered()
		s.refresh(ctx)
		s.recheck(view)
		s.thaw(view)
		select {
		case <-ctx.Done():
			return
		case <-newer:
		case <-found:
		case <-s.labels:
		}
	}
}

// relabelled has what depends on labels decided on again.
func (s *Server) relabelled() {
	s.relabels.Add(1)
	signal(s.labels)
}

// current returns the database that is served now in the place of the one with
// which a session began, or that one where none is, or its labels are not known yet.
func (s *Server) current(began *database) *database {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d, ok := s.databases[began.resource.GetName()]; ok && d.labels.ready() {
		return d
	}
	return began
}

// refresh serves what the configuration and the resources name now, and gives up
// what they name no longer. Sessions of a database that was removed are ended;
// those of one that only changed go on as they began. It costs nothing where nothing
// is newer than at the last time: each session begins with it, so that a database can
// be used as soon as it is registered. ctx is the life of the agent.
func (s *Server) refresh(ctx context.Context) {
	s.refreshing.Lock()
	defer s.refreshing.Unlock()
	if ctx.Err() != nil || !s.outdated() {
		return
	}
	wanted := s.wanted()
	s.mu.Lock()
	var gone []*database
	for name, d := range s.databases {
		r := wanted[name]
		if r != nil && same(r, d.resource) {
			delete(wanted, name)
			continue
		}
		gone = append(gone, d)
		delete(s.databases, name)
		if r == nil {
			s.endSessionsOf(d)
		}
	}
	for name, r := range wanted {
		d, err := s.newDatabase(ctx, r)
		if err != nil {
			s.log.Error("database not served", "database", name, "error", fault.Chain(err))
			continue
		}
		s.databases[name] = d
		d.start(ctx, s.log, s.now)
		s.log.Info("database served", "database", name, "uri", r.Spec.URI)
	}
	s.mu.Unlock()
	for _, d := range gone {
		s.closing.Go(func() { s.giveUp(ctx, d) })
	}
}

// same reports whether two resources say the same.
func same(a, b *resource.Database) bool {
	if a == b {
		return true
	}
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// endSessionsOf ends every session of a database; s.mu is held.
func (s *Server) endSessionsOf(d *database) {
	for sess := range s.sessions {
		if sess.database == d {
			sess.end(endRemoved(d.resource.GetName()))
		}
	}
}

// outdated reports whether there are newer resources than those of the last
// refresh; s.refreshing is held.
func (s *Server) outdated() bool {
	if s.newerView == nil {
		return true
	}
	select {
	case <-s.newerView:
	case <-s.newerFound:
	default:
		return false
	}
	return true
}

// wanted returns the databases to serve by name; static ones win. s.refreshing is held.
func (s *Server) wanted() map[string]*resource.Database {
	all := map[string]*resource.Database{}
	view, newer := s.cfg.View()
	found, newerFound := s.cfg.Discovered()
	s.newerView, s.newerFound = newer, newerFound
	for _, r := range view.Databases() {
		if s.cfg.Selects == nil {
			continue
		}
		if as := s.cfg.Selects(r); as != nil {
			all[as.GetName()] = as
		}
	}
	for _, r := range found {
		all[r.GetName()] = r
	}
	for _, r := range s.cfg.Static {
		all[r.GetName()] = r
	}
	return all
}

// Unserved says why a registered database is not served; empty when it is.
func (s *Server) Unserved(r *resource.Database) string {
	if slices.ContainsFunc(s.cfg.Static, func(d *resource.Database) bool { return d.GetName() == r.GetName() }) {
		return "the configuration file has a database of this name, which comes first"
	}
	found, _ := s.cfg.Discovered()
	if slices.ContainsFunc(found, func(d *resource.Database) bool { return d.GetName() == r.GetName() }) {
		return "the agent has discovered a database of this name by itself, which comes first"
	}
	if s.cfg.Selects == nil || s.cfg.Selects(r) == nil {
		return "no matcher below db_service.resources in the configuration file selects its labels"
	}
	return ""
}

// giveUp stops a database when its last session has released its database user. Until
// then its bundles follow policy.
func (s *Server) giveUp(ctx context.Context, d *database) {
	d.sessions.Wait()
	d.stop()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if err := d.close(ctx); err != nil {
		s.log.Warn("database not closed cleanly", "database", d.resource.GetName(), "error", fault.Chain(err))
	}
	s.log.Info("database given up", "database", d.resource.GetName())
}

// stopDatabases gives up every database, after the last session has ended.
func (s *Server) stopDatabases(ctx context.Context) {
	s.mu.Lock()
	gone := slices.Collect(maps.Values(s.databases))
	clear(s.databases)
	s.mu.Unlock()
	for _, d := range gone {
		s.closing.Go(func() { s.giveUp(ctx, d) })
	}
	s.closing.Wait()
}
