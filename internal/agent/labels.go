package agent

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/postern-db/postern/internal/resource"
)

const (
	defaultLabelPeriod = time.Hour
	minLabelPeriod     = time.Second
	labelTimeout       = 10 * time.Second // of one command
	maxLabelValue      = 1 << 10          // bytes kept of a command's output
)

// labels are the labels of one database: static ones, and over them the output of
// commands that run from time to time.
type labels struct {
	static map[string]string
	known  chan struct{} // closed when every command has had its first run

	// changed is called when the labels are known, and when one has another value. It
	// must not block.
	changed func()

	mu      sync.Mutex        // guards the fields below
	results map[string]string // replaced, never changed
}

// wait returns when every command has had its first run: a decision must not be
// made while a label that could deny it is still on its way.
func (l *labels) wait(ctx context.Context) error {
	select {
	case <-l.known:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ready reports whether every command has had its first run.
func (l *labels) ready() bool {
	select {
	case <-l.known:
		return true
	default:
		return false
	}
}

// effective returns all labels as they are now. The caller may change the map.
func (l *labels) effective() map[string]string {
	all := maps.Clone(l.static)
	if all == nil {
		all = map[string]string{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.Copy(all, l.results)
	return all
}

// follow runs the commands, each at once and then in its period, until ctx ends.
func (l *labels) follow(ctx context.Context, work *sync.WaitGroup, commands map[string]resource.DynamicLabel, log *slog.Logger) {
	if len(commands) == 0 {
		close(l.known)
		return
	}
	var first sync.WaitGroup
	first.Add(len(commands))
	work.Go(func() {
		first.Wait()
		close(l.known)
		l.changed()
	})
	for _, name := range slices.Sorted(maps.Keys(commands)) {
		command := commands[name]
		period := max(command.Period.Std(), minLabelPeriod)
		if command.Period == 0 {
			period = defaultLabelPeriod
		}
		work.Go(func() {
			ticker := time.NewTicker(period)
			defer ticker.Stop()
			l.run(ctx, name, command.Command, log)
			first.Done()
			for {
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
					l.run(ctx, name, command.Command, log)
				}
			}
		})
	}
}

// run updates one label. When its command fails the label keeps its last value; a
// label that never had one is missing, which selects nothing.
func (l *labels) run(ctx context.Context, name string, command []string, log *slog.Logger) {
	limited, cancel := context.WithTimeout(ctx, labelTimeout)
	defer cancel()
	cmd := exec.CommandContext(limited, command[0], command[1:]...)
	cmd.WaitDelay = time.Second // a grandchild may keep the pipe open
	var out bytes.Buffer
	cmd.Stdout = &limitedWriter{to: &out, left: maxLabelValue}
	if err := cmd.Run(); err != nil {
		if ctx.Err() == nil {
			log.Warn("label command failed", "label", name, "error", err)
		}
		return
	}
	if l.set(name, strings.TrimSpace(out.String())) && l.ready() {
		l.changed()
	}
}

// set notes the value of a label and reports whether it had another one.
func (l *labels) set(name, value string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if before, ok := l.results[name]; ok && before == value {
		return false
	}
	next := maps.Clone(l.results)
	if next == nil {
		next = map[string]string{}
	}
	next[name] = value
	l.results = next
	return true
}

// limitedWriter keeps the first bytes and takes the rest without keeping it.
type limitedWriter struct {
	to   *bytes.Buffer
	left int
}

func (w *limitedWriter) Write(p []byte) (int, error) {
	n := min(len(p), w.left)
	w.to.Write(p[:n])
	w.left -= n
	return len(p), nil
}
