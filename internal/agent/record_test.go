package agent_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/postern-db/postern/internal/testenv"
)

// hireRecorded is a person whose sessions are recorded at a level.
func hireRecorded(t *testing.T, env *testenv.Env, name, level string) *testenv.Person {
	t.Helper()
	env.Apply(t, strings.Replace(testenv.Role(name, "keep"), "options:", "options:\n    record_session: {db: "+level+"}", 1))
	env.AddUser(t, name, []string{name}, nil)
	return env.As(t, name)
}

// statementEvents are those of a person's only session between start and end.
func statementEvents(t *testing.T, env *testenv.Env, user string) []testenv.Event {
	t.Helper()
	env.AwaitAudit(t, 1, of(user, "TDB01I"))
	return slices.DeleteFunc(env.Audit(t, of(user)), func(e testenv.Event) bool {
		for _, prefix := range []string{"db.session.query", "db.session.result", "db.session.postgres"} {
			if strings.HasPrefix(e.Text("event"), prefix) {
				return false
			}
		}
		return true
	})
}

func summaries(events []testenv.Event) []string {
	var all []string
	for _, e := range events {
		all = append(all, summary(e))
	}
	return all
}

// TestPipelineOnRecord: what fails, what is skipped because of it, and what ran
// before are told apart, and each result points to its requests.
func TestPipelineOnRecord(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	conn := hireRecorded(t, env, "piper", "full").Connect(t, "example", "postgres")
	pipeline := conn.PgConn().StartPipeline(t.Context())
	pipeline.SendPrepare("s", "SELECT 1/$1::int4", nil)
	pipeline.SendQueryPrepared("s", [][]byte{{0, 0, 0, 1}}, []int16{1}, nil)
	pipeline.SendQueryPrepared("s", [][]byte{nil}, nil, nil)
	pipeline.SendQueryPrepared("s", [][]byte{[]byte("zero")}, nil, nil)
	pipeline.SendQueryPrepared("s", [][]byte{[]byte("2")}, nil, nil)
	if err := pipeline.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := pipeline.Close(); err == nil {
		t.Error("the pipeline did not fail")
	}
	testenv.Close(t, conn)
	const (
		parse   = "db.session.postgres.statements.parse TPG00I"
		bind    = "db.session.postgres.statements.bind TPG01I"
		execute = "db.session.postgres.statements.execute TPG02I portal_name="
		result  = "db.session.result TDB10I affected_records="
		done    = "%s1 bind_ei=%d command_tags=[SELECT 1] outcome=done parse_ei=%d request=execute request_ei=%d statement_name=s success=true tx_status=I"
	)
	events := statementEvents(t, env, "piper")
	first, _ := events[0]["ei"].(float64)
	at := func(i int) int { return int(first) + i }
	var requests, results []string
	for _, line := range summaries(events) {
		if strings.HasPrefix(line, result) {
			results = append(results, line)
		} else {
			requests = append(requests, line)
		}
	}
	wantRequests := []string{
		parse + " query=SELECT 1/$1::int4 statement_name=s",
		bind + ` parameters=[\x00000001::0] portal_name= statement_name=s`, execute, // nobody told the type
		bind + " parameters=[<nil>] portal_name= statement_name=s", execute,
		bind + " parameters=[zero] portal_name= statement_name=s", execute,
		bind + " parameters=[2] portal_name= statement_name=s", execute,
	}
	if diff := cmp.Diff(wantRequests, requests); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	wantResults := []string{
		fmt.Sprintf(done, result, at(1), at(0), at(2)),
		fmt.Sprintf(done, result, at(3), at(0), at(4)),
		fmt.Sprintf(`%s0 bind_ei=%d message=invalid input syntax for type integer: "zero" outcome=failed parse_ei=%d request=bind request_ei=%d sqlstate=22P02 statement_name=s success=false tx_status=I`, result, at(5), at(0), at(5)),
		fmt.Sprintf("%s0 outcome=skipped request=execute request_ei=%d success=false tx_status=I", result, at(6)),
		fmt.Sprintf("%s0 outcome=skipped request=execute request_ei=%d success=false tx_status=I", result, at(8)),
	}
	if diff := cmp.Diff(wantResults, results); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
}

// TestCopyOnRecord: begin and end of each, with the bytes that were moved.
func TestCopyOnRecord(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	conn := hireRecorded(t, env, "copier", "full").Connect(t, "example", "postgres")
	pg, ctx := conn.PgConn(), t.Context()
	if _, err := pg.Exec(ctx, "CREATE TEMP TABLE t (v text)").ReadAll(); err != nil {
		t.Fatal(err)
	}
	if _, err := pg.CopyFrom(ctx, strings.NewReader("one\ntwo\n"), "COPY t FROM STDIN"); err != nil {
		t.Fatal(err)
	}
	if _, err := pg.CopyTo(ctx, io.Discard, "COPY t TO STDOUT"); err != nil {
		t.Fatal(err)
	}
	if _, err := pg.CopyFrom(ctx, io.MultiReader(strings.NewReader("three\n"), brokenOff{}), "COPY t FROM STDIN"); err == nil {
		t.Error("a COPY that the client broke off did not fail")
	}
	testenv.Close(t, conn)
	var got []string
	for _, e := range statementEvents(t, env, "copier")[2:] {
		delete(e, "request_ei")
		got = append(got, summary(e))
	}
	want := []string{
		"db.session.query TDB02I db_query=COPY t FROM STDIN success=true",
		"db.session.postgres.copy.start TPA02I direction=in",
		"db.session.result TDB10I affected_records=2 command_tags=[COPY 2] copy_bytes=8 outcome=done request=query success=true tx_status=I",
		"db.session.query TDB02I db_query=COPY t TO STDOUT success=true",
		"db.session.postgres.copy.start TPA02I direction=out",
		"db.session.result TDB10I affected_records=2 command_tags=[COPY 2] copy_bytes=8 outcome=done request=query success=true tx_status=I",
		"db.session.query TDB02I db_query=COPY t FROM STDIN success=true",
		"db.session.postgres.copy.start TPA02I direction=in",
		"db.session.result TDB10I affected_records=0 copy_bytes=6 message=COPY from stdin failed: no more outcome=failed request=query sqlstate=57014 success=false tx_status=I",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// brokenOff is a source of data that fails.
type brokenOff struct{}

func (brokenOff) Read([]byte) (int, error) { return 0, errors.New("no more") }

// TestNoPasswordOnRecord, however it is sent, nor what PostgreSQL says about it.
func TestNoPasswordOnRecord(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	conn := hireRecorded(t, env, "whisperer", "full").Connect(t, "example", "postgres")
	pg, ctx := conn.PgConn(), t.Context()
	for _, sql := range []string{
		"ALTER ROLE nobody PASSWORD 'hush1'",
		"ALTER ROLE nobody PASSWORD 'hush2' AND 'hush3'", // a syntax error, which quotes a part
		"DO $$ BEGIN EXECUTE 'ALTER ROLE nobody PASSWORD ''hush4'''; END $$",
		"SELECT 1; ALTER ROLE nobody PASSWORD $x$hush5$x$ " + strings.Repeat("-- long\n", 50_000),
		`DO $$ BEGIN EXECUTE E'ALTER ROLE nobody P\x41SSWORD \047hush\047'; END $$`,
		`SET standard_conforming_strings = off`,
		`DO 'BEGIN ALTER ROLE nobody PASSWORD \047hush\047; END'`,
		`ALTER ROLE nobody PASSWORD 'x\'hush'`,
		`CREATE SUBSCRIPTION s CONNECTION 'postgresql://a:hush@nowhere/' PUBLICATION p`,
	} {
		_, _ = pg.Exec(ctx, sql).ReadAll() // all but the setting fail
	}
	const format = "SELECT format('ALTER ROLE nobody PASSWORD %L', $1::text), $2::text::int"
	_ = pg.ExecParams(ctx, format, [][]byte{[]byte("hush6"), []byte("hush7")}, nil, nil, nil).Read()
	if _, err := pg.Prepare(ctx, "s", format, nil); err != nil {
		t.Fatal(err)
	}
	_ = pg.ExecPrepared(ctx, "s", [][]byte{[]byte("hush8"), []byte("hush9")}, nil, nil).Read()
	testenv.Close(t, conn)
	events := statementEvents(t, env, "whisperer")
	for i, e := range events {
		// Behind AND stands a string like any other.
		if line := strings.ReplaceAll(fmt.Sprint(e), "AND 'hush3'", ""); strings.Contains(line, "hush") {
			t.Errorf("%d: %.300s", i, line)
		}
		if e["truncated"] == true && e["full_sha256"] != nil {
			t.Error("the hash of a statement with a password is on record")
		}
	}
	if line := fmt.Sprint(events); !strings.Contains(line, "parameters:[[redacted] [redacted]]") || !strings.Contains(line, "truncated:true") || !strings.Contains(line, "sqlstate:42601") {
		t.Errorf("%.3000s", line)
	}
}

// TestLongStatementOnRecord: its beginning, its size, and the hash of the whole.
func TestLongStatementOnRecord(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	conn := hireRecorded(t, env, "novelist", "full").Connect(t, "example", "postgres")
	sql := "SELECT length('" + strings.Repeat("x", 3<<20) + "')"
	if _, err := conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	values := [][]byte{[]byte("short"), []byte(sql), nil}
	if err := conn.PgConn().ExecParams(t.Context(), "SELECT $1::text, length($2::text), $3::text", values, nil, nil, nil).Read().Err; err != nil {
		t.Fatal(err)
	}
	testenv.Close(t, conn)
	sum := sha256.Sum256([]byte(sql))
	found := 0
	for _, e := range statementEvents(t, env, "novelist") {
		switch e.Text("code") {
		case "TDB02I":
			found++
			if e["db_query"] != sql[:256<<10] || e["full_size"] != float64(len(sql)) || e["full_sha256"] != hex.EncodeToString(sum[:]) {
				t.Errorf("%d bytes of %v, %v", len(e.Text("db_query")), e["full_size"], e["full_sha256"])
			}
		case "TPG01I":
			found++
			if diff := cmp.Diff([]any{"short", sql[:16<<10]}, e["parameters"]); diff != "" { // the third value lies beyond what is looked at
				t.Errorf("values (-want +got):\n%.1000s", diff)
			}
			if diff := cmp.Diff([]any{5.0, float64(len(sql))}, e["parameter_sizes"]); diff != "" || len(e.Text("full_sha256")) != 64 || e["truncated"] != true {
				t.Errorf("sizes, hash %v (-want +got):\n%s", e["full_sha256"], diff)
			}
		}
	}
	if found != 2 {
		t.Errorf("%d events", found)
	}
}

// TestRecordTag: commands and results, but no word of what people wrote or read.
func TestRecordTag(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	conn := hireRecorded(t, env, "discreet", "tag").Connect(t, "example", "postgres")
	pg, ctx := conn.PgConn(), t.Context()
	if _, err := pg.Exec(ctx, "SELECT 'private'; SELECT 2").ReadAll(); err != nil {
		t.Fatal(err)
	}
	_ = pg.ExecParams(ctx, "SELECT $1::int", [][]byte{[]byte("private")}, nil, nil, nil).Read()
	_, _ = pg.Exec(ctx, "SELECT private").ReadAll()
	_, _ = pg.Exec(ctx, "SELECT '"+strings.Repeat("private", 50_000)+"'").ReadAll()
	testenv.Close(t, conn)
	events := statementEvents(t, env, "discreet")
	for i, e := range events {
		if line := fmt.Sprint(e); strings.Contains(line, "private") || e["full_sha256"] != nil || e["parameters"] != nil {
			t.Errorf("%d: %.300s", i, line)
		}
	}
	if got, want := summary(events[1]), "command_tags=[SELECT 1 SELECT 1] outcome=done request=query"; !strings.Contains(got, want) {
		t.Errorf("the result is %s", got)
	}
	if !slices.ContainsFunc(events, func(e testenv.Event) bool { return e.Text("sqlstate") == "42703" }) {
		t.Error("the SQLSTATE of an error is missing")
	}
}

// TestRecordNone: start and end only.
func TestRecordNone(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	conn := hireRecorded(t, env, "unseen", "none").Connect(t, "example", "postgres")
	if got := text(t, conn, "SELECT 'private'"); got != "private" {
		t.Fatal(got)
	}
	testenv.Close(t, conn)
	if events := statementEvents(t, env, "unseen"); len(events) != 0 {
		t.Errorf("%v", summaries(events))
	}
}

// TestEndedSessionOnRecord: a statement without an answer is on record as such.
func TestEndedSessionOnRecord(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	conn := hireRecorded(t, env, "quitter", "full").Connect(t, "example", "postgres")
	raw := conn.PgConn().Conn()
	const sql = "SELECT pg_sleep(60)\x00"
	if _, err := raw.Write(append([]byte{'Q', 0, 0, 0, 4 + byte(len(sql))}, sql...)); err != nil {
		t.Fatal(err)
	}
	env.AwaitAudit(t, 1, of("quitter", "TDB02I"))
	raw.Close()
	events := statementEvents(t, env, "quitter")
	if got := summary(events[len(events)-1]); !strings.Contains(got, "outcome=unknown request=query") {
		t.Errorf("got %s", got)
	}
}
