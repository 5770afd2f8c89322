package access

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
)

// expressionParser reads an expression by recursive descent. After the first
// mistake it only runs to the end; err holds that mistake.
//
//	or      := and { "||" and }
//	and     := unary { "&&" unary }
//	unary   := "!" unary | compare
//	compare := value [ ("==" | "!=") value ]
//	value   := "text" | name["text"] | name | function(value, …) | "(" or ")"
type expressionParser struct {
	text  string
	pos   int
	token token
	nodes int
	depth int
	err   error
}

type tokenKind int

const (
	tokenEnd tokenKind = iota
	tokenName
	tokenText
	tokenSymbol
)

type token struct {
	kind tokenKind
	at   int
	text string // the name, the unquoted text or the symbol
}

func (t token) String() string {
	if t.kind == tokenEnd {
		return "the end"
	}
	return strconv.Quote(t.text)
}

func (p *expressionParser) errorf(at int, format string, args ...any) error {
	line := 1 + strings.Count(p.text[:at], "\n")
	column := 1 + utf8.RuneCountInString(p.text[strings.LastIndexByte(p.text[:at], '\n')+1:at])
	return fault.Newf(fault.Invalid, "label expression, line %d, column %d: %s", line, column, fmt.Sprintf(format, args...))
}

// fail records the first mistake and moves to the end of the text.
func (p *expressionParser) fail(at int, format string, args ...any) {
	if p.err == nil {
		p.err = p.errorf(at, format, args...)
	}
	p.pos = len(p.text)
	p.token = token{kind: tokenEnd, at: len(p.text)}
}

// next reads a token. Names contain dots: user.spec.traits, regexp.match.
func (p *expressionParser) next() {
	p.skip()
	at := p.pos
	rest := p.text[at:]
	switch {
	case rest == "":
		p.token = token{kind: tokenEnd, at: at}
		return
	case rest[0] == '"' || rest[0] == '`':
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			p.fail(at, "the text is not closed or has an unknown escape")
			return
		}
		text, _ := strconv.Unquote(quoted) // QuotedPrefix has checked it
		p.token = token{tokenText, at, text}
		p.pos += len(quoted)
		return
	}
	for _, symbol := range []string{"&&", "||", "==", "!=", "!", "(", ")", "[", "]", ","} {
		if strings.HasPrefix(rest, symbol) {
			p.token = token{tokenSymbol, at, symbol}
			p.pos += len(symbol)
			return
		}
	}
	end := strings.IndexFunc(rest, func(r rune) bool { return r != '_' && r != '.' && !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	if end < 0 {
		end = len(rest)
	}
	if end == 0 {
		r, _ := utf8.DecodeRuneInString(rest)
		p.fail(at, "unexpected character %q", r)
		return
	}
	p.token = token{tokenName, at, rest[:end]}
	p.pos += end
}

// skip passes over blanks, line breaks and comments.
func (p *expressionParser) skip() {
	for {
		rest := strings.TrimLeft(p.text[p.pos:], " \t\r\n")
		if comment, found := strings.CutPrefix(rest, "//"); found {
			_, rest, _ = strings.Cut(comment, "\n")
			p.pos = len(p.text) - len(rest)
			continue
		}
		p.pos = len(p.text) - len(rest)
		return
	}
}

func (p *expressionParser) accept(symbol string) bool {
	if p.token.kind != tokenSymbol || p.token.text != symbol {
		return false
	}
	p.next()
	return true
}

func (p *expressionParser) expect(symbol string) {
	if !p.accept(symbol) {
		p.fail(p.token.at, "expected %q, found %s", symbol, p.token)
	}
}

// count bounds the number of nodes, and with it the time of an evaluation.
func (p *expressionParser) count() {
	if p.nodes++; p.nodes > maxExpressionNodes {
		p.fail(p.token.at, "the expression has more than %d parts", maxExpressionNodes)
	}
}

func (p *expressionParser) or() operand { return p.chain("||", p.and, or) }

func (p *expressionParser) and() operand { return p.chain("&&", p.unary, and) }

type condition = func(*scope) (bool, error)

// chain reads operands joined by one operator.
func (p *expressionParser) chain(operator string, operand_ func() operand, join func(a, b condition) condition) operand {
	left := operand_()
	for p.err == nil {
		at := p.token.at
		if !p.accept(operator) {
			break
		}
		p.count()
		right := operand_()
		if p.err != nil {
			break
		}
		for _, o := range []operand{left, right} {
			if o.boolean == nil {
				p.fail(at, "operator (%s) not supported for type: %s", operator, o.kind())
			}
		}
		left = operand{at: left.at, boolean: join(left.boolean, right.boolean)}
	}
	return left
}

func (p *expressionParser) unary() operand {
	at := p.token.at
	if !p.accept("!") {
		return p.compare()
	}
	p.count()
	p.enter(at)
	o := p.unary()
	p.depth--
	if p.err == nil && o.boolean == nil {
		p.fail(at, "operator (!) not supported for type: %s", o.kind())
	}
	return operand{at: at, boolean: not(o.boolean)}
}

// enter bounds the recursion.
func (p *expressionParser) enter(at int) {
	if p.depth++; p.depth > maxExpressionDepth {
		p.fail(at, "the expression is nested deeper than %d", maxExpressionDepth)
	}
}

func (p *expressionParser) compare() operand {
	left := p.value()
	at, operator := p.token.at, p.token.text
	if p.err != nil || p.token.kind != tokenSymbol || operator != "==" && operator != "!=" {
		return left
	}
	p.next()
	p.count()
	right := p.value()
	if p.err != nil {
		return left
	}
	for _, o := range []operand{left, right} {
		if o.text == nil {
			p.fail(at, "operator (%s) not supported for type: %s", operator, o.kind())
			return left
		}
	}
	test := equal(left.text, right.text)
	if operator == "!=" {
		test = not(test)
	}
	return operand{at: left.at, boolean: test}
}

func (p *expressionParser) value() operand {
	p.count()
	t := p.token
	switch {
	case t.kind == tokenText:
		p.next()
		return operand{at: t.at, text: func(*scope) (string, error) { return t.text, nil }, constant: &t.text}
	case t.kind == tokenSymbol && t.text == "(":
		p.next()
		p.enter(t.at)
		o := p.or()
		p.depth--
		p.expect(")")
		return o
	case t.kind == tokenName:
		p.next()
		return p.named(t)
	}
	p.fail(t.at, "expected a value, found %s", t)
	return operand{}
}

// named reads what begins with a name: a variable or a function call.
func (p *expressionParser) named(name token) operand {
	switch name.text {
	case "user.metadata.name":
		return operand{at: name.at, text: func(s *scope) (string, error) { return s.user, nil }}
	case "labels":
		key := p.index(name)
		return operand{at: name.at, text: func(s *scope) (string, error) { return s.labels[key], nil }}
	case "user.spec.traits":
		key := p.index(name)
		return operand{at: name.at, list: func(s *scope) ([]string, error) { return s.traits[key], nil }}
	}
	if !p.accept("(") {
		p.fail(name.at, "the name %q does not exist here, use labels[…], user.spec.traits[…] or user.metadata.name", name.text)
		return operand{}
	}
	p.enter(name.at)
	var args []operand
	for p.err == nil && !p.accept(")") {
		if len(args) > 0 {
			p.expect(",")
		}
		args = append(args, p.or())
	}
	p.depth--
	if p.err != nil {
		return operand{}
	}
	return p.call(name, args)
}

// index reads ["key"].
func (p *expressionParser) index(of token) string {
	if !p.accept("[") || p.token.kind != tokenText {
		p.fail(p.token.at, "write %s[\"key\"]", of.text)
		return ""
	}
	key := p.token.text
	p.next()
	p.expect("]")
	return key
}

// call type-checks a function call.
func (p *expressionParser) call(name token, args []operand) operand {
	f, found := functions[name.text]
	if !found {
		p.fail(name.at, "the function %q does not exist", name.text)
		return operand{}
	}
	if len(args) != f.args && f.args >= 0 {
		p.fail(name.at, "%s takes %d arguments, found %d", name.text, f.args, len(args))
		return operand{}
	}
	for _, a := range args {
		if a.boolean != nil {
			p.fail(a.at, "%s does not take a bool", name.text)
			return operand{}
		}
	}
	result, err := f.make(args)
	if err != nil {
		p.fail(name.at, "%s: %v", name.text, err)
	}
	result.at = name.at
	return result
}

// function is one of the closed list that expressions may call.
type function struct {
	args int // how many; -1: any number
	make func(args []operand) (operand, error)
}

// functions is constant after start.
var functions = map[string]function{
	"contains": {2, func(a []operand) (operand, error) {
		if a[1].text == nil {
			return operand{}, fmt.Errorf("the second argument is one string, use contains_any for a list")
		}
		return operand{boolean: overLists(a[0], a[1], containsAny)}, nil
	}},
	"contains_any":   {2, func(a []operand) (operand, error) { return operand{boolean: overLists(a[0], a[1], containsAny)}, nil }},
	"contains_all":   {2, func(a []operand) (operand, error) { return operand{boolean: overLists(a[0], a[1], containsAll)}, nil }},
	"set":            {-1, makeSet},
	"regexp.match":   {2, makeMatch},
	"regexp.replace": {3, makeReplace},
	"email.local":    {1, func(a []operand) (operand, error) { return eachOf(a[0], emailLocals), nil }},
	"strings.lower":  {1, func(a []operand) (operand, error) { return eachOf(a[0], mapEach(strings.ToLower)), nil }},
	"strings.upper":  {1, func(a []operand) (operand, error) { return eachOf(a[0], mapEach(strings.ToUpper)), nil }},
	"labels_matching": {1, func(a []operand) (operand, error) {
		p, err := constantPattern(a[0])
		return operand{list: labelsMatching(p)}, err
	}},
}

func makeSet(args []operand) (operand, error) {
	for _, a := range args {
		if a.text == nil {
			return operand{}, fmt.Errorf("each argument is one string")
		}
	}
	return operand{list: func(s *scope) ([]string, error) {
		values := make([]string, 0, len(args))
		for _, a := range args {
			v, err := a.text(s)
			if err != nil {
				return nil, err
			}
			values = append(values, v)
		}
		return values, nil
	}}, nil
}

// constantPattern reads a pattern argument. It must be a constant, so that a
// broken one is found when the expression is read.
func constantPattern(o operand) (Pattern, error) {
	if o.constant == nil {
		return Pattern{}, fmt.Errorf("the pattern must be written out in quotes")
	}
	return ParsePattern(*o.constant)
}

func makeMatch(args []operand) (operand, error) {
	p, err := constantPattern(args[1])
	if err != nil {
		return operand{}, err
	}
	values := args[0].asList()
	return operand{boolean: func(s *scope) (bool, error) {
		list, err := values(s)
		for _, v := range list {
			if p.Match(v) {
				return err == nil, err
			}
		}
		return false, err
	}}, nil
}

func makeReplace(args []operand) (operand, error) {
	if args[1].constant == nil || args[2].constant == nil {
		return operand{}, fmt.Errorf("pattern and replacement must be written out in quotes")
	}
	re, err := resource.CompileRegexp(*args[1].constant)
	if err != nil {
		return operand{}, err
	}
	replacement := *args[2].constant
	return eachOf(args[0], func(values []string) ([]string, error) {
		return resource.ReplaceMatching(re, values, replacement)
	}), nil
}
