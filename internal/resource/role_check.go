package resource

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// check returns the mistakes in one side of a role.
func (c RoleConditions) check(path string, allow bool) Problems {
	var ps Problems
	if allow && slices.Contains(c.DatabaseRoles, "*") {
		ps = append(ps, Problem{
			Path: fmt.Sprintf("%s.db_roles[%d]", path, slices.Index(c.DatabaseRoles, "*")),
			Text: "wildcard is not allowed in allow.database_roles", Hint: "name each db role",
		})
	}
	ps = append(ps, c.DatabaseLabels.check(path+".db_labels", allow)...)
	ps = append(ps, c.DatabaseServiceLabels.check(path+".db_service_labels", allow)...)
	for i, p := range c.DatabasePermissions {
		at := fmt.Sprintf("%s.db_permissions[%d]", path, i)
		for _, problem := range p.check(at, allow) {
			side := "deny"
			if allow {
				side = "allow"
			}
			problem.Text = fmt.Sprintf("failed to process '%s' db_permission #%d: %s", side, i+1, problem.Text)
			ps = append(ps, problem)
		}
	}
	return append(ps, c.checkTemplates(path)...)
}

// check refuses {'*': 'x'}: it reads like "any label with the value x" but would
// never match. In deny lists nothing is refused, as in other products.
func (s LabelSelector) check(path string, allow bool) Problems {
	if values, found := s["*"]; found && allow && !wildcardOnly(values) {
		return Problems{{
			Path: path + ".*", Text: fmt.Sprintf("selector *:%s is not supported", strings.Join(values, ",")),
			Hint: "a key is never a pattern; name the label",
		}}
	}
	return nil
}

func (p DatabasePermission) check(path string, allow bool) Problems {
	var ps Problems
	if len(p.Permissions) == 0 {
		ps = append(ps, Problem{Path: path, Text: "database permission list cannot be empty"})
	}
	for i, name := range p.Permissions {
		at := fmt.Sprintf("%s.permissions[%d]", path, i)
		switch {
		case strings.TrimSpace(name) == "":
			ps = append(ps, Problem{Path: at, Text: "individual database permissions cannot be empty strings"})
		case strings.TrimSpace(name) == "*":
			if allow {
				ps = append(ps, Problem{Path: at, Text: "individual database permissions cannot be wildcards strings", Hint: "name each permission"})
			}
		default:
			ps = append(ps, checkPrivilege(at, name, p.Match[objectKindLabel])...)
		}
	}
	if values, found := p.Match["*"]; found && !wildcardOnly(values) {
		ps = append(ps, Problem{Path: path + ".match.*", Text: fmt.Sprintf("selector *:%s is not supported", strings.Join(values, ","))})
	}
	return ps
}

// checkTemplates refuses templates in a namespace that does not exist. Other
// mistakes in templates only make that entry useless, as in other products; they
// are warned about by access.Policy.Warnings.
func (c RoleConditions) checkTemplates(path string) Problems {
	var ps Problems
	check := func(at, text string) {
		t, err := ParseTemplate(text)
		if err != nil {
			return
		}
		if space := t.unknownNamespace(); space != "" {
			ps = append(ps, Problem{
				Path: at, Text: fmt.Sprintf("unknown template namespace %q in %q", space, text),
				Hint: "use internal or external",
			})
		}
	}
	for _, list := range []struct {
		name   string
		values []string
	}{{"db_names", c.DatabaseNames}, {"db_users", c.DatabaseUsers}, {"db_roles", c.DatabaseRoles}} {
		for i, v := range list.values {
			check(fmt.Sprintf("%s.%s[%d]", path, list.name, i), v)
		}
	}
	for _, labels := range []struct {
		name     string
		selector LabelSelector
	}{{"db_labels", c.DatabaseLabels}, {"db_service_labels", c.DatabaseServiceLabels}} {
		for _, key := range slices.Sorted(maps.Keys(labels.selector)) {
			at := fmt.Sprintf("%s.%s.%s", path, labels.name, key)
			check(at, key)
			for _, v := range labels.selector[key] {
				check(at, v)
			}
		}
	}
	return ps
}
