package access

import (
	"fmt"
	"slices"
	"strings"

	"github.com/postern-db/postern/internal/resource"
)

// Expression is a predicate over the labels of a database and the facts about a
// user, such as
//
//	labels["env"] == "dev" || contains(user.spec.traits["teams"], labels["team"])
//
// Make one with [ParseExpression]. An Expression is immutable.
//
// The language is small and has its own parser: contains(...) as a function,
// // comments, one string standing for a list of one, and type errors found when
// the text is read cannot be had from a general expression library, which would
// also bring arithmetic, loops and closures that must then be forbidden again.
type Expression struct {
	text string
	root func(*scope) (bool, error)
}

// scope is what an expression is evaluated against.
type scope struct {
	labels map[string]string
	traits map[string][]string
	user   string
}

// ParseExpression reads and type-checks an expression. The error is Invalid and
// says where in the text the mistake is.
func ParseExpression(text string) (*Expression, error) {
	p := expressionParser{text: text}
	if len(text) > maxExpressionText {
		return nil, p.errorf(0, "the expression is longer than %d bytes", maxExpressionText)
	}
	p.next()
	root := p.or()
	if p.err == nil && p.token.kind != tokenEnd {
		p.fail(p.token.at, "expected an operator, found %s", p.token)
	}
	value := root.boolean
	if p.err == nil && value == nil {
		p.fail(0, "the expression is a %s, not a condition", root.kind())
	}
	if p.err != nil {
		return nil, p.err
	}
	return &Expression{text: text, root: value}, nil
}

// Limits on expressions.
const (
	maxExpressionText  = 8192 // bytes
	maxExpressionNodes = 500  // operators, calls and values
	maxExpressionDepth = 50   // nested brackets
)

// Match evaluates the expression. An error, such as a trait that is not a mail
// address, is not a match.
func (e *Expression) Match(labels map[string]string, user string, traits map[string][]string) (bool, error) {
	return e.root(&scope{labels: labels, traits: traits, user: user})
}

// String returns the text that was parsed.
func (e *Expression) String() string { return e.text }

// operand is a typed part of an expression. One of its functions is set, or text
// and list where a function of one string may also yield nothing. A constant
// string also has its text, because patterns must be constants.
type operand struct {
	at       int
	boolean  func(*scope) (bool, error)
	text     func(*scope) (string, error)
	list     func(*scope) ([]string, error)
	constant *string
}

func (o operand) kind() string {
	switch {
	case o.boolean != nil:
		return "bool"
	case o.text != nil:
		return "string"
	}
	return "[]string"
}

// asList returns o as a list; one string stands for a list of one.
func (o operand) asList() func(*scope) ([]string, error) {
	if o.list != nil {
		return o.list
	}
	text := o.text
	return func(s *scope) ([]string, error) {
		v, err := text(s)
		return []string{v}, err
	}
}

func and(a, b func(*scope) (bool, error)) func(*scope) (bool, error) {
	return func(s *scope) (bool, error) {
		if ok, err := a(s); !ok || err != nil {
			return false, err
		}
		return b(s)
	}
}

func or(a, b func(*scope) (bool, error)) func(*scope) (bool, error) {
	return func(s *scope) (bool, error) {
		if ok, err := a(s); ok || err != nil {
			return ok, err
		}
		return b(s)
	}
}

func not(a func(*scope) (bool, error)) func(*scope) (bool, error) {
	return func(s *scope) (bool, error) {
		ok, err := a(s)
		return !ok && err == nil, err
	}
}

func equal(a, b func(*scope) (string, error)) func(*scope) (bool, error) {
	return func(s *scope) (bool, error) {
		x, err := a(s)
		if err != nil {
			return false, err
		}
		y, err := b(s)
		return x == y && err == nil, err
	}
}

// overLists makes a condition over two lists.
func overLists(a, b operand, test func(x, y []string) bool) func(*scope) (bool, error) {
	left, right := a.asList(), b.asList()
	return func(s *scope) (bool, error) {
		x, err := left(s)
		if err != nil {
			return false, err
		}
		y, err := right(s)
		return err == nil && test(x, y), err
	}
}

// eachOf makes a function over the values of a string or list. Of a string it is
// a string again, empty when f drops the value.
func eachOf(o operand, f func([]string) ([]string, error)) operand {
	list := o.asList()
	apply := func(s *scope) ([]string, error) {
		values, err := list(s)
		if err != nil {
			return nil, err
		}
		return f(values)
	}
	result := operand{at: o.at, list: apply}
	if o.text != nil {
		result.text = func(s *scope) (string, error) {
			values, err := apply(s)
			return strings.Join(values, ""), err
		}
	}
	return result
}

func containsAny(list, items []string) bool {
	return slices.ContainsFunc(items, func(v string) bool { return slices.Contains(list, v) })
}

func containsAll(list, items []string) bool {
	for _, v := range items {
		if !slices.Contains(list, v) {
			return false
		}
	}
	return len(items) > 0
}

// mapEach applies f to each value.
func mapEach(f func(string) string) func([]string) ([]string, error) {
	return func(values []string) ([]string, error) {
		out := make([]string, len(values))
		for i, v := range values {
			out[i] = f(v)
		}
		return out, nil
	}
}

func emailLocals(values []string) ([]string, error) {
	out := make([]string, len(values))
	for i, v := range values {
		local, err := resource.EmailLocal(v)
		if err != nil {
			return nil, fmt.Errorf("email.local: %w", err)
		}
		out[i] = local
	}
	return out, nil
}

// labelsMatching returns the values of the labels whose keys match, in the order
// of the keys.
func labelsMatching(p Pattern) func(*scope) ([]string, error) {
	return func(s *scope) ([]string, error) {
		var keys []string
		for k := range s.labels {
			if p.Match(k) {
				keys = append(keys, k)
			}
		}
		slices.Sort(keys)
		values := make([]string, len(keys))
		for i, k := range keys {
			values[i] = s.labels[k]
		}
		return values, nil
	}
}

// oneLine shortens an expression for a message.
func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	const most = 100
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
