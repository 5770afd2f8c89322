package audit

import "strings"

// tokenKind is what kind of token of SQL text begins.
type tokenKind int

const (
	otherToken  tokenKind = iota // operators, numbers, quoted identifiers, parameters
	blankToken                   // white space and comments
	wordToken                    // key words and identifiers
	stringToken                  // every kind of string constant
)

// token is one token of SQL.
type token struct {
	kind   tokenKind
	size   int  // bytes
	open   int  // of a string: bytes before its content
	dollar bool // of a string: dollar quoted, with open bytes behind it too
	escape bool // of a string: backslashes escape
}

// inner returns the content of a string token. Doubled quotes become one;
// backslashes stay, which can only make more of it look like a secret.
func (t token) inner(text string) string {
	if t.dollar {
		return text[t.open : len(text)-t.open]
	}
	content := strings.ReplaceAll(text[t.open:len(text)-1], "''", "'")
	if t.escape {
		content = strings.ReplaceAll(content, `\'`, "'")
	}
	return content
}

// nextToken reads the token at the beginning of sql, which is not empty. It
// reports false for one that has no end.
func nextToken(sql string) (token, bool) {
	switch c := sql[0]; {
	case c == ' ' || c >= '\t' && c <= '\r':
		return token{kind: blankToken, size: 1}, true
	case strings.HasPrefix(sql, "--"):
		end := strings.IndexAny(sql, "\r\n")
		if end < 0 {
			end = len(sql)
		}
		return token{kind: blankToken, size: end}, true
	case strings.HasPrefix(sql, "/*"):
		return comment(sql)
	case c == '\'':
		return plainString(sql, 1, false)
	case c == '"':
		return quotedIdentifier(sql, 1)
	case c == '$':
		return dollarString(sql)
	case c >= '0' && c <= '9':
		return token{size: wordSize(sql)}, true
	case isWordByte(c):
		return word(sql)
	}
	return token{size: 1}, true
}

// word reads a key word or identifier, or a string or identifier with a prefix.
func word(sql string) (token, bool) {
	prefixed := func(prefix, quote string) bool {
		return len(sql) >= len(prefix)+1 && strings.EqualFold(sql[:len(prefix)], prefix) && sql[len(prefix):len(prefix)+1] == quote
	}
	switch {
	case prefixed("e", "'"):
		return plainString(sql, 2, true)
	case prefixed("b", "'"), prefixed("x", "'"), prefixed("n", "'"):
		return plainString(sql, 2, false)
	case prefixed("u&", "'"):
		return plainString(sql, 3, false)
	case prefixed("u&", `"`):
		return quotedIdentifier(sql, 3)
	}
	return token{kind: wordToken, size: wordSize(sql)}, true
}

func wordSize(sql string) int {
	n := 1
	for n < len(sql) && isWordByte(sql[n]) {
		n++
	}
	return n
}

// comment reads a block comment. They nest.
func comment(sql string) (token, bool) {
	depth := 0
	for i := 0; i+1 < len(sql); {
		switch sql[i : i+2] {
		case "/*":
			depth++
			i += 2
		case "*/":
			depth--
			i += 2
			if depth == 0 {
				return token{kind: blankToken, size: i}, true
			}
		default:
			i++
		}
	}
	return token{}, false
}

// plainString reads a string whose content begins at open. In one without escapes
// a backslash before a quote is not certain: it depends on a setting of the
// session (standard_conforming_strings) whether the string ends there.
func plainString(sql string, open int, escape bool) (token, bool) {
	for i := open; i < len(sql); i++ {
		switch {
		case sql[i] == '\\' && escape:
			i++
		case sql[i] == '\\' && i+1 < len(sql) && sql[i+1] == '\'':
			return token{}, false
		case sql[i] == '\'' && i+1 < len(sql) && sql[i+1] == '\'':
			i++
		case sql[i] == '\'':
			return token{kind: stringToken, size: i + 1, open: open, escape: escape}, true
		}
	}
	return token{}, false
}

func quotedIdentifier(sql string, open int) (token, bool) {
	for i := open; i < len(sql); i++ {
		if sql[i] != '"' {
			continue
		}
		if i+1 < len(sql) && sql[i+1] == '"' {
			i++
			continue
		}
		return token{size: i + 1}, true
	}
	return token{}, false
}

// dollarString reads $tag$…$tag$. A dollar that begins no tag is a parameter or
// an operator.
func dollarString(sql string) (token, bool) {
	end := strings.IndexByte(sql[1:], '$')
	if end < 0 {
		return token{size: 1}, true
	}
	tag := sql[:end+2]
	for i := 1; i < len(tag)-1; i++ {
		if !isWordByte(tag[i]) || i == 1 && tag[i] >= '0' && tag[i] <= '9' {
			return token{size: 1}, true
		}
	}
	close := strings.Index(sql[len(tag):], tag)
	if close < 0 {
		return token{}, false
	}
	return token{kind: stringToken, size: close + 2*len(tag), open: len(tag), dollar: true}, true
}
