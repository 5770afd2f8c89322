package audit_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-db/postern/internal/audit"
	"github.com/postern-db/postern/internal/fault"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var noon = time.Date(2026, 11, 22, 12, 0, 0, 123456789, time.UTC)

func at(d time.Duration) audit.Time { return audit.Time{Time: noon.Add(d)} }

// values are parameters; the text NULL stands for NULL.
func values(texts ...string) []*string {
	list := make([]*string, len(texts))
	for i := range texts {
		if texts[i] != "NULL" {
			list[i] = &texts[i]
		}
	}
	return list
}

// everyEvent has each type of event, in each code it can have.
func everyEvent() []audit.Event {
	who := audit.Actor{User: "alice", UserKind: audit.Human, RemoteAddr: "192.0.2.7:50000"}
	s := audit.Session{Actor: who, ID: "0e9bcd44-7d59-4e5e-b6f1-2d8d3f6a0c11", Index: 3, ServerID: "agent-1"}
	d := audit.Database{
		Service: "orders", Protocol: "postgres", URI: "10.0.0.1:5432", DatabaseName: "shop",
		DatabaseUser: "alice", Roles: []string{"reader"}, Type: "self-hosted", Origin: "config-file",
	}
	of, err := s.Prepare(d)
	if err != nil {
		panic(err)
	}
	statement := func(what audit.StatementEvent) audit.Event {
		return &audit.Statement{Session: of, Index: s.Index, What: what}
	}
	ok := audit.OutcomeOf(nil)
	refused := audit.OutcomeOf(fault.New(fault.Denied, "access to orders denied").WithCause(errors.New("no role matches")))
	shown := audit.Database{Service: "orders", DatabaseUser: "alice"}
	return []audit.Event{
		audit.DatabaseSessionAuthorize{Session: s, Database: d},
		audit.DatabaseSessionStart{Session: s, Database: d, Outcome: ok, PID: 4711, UserAgent: "psql"},
		audit.DatabaseSessionStart{Session: s, Database: d, Outcome: refused},
		audit.DatabaseSessionEnd{Session: s, Database: d, Start: at(0), Stop: at(1500 * time.Millisecond), DurationMS: 1500, Reason: "idle"},
		statement(&audit.DatabaseQuery{Outcome: ok, Query: "SELECT 1 < 2 && '\"\\' -- \u2028 \x00 é", Parameters: values("1", "", "NULL")}),
		statement(&audit.DatabaseQuery{Outcome: refused, Query: "DROP TABLE x"}),
		statement(&audit.DatabaseResult{Outcome: ok, Request: "query", Became: "done", RequestIndex: 2, Tags: []string{"UPDATE 42"}, AffectedRecords: 42, TxStatus: "T", DurationMS: 7.125}),
		statement(&audit.DatabaseResult{
			Outcome: audit.Outcome{Message: `relation "x" does not exist`}, Request: "execute", Became: "failed",
			RequestIndex: 9, ParseIndex: 7, BindIndex: 8, StatementName: "s1", PortalName: "p1", SQLState: "42P01", CopyBytes: 5,
		}),
		statement(&audit.CopyStart{Direction: "out", RequestIndex: 2}),
		audit.MalformedPacket{Session: s, Database: d, Error: "length 3 is too short"},
		audit.PermissionsUpdate{Session: s, Database: d, Outcome: ok, Permissions: []audit.PermissionCount{{Permission: "SELECT", Counts: map[string]int{"table": 2}}}, Objects: map[string]int{"table": 2}, Provisioned: audit.Provisioned{Statements: 5, DurationMS: 12.345}},
		audit.PermissionsUpdate{Session: s, Database: d, Outcome: refused},
		audit.DatabaseUserCreate{Session: s, Database: d, Outcome: ok, Username: "alice", Provisioned: audit.Provisioned{Statements: 3, DurationMS: 1.5}},
		audit.DatabaseUserCreate{Session: s, Database: d, Outcome: refused, Username: "alice"},
		audit.DatabaseUserDeactivate{Session: s, Database: d, Outcome: ok, Username: "alice", Delete: true},
		audit.DatabaseUserDeactivate{Session: s, Database: d, Outcome: refused, Username: "alice"},
		audit.ClientDisconnect{Session: s, Database: d, Reason: "certificate expired"},
		statement(&audit.StatementParse{StatementName: "s1", Query: "SELECT $1"}),
		statement(&audit.StatementBind{StatementName: "s1", PortalName: "p1", Parameters: values("a", "NULL"), Sizes: []int{1, 0}, Shortened: audit.Shortened{Truncated: true, FullSize: 99, FullHash: "ab"}}),
		statement(&audit.StatementExecute{PortalName: "p1"}),
		statement(&audit.StatementClose{PortalName: "p1"}),
		statement(&audit.FunctionCall{FunctionOID: 954, Arguments: values("1")}),
		audit.Login{Actor: who, Outcome: ok, Method: "local", UserAgent: "postern/1.0"},
		audit.Login{Actor: who, Outcome: refused, Method: "local"},
		audit.InvitationCreate{Actor: who, Name: "bob", Expires: at(time.Hour)},
		audit.PasswordChange{Actor: who, Name: "bob"},
		audit.CertificateCreate{Actor: who, Database: shown, CertType: "user", Subject: "alice", UserRoles: []string{"reader"}, Serial: "1f", Expires: at(time.Hour), Fingerprint: "ab"},
		audit.CertificateCreate{Actor: who, CertType: "db", Subject: "pg", Names: []string{"pg", "10.0.0.1"}, Serial: "1f"},
		audit.DatabaseFreeze{Actor: who, Name: "orders", Frozen: true, Reason: "upgrade"},
		audit.DatabaseFreeze{Actor: who, Name: "orders"},
		audit.ResourceChange{Actor: who, Kind: audit.KindUser, Change: audit.Created, Name: "bob"},
		audit.ResourceChange{Actor: who, Kind: audit.KindUser, Change: audit.Updated, Name: "bob"},
		audit.ResourceChange{Actor: who, Kind: audit.KindUser, Change: audit.Deleted, Name: "bob"},
		audit.ResourceChange{Actor: who, Kind: audit.KindRole, Change: audit.Created, Name: "dba"},
		audit.ResourceChange{Actor: who, Kind: audit.KindRole, Change: audit.Updated, Name: "dba"},
		audit.ResourceChange{Actor: who, Kind: audit.KindRole, Change: audit.Deleted, Name: "dba"},
		audit.ResourceChange{Actor: who, Kind: audit.KindDatabase, Change: audit.Created, Name: "orders"},
		audit.ResourceChange{Actor: who, Kind: audit.KindDatabase, Change: audit.Updated, Name: "orders"},
		audit.ResourceChange{Actor: who, Kind: audit.KindDatabase, Change: audit.Deleted, Name: "orders"},
		audit.ResourceChange{Actor: who, Kind: audit.KindImportRule, Change: audit.Created, Name: "dev"},
		audit.ResourceChange{Actor: who, Kind: audit.KindImportRule, Change: audit.Updated, Name: "dev"},
		audit.ResourceChange{Actor: who, Kind: audit.KindImportRule, Change: audit.Deleted, Name: "dev"},
		audit.ResourceChange{Actor: who, Kind: audit.KindLock, Change: audit.Created, Name: "stop"},
		audit.ResourceChange{Actor: who, Kind: audit.KindLock, Change: audit.Deleted, Name: "stop"},
		audit.ResourceChange{Actor: who, Kind: audit.KindAuthPreference, Change: audit.Updated, Name: "cluster-auth-preference"},
		audit.ResourceChange{Actor: who, Kind: audit.KindNetworkingConfig, Change: audit.Updated, Name: "cluster-networking-config"},
		audit.LogRepaired{Segment: "events-1.jsonl", Offset: 10, Removed: 5, SHA256: "ab", File: "damaged-1"},
	}
}

// changing is what differs from run to run: the unique id, and what follows from it.
var changing = regexp.MustCompile(`"uid":"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"|"(prev|hash)":"[0-9a-f]{64}"`)

func TestEventsGolden(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	l := open(t, audit.Config{Dir: dir, Now: func() time.Time { return noon }})
	for _, ev := range everyEvent() {
		if err := l.Emit(t.Context(), ev); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	for _, line := range lines(t, dir) {
		got.Write(changing.ReplaceAllFunc(line, func(m []byte) []byte {
			return append(m[:bytes.IndexByte(m, ':')], `:"…"`...)
		}))
		got.WriteByte('\n')
	}
	golden := filepath.Join("testdata", "events.golden.jsonl")
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got.String(), "\n")); diff != "" {
		t.Errorf("others read these lines: a change is a change of the format (-want +got)\n%s", diff)
	}
}

// TestStatementsWriteThemselvesAsJSON: what the events of statements write is what
// encoding/json writes of them, and of session and database.
func TestStatementsWriteThemselvesAsJSON(t *testing.T) {
	t.Parallel()
	who := audit.Session{Actor: audit.Actor{User: "<alice>", UserKind: audit.Human, RemoteAddr: "192.0.2.7:50000"}, ID: "sid", ServerID: "agent-1"}
	on := audit.Database{Service: "orders", Protocol: "postgres", DatabaseName: "shop", Roles: []string{"reader"}}
	prepared, err := who.Prepare(on)
	if err != nil {
		t.Fatal(err)
	}
	dir := logDir(t)
	l := open(t, audit.Config{Dir: dir, Now: func() time.Time { return noon }})
	full := audit.Outcome{Success: true, Error: "a \"quoted\" error", Message: "<told>"}
	cut := audit.Shortened{Truncated: true, FullSize: 7, FullHash: "ab"}
	long := strings.Repeat("long é\n", 1000) // encoded elsewhere
	list := values("plain", "", "NULL", "<&> \" \\ \x00 \n \u2028 é \xff")
	events := []audit.StatementEvent{
		&audit.DatabaseQuery{}, &audit.StatementParse{}, &audit.StatementBind{}, &audit.StatementExecute{}, &audit.StatementClose{},
		&audit.FunctionCall{}, &audit.DatabaseResult{}, &audit.CopyStart{},
		&audit.DatabaseQuery{Outcome: full, Query: "SELECT 'é' < \"x\"", Parameters: list, Shortened: cut},
		&audit.StatementParse{StatementName: "s\n", Query: "SELECT $1", Shortened: cut},
		&audit.StatementBind{StatementName: "s", PortalName: "p", Parameters: list, Sizes: []int{1, 0, 22}, Shortened: cut},
		&audit.StatementExecute{PortalName: "p"},
		&audit.StatementClose{StatementName: "s", PortalName: "p"},
		&audit.FunctionCall{FunctionOID: 4_000_000_000, Arguments: list, Sizes: []int{7}, Shortened: cut},
		&audit.DatabaseResult{
			Outcome: full, Request: "execute", Became: "done", RequestIndex: 1, ParseIndex: 2, BindIndex: 3, StatementName: "s", PortalName: "p",
			Tags: []string{"COPY 1", "é"}, AffectedRecords: 5, CopyBytes: 6, SQLState: "42P01", TxStatus: "T", DurationMS: 12345.678,
		},
		&audit.DatabaseResult{DurationMS: 0.001},
		&audit.DatabaseQuery{Query: long, Parameters: list}, &audit.StatementParse{StatementName: long, Query: "SELECT 1"},
		&audit.StatementBind{StatementName: long, Parameters: list}, &audit.StatementExecute{PortalName: long}, &audit.StatementClose{PortalName: long},
		&audit.FunctionCall{Arguments: values(long, "NULL")}, &audit.DatabaseResult{Outcome: audit.Outcome{Message: long}},
		&audit.CopyStart{Direction: "in", RequestIndex: 5},
	}
	for _, ev := range events {
		if err := l.Post(t.Context(), &audit.Statement{Session: prepared, What: ev}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for i, line := range lines(t, dir) {
		var want []string
		for _, part := range []any{who, on, events[i]} {
			want = append(want, strings.Trim(jsonText(t, part), "{}"))
		}
		text := strings.TrimSuffix(strings.Join(want, ","), ",")
		if !strings.Contains(string(line), `"cluster_name":"example.com",`+text+`,"seq"`) {
			t.Errorf("%T: %s has no %s", events[i], line, text)
		}
	}
}

// jsonText is v as encoding/json writes it.
func jsonText(t *testing.T, v any) string {
	t.Helper()
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(b.String())
}

// An event that says when it happened has that time, one that does not the log's.
func TestEventsHaveTheirOwnTime(t *testing.T) {
	t.Parallel()
	then := noon.Add(-1500 * time.Millisecond)
	dir := logDir(t)
	l := open(t, audit.Config{Dir: dir, Now: func() time.Time { return noon }})
	for _, ev := range []audit.Event{
		&audit.Statement{Time: then, What: &audit.DatabaseQuery{}}, &audit.Statement{Time: then, What: &audit.StatementClose{}},
		&audit.Statement{What: &audit.DatabaseQuery{}},
		audit.Login{},
	} {
		if err := l.Emit(t.Context(), ev); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, line := range lines(t, dir) {
		var r struct{ Time string }
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatal(err)
		}
		got = append(got, r.Time)
	}
	want := []string{"2026-11-22T11:59:58.623Z", "2026-11-22T11:59:58.623Z", "2026-11-22T12:00:00.123Z", "2026-11-22T12:00:00.123Z"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestOutcomeOf(t *testing.T) {
	t.Parallel()
	got := audit.OutcomeOf(fmt.Errorf("dial: %w", errors.New("password=secret")))
	if got.Success || got.Message != "internal error" || !strings.Contains(got.Error, "dial") {
		t.Errorf("got %+v", got)
	}
}

func TestUnknownChangeIsRefused(t *testing.T) {
	t.Parallel()
	l := open(t, audit.Config{Dir: logDir(t)})
	for _, ev := range []audit.Event{
		audit.ResourceChange{Kind: "token", Change: audit.Created},
		audit.ResourceChange{Kind: audit.KindRole},
		audit.ResourceChange{Kind: audit.KindRole, Change: 4},
	} {
		if err := l.Emit(t.Context(), ev); err == nil {
			t.Errorf("%+v has no name and is written", ev)
		}
	}
	if err := l.Emit(t.Context(), audit.Login{}); err != nil {
		t.Errorf("the log works no more: %v", err)
	}
}

func TestLongStatementIsCut(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	l := open(t, audit.Config{Dir: dir})
	long := strings.Repeat("é", 1<<20) // 2 MiB, and a cut in the middle of a letter
	hostile := strings.Repeat("\x01", 3<<20)
	for _, ev := range []audit.StatementEvent{
		&audit.DatabaseQuery{Query: "x" + long, Parameters: values("a", "b")},
		&audit.StatementParse{Query: hostile},
		&audit.StatementBind{Parameters: values(hostile, "", "NULL", "b")},
		&audit.FunctionCall{Arguments: values("short", long)},
		&audit.StatementBind{Parameters: values(hostile), Shortened: audit.Shortened{Truncated: true, FullSize: 1 << 30, FullHash: "known"}},
	} {
		if err := l.Post(t.Context(), &audit.Statement{What: ev}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	all := lines(t, dir)
	if len(all) != 5 {
		t.Fatalf("%d lines", len(all))
	}
	for i, want := range []string{
		`"db_query_parameters":["a",""],"truncated":true,"full_size":2097155,"full_sha256":"`,
		`"truncated":true,"full_size":3145728,`,
		`"",null,""],"truncated":true,"full_size":3145729,`,
		`"function_args":["short","é`,
		`"truncated":true,"full_size":1073741824,"full_sha256":"known"`,
	} {
		if !bytes.Contains(all[i], []byte(want)) {
			t.Errorf("line %d has no %s: …%s", i+1, want, all[i][max(0, len(all[i])-400):])
		}
		if bytes.Contains(all[i], []byte("\ufffd")) || bytes.Contains(all[i], []byte(`\ufffd`)) {
			t.Errorf("line %d: a letter was cut in two", i+1)
		}
	}
	if _, err := audit.Verify(t.Context(), dir); err != nil {
		t.Error(err)
	}
}

// TestReferencePageIsComplete: it has every event, every code and every field.
func TestReferencePageIsComplete(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/reference/audit.md")
	if err != nil {
		t.Fatal(err)
	}
	lines, err := os.ReadFile("testdata/events.golden.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(lines)) {
		var event map[string]any
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatal(err)
		}
		if code := fmt.Sprint(event["code"]); !strings.Contains(string(page), code) {
			t.Errorf("docs/reference/audit.md does not have %s", code)
		}
		for field := range event {
			if !strings.Contains(string(page), "`"+field+"`") {
				t.Errorf("docs/reference/audit.md does not have the field %s of %s", field, event["event"])
			}
		}
	}
}
