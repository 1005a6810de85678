package device

import (
	"bufio"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// selfSigned is a key with some certificate for it.
func selfSigned(t testing.TB) Stored {
	t.Helper()
	key := testKey(t)
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: testID},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	return Stored{Key: key, Chain: []*x509.Certificate{sign(t, template, nil, key.Public(), key)}}
}

func newFolder(t testing.TB) (*Folder, Stored) {
	t.Helper()
	first := selfSigned(t)
	f, err := Create(filepath.Join(t.TempDir(), testID), first.Key)
	if err != nil {
		t.Fatal(err)
	}
	return f, first
}

func TestFolderKeepsKeyAndCertificateTogether(t *testing.T) {
	f, first := newFolder(t)
	if got, err := f.Current(); err != nil || got.Slot != "a" || got.Leaf() != nil || !got.Credential().IsZero() {
		t.Fatalf("before the first certificate: %+v, %v", got, err)
	}
	if _, err := f.Previous(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("previous before the first certificate: %v", err)
	}
	a := newAuthority(t, "issuer", time.Now())
	for i, slot := range []string{"b", "a", "b"} {
		key := testKey(t)
		chain := a.chain(a.leaf(t, testID, key.Public(), time.Now(), time.Now().Add(time.Hour)))
		if err := f.Save(key, chain); err != nil {
			t.Fatal(err)
		}
		got, err := f.Current()
		if err != nil || got.Slot != slot || !certifies(got.Leaf(), key) || len(got.Chain) != 3 {
			t.Fatalf("save %d: %+v, %v", i, got, err)
		}
		if sent := got.Credential().Certificate.Certificate; len(sent) != 2 {
			t.Errorf("%d certificates would be sent, the root among them", len(sent))
		}
		previous, err := f.Previous()
		if i == 0 && err == nil || i > 0 && (err != nil || previous.Leaf().Equal(got.Leaf())) {
			t.Errorf("previous after save %d: %v", i, err)
		}
		for _, name := range credentialFiles {
			top, err1 := os.ReadFile(f.path(name))
			inner, err2 := os.ReadFile(f.path(slot, name))
			if err1 != nil || err2 != nil || string(top) != string(inner) {
				t.Errorf("%s at the top is not the current one: %v %v", name, err1, err2)
			}
		}
	}
	for path, want := range map[string]fs.FileMode{f.path(): 0o700, f.path("a"): 0o700, f.path("b", keyFile): 0o600, f.path(keyFile): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, %v", path, info.Mode(), err)
		}
	}
	if _, err := Create(f.Dir(), first.Key); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second Create: %v", err)
	}
	again, err := Open(f.Dir())
	if err != nil || again.Dir() != f.Dir() {
		t.Errorf("open: %v", err)
	}
}

func TestFolderRefuses(t *testing.T) {
	f, _ := newFolder(t)
	mine, strange := selfSigned(t), selfSigned(t)
	if err := f.Save(mine.Key, strange.Chain); err == nil {
		t.Error("a certificate for another key was saved")
	}
	if err := f.Save(mine.Key, nil); err == nil {
		t.Error("an empty chain was saved")
	}
	if _, err := Open(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty folder was opened: %v", err)
	}
	if err := f.Save(mine.Key, mine.Chain); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.path("b", certFile), marshalCertificates(strange.Chain), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Current(); err == nil {
		t.Error("a slot whose certificate is for another key was read")
	}
	if err := os.Remove(f.path(pointer)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", f.path(pointer)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Current(); err == nil {
		t.Error("a pointer out of the folder was followed")
	}
}

func TestEveryKindOfKeyComesBackFromTheFolder(t *testing.T) {
	for _, kind := range []KeyType{"", P256, P384, RSA2048, Ed25519} {
		key, err := NewKey(kind)
		if err != nil {
			t.Fatal(err)
		}
		f, err := Create(filepath.Join(t.TempDir(), "d"), key)
		if err != nil {
			t.Fatal(err)
		}
		got, err := f.Current()
		if err != nil || kindOf(got.Key) != kindOf(key) || kind != "" && kindOf(key) != kind {
			t.Errorf("%s came back as %s, %v", kind, kindOf(got.Key), err)
		}
		der, err := NewCSR(key, testID)
		if err != nil {
			t.Fatal(err)
		}
		csr, err := x509.ParseCertificateRequest(der)
		if err != nil || csr.CheckSignature() != nil || csr.Subject.String() != "CN="+testID || len(csr.Extensions) != 0 {
			t.Errorf("%s: request %v, %v", kind, csr.Subject, err)
		}
	}
	if _, err := NewKey("dsa"); err == nil {
		t.Error("a key type nobody knows was made")
	}
}

func TestStateSurvivesAndUnknownStateIsEmpty(t *testing.T) {
	f, _ := newFolder(t)
	if s, err := f.State(); err != nil || s != (State{}) {
		t.Errorf("without a file: %+v, %v", s, err)
	}
	want := State{RegistrationID: testID, AssignedHub: "hub", RenewAt: time.Date(2027, 3, 21, 0, 0, 0, 0, time.UTC), LastError: "x"}
	for range 2 {
		if err := f.SaveState(want); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := f.State(); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	if err := os.WriteFile(f.path(stateFile), []byte(`{"renewAt":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.State(); err == nil {
		t.Error("half a file was read")
	}
}

func FuzzState(f *testing.F) {
	f.Add([]byte(`{"registrationId":"a","renewAt":"2027-03-21T00:00:00Z"}`))
	f.Add([]byte(`{"renewAt":"yesterday"}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if s, err := parseState(text); err != nil && s != (State{}) {
			t.Errorf("half a state came with an error: %+v", s)
		}
	})
}

// fastDisk leaves out the waiting for the medium, which no test in one run can see.
type fastDisk struct{ osDisk }

func (fastDisk) Write(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

func (fastDisk) Sync(string) error { return nil }

// journal does the real steps, notes them, and fails at one of them: before doing it,
// or after (failed and lost, failed but actually kept).
type journal struct {
	fastDisk
	steps  []step
	failAt int // -1 never
	kept   bool
}

type step struct {
	do   func(disk, string) error // the step again, below another directory
	dirs []string                 // whose names it changes, relative
	sync string                   // the directory it syncs, relative; "-" if none
	text string
}

var errInjected = errors.New("injected failure")

func (j *journal) run(s step, real func() error) error {
	n := len(j.steps)
	j.steps = append(j.steps, s)
	if n == j.failAt && !j.kept {
		return errInjected
	}
	err := real()
	if n == j.failAt {
		return errInjected
	}
	return err
}

// Paths are noted relative to the folder, whose parent every test's TempDir is.
func rel(path string) string {
	i := strings.LastIndex(path, "/"+testID)
	return strings.TrimPrefix(path[i+len(testID)+1:], "/")
}

func parent(path string) string { return strings.TrimSuffix(filepath.Dir("/" + rel(path))[1:], "/") }

func (j *journal) Mkdir(path string) error {
	return j.run(step{func(d disk, root string) error { return d.Mkdir(filepath.Join(root, rel(path))) },
		[]string{parent(path)}, "-", "mkdir " + rel(path)}, func() error { return j.fastDisk.Mkdir(path) })
}

func (j *journal) Write(path string, data []byte) error {
	return j.run(step{func(d disk, root string) error { return d.Write(filepath.Join(root, rel(path)), data) },
		[]string{parent(path)}, "-", "write " + rel(path)}, func() error { return j.fastDisk.Write(path, data) })
}

func (j *journal) Symlink(target, path string) error {
	return j.run(step{func(d disk, root string) error { return d.Symlink(target, filepath.Join(root, rel(path))) },
		[]string{parent(path)}, "-", "symlink " + rel(path)}, func() error { return j.fastDisk.Symlink(target, path) })
}

func (j *journal) Rename(from, to string) error {
	return j.run(step{func(d disk, root string) error {
		return d.Rename(filepath.Join(root, rel(from)), filepath.Join(root, rel(to)))
	}, []string{parent(from)}, "-", "rename " + rel(to)}, func() error { return j.fastDisk.Rename(from, to) })
}

func (j *journal) Remove(path string) error {
	return j.run(step{func(d disk, root string) error { return d.Remove(filepath.Join(root, rel(path))) },
		[]string{parent(path)}, "-", "remove " + rel(path)}, func() error { return j.fastDisk.Remove(path) })
}

func (j *journal) Sync(dir string) error {
	s := step{func(disk, string) error { return nil }, nil, "-", "sync " + dir}
	if strings.Contains(dir, "/"+testID) {
		s.sync = rel(dir)
	}
	return j.run(s, func() error { return j.fastDisk.Sync(dir) })
}

// TestEveryStepOfASaveMayFail: after a failure at any step, lost or kept, the folder
// holds the old credential or the new one, and the next save works.
func TestEveryStepOfASaveMayFail(t *testing.T) {
	old, next := selfSigned(t), selfSigned(t)
	for failAt := 0; ; failAt++ {
		for _, kept := range []bool{false, true} {
			f, _ := newFolder(t)
			f.disk = fastDisk{}
			if err := errors.Join(f.Save(old.Key, old.Chain), f.Save(old.Key, old.Chain)); err != nil {
				t.Fatal(err)
			}
			j := &journal{failAt: failAt, kept: kept}
			f.disk = j
			err := f.Save(next.Key, next.Chain)
			if failAt >= len(j.steps) {
				if err != nil {
					t.Errorf("nothing failed, but %v", err)
				}
				return
			}
			where := fmt.Sprintf("%s (kept %v)", j.steps[failAt].text, kept)
			if !errors.Is(err, errInjected) {
				t.Fatalf("%s: the failure was swallowed: %v", where, err)
			}
			got, err := f.Current()
			if err != nil || !got.Leaf().Equal(old.Leaf()) && !got.Leaf().Equal(next.Leaf()) {
				t.Fatalf("%s: neither old nor new: %v", where, err)
			}
			f.disk = fastDisk{}
			if err := f.Save(next.Key, next.Chain); err != nil {
				t.Fatalf("%s: the save after it: %v", where, err)
			}
		}
	}
}

// TestEveryStepOfCreateMayFail: the same call again finishes what a failure left.
func TestEveryStepOfCreateMayFail(t *testing.T) {
	for failAt := 0; ; failAt++ {
		for _, kept := range []bool{false, true} {
			dir := filepath.Join(t.TempDir(), testID)
			key := testKey(t)
			j := &journal{failAt: failAt, kept: kept}
			_, err := create(dir, key, j)
			if failAt >= len(j.steps) {
				if err != nil {
					t.Errorf("nothing failed, but %v", err)
				}
				return
			}
			if !errors.Is(err, errInjected) {
				t.Fatalf("%s: the failure was swallowed: %v", j.steps[failAt].text, err)
			}
			if _, err := create(dir, key, osDisk{}); err != nil && !errors.Is(err, fs.ErrExist) {
				t.Fatalf("%s: Create after it: %v", j.steps[failAt].text, err)
			}
			f, err := Open(dir)
			if err != nil {
				t.Fatalf("%s: %v", j.steps[failAt].text, err)
			}
			if got, err := f.Current(); err != nil || got.Key == nil {
				t.Fatalf("%s: %v", j.steps[failAt].text, err)
			}
		}
	}
}

// TestPowerCut plays every prefix of a folder's life onto a medium that keeps, of the
// names not yet synced, none, all, links alone, or any: after each the credential is whole.
func TestPowerCut(t *testing.T) {
	j := &journal{failAt: -1}
	first := selfSigned(t)
	f, err := create(filepath.Join(t.TempDir(), testID), first.Key, j)
	if err != nil {
		t.Fatal(err)
	}
	created := len(j.steps)
	finished := []int{created} // steps after which a call had returned
	saved := []Stored{first}
	for range 2 {
		next := selfSigned(t)
		if err := f.Save(next.Key, next.Chain); err != nil {
			t.Fatal(err)
		}
		finished, saved = append(finished, len(j.steps)), append(saved, next)
		if err := f.SaveState(State{RegistrationID: testID}); err != nil {
			t.Fatal(err)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	keeps := []func(step) bool{
		func(step) bool { return false },
		func(step) bool { return true },
		func(s step) bool { return strings.HasPrefix(s.text, "symlink") || strings.HasPrefix(s.text, "rename") },
		func(step) bool { return random.IntN(2) == 0 },
	}
	for cut := created; cut <= len(j.steps); cut++ {
		for variant, keep := range keeps {
			root := filepath.Join(t.TempDir(), testID)
			replay(j.steps[:cut], root, keep)
			got, err := (&Folder{dir: root, disk: osDisk{}}).Current()
			if err != nil {
				t.Fatalf("after step %d %q, variant %d: %v", cut, j.steps[cut-1].text, variant, err)
			}
			held := -1
			for i, s := range saved {
				if sameKey(got, s) {
					held = i
				}
			}
			last := 0
			for i, n := range finished {
				if n <= cut {
					last = i
				}
			}
			if held != last && held != last+1 {
				t.Fatalf("after step %d %q: holds credential %d, the last call to return saved %d", cut, j.steps[cut-1].text, held, last)
			}
		}
	}
}

func sameKey(a, b Stored) bool {
	public, ok := a.Key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(b.Key.Public())
}

// replay does the steps whose names a later sync of their directory made durable, and
// those others that keep chooses. Steps that build on a lost one fail, as they should.
func replay(steps []step, root string, keep func(step) bool) {
	for i, s := range steps {
		durable := false
		for _, later := range steps[i+1:] {
			for _, dir := range s.dirs {
				durable = durable || later.sync == dir
			}
		}
		if s.text == "mkdir " || durable || keep(s) {
			_ = s.do(fastDisk{}, root)
		}
	}
}

const crashDir = "MUSTER_TEST_CRASH_DIR"

// TestCrashHelper is the process TestKilledWhileRenewing kills: it renews for ever.
func TestCrashHelper(t *testing.T) {
	dir := os.Getenv(crashDir)
	if dir == "" {
		t.Skip("runs only as the child of TestKilledWhileRenewing")
	}
	f, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	pairs := []Stored{selfSigned(t), selfSigned(t), selfSigned(t)}
	for i := 0; ; i++ {
		next := pairs[i%len(pairs)]
		if err := errors.Join(f.Save(next.Key, next.Chain), f.SaveState(State{RegistrationID: testID, LastError: fmt.Sprint(i)})); err != nil {
			t.Fatal(err)
		}
		fmt.Println("saved")
	}
}

func TestKilledWhileRenewing(t *testing.T) {
	f, first := newFolder(t)
	if err := f.Save(first.Key, first.Chain); err != nil {
		t.Fatal(err)
	}
	for round := range 12 {
		child := exec.Command(os.Args[0], "-test.run=^TestCrashHelper$")
		child.Env = append(os.Environ(), crashDir+"="+f.Dir())
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for range 1 + rand.IntN(4) {
			if !lines.Scan() || lines.Text() != "saved" {
				t.Fatalf("the child stopped by itself: %q", lines.Text())
			}
		}
		for range rand.IntN(1 << 22) { // somewhere in the next save
		}
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = child.Wait() // killed: its exit status says so

		again, err := Open(f.Dir())
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if got, err := again.Current(); err != nil || got.Leaf() == nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if state, err := again.State(); err != nil || state.RegistrationID != testID {
			t.Fatalf("round %d: state %+v, %v", round, state, err)
		}
	}
}
