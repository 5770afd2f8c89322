package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/client"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
)

type editOptions struct{ kind, name string }

func newEdit(a *App) *cobra.Command {
	return &cobra.Command{
		Use:   "edit KIND/NAME",
		Short: "Change a resource in an editor",
		Long: `Open a resource in $VISUAL or $EDITOR and save what comes back. When it is refused, or somebody else
has changed the resource meanwhile, nothing is saved and the edited file is kept.`,
		Example: `  ` + a.path("edit") + ` role/auto-db-users
  EDITOR=nano ` + a.path("edit") + ` db/example`,
		Args: positional("KIND/NAME"),
		RunE: a.run(func(cmd *cobra.Command, args []string) error {
			kind, name, err := parseFullRef(args[0])
			if err != nil {
				return err
			}
			return a.edit(cmd.Context(), editOptions{kind, name})
		}),
	}
}

func (a *App) edit(ctx context.Context, opts editOptions) error {
	found, err := a.listResources(ctx, opts.kind, opts.name)
	if err != nil {
		return err
	}
	before, err := resourceYAML(found[0])
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "postern-edit-") // for this user only
	if err != nil {
		return fmt.Errorf("make a file to edit: %w", err)
	}
	file := filepath.Join(dir, opts.kind+".yaml")
	after, err := a.editText(ctx, file, []byte(before))
	if err == nil && !bytes.Equal(after, []byte(before)) {
		err = a.putEdited(ctx, file, after, found[0])
	} else if err == nil {
		a.tell("nothing changed")
	}
	if err != nil && len(after) > 0 { // the work must not be lost
		a.tell("the edited text is kept in %s", file)
		return err
	}
	return errors.Join(err, os.RemoveAll(dir))
}

// editText lets the editor of the person change text.
func (a *App) editText(ctx context.Context, file string, text []byte) ([]byte, error) {
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, fmt.Errorf("make a file to edit: %w", err)
	}
	editor := cmp.Or(a.Getenv("VISUAL"), a.Getenv("EDITOR"), "vi")
	// These variables hold a command with arguments, which the shell splits.
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", editor+` "$1"`, editor, file)
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = a.In, a.Out, a.Err, a.Env
	if err := cmd.Run(); err != nil {
		return nil, fault.Newf(fault.Invalid, "the editor %q failed: %w", editor, err).WithHint("set EDITOR to the editor you use")
	}
	return client.ReadFile(file, maxResourceFile)
}

// putEdited saves the edited text in the place of the resource it was made from,
// if that is still the current one.
func (a *App) putEdited(ctx context.Context, file string, text []byte, was api.Resource) error {
	edited, err := resource.Parse(file, text)
	if err != nil {
		return err
	}
	if len(edited) != 1 || edited[0].GetKind() != was.Kind || edited[0].GetName() != was.Name {
		return fault.Newf(fault.Invalid, "the edited text is not the %s %q any more", was.Kind, was.Name).
			WithHint("'" + a.path("create") + "' makes new resources")
	}
	body, err := json.Marshal(edited[0])
	if err != nil {
		return fmt.Errorf("encode %s %s: %w", was.Kind, was.Name, err)
	}
	return a.put(ctx, api.PutResourcesRequest{
		Replace:   true,
		Resources: []api.Resource{{Kind: was.Kind, Name: was.Name, Body: body, Revision: was.Revision}},
	})
}
