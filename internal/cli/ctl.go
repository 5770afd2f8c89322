package cli

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/client"
	"github.com/postern-db/postern/internal/config"
)

// hubFlags say which hub on this machine an administrator means.
type hubFlags struct {
	dataDir string
	config  string
}

func newCtl(a *App) *cobra.Command {
	cmd := group("ctl", "Administer the hub on this machine",
		`Administer the hub on this machine. No login is needed: who may open the socket in the hub's data
directory is its owner.`)
	for _, c := range append(adminCommands(), newAudit) {
		cmd.AddCommand(c(a))
	}
	return cmd
}

// withHubFlags adds the flags of [App.control] to a command and those below it.
func withHubFlags(c command) command {
	return func(a *App) *cobra.Command {
		cmd := c(a)
		a.addHubFlags(cmd)
		return cmd
	}
}

func (a *App) addHubFlags(cmd *cobra.Command) {
	flags := cmd.PersistentFlags()
	flags.StringVar(&a.hub.dataDir, "data-dir", "", "data directory of the hub (default: that of --config, else $POSTERN_DATA_DIR, else the usual one)")
	flags.StringVarP(&a.hub.config, "config", "c", "", "configuration file of the hub, to find its data directory")
}

// control returns a caller of the API that speaks as the hub's owner.
func (a *App) control() (*api.Client, error) {
	dir, err := a.dataDir()
	if err != nil {
		return nil, err
	}
	return client.Control(dir), nil
}

// dataDir finds the data directory of the hub on this machine.
func (a *App) dataDir() (string, error) {
	if a.hub.dataDir != "" {
		return filepath.Abs(a.hub.dataDir)
	}
	if a.hub.config != "" {
		c, err := config.Load(a.hub.config)
		if err != nil {
			return "", err
		}
		return c.DataDir, nil
	}
	if dir := a.Getenv("POSTERN_DATA_DIR"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := config.DefaultDataDir()
	if os.Geteuid() == 0 && !isDir(dir) && isDir(systemDataDir) {
		return systemDataDir, nil
	}
	return dir, err
}

// systemDataDir is where a hub that runs as a service of the system keeps its
// data. Its owner comes as root, and has no state directory.
const systemDataDir = "/var/lib/postern"

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
