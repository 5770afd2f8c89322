package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
)

type getOptions struct {
	kind, name string
	format     string
}

func newGet(a *App) *cobra.Command {
	var opts getOptions
	cmd := &cobra.Command{
		Use:   "get KIND[/NAME]",
		Short: "Print resources",
		Long: `Print all resources of a kind, or one. The kinds are ` + strings.Join(resource.Kinds(), ", ") + `; plurals work too. What
is printed as YAML can be changed and given to 'create --force'.`,
		Example: `  ` + a.path("get") + ` role/auto-db-users
  ` + a.path("get") + ` databases --format=text`,
		Args:      positional("KIND[/NAME]"),
		ValidArgs: resource.Kinds(), // for completion
		RunE: a.run(func(cmd *cobra.Command, args []string) error {
			var err error
			if opts.kind, opts.name, err = parseRef(args[0]); err != nil {
				return err
			}
			return a.get(cmd.Context(), opts)
		}),
	}
	formatFlag(cmd, &opts.format, formatYAML, formatJSON, formatText)
	return cmd
}

func (a *App) get(ctx context.Context, opts getOptions) error {
	if err := checkFormat(opts.format, formatYAML, formatJSON, formatText); err != nil {
		return err
	}
	found, err := a.listResources(ctx, opts.kind, opts.name)
	if err != nil {
		return err
	}
	switch opts.format {
	case formatJSON:
		if opts.name != "" {
			return writeJSON(a.Out, found[0].Body)
		}
		bodies := []json.RawMessage{}
		for _, r := range found {
			bodies = append(bodies, r.Body)
		}
		return writeJSON(a.Out, bodies)
	case formatYAML:
		for i, r := range found {
			text, err := resourceYAML(r)
			if err != nil {
				return err
			}
			if i > 0 {
				text = "---\n" + text
			}
			if _, err := a.Out.Write([]byte(text)); err != nil {
				return err
			}
		}
		return nil
	}
	g, err := resourceGrid(opts.kind, found)
	if err != nil {
		return err
	}
	return a.writeGrid(g)
}

// listResources asks the hub for the resources of a kind, or for one, which must
// exist.
func (a *App) listResources(ctx context.Context, kind, name string) ([]api.Resource, error) {
	hub, err := a.control()
	if err != nil {
		return nil, err
	}
	resp, err := api.ListResources().Call(ctx, hub, api.ListResourcesRequest{Kind: kind, Name: name})
	if err != nil {
		return nil, err
	}
	if name != "" && len(resp.Resources) == 0 {
		return nil, fault.Newf(fault.NotFound, "%s %q does not exist", kind, name)
	}
	return resp.Resources, nil
}

func resourceYAML(r api.Resource) (string, error) {
	decoded, err := resource.DecodeJSON(r.Kind, r.Body)
	if err != nil {
		return "", fmt.Errorf("read %s %s: %w", r.Kind, r.Name, err)
	}
	data, err := resource.EncodeYAML(decoded)
	return string(data), err
}

// resourceGrid is the table of one kind.
func resourceGrid(kind string, found []api.Resource) (*grid, error) {
	g := &grid{head: []string{"Name", "Description", "Labels"}, cut: -1}
	switch kind {
	case resource.KindDatabase:
		g.head = []string{"Name", "Description", "Protocol", "URI", "Admin User", "Labels"}
	case resource.KindRole:
		g.head = []string{"Name", "Description", "Accounts", "Database Roles", "Labels"}
	case resource.KindUser:
		g.head = []string{"Name", "Roles", "Traits"}
	}
	for _, r := range found {
		decoded, err := resource.DecodeJSON(r.Kind, r.Body)
		if err != nil {
			return nil, fmt.Errorf("read %s %s: %w", r.Kind, r.Name, err)
		}
		meta := decoded.GetMetadata()
		switch r := decoded.(type) {
		case *resource.Database:
			admin, _ := r.AdminUser()
			g.add(meta.Name, meta.Description, r.Spec.Protocol, r.Spec.URI, admin, labelText(r.Labels()))
		case *resource.Role:
			g.add(meta.Name, meta.Description, r.Spec.Options.CreateUserMode().String(), strings.Join(r.Spec.Allow.DatabaseRoles, ", "), labelText(meta.Labels))
		case *resource.User:
			g.add(meta.Name, strings.Join(r.Spec.Roles, ", "), traitText(r.Spec.Traits))
		default:
			g.add(meta.Name, meta.Description, labelText(meta.Labels))
		}
	}
	return g, nil
}
