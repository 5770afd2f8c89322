package cli

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/client"
)

type policyTestOptions struct {
	files  []string
	from   []string
	format string
}

func newAccessTest(a *App) *cobra.Command {
	var opts policyTestOptions
	cmd := &cobra.Command{
		Use:   "test FILE...",
		Short: "Run the unit tests of a policy",
		Long: `Run files of statements about who can do what. Exits with 1 when one does not hold, so that a change
of roles can be checked before it is merged. The policy is what --from names, else what the file itself
names (seen from where it lies), else that of the hub on this machine.

  from: [dev.yaml]
  users:
  - {name: alice, roles: [dev]}
  databases:
  - {name: shop, labels: {env: dev}, admin_user: postern-admin}
  tests:
  - can: {user: alice, database: shop, db_name: app}
    with: {mode: keep, db_roles: [reader]}
  - cannot: {user: alice, database: payroll}`,
		Example: `  postern access test policy_test.yaml
  postern access test --from roles/ roles/*_test.yaml
  postern access test examples/policies/*_test.yaml`,
		Args: positional("FILE..."),
		RunE: a.run(func(cmd *cobra.Command, args []string) error {
			opts.files = args
			return a.testPolicy(cmd.Context(), opts)
		}),
	}
	fromFlag(cmd, &opts.from)
	formatFlag(cmd, &opts.format, formatText, formatJSON, formatYAML)
	return cmd
}

func (a *App) testPolicy(ctx context.Context, opts policyTestOptions) error {
	if err := checkFormat(opts.format, formatText, formatJSON, formatYAML); err != nil {
		return err
	}
	results := []access.TestResult{}
	for _, file := range opts.files {
		some, err := a.testPolicyFile(ctx, file, opts.from)
		if err != nil {
			return err
		}
		results = append(results, some...)
	}
	failed := 0
	for _, result := range results {
		if !result.Passed {
			failed++
		}
	}
	if err := a.write(opts.format, results, func() error { return a.tellTests(results, failed, len(opts.files) > 1) }); err != nil {
		return err
	}
	if failed > 0 {
		return statusError(exitFailed)
	}
	return nil
}

// testPolicyFile runs one test file against the resources of from, or of those
// places that the file names.
func (a *App) testPolicyFile(ctx context.Context, file string, from []string) ([]access.TestResult, error) {
	data, err := client.ReadFile(file, maxResourceFile)
	if err != nil {
		return nil, err
	}
	tests, err := access.ParseTests(file, data)
	if err != nil {
		return nil, err
	}
	if len(from) == 0 {
		for _, place := range tests.From {
			if !filepath.IsAbs(place) {
				place = filepath.Join(filepath.Dir(file), place)
			}
			from = append(from, place)
		}
	}
	r, err := a.rules(ctx, from)
	if err != nil {
		return nil, err
	}
	results := r.policy.RunTests(tests, r.users, r.databases)
	for i := range results {
		results[i].File = file
	}
	return results, nil
}

func (a *App) tellTests(results []access.TestResult, failed int, files bool) error {
	for _, result := range results {
		word, name := "ok    ", result.Name
		if !result.Passed {
			word = "FAILED"
		}
		if files {
			name = result.File + ": " + name
		}
		if _, err := fmt.Fprintf(a.Out, "%s  %s\n", word, printable(name)); err != nil {
			return err
		}
		for _, failure := range result.Failures {
			if _, err := fmt.Fprintf(a.Out, "        %s\n", printableText(failure)); err != nil {
				return err
			}
		}
	}
	_, err := fmt.Fprintf(a.Out, "%d passed, %d failed\n", len(results)-failed, failed)
	return err
}
