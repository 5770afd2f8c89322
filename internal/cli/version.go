package cli

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

// version is set by the linker; a build without it is one of a developer.
var version = "dev"

func newVersion(a *App) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Long:  "Print the version of this program and what it was built with.",
		Example: fmt.Sprintf(`  %[1]s version
  %[1]s version --debug`, a.name),
		Args: positional(),
		RunE: a.run(func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(a.Out, "postern %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		}),
	}
}
