package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/cloud/aws"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
)

// typeRDS is the one type of databases that is discovered.
const typeRDS = "rds"

// Searches returns what db_service.aws looks for.
func (s *DBService) Searches() []aws.Search { return searches(s.AWS) }

// Searches returns what discovery_service.aws looks for; nothing where it is not enabled.
func (d *Discovery) Searches() []aws.Search {
	if d.Enabled != nil && !*d.Enabled {
		return nil
	}
	return searches(d.AWS)
}

// searches returns one search for each region. The sections have been checked.
func searches(sections []Discover) []aws.Search {
	var all []aws.Search
	for _, section := range sections {
		if len(section.Types) > 0 && !slices.Contains(section.Types, typeRDS) {
			continue
		}
		tags, err := access.NewSelector(section.selector())
		if err != nil {
			continue
		}
		for _, region := range section.Regions {
			all = append(all, aws.Search{Region: region, Tags: tags, Role: aws.Role{ARN: section.AssumeRoleARN, ExternalID: section.ExternalID}})
		}
	}
	return all
}

// selector returns the tags, which select everything where none are given.
func (d *Discover) selector() resource.LabelSelector {
	if d.Tags.IsEmpty() {
		return resource.LabelSelector{"*": {"*"}}
	}
	return d.Tags
}

// completeDiscovery fills in defaults and checks what to discover.
func (c *Config) completeDiscovery() error {
	if c.Discovery.DiscoveryGroup == "" {
		c.Discovery.DiscoveryGroup = "default"
	}
	if strings.ContainsAny(c.Discovery.DiscoveryGroup, " \t\n") {
		return fault.New(fault.Invalid, "discovery_service.discovery_group has blanks in it")
	}
	for _, part := range c.discoverySections() {
		for i, d := range part.sections {
			section := fmt.Sprintf("%s #%d", part.name, i+1)
			if len(d.Regions) == 0 || slices.ContainsFunc(d.Regions, func(r string) bool { return r == "" || r == "*" }) {
				return fault.Newf(fault.Invalid, "%s: the regions to look in are missing", section).WithHint("write regions: [eu-west-1]")
			}
			if d.ExternalID != "" && d.AssumeRoleARN == "" {
				return fault.Newf(fault.Invalid, "%s: external_id needs assume_role_arn", section)
			}
			if _, err := access.NewSelector(d.selector()); err != nil {
				return fault.Newf(fault.Invalid, "%s: tags: %w", section, err)
			}
		}
	}
	return nil
}

// discoverySections are the parts of the file that say what to discover.
func (c *Config) discoverySections() []discoverySection {
	return []discoverySection{{"db_service.aws", c.DBService.AWS}, {"discovery_service.aws", c.Discovery.AWS}}
}

type discoverySection struct {
	name     string
	sections []Discover
}

// discoveryWarnings lists what would be discovered elsewhere and is not here.
func (c *Config) discoveryWarnings() []string {
	var out []string
	for _, part := range c.discoverySections() {
		for i, d := range part.sections {
			others := slices.DeleteFunc(slices.Clone(d.Types), func(t string) bool { return t == typeRDS })
			if len(others) > 0 {
				out = append(out, fmt.Sprintf("%s #%d: only rds is discovered, not %s", part.name, i+1, strings.Join(others, ", ")))
			}
		}
	}
	for _, section := range []struct {
		name  string
		given bool
	}{
		{"db_service.azure", len(c.DBService.Azure) > 0},
		{"discovery_service.azure", len(c.Discovery.Azure) > 0},
		{"discovery_service.gcp", len(c.Discovery.GCP) > 0},
	} {
		if section.given {
			out = append(out, section.name+": discovery is not available in this version")
		}
	}
	return out
}
