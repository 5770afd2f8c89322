package agent

import (
	"context"
	"sync"
)

// errand is work that is done when somebody asks for it, in a goroutine that runs
// only then: thousands of sessions have none nearly all the time, and a stack that
// waits is memory.
//
// It is never done twice at once. Whoever asks while it is done has it done once more
// after that, so that nothing is missed that was left for it before asking.
type errand struct {
	mu    sync.Mutex // guards the fields below
	work  func()     // nil before begin and after end
	asked bool       // since the work was last begun
	busy  bool       // a goroutine is at it
	doing sync.WaitGroup
}

// begin has the work done whenever it is asked for, and at once if it was before.
func (e *errand) begin(ctx context.Context, work func(context.Context)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.work = func() { work(ctx) }
	e.start()
}

// ask has the work done, now or as soon as it can be.
func (e *errand) ask() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked = true
	e.start()
}

// end waits for the work that is being done. None is begun any more.
func (e *errand) end() {
	e.mu.Lock()
	e.work = nil
	e.mu.Unlock()
	e.doing.Wait()
}

// start makes the goroutine unless there is one, or nothing to do. e.mu is held.
func (e *errand) start() {
	if e.work == nil || !e.asked || e.busy {
		return
	}
	e.busy = true
	e.doing.Go(func() {
		for work := e.next(); work != nil; work = e.next() {
			work()
		}
	})
}

// next returns the work if it was asked for, else nil: then the goroutine is gone.
func (e *errand) next() func() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.work == nil || !e.asked {
		e.busy = false
		return nil
	}
	e.asked = false
	return e.work
}
