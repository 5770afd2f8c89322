package resource

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// templateParser reads the expression inside template brackets by recursive
// descent:
//
//	expr := namespace.name | namespace["name"] | "text"
//	      | email.local(expr) | regexp.replace(expr, "re", "replacement")
type templateParser struct{ rest string }

func (p *templateParser) skipBlanks() { p.rest = strings.TrimLeft(p.rest, " \t\n\r") }

// accept consumes a token if it comes next.
func (p *templateParser) accept(token string) bool {
	p.skipBlanks()
	rest, found := strings.CutPrefix(p.rest, token)
	if found {
		p.rest = rest
	}
	return found
}

func (p *templateParser) expect(token string) error {
	if !p.accept(token) {
		return fmt.Errorf("expected %s", token)
	}
	return nil
}

// identifier consumes a name: a letter or underscore, then also digits.
func (p *templateParser) identifier() (string, bool) {
	p.skipBlanks()
	end := 0
	for end < len(p.rest) {
		r, size := utf8.DecodeRuneInString(p.rest[end:])
		if r != '_' && !unicode.IsLetter(r) && (end == 0 || !unicode.IsDigit(r)) {
			break
		}
		end += size
	}
	name := p.rest[:end]
	p.rest = p.rest[end:]
	return name, end > 0
}

// text consumes a quoted constant.
func (p *templateParser) text() (string, error) {
	p.skipBlanks()
	quoted, err := strconv.QuotedPrefix(p.rest)
	if err != nil || quoted[0] == '\'' {
		return "", errors.New("expected text in double quotes")
	}
	p.rest = p.rest[len(quoted):]
	return strconv.Unquote(quoted)
}

func (p *templateParser) expression(depth int) (templateExpr, error) {
	if depth > maxTemplateDepth {
		return nil, errors.New("it is nested too deeply")
	}
	first, ok := p.identifier()
	if !ok {
		text, err := p.text()
		if err != nil {
			return nil, errors.New("expected namespace.name, a function or text in double quotes")
		}
		return templateString(text), nil
	}
	if p.accept("[") {
		name, err := p.text()
		if err != nil {
			return nil, err
		}
		return templateVariable{first, name}, p.expect("]")
	}
	if err := p.expect("."); err != nil {
		return nil, err
	}
	second, ok := p.identifier()
	if !ok {
		return nil, fmt.Errorf("expected a name after %q", first+".")
	}
	if p.accept("(") {
		return p.call(first+"."+second, depth)
	}
	return templateVariable{first, second}, nil
}

// call parses the arguments of a function, after the opening bracket.
func (p *templateParser) call(function string, depth int) (templateExpr, error) {
	switch function {
	case "email.local", "regexp.replace":
	default:
		return nil, fmt.Errorf("the function %q does not exist here, use email.local or regexp.replace", function)
	}
	of, err := p.expression(depth + 1)
	if err != nil {
		return nil, err
	}
	if function == "email.local" {
		return templateEmailLocal{of}, p.expect(")")
	}
	if err := p.expect(","); err != nil {
		return nil, err
	}
	pattern, err := p.text()
	if err != nil {
		return nil, err
	}
	re, err := CompileRegexp(pattern)
	if err != nil {
		return nil, err
	}
	if err := p.expect(","); err != nil {
		return nil, err
	}
	replacement, err := p.text()
	if err != nil {
		return nil, err
	}
	return templateReplace{of, re, replacement}, p.expect(")")
}
