package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newConfig(a *App) *cobra.Command {
	return group("config", "Check the configuration of the hub", "Check the configuration file of 'postern start'.", newConfigCheck(a))
}

func newConfigCheck(a *App) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Check a configuration file and print what is in force",
		Long: `Read a configuration file as 'postern start' would, and print the settings in force, defaults
included, without secrets. Mistakes are listed with their places in the file.`,
		Example: `  postern config check /etc/postern.yaml
  postern config check -c postern.yaml`,
		Args: positional("[FILE]"),
		RunE: a.run(func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				file = args[0]
			}
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			for _, text := range cfg.Warnings() {
				a.warn("%s", text)
			}
			text, err := cfg.Effective()
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(a.Out, text)
			return err
		}),
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file")
	return cmd
}
