package cli

import (
	"context"
	"log/slog"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/postern-db/postern/internal/config"
	"github.com/postern-db/postern/internal/daemon"
)

func newStart(a *App) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "start",
		Short: "Run hub and agent",
		Long: `Run the parts that the configuration enables, hub and agent by default, until SIGTERM or SIGINT. Then
new sessions are refused, open ones are ended and their database users are released. Without a
configuration file a hub runs on loopback, with its data directory below the user's state directory.`,
		Example: `  postern start
  postern start -c /etc/postern.yaml`,
		Args: positional(),
		RunE: a.run(func(cmd *cobra.Command, _ []string) error { return a.start(cmd.Context(), file) }),
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file")
	return cmd
}

func (a *App) start(ctx context.Context, file string) error {
	cfg, err := loadConfig(file)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return daemon.Run(ctx, cfg, daemon.Options{
		Version: version, Out: a.Out, Log: a.daemonLog(cfg.Log), TuneMemory: a.Getenv("GOGC") == "",
	})
}

func loadConfig(file string) (*config.Config, error) {
	if file == "" {
		return config.Default()
	}
	return config.Load(file)
}

// daemonLog is the one handler through which a daemon logs.
func (a *App) daemonLog(c config.Log) *slog.Logger {
	opt := &slog.HandlerOptions{Level: c.Level.Slog()}
	if a.debug {
		opt.Level = slog.LevelDebug
	}
	if c.Format == config.JSON {
		return slog.New(slog.NewJSONHandler(a.Err, opt))
	}
	return slog.New(slog.NewTextHandler(a.Err, opt))
}
