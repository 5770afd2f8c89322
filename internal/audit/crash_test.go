package audit_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/postern-db/postern/internal/audit"
)

// crashDir tells a child of TestKilledWriterLosesNothing where to write.
const crashDir = "POSTERN_TEST_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		writeUntilKilled(dir)
	}
	goleak.VerifyTestMain(m)
}

// writeUntilKilled emits events and prints the number of each that is durable.
func writeUntilKilled(dir string) {
	l, err := audit.Open(context.Background(), audit.Config{Dir: dir, Cluster: "example.com", MaxSegment: 20 << 10})
	for i := 1; err == nil; i++ {
		_ = l.Post(context.Background(), query(-i))
		if err = l.Emit(context.Background(), query(i)); err == nil {
			_, err = fmt.Println(i) //nolint:forbidigo // a child of the test speaks to its parent
		}
	}
	panic(err)
}

// The process is killed in full flight, again and again; what Emit acknowledged
// is on record.
func TestKilledWriterLosesNothing(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	acknowledged := 0
	for range 4 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		child := exec.CommandContext(ctx, os.Args[0])
		child.Env = append(os.Environ(), crashDir+"="+dir)
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		last := 0
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if last, err = strconv.Atoi(lines.Text()); err != nil {
				t.Fatalf("the child says %q", lines.Text())
			}
			if last == 50 {
				if err := child.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = child.Wait() // killed, says its error
		if last < 50 {
			t.Fatalf("the child ended by itself after %d events", last)
		}
		acknowledged += last
	}
	goOn(t, dir)
	rep, err := audit.Verify(t.Context(), dir)
	if err != nil || rep.Events < uint64(2*acknowledged) {
		t.Errorf("%d acknowledged, each with one posted before; report %+v, %v", acknowledged, rep, err)
	}
}
