package cli

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	gocmp "github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write generated files anew")

const referenceFile = "../../docs/reference/cli.md"

// TestReferenceIsCurrent holds docs/reference/cli.md equal to the commands.
func TestReferenceIsCurrent(t *testing.T) {
	t.Parallel()
	want := reference(newApp(programName, IO{}).Root())
	if *update {
		if err := os.WriteFile(referenceFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(want, string(got)); diff != "" {
		t.Errorf("docs/reference/cli.md is not current; run go test ./internal/cli -run Current -update\n%s", diff)
	}
}

// TestEveryCommandIsExplained checks what style.md asks of a command's help.
func TestEveryCommandIsExplained(t *testing.T) {
	t.Parallel()
	for _, name := range []string{programName, nameTSH, nameTCTL} {
		walk(newApp(name, IO{}).Root(), func(cmd *cobra.Command) {
			if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
				t.Errorf("%s: short help %q", cmd.CommandPath(), cmd.Short)
			}
			if cmd.Long == "" {
				t.Errorf("%s has no long help", cmd.CommandPath())
			}
			if !cmd.HasSubCommands() && len(strings.Split(cmd.Example, "\n")) < 2 {
				t.Errorf("%s has fewer than two examples", cmd.CommandPath())
			}
			cmd.Flags().VisitAll(func(f *pflag.Flag) {
				if f.Usage == "" && !f.Hidden {
					t.Errorf("%s --%s is not explained", cmd.CommandPath(), f.Name)
				}
			})
		})
	}
}

// walk visits a command and those below it, in the order of their names.
func walk(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, child := range cmd.Commands() {
		if !child.Hidden && child.Name() != "help" && child.Name() != "completion" {
			walk(child, visit)
		}
	}
}

// reference is the manual of all commands as Markdown.
func reference(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString("# Commands\n\nGenerated from the program; `make docs` writes it anew. Called as `tsh` the program has the commands for\n" +
		"users, called as `tctl` those of `postern ctl`.\n\n" +
		"Exit codes: 0 done, 1 failed, 2 wrong usage, 4 a login is needed. `db connect` ends with the exit code of psql.\n")
	walk(root, func(cmd *cobra.Command) {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", cmp.Or(strings.TrimSpace(cmd.CommandPath()), root.Name()), cmd.Long)
		if cmd.HasSubCommands() {
			b.WriteString("\n")
			for _, child := range cmd.Commands() {
				if child.Name() != "help" && child.Name() != "completion" {
					fmt.Fprintf(&b, "* `%s`: %s\n", child.CommandPath(), child.Short)
				}
			}
		} else {
			fmt.Fprintf(&b, "\n```\n%s\n```\n\nExamples:\n\n```\n%s\n```\n", cmd.UseLine(), unindent(cmd.Example))
		}
		if flags := strings.TrimRight(cmd.NonInheritedFlags().FlagUsagesWrapped(110), "\n"); flags != "" {
			fmt.Fprintf(&b, "\nFlags:\n\n```\n%s\n```\n", flags)
		}
	})
	return b.String()
}

func unindent(text string) string {
	return strings.TrimPrefix(strings.ReplaceAll(text, "\n  ", "\n"), "  ")
}
