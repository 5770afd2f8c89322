package resource_test

import (
	"encoding"
	"strings"
	"testing"
	"time"

	"github.com/postern-db/postern/internal/resource"
)

// TestSection2_7ModeText covers the texts of create_db_user_mode.
func TestSection2_7ModeText(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		want resource.CreateUserMode
		err  string
	}{
		{`off`, resource.ModeOff, ""}, // a bare word that YAML 1.1 takes for a boolean
		{`"off"`, resource.ModeOff, ""},
		{`false`, resource.ModeOff, ""},
		{`no`, resource.ModeOff, ""},
		{`keep`, resource.ModeKeep, ""},
		{`best_effort_drop`, resource.ModeBestEffortDrop, ""},
		{`best_effort_reassign_and_drop`, resource.ModeBestEffortReassignAndDrop, ""},
		{`""`, resource.ModeUnspecified, ""},
		{``, resource.ModeUnspecified, ""},
		{`0`, resource.ModeUnspecified, ""},
		{`1`, resource.ModeOff, ""},
		{`2`, resource.ModeKeep, ""},
		{`3`, resource.ModeBestEffortDrop, ""},
		{`4`, resource.ModeBestEffortReassignAndDrop, ""},
		{`true`, 0, "create_database_user_mode cannot be true"},
		{`on`, 0, "create_database_user_mode cannot be true"},
		{`5`, 0, "invalid database user mode"},
		{`kep`, 0, `invalid database user mode "kep", did you mean "keep"?`},
		{`nonsense-word`, 0, "invalid database user mode"},
	} {
		text := "kind: role\nversion: v7\nmetadata: {name: r}\nspec:\n  options:\n    create_db_user_mode: " + tt.text
		if tt.err != "" {
			if got := parseError(t, text); !strings.Contains(got, tt.err) {
				t.Errorf("%s: got %s, want %s", tt.text, got, tt.err)
			}
			continue
		}
		r := parseOne(t, text).(*resource.Role)
		if got := r.Spec.Options.CreateDBUserMode; got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.text, got, tt.want)
		}
		roundTrip(t, r)
	}
	if got := resource.CreateUserMode(9).String(); got != "mode(9)" {
		t.Errorf("unknown mode prints as %q", got)
	}
}

// TestSection2_7ModeOfRole: explicit mode, else create_db_user, else off.
func TestSection2_7ModeOfRole(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		options string
		want    resource.CreateUserMode
	}{
		{"{}", resource.ModeOff},
		{"{create_db_user: true}", resource.ModeKeep},
		{"{create_db_user: on}", resource.ModeKeep},
		{"{create_db_user: true, create_db_user_mode: off}", resource.ModeOff},
		{"{create_db_user_mode: best_effort_drop}", resource.ModeBestEffortDrop},
	} {
		r := parseOne(t, "kind: role\nversion: v7\nmetadata: {name: r}\nspec: {options: "+tt.options+"}").(*resource.Role)
		if got := r.Spec.Options.CreateUserMode(); got != tt.want || got.Enabled() != (tt.want > resource.ModeOff) {
			t.Errorf("%s: got %v, want %v", tt.options, got, tt.want)
		}
	}
}

// TestSection2_1Values covers booleans as words, never, and label values that are
// scalars or lists.
func TestSection2_1Values(t *testing.T) {
	t.Parallel()
	r := parseOne(t, `
kind: role
version: v7
metadata: {name: r}
spec:
  options: {client_idle_timeout: never, disconnect_expired_cert: Yes, pin_source_ip: "on", max_session_ttl: 90s}
  allow:
    db_labels: {a: x, b: [x, y], c: 1, d: [true, off], e: 2020-01-02}
    db_names: app
`).(*resource.Role)
	o := r.Spec.Options
	if o.ClientIdleTimeout != 0 || !o.DisconnectExpiredCert || !o.PinSourceIP || o.MaxSessionTTL.Std() != 90*time.Second {
		t.Errorf("options = %+v", o)
	}
	l := r.Spec.Allow.DatabaseLabels
	for key, want := range map[string]string{"a": "x", "b": "x,y", "c": "1", "d": "true,off", "e": "2020-01-02"} {
		if got := strings.Join(l[key], ","); got != want {
			t.Errorf("label %s = %q, want %q", key, got, want)
		}
	}
	if len(r.Spec.Allow.DatabaseNames) != 1 || l.IsEmpty() {
		t.Errorf("db_names = %q", r.Spec.Allow.DatabaseNames)
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		into encoding.TextUnmarshaler
		text string
		err  string
	}{
		{new(resource.LockMode), "strict", ""},
		{new(resource.LockMode), "", ""},
		{new(resource.LockMode), "loose", `invalid lock "loose", use one of best_effort, strict`},
		{new(resource.SessionMFA), "yes", ""},
		{new(resource.SessionMFA), "off", ""},
		{new(resource.SessionMFA), "hardware_key_touch", ""},
		{new(resource.SessionMFA), "maybe", "invalid require_session_mfa"},
		{new(resource.DeviceTrust), "false", ""},
		{new(resource.DeviceTrust), "required", ""},
		{new(resource.DeviceTrust), "x", "invalid device_trust_mode"},
		{new(resource.RecordLevel), "none", ""},
		{new(resource.RecordLevel), "x", "invalid recording"},
		{new(resource.ParallelSets), "sibling", ""},
		{new(resource.ParallelSets), "x", "invalid parallel_sets"},
		{new(resource.OnMissingGrant), "warn", ""},
		{new(resource.OnMissingGrant), "x", "invalid on_missing_grant"},
		{new(resource.AuthMethod), "password", ""},
		{new(resource.AuthMethod), "x", "invalid auth"},
		{new(resource.TLSMode), "0", ""},
		{new(resource.TLSMode), "1", ""},
		{new(resource.TLSMode), "2", ""},
		{new(resource.TLSMode), "disable", ""},
		{new(resource.TLSMode), "3", "invalid tls mode"},
		{new(resource.Duration), "", ""},
		{new(resource.Duration), "0", ""},
		{new(resource.Duration), "-1h", "cannot be negative"},
	} {
		err := tt.into.UnmarshalText([]byte(tt.text))
		if got := fmtErr(err); tt.err == "" && err != nil || !strings.Contains(got, tt.err) {
			t.Errorf("%T %q: got %v, want %q", tt.into, tt.text, err, tt.err)
		}
	}
	if !resource.SessionMFARequired.Required() || resource.SessionMFAOff.Required() || resource.SessionMFA("").Required() {
		t.Error("SessionMFA.Required")
	}
	if !resource.DeviceTrustHumans.Required() || resource.DeviceTrustOptional.Required() {
		t.Error("DeviceTrust.Required")
	}
	level := resource.RecordLevel("")
	for _, word := range []string{"best_effort", "strict"} {
		if err := level.UnmarshalText([]byte(word)); err != nil || level != resource.RecordFull {
			t.Errorf("recording %s = %q, %v; want full", word, level, err)
		}
	}
}

func fmtErr(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestDurationText(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0s", 30 * time.Hour: "30h", 90 * time.Minute: "1h30m", 10 * time.Minute: "10m", 61 * time.Second: "1m1s", time.Hour + time.Second: "1h0m1s",
	} {
		if got := resource.Duration(d).String(); got != want {
			t.Errorf("%v prints as %q, want %q", d, got, want)
		}
	}
}

func TestTimeText(t *testing.T) {
	t.Parallel()
	var a, b resource.Time
	if err := a.UnmarshalText([]byte("2026-01-02")); err != nil {
		t.Fatal(err)
	}
	if err := b.UnmarshalText([]byte("2026-01-02T02:00:00+02:00")); err != nil {
		t.Fatal(err)
	}
	if !a.Equal(b) || a.IsZero() || !a.Std().Equal(time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("%v and %v", a.Std(), b.Std())
	}
}
