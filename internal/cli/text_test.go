package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-db/postern/internal/client"
)

func TestPSQLEnvironmentLeadsNowhereElse(t *testing.T) {
	t.Parallel()
	got := psqlEnv([]string{
		"HOME=/h", "PGHOST=elsewhere", "PGHOSTADDR=192.0.2.1", "PGSERVICE=x", "PGPASSWORD=x", "PGSSLMODE=require", "PGREQUIREAUTH=scram-sha-256",
		"PGFUTUREVARIABLE=x", "PGOPTIONS=-c a=b", "PG_COLOR=always", "PGAPPNAME=me",
	}, settings{"/run/s", "5432", "alice", "shop"})
	want := []string{
		"HOME=/h", "PGOPTIONS=-c a=b", "PG_COLOR=always", "PGAPPNAME=me",
		"PGHOST=/run/s", "PGPORT=5432", "PGUSER=alice", "PGDATABASE=shop", "PGSSLMODE=disable", "PGGSSENCMODE=disable",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTTLFlag(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"8h": 8 * time.Hour, "90": 90 * time.Minute, "30d": 720 * time.Hour, "2190h": 2190 * time.Hour, "90m": 90 * time.Minute,
		"": 0, "0": 0, "-1h": 0, "soon": 0, "d": 0, "1.5d": 0,
	} {
		var got ttlValue
		err := got.Set(text)
		if time.Duration(got) != want || (err == nil) != (want > 0) {
			t.Errorf("Set(%q) = %v, %v", text, time.Duration(got), err)
		}
	}
}

func TestConnectionStringQuotes(t *testing.T) {
	t.Parallel()
	got := connectionString([]client.Setting{{Key: "user", Value: `o'neill \x`}, {Key: "dbname", Value: "a"}, {Key: "host", Value: ""}})
	if want := `user='o\'neill \\x' dbname=a host=''`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for word, want := range map[string]string{"plain/a-b": "plain/a-b", "": "''", "it's $x": `'it'\''s $x'`} {
		if got := shellQuote(word); got != want {
			t.Errorf("shellQuote(%q) = %s, want %s", word, got, want)
		}
	}
}

func TestYAMLKeepsTypes(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	err := writeYAML(&out, struct {
		B string   `json:"b"`
		A string   `json:"a"`
		C []string `json:"c"`
		D int      `json:"d"`
	}{"true", "12", []string{"x: y", "null"}, 3})
	want := "b: 'true'\na: '12'\nc:\n- 'x: y'\n- 'null'\nd: 3\n"
	if diff := cmp.Diff(want, out.String()); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}

func TestGridOnATerminal(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	a := newApp("postern", IO{Out: &out, IsTTY: true, Width: 40})
	g := &grid{head: []string{"Name", "Labels"}, cut: 1}
	g.add("데이터", strings.Repeat("key=value,", 10))
	g.add("b\x1b[31m", "x")
	if err := a.writeGrid(g); err != nil {
		t.Fatal(err)
	}
	want := `╭────────┬─────────────────────────────╮
│ Name   │ Labels                      │
├────────┼─────────────────────────────┤
│ 데이터 │ key=value,key=value,key=... │
│ b�[31m │ x                           │
╰────────┴─────────────────────────────╯
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestEventsThatAreNoJSON(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	a := newApp("postern", IO{Out: &out})
	show := func(line []byte) error { return a.writeEvent(line, formatText) }
	if err := eachLine(strings.NewReader("nonsense\n"), show); err == nil {
		t.Error("no error")
	}
	if err := eachLine(strings.NewReader(strings.Repeat("x", maxEvent+1)), show); err == nil {
		t.Error("no error for an endless line")
	}
}
