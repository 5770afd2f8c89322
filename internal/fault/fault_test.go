package fault_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/postern-db/postern/internal/fault"
)

func TestKindSurvivesWrapping(t *testing.T) {
	err := fmt.Errorf("activate alice: %w", fault.New(fault.Denied, "no").WithHint("ask").WithCause(io.EOF))
	if got := fault.KindOf(err); got != fault.Denied {
		t.Errorf("KindOf = %v, want denied", got)
	}
	if got := fault.Of(err).Hint; got != "ask" {
		t.Errorf("Hint = %q, want ask", got)
	}
	if !errors.Is(err, io.EOF) {
		t.Error("the cause is not in the chain")
	}
	if got, want := fault.Chain(err), "activate alice: no: EOF"; got != want {
		t.Errorf("Chain = %q, want %q", got, want)
	}
}

// TestChainRepeatsNothing: a text that tells its cause is not followed by it.
func TestChainRepeatsNothing(t *testing.T) {
	cause := fault.New(fault.Denied, "no grant option").WithCause(io.EOF)
	err := fmt.Errorf("connect: %w", fault.Newf(fault.Denied, "cannot activate alice: no grant option").WithCause(fmt.Errorf("activate: %w", cause)))
	if got, want := fault.Chain(err), "connect: cannot activate alice: no grant option: activate: no grant option: EOF"; got != want {
		t.Errorf("Chain = %q, want %q", got, want)
	}
	err = fault.New(fault.Denied, "cannot activate alice: no grant option").WithCause(cause)
	if got, want := fault.Chain(err), "cannot activate alice: no grant option: EOF"; got != want {
		t.Errorf("Chain = %q, want %q", got, want)
	}
}

func TestErrorWithoutKindShowsNothing(t *testing.T) {
	f := fault.Of(errors.New("password=secret"))
	if f.Kind != fault.Internal || f.Text != "internal error" {
		t.Errorf("got %v %q, want internal and no text of the cause", f.Kind, f.Text)
	}
}

func TestKindTextRoundTrip(t *testing.T) {
	for k := fault.Internal; k <= fault.Unavailable; k++ {
		if got := fault.ParseKind(k.String()); got != k {
			t.Errorf("ParseKind(%q) = %v", k.String(), got)
		}
	}
	if got := fault.ParseKind("nonsense"); got != fault.Internal {
		t.Errorf("unknown kind = %v, want internal", got)
	}
}
