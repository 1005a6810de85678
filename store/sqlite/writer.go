package sqlite

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/store"
)

// Bounds of one commit (store design §3).
const (
	maxBatch     = 128
	maxBatchTime = 20 * time.Millisecond
	// While devices wait, jobs get this part of a batch.
	jobShare = maxBatch / 4
	// Updates beyond this wait in their callers (INV-R6).
	queueLength = 1024
)

// update is one function on its way to a commit.
type update struct {
	ctx    context.Context
	lane   store.Lane
	f      func(store.Conn) error
	queued time.Time
	waited time.Duration
	ran    time.Duration
	err    error
	done   chan struct{}
}

// writer is the goroutine that owns the writing connection.
type writer struct {
	name    string // of the file, with settings
	meter   *store.Meter
	devices chan *update
	jobs    chan *update
	stop    chan struct{}
	stopped chan struct{}
	once    sync.Once
	changes atomic.Uint64 // commits that changed trust

	conn *conn // run's alone; nil while it cannot be opened
	err  error // of the last close of conn; read after stopped
}

func startWriter(name string, m *store.Meter) (*writer, error) {
	w := &writer{
		name: name, meter: m,
		devices: make(chan *update, queueLength), jobs: make(chan *update, queueLength),
		stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	if err := w.connect(); err != nil {
		return nil, err
	}
	go w.run()
	return w, nil
}

// close lets the writer finish what is queued.
func (w *writer) close() error {
	w.once.Do(func() { close(w.stop) })
	<-w.stopped
	return w.err
}

// Update queues f and waits for its commit. Once f has begun it runs to its end whatever
// becomes of ctx: no caller's context ever reaches a statement of the writer.
func (e *Engine) Update(ctx context.Context, lane store.Lane, f func(store.Conn) error) error {
	if e.writer == nil {
		return fault.New(fault.Unavailable, "read-only", "The database is open to read only.")
	}
	return e.writer.update(ctx, lane, f)
}

func (w *writer) update(ctx context.Context, lane store.Lane, f func(store.Conn) error) error {
	queue := w.devices
	if lane == store.Jobs {
		queue = w.jobs
	}
	u := &update{ctx: ctx, lane: lane, f: f, queued: time.Now(), done: make(chan struct{})}
	select {
	case <-w.stop:
		return errClosed
	default:
	}
	select {
	case queue <- u:
	case <-w.stop:
		return errClosed
	case <-ctx.Done():
		return store.ErrCancelled(ctx)
	}
	select {
	case <-u.done:
		return u.err
	case <-ctx.Done():
		return store.ErrCancelled(ctx)
	case <-w.stopped:
		// Queued after the writer had looked for the last time, or answered just before.
		select {
		case <-u.done:
			return u.err
		default:
			return errClosed
		}
	}
}

func (w *writer) run() {
	defer close(w.stopped)
	defer func() {
		if w.conn != nil {
			w.err = first(w.conn.writeBack(), w.conn.close())
		}
	}()
	for {
		first := w.wait()
		if first == nil {
			return
		}
		w.batch(first)
	}
}

// wait returns the next update, devices first; nil when the writer is told to stop and
// nothing is queued.
func (w *writer) wait() *update {
	select {
	case u := <-w.devices:
		return u
	default:
	}
	select {
	case u := <-w.devices:
		return u
	case u := <-w.jobs:
		return u
	case <-w.stop:
	}
	select {
	case u := <-w.devices:
		return u
	case u := <-w.jobs:
		return u
	default:
		return nil
	}
}

// next returns the next update for a batch under way, nil when none is waiting or
// jobs have had their share of it.
func (w *writer) next(jobs int) *update {
	select {
	case u := <-w.devices:
		return u
	default:
	}
	if jobs >= jobShare {
		return nil
	}
	select {
	case u := <-w.jobs:
		return u
	default:
		return nil
	}
}

// batch runs what is waiting in one transaction and answers after its commit. Nobody is
// kept waiting for company: the sync of one commit gathers the next batch.
func (w *writer) batch(first *update) {
	var batch []*update
	start, jobs := time.Now(), 0
	err := w.begin()
	for u := first; u != nil; u = w.next(jobs) {
		if u.lane == store.Jobs {
			jobs++
		}
		if u.ctx.Err() != nil {
			u.err = store.ErrCancelled(u.ctx)
			close(u.done)
			continue
		}
		batch = append(batch, u)
		if err == nil {
			err = w.perform(u, false)
		}
		if len(batch) >= maxBatch || time.Since(start) > maxBatchTime {
			break
		}
	}
	committing := time.Now()
	if err == nil {
		err = w.commit()
	}
	w.meter.Commit(err == nil)
	if err != nil {
		w.alone(batch, err)
	}
	took := time.Since(committing)
	for _, u := range batch {
		w.meter.Sample(store.Sample{
			Lane: u.lane, Batch: len(batch), Waited: u.waited, Ran: u.ran, Committed: took, Failed: u.err != nil,
		})
		close(u.done)
	}
}

// alone runs each update of a batch that could not commit in a transaction of its own,
// once: what fails again is answered as unavailable (store design §3).
func (w *writer) alone(batch []*update, cause error) {
	w.rollback(cause)
	for i, u := range batch {
		err := w.begin()
		if err != nil {
			// A file that cannot be written now will not be for the rest either, and each
			// attempt may take as long as the busy timeout.
			for _, rest := range batch[i:] {
				rest.err = store.ErrUnavailable(err)
			}
			return
		}
		if err = w.perform(u, true); err != nil {
			w.rollback(err)
			continue // with the function's own error
		}
		err = w.commit()
		w.meter.Commit(err == nil)
		if err != nil {
			w.rollback(err)
			u.err = store.ErrUnavailable(err)
		}
	}
}

func (w *writer) begin() error {
	if w.conn == nil {
		if err := w.connect(); err != nil {
			return err
		}
	}
	return w.conn.run("BEGIN IMMEDIATE")
}

// commit counts a change of trust even when it could not be committed: what a failed COMMIT
// left is not known.
func (w *writer) commit() error {
	err := w.conn.run("COMMIT")
	if w.conn.trust {
		w.conn.trust = false
		w.changes.Add(1)
	}
	return err
}

// connect opens the writing connection and reads its settings back (INV-S1).
func (w *writer) connect() error {
	c, err := open(w.name)
	if err != nil {
		return err
	}
	if err := c.durable(); err != nil {
		return errors.Join(err, c.close())
	}
	w.conn = c
	return nil
}

// perform runs one function in the open transaction. The error it returns is the
// transaction's: the function failed after a statement that may have written, and only
// the whole transaction can be undone.
//
// A savepoint for each function would keep such a failure to itself, and costs every
// function that does not fail: a copy of each page it is the first to touch, 3 % of the
// server's time for an enrollment. Functions decide before they write (store design §3),
// so their refusals leave nothing behind; what fails later is a rarity.
func (w *writer) perform(u *update, again bool) error {
	w.conn.count, w.conn.wrote, w.conn.lost = 0, false, nil
	began := time.Now()
	u.waited = began.Sub(u.queued)
	u.err = call(w.conn, u.f)
	u.ran = time.Since(began)
	w.meter.Function(w.conn.count, again)
	switch {
	case w.conn.lost != nil:
		// SQLite ends the whole transaction after some errors, a full disk among them: the
		// neighbours' rows are gone, whatever the function made of it.
		u.err = w.conn.lost
		return u.err
	case w.conn.wrote:
		return u.err
	}
	return nil
}

// rollback ends a transaction that failed. After an error of the disk the connection's
// view of the file is not to be trusted: it is opened anew before the next BEGIN.
func (w *writer) rollback(cause error) {
	if w.conn == nil {
		return
	}
	// ROLLBACK fails where SQLite has done it already, and where it cannot; a new
	// connection is right in both cases.
	if err := w.conn.run("ROLLBACK"); err != nil || fault.Is(broken(cause), fault.Unavailable) {
		_ = w.conn.close()
		w.conn = nil
	}
}
