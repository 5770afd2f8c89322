package chaos

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/postern-db/postern/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// settings of a run come from the environment, see Makefile.
func settings(t *testing.T) (length time.Duration, seed uint64) {
	t.Helper()
	seconds, seed := 6, rand.Uint64N(1_000_000)
	for name, set := range map[string]func(string) error{
		"CHAOS_SECONDS": func(s string) (err error) { seconds, err = strconv.Atoi(s); return err },
		"CHAOS_SEED":    func(s string) (err error) { seed, err = strconv.ParseUint(s, 10, 64); return err },
	} {
		if text := os.Getenv(name); text != "" {
			if err := set(text); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	return time.Duration(seconds) * time.Second, seed
}

// TestChaos: see the package comment. P1 to P4 are the promises of design.md, section 2.
func TestChaos(t *testing.T) {
	t.Parallel()
	length, seed := settings(t)
	for _, version := range []int{15, 18} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			t.Parallel()
			t.Logf("to run it again: make chaos CHAOS_SEED=%d CHAOS_SECONDS=%d", seed, int(length.Seconds()))
			w := newWorld(t, version, seed)
			end := time.Now().Add(length)
			var working sync.WaitGroup
			for _, p := range w.people {
				for n := range sessionsEach {
					working.Go(func() { w.work(p, w.rand(p.name, strconv.Itoa(n)), end) })
				}
			}
			w.breakThings(w.rand("actions"), end)
			working.Wait()
			settling := time.Now()
			w.checkNothingLeft()
			t.Logf("%d sessions, %d refused as they must, %d ended by policy, %d cut off; %.1f s after the last one nothing was left",
				w.sessions.Load(), w.refused.Load(), w.ended.Load(), w.cut.Load(), time.Since(settling).Seconds())
		})
	}
}
