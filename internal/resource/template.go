package resource

import (
	"fmt"
	"net/mail"
	"regexp"
	"slices"
	"strings"

	"github.com/postern-db/postern/internal/fault"
)

// Template is a value that may contain one expression over the traits of a user,
// such as "{{internal.db_roles}}" or "app-{{email.local(external.email)}}". Make
// one with [ParseTemplate]. A Template is immutable.
type Template struct {
	text           string
	prefix, suffix string
	expr           templateExpr // nil for a literal
}

// Limits on templates. They bound the work that a hostile role or trait causes.
const (
	maxTemplateText  = 4096 // bytes of a value that uses brackets
	maxTemplateDepth = 16   // nested function calls
	maxTraitValue    = 4096 // bytes of a trait value that a function works on
)

// internalTraits is the closed list of names in the namespace internal.
var internalTraits = [...]string{
	"aws_role_arns", "azure_identities", "db_names", "db_roles", "db_users", "gcp_service_accounts", "github_orgs", "jwt",
	"kubernetes_groups", "kubernetes_users", "logins", "windows_logins",
}

// ParseTemplate reads a value. Without template brackets it is a literal that is
// taken unchanged. The error is Invalid.
func ParseTemplate(text string) (*Template, error) {
	if !strings.Contains(text, "{{") && !strings.Contains(text, "}}") {
		return &Template{text: text, prefix: text}, nil
	}
	broken := func(why string) (*Template, error) {
		return nil, fault.Newf(fault.Invalid, "%q uses template brackets but does not parse: %s", excerptOf(text), why).
			WithHint(`write it as text{{namespace.name}}text, for example "{{external.team}}"`)
	}
	if len(text) > maxTemplateText {
		return broken(fmt.Sprintf("it is longer than %d bytes", maxTemplateText))
	}
	prefix, rest, found := strings.Cut(text, "{{")
	if !found {
		return broken("there is no {{")
	}
	p := templateParser{rest: rest}
	expr, err := p.expression(0)
	if err != nil {
		return broken(err.Error())
	}
	suffix, found := strings.CutPrefix(strings.TrimLeft(p.rest, " \t\n\r"), "}}")
	if !found {
		return broken("the expression does not end with }}")
	}
	if strings.ContainsAny(prefix+suffix, "{}") {
		return broken("there are brackets outside the one expression")
	}
	return &Template{
		text:   text,
		prefix: strings.TrimLeft(prefix, " \t\n\r"), suffix: strings.TrimRight(suffix, " \t\n\r"), expr: expr,
	}, nil
}

// excerptOf shortens a text for a message.
func excerptOf(text string) string {
	const most = 80
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// String returns the text that was parsed.
func (t *Template) String() string { return t.text }

// IsLiteral reports whether the value does not depend on traits.
func (t *Template) IsLiteral() bool { return t.expr == nil }

// Expand returns the values for a user's traits, in the order of the trait. Empty
// values are left out. A trait that is missing or has no value is NotFound; other
// failures are Invalid.
func (t *Template) Expand(traits map[string][]string) ([]string, error) {
	return t.Append([]string{}, traits)
}

// Append is [Template.Expand] for callers that have room for the values.
func (t *Template) Append(to []string, traits map[string][]string) ([]string, error) {
	if t.expr == nil {
		return append(to, t.prefix), nil
	}
	values, err := t.expr.eval(traits)
	if err != nil {
		return nil, err
	}
	for _, v := range values {
		if v != "" {
			to = append(to, t.prefix+v+t.suffix)
		}
	}
	return to, nil
}

// CanResolve returns nil when some traits let the template produce a value, and
// otherwise the reason why none does. The error is Invalid.
func (t *Template) CanResolve() error {
	for _, v := range t.variables() {
		if err := v.check(); err != nil {
			return err
		}
	}
	return nil
}

// unknownNamespace returns a namespace in t that does not exist, or "".
func (t *Template) unknownNamespace() string {
	for _, v := range t.variables() {
		if v.namespace != "internal" && v.namespace != "external" {
			return v.namespace
		}
	}
	return ""
}

func (t *Template) variables() []templateVariable {
	for e := t.expr; e != nil; {
		switch node := e.(type) {
		case templateVariable:
			return []templateVariable{node}
		case templateEmailLocal:
			e = node.of
		case templateReplace:
			e = node.of
		default:
			e = nil
		}
	}
	return nil
}

// templateExpr is a node of the expression inside the brackets.
type templateExpr interface {
	eval(traits map[string][]string) ([]string, error)
}

// templateVariable reads a trait. Both namespaces read the same traits; internal
// has a closed list of names.
type templateVariable struct{ namespace, name string }

func (v templateVariable) check() error {
	switch v.namespace {
	case "external":
		return nil
	case "internal":
		if slices.Contains(internalTraits[:], v.name) {
			return nil
		}
		return fault.Newf(fault.Invalid, "unsupported variable internal.%s", v.name).
			WithHint("use external." + v.name + " for a trait of your own")
	}
	return fault.Newf(fault.Invalid, "unknown template namespace %q", v.namespace).WithHint("use internal or external")
}

func (v templateVariable) eval(traits map[string][]string) ([]string, error) {
	if err := v.check(); err != nil {
		return nil, err
	}
	for _, value := range traits[v.name] {
		if value != "" {
			return traits[v.name], nil
		}
	}
	return nil, fault.Newf(fault.NotFound, "the user has no trait %q", v.name)
}

// templateString is a constant.
type templateString string

func (s templateString) eval(map[string][]string) ([]string, error) { return []string{string(s)}, nil }

// templateEmailLocal takes the part of mail addresses before the @.
type templateEmailLocal struct{ of templateExpr }

func (e templateEmailLocal) eval(traits map[string][]string) ([]string, error) {
	values, err := e.of.eval(traits)
	if err != nil {
		return nil, err
	}
	out := make([]string, 0, len(values))
	for _, v := range values {
		local, err := EmailLocal(v)
		if err != nil {
			return nil, err
		}
		out = append(out, local)
	}
	return out, nil
}

// EmailLocal returns the part of a mail address before the @. Both forms of RFC
// 5322 are understood: a@b and Name <a@b>. The error is Invalid.
func EmailLocal(address string) (string, error) {
	if len(address) > maxTraitValue {
		return "", fault.New(fault.Invalid, "the mail address is too long")
	}
	parsed, err := mail.ParseAddress(address)
	if err != nil {
		return "", fault.Newf(fault.Invalid, "%q is not a mail address", excerptOf(address))
	}
	return parsed.Address[:strings.LastIndexByte(parsed.Address, '@')], nil
}

// templateReplace rewrites the values that match and drops the others.
type templateReplace struct {
	of          templateExpr
	pattern     *regexp.Regexp
	replacement string
}

func (r templateReplace) eval(traits map[string][]string) ([]string, error) {
	values, err := r.of.eval(traits)
	if err != nil {
		return nil, err
	}
	return ReplaceMatching(r.pattern, values, r.replacement)
}

// ReplaceMatching replaces every match of pattern in the values, and drops the
// values without a match. The replacement may use $1 and ${name}. The error is
// Invalid.
func ReplaceMatching(pattern *regexp.Regexp, values []string, replacement string) ([]string, error) {
	out := make([]string, 0, len(values))
	for _, v := range values {
		if len(v) > maxTraitValue {
			return nil, fault.New(fault.Invalid, "a value is too long for regexp.replace")
		}
		if pattern.MatchString(v) {
			out = append(out, pattern.ReplaceAllString(v, replacement))
		}
	}
	return out, nil
}
