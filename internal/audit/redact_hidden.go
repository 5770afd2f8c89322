package audit

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// continuation is what stands between the parts of a string that goes on in another
// line.
var continuation = regexp.MustCompile(`'+(?:[\s\v]|--[^\r\n]*)*[\r\n](?:[\s\v]|--[^\r\n]*)*'+`)

// hidesSecret reports whether the word that secrets stand behind is in sql, but not
// to be seen: with letters of it escaped, or in two parts of a string. Then nothing
// is certain. So it is where U& strings have another escape than the backslash.
func hidesSecret(sql string) bool {
	if strings.Contains(sql, "&") && containsFold(sql, "uescape") {
		return true
	}
	if mayContinue(sql) && continuation.MatchString(sql) &&
		countSecret(continuation.ReplaceAllLiteralString(sql, "")) > countSecret(continuation.ReplaceAllLiteralString(sql, " ")) {
		return true
	}
	if !strings.Contains(sql, `\`) {
		return false
	}
	plain, text := countSecret(sql), sql
	for range maxNesting { // strings in strings have escaped escapes
		if countSecret(unescape(text, unicodeEscape)) > plain {
			return true
		}
		before := text
		if text = unescape(text, escape); len(text) == len(before) {
			return false
		}
		if countSecret(text) > plain {
			return true
		}
	}
	return true
}

// mayContinue reports whether a string may go on in another line than it began. It is a
// glance: hardly a statement of several lines has such a string, and to match an
// expression takes thirty times as long.
func mayContinue(sql string) bool {
	if strings.IndexByte(sql, '\r') >= 0 {
		return true // not looked at any closer: hardly a statement has that either
	}
	for rest := sql; ; {
		i := strings.IndexByte(rest, '\n')
		if i < 0 {
			return false
		}
		line, behind := rest[:i], strings.TrimLeft(rest[i:], " \t\n\f\v")
		if strings.HasPrefix(behind, "'") || strings.HasPrefix(behind, "--") {
			if strings.HasSuffix(strings.TrimRight(line, " \t\f\v"), "'") || strings.Contains(line, "--") {
				return true
			}
		}
		rest = behind
	}
}

// unescape replaces what stands behind backslashes by the characters that it stands
// for, as read tells: their code, and the bytes that make it up.
func unescape(text string, read func(behind string) (code rune, size int)) string {
	var out strings.Builder
	for {
		i := strings.IndexByte(text, '\\')
		if i < 0 || i == len(text)-1 {
			out.WriteString(text)
			return out.String()
		}
		code, size := read(text[i+1:])
		if size == 0 {
			out.WriteString(text[:i+1])
			text = text[i+1:]
			continue
		}
		out.WriteString(text[:i])
		out.WriteByte(byte(min(code, utf8.RuneSelf))) // others make no words
		text = text[i+1+size:]
	}
}

// escape reads one of an E string.
func escape(behind string) (code rune, size int) {
	switch c := behind[0]; {
	case c == 'x':
		code, size = number(behind[1:], 1, 2, 16)
	case c == 'u':
		code, size = number(behind[1:], 4, 4, 16)
	case c == 'U':
		code, size = number(behind[1:], 8, 8, 16)
	case c >= '0' && c <= '7':
		return number(behind, 1, 3, 8)
	}
	if size > 0 {
		return code, size + 1
	}
	return rune(behind[0]), 1
}

// unicodeEscape reads one of a U& string; size is 0 for what is none.
func unicodeEscape(behind string) (code rune, size int) {
	if behind[0] != '+' {
		return number(behind, 4, 4, 16)
	}
	if code, size = number(behind[1:], 6, 6, 16); size > 0 {
		size++
	}
	return code, size
}

// number reads at least least and at most most digits; size is 0 for fewer.
func number(text string, least, most int, base rune) (code rune, size int) {
	for size < most && size < len(text) {
		digit := rune(strings.IndexByte("0123456789abcdef", text[size]|0x20))
		if digit < 0 || digit >= base {
			break
		}
		code = min(code*base+digit, utf8.MaxRune)
		size++
	}
	if size < least {
		return 0, 0
	}
	return code, size
}

// countSecret returns how often the word is in text.
func countSecret(text string) int {
	n := 0
	for {
		i := indexFold(text, secretWord)
		if i < 0 {
			return n
		}
		n++
		text = text[i+len(secretWord):]
	}
}
