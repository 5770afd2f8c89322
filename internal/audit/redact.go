package audit

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// redacted stands for a secret that was in a statement.
const redacted = "'[redacted]'"

// secretWord is what every secret that we look for stands behind: PASSWORD in
// CREATE and ALTER ROLE, in the OPTIONS of a user mapping, in the connection
// string of a subscription. A statement without these letters has none.
const secretWord = "password"

// Redact returns a statement without the passwords that SQL has in clear text:
// the string behind the word PASSWORD, also inside strings, dollar quotes and
// connection strings, and URIs with a password. Where the text cannot be taken apart
// for certain and might hold a password, only its first word is left.
//
// It reads tokens as PostgreSQL's lexer does (documentation, section 4.1), so
// comments, quotes and escapes cannot hide anything. A password that a function
// puts together from pieces cannot be seen.
func Redact(sql string) string {
	if hidesSecret(sql) {
		return CommandWord(sql) + " [redacted]"
	}
	if !mayHoldSecret(sql) {
		return sql
	}
	if text, ok := redact(sql, 0); ok {
		return text
	}
	return CommandWord(sql) + " [redacted]"
}

// uriPassword is the beginning of a URI up to the end of the password in it.
var uriPassword = regexp.MustCompile(`://[^\s/?#'@]*:[^\s/?#@]*@`)

// mayHoldSecret reports whether text has anything that may be a secret.
func mayHoldSecret(text string) bool {
	return containsFold(text, secretWord) || hasURIPassword(text)
}

func hasURIPassword(text string) bool {
	return strings.Contains(text, "://") && uriPassword.MatchString(text)
}

// maxNesting bounds how deep statements inside strings inside statements are read.
const maxNesting = 4

// redact replaces every secret. It reports false when the text is not certain.
func redact(sql string, depth int) (string, bool) {
	if depth > maxNesting {
		return "", false
	}
	var out strings.Builder
	secret := false // the next string is a secret
	for rest := sql; rest != ""; {
		t, ok := nextToken(rest)
		if !ok {
			return "", false
		}
		text := rest[:t.size]
		rest = rest[t.size:]
		switch {
		case t.kind == blankToken:
		case t.kind == stringToken && secret:
			text = redacted
		case t.kind == stringToken && mayHoldSecret(text):
			if text, ok = redactString(text, t, depth); !ok {
				return "", false
			}
		default:
			// A string may be continued on the next line; then more of the secret follows.
			secret = isSecretName(text, t)
		}
		out.WriteString(text)
	}
	return out.String(), true
}

// isSecretName reports whether a word or quoted identifier is the name of a secret,
// such as PASSWORD or "sslpassword".
func isSecretName(text string, t token) bool {
	if t.kind != wordToken && text[0] != '"' {
		return false
	}
	name := strings.TrimSuffix(text, `"`)
	return len(name) >= len(secretWord) && strings.EqualFold(name[len(name)-len(secretWord):], secretWord)
}

// redactString looks for secrets inside a string, which may be a statement or a
// connection string. One that holds any, or is not certain, goes as a whole.
func redactString(text string, t token, depth int) (string, bool) {
	inner := t.inner(text)
	if !t.dollar && strings.IndexByte(inner, '\\') >= 0 {
		return redacted, true // a quote may be escaped in it
	}
	clean, ok := redact(inner, depth+1)
	if ok && clean == inner && !hasConnectionPassword(inner) {
		return text, true
	}
	if t.dollar && ok && !hasConnectionPassword(inner) {
		return text[:t.open] + clean + text[len(text)-t.open:], true
	}
	return redacted, true
}

// hasConnectionPassword reports whether text has password= as libpq's connection
// strings write it, blanks around the sign included, or as URI parameters do, or a
// password in a URI.
func hasConnectionPassword(text string) bool {
	if hasURIPassword(text) {
		return true
	}
	for {
		i := indexFold(text, secretWord)
		if i < 0 {
			return false
		}
		text = text[i+len(secretWord):]
		if strings.HasPrefix(strings.TrimLeft(text, " \t\r\n"), "=") {
			return true
		}
	}
}

// MentionsPassword reports whether a statement has PASSWORD for a word or a name, or
// inside a string: then a value that is bound to it may be one, as in
//
//	UPDATE staff SET password = $1
//	SELECT format('ALTER ROLE %I PASSWORD %L', $1, $2)
//
// It is true of whatever [Redact] changes, and where the text cannot be taken apart
// for certain.
func MentionsPassword(sql string) bool {
	if hidesSecret(sql) || hasURIPassword(sql) {
		return true
	}
	if !containsFold(sql, secretWord) {
		return false
	}
	for rest := sql; rest != ""; {
		t, ok := nextToken(rest)
		if !ok {
			return true
		}
		text := rest[:t.size]
		rest = rest[t.size:]
		switch {
		case t.kind == blankToken:
		case isSecretName(text, t):
			return true
		case t.kind == wordToken || text[0] == '"':
		case containsFold(text, secretWord):
			return true
		}
	}
	return false
}

// CommandWord returns the first word of a statement in capitals, such as ALTER.
func CommandWord(sql string) string {
	for rest := sql; rest != ""; {
		t, ok := nextToken(rest)
		if !ok {
			break
		}
		if t.kind == wordToken {
			return strings.ToUpper(rest[:t.size])
		}
		rest = rest[t.size:]
	}
	return "statement"
}

// containsFold reports whether s contains an ASCII word, in any case.
func containsFold(s, word string) bool { return indexFold(s, word) >= 0 }

// indexFold returns where s contains a word of small ASCII letters in any case, or -1.
func indexFold(s, word string) int {
	for at := 0; at+len(word) <= len(s); at++ {
		if s[at]|('a'-'A') == word[0] && strings.EqualFold(s[at:at+len(word)], word) {
			return at
		}
	}
	return -1
}

// isWordByte reports whether b goes on a word: letters, digits, _, $ and all
// bytes of characters beyond ASCII.
func isWordByte(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '_' || b == '$' || b >= utf8.RuneSelf
}
