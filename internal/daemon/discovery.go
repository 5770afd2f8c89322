package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"time"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/client"
	"github.com/postern-db/postern/internal/cloud/aws"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
)

// labelDiscovery says which search of which discovery group keeps a registered
// database. Without it a database is somebody's own, and is left alone.
const labelDiscovery = "postern.dev/discovery"

const (
	publishTimeout = 30 * time.Second // of one comparison with the hub
	publishAgain   = 5 * time.Second  // after one that failed
)

// discoveries returns what searches in this process.
func (d *daemon) discoveries() []*aws.Discovery {
	var all []*aws.Discovery
	if d.found != nil {
		all = append(all, d.found)
	}
	if d.publish != nil {
		all = append(all, d.publish.found)
	}
	return all
}

// publisher keeps the hub's databases equal to what discovery finds.
type publisher struct {
	found *aws.Discovery
	group string
	hub   *api.Client
	log   *slog.Logger
}

func (d *daemon) newPublisher(found *aws.Discovery) *publisher {
	return &publisher{found: found, group: d.cfg.Discovery.DiscoveryGroup, hub: client.Control(d.cfg.DataDir), log: d.opt.Log}
}

// serve publishes whenever something else is found, until ctx ends.
func (p *publisher) serve(ctx context.Context) {
	for {
		found, newer := p.found.Databases()
		err := p.publish(ctx, found)
		if ctx.Err() != nil {
			return
		}
		var again <-chan time.Time
		if err != nil {
			p.log.Warn("discovered databases not registered", "error", fault.Chain(err))
			again = time.After(publishAgain)
		}
		select {
		case <-ctx.Done():
			return
		case <-newer:
		case <-again:
		}
	}
}

// publish registers what was found, replaces what has changed and removes what is
// gone: what this group registered, and what is not there any more according to a search
// that was answered, or that is not configured any more.
func (p *publisher) publish(ctx context.Context, found []*resource.Database) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	listed, err := api.ListResources().Call(ctx, p.hub, api.ListResourcesRequest{Kind: resource.KindDatabase})
	if err != nil {
		return err
	}
	wanted := map[string]*resource.Database{}
	for _, r := range found {
		wanted[r.GetName()] = p.labelled(r)
	}
	complete := p.found.Complete()
	var errs error
	for _, item := range listed.Resources {
		r, err := resource.DecodeJSON(item.Kind, item.Body)
		if err != nil {
			continue // of a newer version, and so not ours
		}
		have := r.(*resource.Database)
		search, ours := strings.CutPrefix(have.Metadata.Labels[labelDiscovery], p.group+" ")
		want := wanted[have.GetName()]
		delete(wanted, have.GetName())
		answered, configured := complete[search]
		switch {
		case !ours && want != nil:
			p.log.Warn("discovered database not registered: somebody has one of that name", "database", have.GetName())
		case !ours, want == nil && configured && !answered:
		case want == nil:
			errs = firstError(errs, p.remove(ctx, have.GetName()))
		case !reflect.DeepEqual(plain(have), plain(want)):
			errs = firstError(errs, p.put(ctx, want, item.Revision))
		}
	}
	for _, r := range found {
		if want := wanted[r.GetName()]; want != nil {
			errs = firstError(errs, p.put(ctx, want, 0))
		}
	}
	return errs
}

func firstError(first, next error) error {
	if first != nil {
		return first
	}
	return next
}

// labelled returns the database with the label that says that it is kept by us.
func (p *publisher) labelled(r *resource.Database) *resource.Database {
	c := *r
	c.Metadata.Labels = r.Labels()
	in := r.Spec.AWS
	search := aws.Search{Region: in.Region, Role: aws.Role{ARN: in.AssumeRoleARN, ExternalID: in.ExternalID}}
	c.Metadata.Labels[labelDiscovery] = p.group + " " + search.String()
	return &c
}

// plain returns a resource as its JSON says it.
func plain(r *resource.Database) (v any) {
	body, err := json.Marshal(r)
	if err == nil {
		err = json.Unmarshal(body, &v)
	}
	if err != nil {
		return err
	}
	return v
}

func (p *publisher) put(ctx context.Context, r *resource.Database, revision int64) error {
	body, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode database %s: %w", r.GetName(), err)
	}
	item := api.Resource{Kind: resource.KindDatabase, Name: r.GetName(), Body: body, Revision: revision}
	if _, err := api.PutResources().Call(ctx, p.hub, api.PutResourcesRequest{Resources: []api.Resource{item}}); err != nil {
		return fmt.Errorf("register %s: %w", r.GetName(), err)
	}
	p.log.Info("discovered database registered", "database", r.GetName())
	return nil
}

func (p *publisher) remove(ctx context.Context, name string) error {
	_, err := api.DeleteResource().Call(ctx, p.hub, api.DeleteResourceRequest{Kind: resource.KindDatabase, Name: name})
	if err != nil && fault.KindOf(err) != fault.NotFound {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	p.log.Info("database that is gone removed", "database", name)
	return nil
}
