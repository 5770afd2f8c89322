package audit

import "time"

// syncAfter is how long a posted event may be written but not durable: half of
// what Post promises, the rest is for the disk. A crash of the process loses
// nothing that is written; only a crash of the machine does.
const syncAfter = 50 * time.Millisecond

// writePause is how long streamed events wait for others. A write costs about as much
// as ten events do, most of it for waking a thread. With syncAfter it stays below what
// Stream promises.
const writePause = 40 * time.Millisecond

// keepCached is how much of the end of a segment stays in the kernel's cache, for
// those who follow the log. The rest goes once it is durable, in pieces of this size.
// The memory then serves for what is written next, which matters: to touch memory for
// the first time costs several times what copying a line into it does.
const keepCached = 8 << 20

// run is the goroutine that writes. It takes whatever is queued; what arrives
// during an fsync waits together and shares the next one.
func (l *Log) run() {
	var syncTime <-chan time.Time // set while something is written but not durable
	for {
		due, last := false, false
		select {
		case <-l.now:
		case <-syncTime:
			due = true
		case <-l.closing:
			last = true
		}
		b := l.take()
		err := l.writer.write(b)
		switch {
		case err != nil:
		case b.urgent || due || last:
			err, syncTime = l.writer.sync(), nil
		case syncTime == nil && len(b.ends) > 0:
			syncTime = time.After(syncAfter)
		}
		if err != nil {
			b.err = l.fail(err)
		}
		l.done(b)
		if last || err != nil {
			return
		}
	}
}

// take returns what is queued and begins a new batch.
func (l *Log) take() *batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.late.Stop()
	b := l.next
	l.next, l.spare = newBatch(l.spare), nil
	close(b.taken)
	return b
}

// done tells those who wait for b that it is written, and keeps its buffers.
func (l *Log) done(b *batch) {
	l.mu.Lock()
	l.spare = b
	l.mu.Unlock()
	close(b.written)
}

// fail ends writing for good. Nothing is tried again: after a failed write or
// fsync nobody knows what is on the disk, and opening the log finds out.
func (l *Log) fail(cause error) error {
	err := unwritable(cause)
	l.log.Error("audit log failed", "error", cause)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
	l.next.err = err
	close(l.next.taken)
	close(l.next.written)
	return err
}

// writer appends lines to segments. Only one goroutine uses it.
type writer struct {
	dir        string
	maxSegment int64
	now        func() time.Time
	tail       tail
	turns      turns
}

// write chains and writes what is in b. It is not durable yet.
func (w *writer) write(b *batch) error {
	today := day(w.now())
	written, sealed := 0, 0 // up to where the lines are
	for _, end := range b.ends {
		if !b.urgent {
			w.turns.worked()
		}
		if w.tail.file == nil || w.tail.day != today || w.tail.size+int64(sealed-written) >= w.maxSegment {
			if err := w.append(b.lines[written:sealed]); err != nil {
				return err
			}
			if err := w.rotate(today); err != nil {
				return err
			}
			written = sealed
		}
		w.tail.last = w.tail.last.seal(b.lines[sealed:end])
		sealed = end
	}
	return w.append(b.lines[written:sealed])
}

// append hands lines to the operating system.
func (w *writer) append(lines []byte) error {
	if len(lines) == 0 {
		return nil
	}
	n, err := w.tail.file.WriteAt(lines, w.tail.size)
	w.tail.size += int64(n)
	return err
}

func (w *writer) sync() error {
	if w.tail.file == nil {
		return nil
	}
	if err := w.tail.file.Sync(); err != nil {
		return err
	}
	if old := w.tail.size - keepCached - w.tail.cached; old >= keepCached {
		forget(w.tail.file, w.tail.cached, old)
		w.tail.cached += old
	}
	return nil
}

// rotate begins a new segment. The old one is durable before the new one exists,
// so only the last segment can ever be torn.
func (w *writer) rotate(today string) error {
	if w.tail.file != nil {
		if err := w.sync(); err != nil {
			return err
		}
		forget(w.tail.file, 0, 0) // from the beginning: where two pieces meet a page may have stayed
		if err := w.tail.file.Close(); err != nil {
			return err
		}
	}
	file, err := createFile(w.dir, segmentName(w.tail.last.seq+1))
	if err != nil {
		return err
	}
	w.tail.file, w.tail.size, w.tail.cached, w.tail.day = file, 0, 0, today
	return nil
}

func (w *writer) close() error {
	if w.tail.file == nil {
		return nil
	}
	return w.tail.file.Close()
}
