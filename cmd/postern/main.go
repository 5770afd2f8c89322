// Postern is an access gateway for PostgreSQL: hub, agent and client in one binary.
package main

import (
	"context"
	"os"

	"github.com/postern-db/postern/internal/cli"
)

func main() { os.Exit(cli.Main(context.Background(), os.Args, cli.SystemIO())) }
