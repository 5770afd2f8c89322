package cli

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// person answers prompts in order.
func person(answers ...string) func(context.Context, string) (string, error) {
	return func(context.Context, string) (string, error) {
		if len(answers) == 0 {
			return "", errors.New("asked too often")
		}
		answer := answers[0]
		answers = answers[1:]
		return answer, nil
	}
}

func TestPasswords(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		streams IO
		file    string
		fresh   bool
		want    string
		err     string
	}{
		"asked":                {streams: IO{AskSecret: person("a b ")}, want: "a b "},
		"asked twice":          {streams: IO{AskSecret: person("x", "x")}, fresh: true, want: "x"},
		"mistyped":             {streams: IO{AskSecret: person("x", "y")}, fresh: true, err: "the two passwords differ"},
		"empty answer":         {streams: IO{AskSecret: person("")}, err: "empty"},
		"environment":          {streams: IO{Env: []string{"POSTERN_PASSWORD=x"}}, want: "x"},
		"standard input":       {streams: IO{In: strings.NewReader("x y\r\n"), Env: []string{"POSTERN_PASSWORD=z"}}, file: "-", want: "x y"},
		"empty standard input": {streams: IO{In: strings.NewReader("\n")}, file: "-", err: "empty"},
		"endless":              {streams: IO{In: strings.NewReader(strings.Repeat("x", 1<<20))}, file: "-", err: "longer than 4096"},
		"no file":              {file: "/nowhere/file", err: "cannot read the password"},
		"nobody to ask":        {err: "no terminal"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newApp("postern", test.streams)
			get := a.password
			if test.fresh {
				get = a.newPassword
			}
			got, err := get(t.Context(), test.file, "alice")
			if string(got) != test.want || (err != nil) != (test.err != "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("got %q, %v", string(got), err)
			}
		})
	}
}
