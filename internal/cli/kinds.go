package cli

import (
	"strings"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
)

// kindAliases are the other names under which people ask for kinds, beside the
// plural.
var kindAliases = map[string]string{
	"database":  resource.KindDatabase,
	"databases": resource.KindDatabase,
	"cap":       resource.KindAuthPreference,
	"netconfig": resource.KindNetworkingConfig,
}

// parseRef reads KIND or KIND/NAME. Kinds may be written in the plural.
func parseRef(text string) (kind, name string, err error) {
	kind, name, _ = strings.Cut(text, "/")
	kind = strings.ToLower(kind)
	if alias, ok := kindAliases[kind]; ok {
		kind = alias
	}
	if single := strings.TrimSuffix(kind, "s"); resource.New(kind) == nil && resource.New(single) != nil {
		kind = single
	}
	if resource.New(kind) == nil {
		return "", "", misused(fault.Newf(fault.Invalid, "unknown kind %q", kind).WithHint("one of " + strings.Join(resource.Kinds(), ", ")))
	}
	return kind, name, nil
}

// parseFullRef reads KIND/NAME.
func parseFullRef(text string) (kind, name string, err error) {
	kind, name, err = parseRef(text)
	if err == nil && name == "" {
		err = misused(fault.Newf(fault.Invalid, "%q names no %s", text, kind).WithHint("write " + kind + "/NAME"))
	}
	return kind, name, err
}
