package config

import (
	"fmt"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
)

// Static returns the databases of the file as resources. The error is Invalid.
func (s *DBService) Static() ([]*resource.Database, error) {
	var all []*resource.Database
	seen := map[string]bool{}
	for i := range s.Databases {
		d := &s.Databases[i]
		r, err := d.resource()
		if err != nil {
			f := fault.Of(err)
			return nil, fault.Newf(fault.Invalid, "%s: %s", d.section(i), f.Text).WithHint(f.Hint)
		}
		if seen[d.Name] {
			return nil, fault.Newf(fault.Invalid, "%s: the name is used twice", d.section(i))
		}
		seen[d.Name] = true
		all = append(all, r)
	}
	return all, nil
}

// resource returns the kind db that says the same.
func (d *Database) resource() (*resource.Database, error) {
	r := &resource.Database{
		Kind: resource.KindDatabase, Version: "v3",
		Metadata: resource.Metadata{Name: d.Name, Description: d.Description, Labels: d.StaticLabels},
		Spec: resource.DatabaseSpec{
			Protocol: d.Protocol, URI: d.URI, AdminUser: d.AdminUser, Auth: d.Auth, AWS: d.AWS, GCP: d.GCP, Azure: d.Azure,
			TLS: resource.TLSSpec{Mode: d.TLS.Mode, ServerName: d.TLS.ServerName, TrustSystemCertPool: d.TLS.TrustSystemCertPool},
		},
	}
	file := d.TLS.CACertFile
	if file == "" {
		file = d.CACertFile
	}
	if file != "" {
		pem, err := readFile(file, maxFile)
		if err != nil {
			return nil, err
		}
		r.Spec.TLS.CACert = string(pem)
	}
	for _, l := range d.DynamicLabels {
		if r.Spec.DynamicLabels == nil {
			r.Spec.DynamicLabels = map[string]resource.DynamicLabel{}
		}
		if _, twice := r.Spec.DynamicLabels[l.Name]; twice || l.Name == "" {
			return nil, fmt.Errorf("dynamic label %q: %w", l.Name, fault.New(fault.Invalid, "every dynamic label needs a name of its own"))
		}
		r.Spec.DynamicLabels[l.Name] = resource.DynamicLabel{Command: l.Command, Period: l.Period}
	}
	return r, resource.Validate(r)
}

// Selects returns the function that says whether and how this agent serves a
// registered database (behaviour.md §1.7): any matcher selects it. It returns the
// database as it is to be served, with the AWS role of the first matcher that selects it
// and has one; nil if it is not. One that is empty makes
// the whole select nothing; one that cannot be understood selects nothing itself.
func (s *DBService) Selects() func(*resource.Database) *resource.Database {
	type matcher struct {
		selector access.Selector
		aws      MatcherAWS
	}
	var matchers []matcher
	for _, m := range s.Resources {
		if m.Labels.IsEmpty() {
			return func(*resource.Database) *resource.Database { return nil }
		}
		if selector, err := access.NewSelector(m.Labels); err == nil {
			matchers = append(matchers, matcher{selector, m.AWS})
		}
	}
	return func(d *resource.Database) *resource.Database {
		labels := d.Labels()
		selected := false
		for i := range matchers {
			m := &matchers[i]
			if !m.selector.Match(labels) {
				continue
			}
			if m.aws.AssumeRoleARN != "" {
				as := *d
				as.Spec.AWS.AssumeRoleARN, as.Spec.AWS.ExternalID = m.aws.AssumeRoleARN, m.aws.ExternalID
				return &as
			}
			selected = true
		}
		if !selected {
			return nil
		}
		return d
	}
}
