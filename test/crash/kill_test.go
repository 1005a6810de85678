package crash_test

import (
	"context"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/testpg"
	"github.com/passmuster/muster/test/instance"
)

// kills is how often each server is killed.
func kills() int {
	switch {
	case os.Getenv("MUSTER_SOAK") == "1":
		return 200
	case testing.Short():
		return 3
	}
	return 20
}

func TestAServerThatIsKilledHasLostNothingItAnswered(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) { killed(t, "") })
	t.Run("PostgreSQL", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "dsn")
		if err := os.WriteFile(file, []byte(testpg.DSN(t)), 0o600); err != nil {
			t.Fatal(err)
		}
		killed(t, file)
	})
}

// killed kills a server again and again while eight devices enroll and an operator
// disables and enables some of them, and checks after each restart what was promised.
func killed(t *testing.T, dsnFile string) {
	ctx, stop := context.WithCancel(t.Context())
	w := newWorld(t, instance.Config{
		Binary: binary(t), Data: folder(t), DSNFile: dsnFile, Devices: address(t), Admin: address(t), PKI: address(t),
	})
	var busy sync.WaitGroup
	defer func() {
		stop()
		busy.Wait()
	}()
	key := groupKey(t, w.config.Data)
	for n := range 5 {
		busy.Go(func() { w.newcomers(ctx, n, key) })
	}
	for _, s := range w.solos {
		busy.Go(func() { w.regular(ctx, s) })
	}
	busy.Go(func() { w.operate(ctx) })

	for n := range kills() {
		w.someAnswers(1 + rand.IntN(40))
		w.server.Kill()
		due := w.promised()
		w.server = start(t, w.config)
		w.checkRecorded(ctx, due)
		w.restarted()
		if t.Failed() {
			t.Fatalf("after kill %d", n+1)
		}
	}
	stop()
	busy.Wait()
	w.checkAll()
	if err := w.server.Stop(); err != nil {
		t.Error(err)
	}
	doctor(t, w.config)
	if w.held == 0 {
		t.Error("no disable was looked at to its end")
	}
	t.Logf("%d kills, %d certificates answered, %d disables held", kills(), len(w.given), w.held)
}

// promise is a certificate that a device was given.
type promise struct{ id, thumbprint string }

// world is an installation that is killed and started again, and what it has promised.
type world struct {
	*testing.T
	config instance.Config
	server *instance.Instance // of the killer; addresses and token outlive each run
	admin  *instance.Instance // the first run, whose addresses and token all have
	site   site
	solos  []*solo

	mu     sync.Mutex
	starts chan struct{}      // closed at the next start
	answer chan struct{}      // closed at the next answer
	given  map[string]promise // by serial
	due    []string           // serials not looked up since they were given

	held int // disables seen to hold; the operator's
}

func newWorld(t *testing.T, c instance.Config) *world {
	w := &world{
		T: t, config: c, server: start(t, c),
		starts: make(chan struct{}), answer: make(chan struct{}), given: map[string]promise{},
	}
	w.admin, w.site = w.server, siteOf(t, w.server)
	for n := range 3 {
		w.solos = append(w.solos, w.newSolo("solo-"+strconv.Itoa(n)))
	}
	return w
}

// address is a free address on loopback, below the ports that clients are given: a
// client dialling a server that is down could else be given the server's own port.
func address(t *testing.T) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(20000+rand.IntN(10000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

// someAnswers waits until devices have got n more certificates, and a random moment
// longer. A server that answers nobody is for the checks to find.
func (w *world) someAnswers(n int) {
	limit := time.After(5 * time.Second)
	for range n {
		select {
		case <-w.nextAnswer():
		case <-limit:
			w.Error("for 5 s nobody was given a certificate")
			return
		}
	}
	<-time.After(rand.N(20 * time.Millisecond))
}

func (w *world) nextAnswer() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.answer
}

// give remembers an answer.
func (w *world) give(id, serial, thumbprint string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if was, twice := w.given[serial]; twice {
		w.Errorf("serial %s was given to %s and to %s", serial, was.id, id)
	}
	w.given[serial] = promise{id, thumbprint}
	w.due = append(w.due, serial)
	close(w.answer)
	w.answer = make(chan struct{})
}

// promised takes the serials given since the last call.
func (w *world) promised() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	due := w.due
	w.due = nil
	return due
}

// restarted lets everybody on who waits for the server.
func (w *world) restarted() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.starts)
	w.starts = make(chan struct{})
}

// nextStart is closed when the server is next started. Who takes it before a request
// and waits for it after a failure misses no start.
func (w *world) nextStart() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.starts
}

// checkRecorded looks the serials up one by one.
func (w *world) checkRecorded(ctx context.Context, serials []string) {
	for _, serial := range serials {
		found, err := inventory(ctx, w.admin, "&serial="+serial)
		if err != nil {
			w.Error(err)
			return
		}
		if len(found) != 1 || !w.kept(found[0]) {
			w.Errorf("a certificate was given out, and after a kill its serial %s finds %+v", serial, found)
		}
	}
}

// kept says whether a record is that of the certificate given under its serial.
func (w *world) kept(r record) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.given[r.Serial] == promise{r.RegistrationID, r.Thumbprint}
}

// checkAll reads the whole inventory: everything given is there, nothing twice.
func (w *world) checkAll() {
	all, err := inventory(w.Context(), w.admin, "")
	if err != nil {
		w.Fatal(err)
	}
	seen := map[string]bool{}
	for _, r := range all {
		if seen[r.Serial] {
			w.Errorf("serial %s is on record twice", r.Serial)
		}
		seen[r.Serial] = true
		if _, given := w.given[r.Serial]; given && !w.kept(r) {
			w.Errorf("serial %s was given as %+v and is on record as %+v", r.Serial, w.given[r.Serial], r)
		}
	}
	for serial, p := range w.given {
		if !seen[serial] {
			w.Errorf("the certificate %s that %s was given is not on record", serial, p.id)
		}
	}
}
