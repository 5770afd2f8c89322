package agent

import (
	"errors"

	"github.com/postern-db/postern/internal/fault"
)

// errFrozen is in the chain of what is not done because a database is frozen.
var errFrozen = errors.New("frozen")

// frozen returns why automatic users of a database are switched off, or nil. It
// asks the resources as they are now, so that a freeze counts at once.
func (s *Server) frozen(database string) error {
	view, _ := s.cfg.View()
	f := view.Frozen(database)
	if f == nil {
		return nil
	}
	refused := fault.Newf(fault.Unavailable, "automatic users of database %q are switched off since %s", database, f.Since.Format("2006-01-02 15:04 MST")).
		WithCause(errFrozen).WithHint("try again later; an administrator switches them on again with: postern db unfreeze " + database)
	if f.Reason != "" {
		refused = refused.WithDetail(f.Reason)
	}
	return refused
}

// thaw has what became due while a database was frozen done, once it no longer is.
func (s *Server) thaw(view View) {
	for _, d := range s.servedNow() {
		frozen := view.Frozen(d.resource.GetName()) != nil
		if d.wasFrozen.Swap(frozen) && !frozen && d.provisioner != nil {
			d.provisioner.SweepSoon()
		}
	}
}
