package api_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/fault"
)

func TestFaultSurvivesHTTP(t *testing.T) {
	for kind := fault.Internal; kind <= fault.Unavailable; kind++ {
		sent := fault.New(kind, "no").WithHint("ask")
		data, err := json.Marshal(api.ErrorOf(sent))
		if err != nil {
			t.Fatal(err)
		}
		var e api.Error
		if err := json.Unmarshal(data, &e); err != nil {
			t.Fatal(err)
		}
		got := e.Fault()
		if got.Kind != kind || got.Text != "no" || got.Hint != "ask" {
			t.Errorf("%v came back as %v %q %q", kind, got.Kind, got.Text, got.Hint)
		}
	}
}

func TestInternalErrorShowsNothing(t *testing.T) {
	if e := api.ErrorOf(errors.New("dsn with password")); e.Detail != "internal error" {
		t.Errorf("detail = %q", e.Detail)
	}
}

func TestForeignErrorGetsItsKindFromTheStatus(t *testing.T) {
	for status, want := range map[int]fault.Kind{401: fault.Unauthenticated, 404: fault.NotFound, 418: fault.Invalid, 502: fault.Unavailable} {
		e := api.Error{Status: status, Title: "x"}
		if got := e.Fault().Kind; got != want {
			t.Errorf("status %d is %v, want %v", status, got, want)
		}
	}
}
