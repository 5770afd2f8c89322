package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/client"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
)

// maxResourceFile bounds a file of resources; the hub takes 4 MB in one call.
const maxResourceFile = 4 << 20

type createOptions struct {
	files []string
	force bool
}

func newCreate(a *App) *cobra.Command {
	var opts createOptions
	cmd := &cobra.Command{
		Use:   "create {-f FILE... | FILE...}",
		Short: "Create resources from YAML files",
		Long: `Create the resources of one or more YAML files, each with any number of documents; "-" is standard
input. Either all of them are created or none. What exists is refused unless --force replaces it.` + replaceNote(a.name),
		Example: `  ` + a.path("create") + ` -f role.yaml
  ` + a.path("create") + ` --force -f roles.yaml -f databases.yaml`,
		RunE: a.run(func(cmd *cobra.Command, args []string) error {
			if a.name == nameTCTL && len(opts.files) > 0 {
				opts.force = true
			}
			opts.files = append(opts.files, args...)
			return a.create(cmd.Context(), opts)
		}),
	}
	cmd.Flags().StringArrayVarP(&opts.files, "filename", "f", nil, "file to read, - for standard input; may be given several times")
	cmd.Flags().BoolVar(&opts.force, "force", false, "replace what exists")
	return cmd
}

func replaceNote(name string) string {
	if name == nameTCTL {
		return "\nUnder this name, -f replaces too, as scripts written for it expect."
	}
	return ""
}

func (a *App) create(ctx context.Context, opts createOptions) error {
	if len(opts.files) == 0 {
		return misused(fault.New(fault.Invalid, "which file?").WithHint(a.path("create") + " -f FILE"))
	}
	if n := slices.Index(opts.files, "-"); n >= 0 && slices.Contains(opts.files[n+1:], "-") {
		return misused(fault.New(fault.Invalid, "standard input can be read only once"))
	}
	var found []resource.Resource
	var mistakes []error
	for _, file := range opts.files { // every mistake of every file, and nothing applied
		data, err := a.readResourceFile(file)
		if err != nil {
			return err
		}
		some, err := resource.Parse(file, data)
		mistakes = append(mistakes, err)
		found = append(found, some...)
	}
	if err := errors.Join(mistakes...); err != nil {
		return err
	}
	req := api.PutResourcesRequest{Replace: opts.force}
	for _, r := range found {
		body, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("encode %s %s: %w", r.GetKind(), r.GetName(), err)
		}
		req.Resources = append(req.Resources, api.Resource{Kind: r.GetKind(), Name: r.GetName(), Body: body})
	}
	return a.put(ctx, req)
}

// put sends resources and says what became of them.
func (a *App) put(ctx context.Context, req api.PutResourcesRequest) error {
	hub, err := a.control()
	if err != nil {
		return err
	}
	resp, err := api.PutResources().Call(ctx, hub, req)
	if f, ok := errors.AsType[*fault.Error](err); ok && f.Kind == fault.Conflict && f.Hint == "" && !req.Replace {
		err = f.WithHint("--force replaces what exists")
	}
	if err != nil {
		return err
	}
	for _, w := range resp.Warnings {
		a.warn("%s", w)
	}
	for _, r := range resp.Results {
		done := "updated"
		if r.Created {
			done = "created"
		}
		a.tell("%s %s %s", r.Kind, quote(r.Name), done)
	}
	return nil
}

func (a *App) readResourceFile(file string) ([]byte, error) {
	if file != "-" {
		data, err := client.ReadFile(file, maxResourceFile)
		if err != nil {
			return nil, fault.Newf(fault.Invalid, "%w", err)
		}
		return data, nil
	}
	data, err := io.ReadAll(io.LimitReader(a.In, maxResourceFile+1))
	if err != nil {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	if len(data) > maxResourceFile {
		return nil, fault.Newf(fault.Invalid, "standard input is larger than %d bytes", maxResourceFile)
	}
	return data, nil
}
