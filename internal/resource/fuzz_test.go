package resource_test

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/postern-db/postern/internal/resource"
)

// fuzzBound is how long any input of up to 64 KiB may take.
const (
	fuzzBound = time.Second
	fuzzInput = 64 << 10
)

func FuzzParse(f *testing.F) {
	data, err := os.ReadFile("testdata/all_kinds.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, doc := range bytes.Split(data, []byte("---\n")) {
		f.Add(doc)
	}
	f.Add([]byte("a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]"))
	f.Add(bytes.Repeat([]byte("["), 1000))
	f.Add(bytes.Repeat([]byte("- "), 1000))
	f.Add(bytes.Repeat([]byte("{a: "), 1000))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > fuzzInput {
			return
		}
		start := time.Now()
		rs, err := resource.Parse("fuzz.yaml", data)
		if spent := time.Since(start); spent > fuzzBound {
			t.Fatalf("took %v", spent)
		}
		if err != nil {
			return
		}
		for _, r := range rs {
			text, err := resource.EncodeYAML(r)
			if err != nil {
				t.Fatal(err)
			}
			again, err := resource.Parse("again.yaml", text)
			if err != nil {
				t.Fatalf("what was printed does not parse: %v\n%s", err, text)
			}
			first, _ := json.Marshal(r)
			second, _ := json.Marshal(again[0])
			if !bytes.Equal(first, second) {
				t.Fatalf("YAML changes %s into %s", first, second)
			}
			if stored, err := resource.DecodeJSON(r.GetKind(), first); err != nil {
				t.Fatalf("the stored form does not parse: %v\n%s", err, first)
			} else if third, _ := json.Marshal(stored); !bytes.Equal(first, third) {
				t.Fatalf("JSON changes %s into %s", first, third)
			}
		}
	})
}

func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"a", "{{external.x}}", `a{{regexp.replace(email.local(internal.db_roles), "^(a+)+$", "$1$1")}}b`, `{{external["x"]}}`} {
		f.Add(s, "value")
	}
	f.Fuzz(func(t *testing.T, text, value string) {
		if len(text)+len(value) > fuzzInput {
			return
		}
		start := time.Now()
		tpl, err := resource.ParseTemplate(text)
		if err == nil {
			_, _ = tpl.Expand(map[string][]string{"x": {value}, "db_roles": {value}})
		}
		if spent := time.Since(start); spent > fuzzBound {
			t.Fatalf("took %v", spent)
		}
	})
}

func FuzzEndpoint(f *testing.F) {
	for _, s := range []string{"localhost:5432", "[::1]:1,b:2/?a=b", "postgres://u:p@h/d?host=/tmp"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		e, err := resource.ParseEndpoint(uri)
		if err == nil && len(e.Hosts) == 0 {
			t.Fatal("no hosts and no error")
		}
	})
}

// TestHostileInput: inputs made to cost much are refused quickly.
func TestHostileInput(t *testing.T) {
	t.Parallel()
	bomb := "a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
	for i := range 9 {
		bomb += "a" + string(rune('1'+i)) + ": &a" + string(rune('1'+i)) + " [" + string(bytes.Repeat([]byte("*a"+string(rune('0'+i))+","), 9)) + "]\n"
	}
	for _, text := range []string{
		bomb,
		string(bytes.Repeat([]byte("["), fuzzInput)),
		string(bytes.Repeat([]byte("{a: "), fuzzInput/4)),
		string(bytes.Repeat([]byte("- "), fuzzInput/2)),
		string(bytes.Repeat([]byte("? "), fuzzInput/2)),
		"kind: role\nspec: {" + string(bytes.Repeat([]byte("a: 1,"), fuzzInput/5)) + "}",
		string(bytes.Repeat([]byte("---\n"), fuzzInput/4)),
	} {
		start := time.Now()
		if _, err := resource.Parse("x", []byte(text)); err == nil {
			t.Errorf("accepted: %.40s", text)
		}
		if spent := time.Since(start); spent > 5*fuzzBound { // a loaded machine and the race detector are slow
			t.Errorf("%.40s took %v", text, spent)
		}
	}
}

// TestTextSurvives: any text in a free field comes back from YAML and JSON.
func TestTextSurvives(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		u := &resource.User{Version: "v2", Metadata: resource.Metadata{Name: "a", Description: text}}
		u.Spec.Traits = map[string][]string{"k" + text: {text, "x"}}
		if err := resource.Validate(u); err != nil {
			t.Fatal(err)
		}
		yaml, err := resource.EncodeYAML(u)
		if err != nil {
			t.Fatal(err)
		}
		rs, err := resource.Parse("x", yaml)
		if err != nil {
			t.Fatalf("%v\n%s", err, yaml)
		}
		back := rs[0].(*resource.User)
		if back.Metadata.Description != text || back.Spec.Traits["k"+text][0] != text {
			t.Fatalf("%q became %q", text, back.Metadata.Description)
		}
		stored, _ := json.Marshal(u)
		var again resource.User
		if err := json.Unmarshal(stored, &again); err != nil || again.Metadata.Description != text {
			t.Fatalf("%q became %q, %v", text, again.Metadata.Description, err)
		}
	})
}
