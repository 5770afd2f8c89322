package resource

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Resource is one configured thing. Values made by [Parse], [DecodeJSON] or
// passed through [Validate] are valid; they are not changed afterwards and may be
// read concurrently.
type Resource interface {
	// GetKind returns the kind as written in YAML, such as "role".
	GetKind() string
	// GetName returns the name, unique within the kind.
	GetName() string
	// GetMetadata returns name, description and labels.
	GetMetadata() Metadata

	// prepare fills in defaults and returns the mistakes that only show when
	// fields are seen together.
	prepare() Problems
}

// The kinds.
const (
	KindAuthPreference   = "cluster_auth_preference"
	KindDatabase         = "db"
	KindImportRule       = "db_object_import_rule"
	KindLock             = "lock"
	KindNetworkingConfig = "cluster_networking_config"
	KindRole             = "role"
	KindUser             = "user"
)

// Kinds returns the names of all kinds, sorted.
func Kinds() []string {
	return []string{KindAuthPreference, KindNetworkingConfig, KindDatabase, KindImportRule, KindLock, KindRole, KindUser}
}

// New returns an empty resource of a kind, or nil for an unknown kind.
func New(kind string) Resource {
	switch kind {
	case KindDatabase:
		return &Database{Kind: kind}
	case KindAuthPreference:
		return &AuthPreference{Kind: kind}
	case KindImportRule:
		return &ImportRule{Kind: kind}
	case KindLock:
		return &Lock{Kind: kind}
	case KindNetworkingConfig:
		return &NetworkingConfig{Kind: kind}
	case KindRole:
		return &Role{Kind: kind}
	case KindUser:
		return &User{Kind: kind}
	}
	return nil
}

// Metadata is what every resource carries.
type Metadata struct {
	Name        string            `json:"name"`
	Namespace   string            `json:"namespace,omitempty"` // accepted, always the default one
	Description string            `json:"description,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Expires     Time              `json:"expires,omitzero"`   // the resource is void afterwards; zero: never
	Revision    string            `json:"revision,omitempty"` // set by the store
	Other       Other             `json:"-"`
}

func (Metadata) toleratedKeys() []string { return []string{"id", "resource_id"} }

// maxNameLength bounds names in bytes. They appear in URLs, certificates and
// every audit event.
const maxNameLength = 255

// checkName returns what is wrong with the name of a resource.
func checkName(kind, name string) Problems {
	text := ""
	switch {
	case name == "":
		text = kind + " has no name"
	case len(name) > maxNameLength:
		text = fmt.Sprintf("the name of a %s is at most %d bytes long", kind, maxNameLength)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return unicode.IsControl(r) || r == '/' }):
		text = fmt.Sprintf("invalid %s name %q: slashes and control characters are not allowed", kind, name)
	case strings.TrimSpace(name) != name:
		text = fmt.Sprintf("invalid %s name %q: it begins or ends with a blank", kind, name)
	default:
		return nil
	}
	return Problems{{Path: "metadata.name", Text: text}}
}

// checkLabels returns what is wrong with the keys of static labels.
func checkLabels(path string, keys []string) Problems {
	var ps Problems
	slices.Sort(keys)
	for _, k := range keys {
		if k == "" || strings.ContainsFunc(k, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
			ps = append(ps, Problem{Path: path + "." + k, Text: fmt.Sprintf("invalid label key %q", k), Hint: "a key is not empty and has no blanks"})
		}
	}
	return ps
}

// checkVersion returns what is wrong with the version of a resource.
func checkVersion(kind, version string, accepted ...string) Problems {
	if slices.Contains(accepted, version) {
		return nil
	}
	return Problems{{Path: "version", Text: fmt.Sprintf("%s version %q is not supported", kind, version), Hint: "use " + accepted[len(accepted)-1]}}
}

// Validate fills in the defaults of a resource that was built in code and checks
// it. It returns an Invalid fault that lists every mistake.
func Validate(r Resource) error { return r.prepare().err() }
