package signin_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/signin"
	"github.com/postern-db/postern/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	right = signin.Password("correct horse battery")
	wrong = signin.Password("wrong horse battery")
	home  = "192.0.2.7:50000"
)

// records are kept in a store, as the hub does.
type records struct {
	store.Store
	path string
}

// open opens the store, again after it was closed.
func (r *records) open(t *testing.T) {
	t.Helper()
	opened, err := store.Open(t.Context(), store.Config{Path: r.path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = opened.Close() })
	r.Store = opened
}

func newRecords(t *testing.T) *records {
	t.Helper()
	r := &records{path: filepath.Join(t.TempDir(), "state", "state.db")}
	r.open(t)
	return r
}

// Get reads even for callers that are gone: what becomes of those is not the store's
// to say here.
func (r *records) Get(ctx context.Context, user string) ([]byte, int64, error) {
	e, err := r.Store.Get(context.WithoutCancel(ctx), user)
	return e.Value, e.Rev, err
}

func (r *records) Put(ctx context.Context, user string, data []byte, rev int64) error {
	_, err := r.Txn(ctx, store.Txn{Conds: []store.Cond{{Key: user, Rev: rev}}, Puts: []store.Put{{Key: user, Value: data}}})
	return err
}

func (r *records) Delete(ctx context.Context, user string) error {
	_, err := r.Txn(ctx, store.Txn{Deletes: []string{user}})
	return err
}

// world is a Passwords with a clock that the test moves.
type world struct {
	*signin.Passwords
	records *records
	log     *bytes.Buffer

	mu  sync.Mutex // guards now
	now time.Time
}

func newWorld(t *testing.T, change ...func(*signin.Config)) *world {
	t.Helper()
	w := &world{records: newRecords(t), log: &bytes.Buffer{}, now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	cfg := signin.Config{
		Records: w.records, MaxWaiting: 1000, MaxWait: time.Minute,
		Log: slog.New(slog.NewTextHandler(w.log, nil)),
		Now: func() time.Time {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.now
		},
	}
	for _, c := range change {
		c(&cfg)
	}
	p, err := signin.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.Passwords = p
	return w
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) setPassword(t *testing.T, user string) {
	t.Helper()
	if err := w.SetPassword(t.Context(), user, right); err != nil {
		t.Fatal(err)
	}
}

func wantKind(t *testing.T, what string, err error, kind fault.Kind) {
	t.Helper()
	if err == nil || fault.KindOf(err) != kind {
		t.Errorf("%s: got %v, want a fault of kind %v", what, err, kind)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.setPassword(t, "alice")
	if err := w.Check(t.Context(), "alice", right, home); err != nil {
		t.Errorf("the right password: %v", err)
	}
	if _, err := w.Invite(t.Context(), "invited", 0); err != nil {
		t.Fatal(err)
	}
	// All answers are equal, to the letter.
	want := w.Check(t.Context(), "alice", wrong, home)
	wantKind(t, "a wrong password", want, fault.Unauthenticated)
	for name, got := range map[string]error{
		"unknown user":     w.Check(t.Context(), "nobody", right, home),
		"no password yet":  w.Check(t.Context(), "invited", right, home),
		"empty password":   w.Check(t.Context(), "alice", "", home),
		"endless password": w.Check(t.Context(), "alice", signin.Password(strings.Repeat("a", 1<<20)), home),
		"no name":          w.Check(t.Context(), "", right, home),
		"endless name":     w.Check(t.Context(), strings.Repeat("a", 1<<20), right, home),
		"name in capitals": w.Check(t.Context(), "ALICE", right, home),
		"trailing space":   w.Check(t.Context(), "alice", right+" ", home),
		"not UTF-8":        w.Check(t.Context(), "alice", "\xff\xfe", "elsewhere"),
		"removed afterward": func() error {
			w.setPassword(t, "bob")
			_ = w.Remove(t.Context(), "bob")
			return w.Check(t.Context(), "bob", right, home)
		}(),
	} {
		if got == nil || *fault.Of(got) != *fault.Of(want) {
			t.Errorf("%s: got %#v, want %#v", name, got, want)
		}
	}
}

func TestPasswordRules(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, c := range map[string]struct {
		password string
		ok       bool
	}{
		"twelve":                     {"abcdefghijkl", true},
		"eleven":                     {"abcdefghijk", false},
		"only digits":                {"000000000000", true},
		"twelve letters of 4 bytes":  {strings.Repeat("🐘", 12), true},
		"three letters of 4 bytes":   {strings.Repeat("🐘", 3), false},
		"letters count, not accents": {strings.Repeat("e\u0301", 6), false},
		"longest":                    {strings.Repeat("a", 1024), true},
		"too long":                   {strings.Repeat("a", 1025), false},
		"not UTF-8":                  {strings.Repeat("\xff", 20), false},
		"empty":                      {"", false},
	} {
		err := w.SetPassword(t.Context(), "alice", signin.Password(c.password))
		if (err == nil) != c.ok || err != nil && fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// Two keyboards send the same letters as different bytes.
func TestPasswordInOtherNormalForm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := w.SetPassword(t.Context(), "alice", "grüße aus köln"); err != nil {
		t.Fatal(err)
	}
	if err := w.Check(t.Context(), "alice", "gru\u0308ße aus ko\u0308ln", home); err != nil {
		t.Error(err)
	}
}

func TestInvitation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	token, err := w.Invite(t.Context(), "alice", 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(token) < 26 {
		t.Errorf("a token of %d characters is short", len(token))
	}
	wantKind(t, "short password", w.Redeem(t.Context(), token, "alice", "short"), fault.Invalid)
	wantKind(t, "other user", w.Redeem(t.Context(), token, "bob", right), fault.Unauthenticated)
	wantKind(t, "other token", w.Redeem(t.Context(), token[1:]+"A", "alice", right), fault.Unauthenticated)
	wantKind(t, "no token", w.Redeem(t.Context(), "", "alice", right), fault.Unauthenticated)
	w.pass(time.Hour - time.Second)
	if err := w.Redeem(t.Context(), token, "alice", right); err != nil {
		t.Fatalf("in the last second: %v", err)
	}
	if err := w.Check(t.Context(), "alice", right, home); err != nil {
		t.Error(err)
	}
	wantKind(t, "second use", w.Redeem(t.Context(), token, "alice", wrong), fault.Unauthenticated)

	late, err := w.Invite(t.Context(), "alice", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	w.pass(time.Minute)
	wantKind(t, "too late", w.Redeem(t.Context(), late, "alice", wrong), fault.Unauthenticated)

	first, _ := w.Invite(t.Context(), "alice", 0)
	if _, err := w.Invite(t.Context(), "alice", 0); err != nil {
		t.Fatal(err)
	}
	wantKind(t, "replaced", w.Redeem(t.Context(), first, "alice", wrong), fault.Unauthenticated)
	if err := w.Check(t.Context(), "alice", right, home); err != nil {
		t.Errorf("an invitation must leave the password: %v", err)
	}
	for _, ttl := range []time.Duration{-1, signin.MaxInvitation + 1} {
		_, err = w.Invite(t.Context(), "alice", ttl)
		wantKind(t, ttl.String(), err, fault.Invalid)
	}
}

func TestReset(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.setPassword(t, "alice")
	token, err := w.Reset(t.Context(), "alice", 0)
	if err != nil {
		t.Fatal(err)
	}
	wantKind(t, "the old password", w.Check(t.Context(), "alice", right, home), fault.Unauthenticated)
	const fresh = signin.Password("a fresh password")
	if err := w.Redeem(t.Context(), token, "alice", fresh); err != nil {
		t.Fatal(err)
	}
	if err := w.Check(t.Context(), "alice", fresh, home); err != nil {
		t.Error(err)
	}
	// An administrator's password ends an open invitation.
	token, err = w.Invite(t.Context(), "alice", 0)
	if err != nil {
		t.Fatal(err)
	}
	w.setPassword(t, "alice")
	wantKind(t, "invitation after a new password", w.Redeem(t.Context(), token, "alice", fresh), fault.Unauthenticated)
}

// TestNewPasswordEndsALockout: what was guessed before was another password.
func TestNewPasswordEndsALockout(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.setPassword(t, "alice")
	for range 6 {
		wantKind(t, "a guess", w.Check(t.Context(), "alice", wrong, home), fault.Unauthenticated)
	}
	wantKind(t, "the right password while locked", w.Check(t.Context(), "alice", right, home), fault.Unauthenticated)
	w.setPassword(t, "bob")
	wantKind(t, "after a new password for somebody else", w.Check(t.Context(), "alice", right, home), fault.Unauthenticated)
	w.setPassword(t, "alice")
	if err := w.Check(t.Context(), "alice", right, home); err != nil {
		t.Errorf("after a new password: %v", err)
	}
}

func TestInvitationIsUsedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	token, err := w.Invite(t.Context(), "alice", 0)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			errs[i] = w.Redeem(t.Context(), token, "alice", signin.Password(fmt.Sprint("password number ", i)))
		})
	}
	wg.Wait()
	winner := -1
	for i, err := range errs {
		if err == nil {
			if winner >= 0 {
				t.Error("the token worked twice")
			}
			winner = i
		} else {
			wantKind(t, "a loser", err, fault.Unauthenticated)
		}
	}
	if winner < 0 {
		t.Fatal("the token did not work")
	}
	if err := w.Check(t.Context(), "alice", signin.Password(fmt.Sprint("password number ", winner)), home); err != nil {
		t.Error(err)
	}
}

func TestNothingSecretIsKeptOrPrinted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.setPassword(t, "alice")
	token, err := w.Invite(t.Context(), "alice", 0)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "token", token, "password", right)
	text := out.String() + fmt.Sprintf("%v %s %q %#v %+v %x", token, token, token, token, struct{ T signin.Token }{token}, token) +
		fmt.Sprintf("%v %s %q %#v %+v %x", right, right, right, right, struct{ P signin.Password }{right}, right)
	all, _, err := w.records.List(t.Context(), "")
	if err != nil || len(all) != 1 {
		t.Fatalf("%d records, %v", len(all), err)
	}
	text += string(all[0].Value)
	for _, secret := range []string{string(token), string(right), fmt.Sprintf("%x", string(token)), fmt.Sprintf("%x", string(right))} {
		if strings.Contains(text, secret) {
			t.Errorf("%q is in\n%s", secret, text)
		}
	}
	if strings.Count(text, "[redacted]") < 10 {
		t.Errorf("got %s", text)
	}
}

func TestTroubleIsNotAWrongPassword(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.setPassword(t, "alice")
	if err := w.records.Close(); err != nil {
		t.Fatal(err)
	}
	for range 10 { // more than would lock
		wantKind(t, "store down", w.Check(t.Context(), "alice", right, home), fault.Unavailable)
	}
	w.records.open(t)
	for user, record := range map[string]string{"damaged": "{", "newer": `{"version":2}`} {
		if err := w.records.Put(t.Context(), user, []byte(record), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Check(t.Context(), "alice", right, home); err != nil {
		t.Errorf("trouble was counted: %v", err)
	}
	wantKind(t, "damaged record", w.Check(t.Context(), "damaged", right, home), fault.Internal)
	wantKind(t, "newer record", w.Check(t.Context(), "newer", right, home), fault.Internal)
}

func TestHashingIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *signin.Config) { c.MaxHashes, c.MaxWaiting, c.MaxWait = 1, 1, time.Millisecond })
	const callers = 8
	errs := make(chan error, callers)
	start := make(chan struct{})
	for i := range callers {
		go func() {
			<-start
			errs <- w.Check(t.Context(), fmt.Sprint("user", i), wrong, fmt.Sprintf("192.0.2.%d", i))
		}()
	}
	close(start)
	busy := 0
	for range callers {
		err := <-errs
		if fault.KindOf(err) == fault.Unavailable {
			busy++
		} else {
			wantKind(t, "hashed", err, fault.Unauthenticated)
		}
	}
	if busy == 0 || busy == callers {
		t.Errorf("%d of %d were told that we are busy", busy, callers)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	patient := newWorld(t, func(c *signin.Config) { c.MaxHashes = 1 })
	var wg sync.WaitGroup
	gone := make(chan error, 6)
	for i := range 6 {
		wg.Go(func() { gone <- patient.Check(ctx, fmt.Sprint("user", i), wrong, fmt.Sprintf("192.0.2.%d", i)) })
	}
	wg.Wait()
	close(gone)
	canceled := 0
	for err := range gone {
		if errors.Is(err, context.Canceled) {
			canceled++
		}
	}
	if canceled == 0 {
		t.Error("nobody stopped waiting when the caller was gone")
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	if _, err := signin.New(signin.Config{}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("without records: %v", err)
	}
	if _, err := signin.New(signin.Config{Records: newRecords(t)}); err != nil {
		t.Errorf("only records are needed: %v", err)
	}
}
