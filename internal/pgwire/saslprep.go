package pgwire

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// saslPrep normalises a password as PostgreSQL does before it hashes one
// (RFC 4013). A password that the profile prohibits is used as it is, as there.
func saslPrep(password string) string {
	ascii := true
	for i := range len(password) {
		ascii = ascii && password[i] < utf8.RuneSelf
	}
	if ascii || !utf8.ValidString(password) {
		return password
	}
	mapped := strings.Map(func(r rune) rune {
		switch {
		case mappedToNothing(r):
			return -1
		case r != ' ' && unicode.Is(unicode.Zs, r) || r == '\u200b':
			return ' '
		}
		return r
	}, password)
	normal := norm.NFKC.String(mapped)
	if normal == "" || strings.ContainsFunc(normal, prohibited) {
		return password
	}
	return normal
}

// mappedToNothing is table B.1 of RFC 3454 without U+200B, which table C.1.2
// maps to a space.
func mappedToNothing(r rune) bool {
	switch r {
	case '\u00ad', '\u034f', '\u1806', '\u180b', '\u180c', '\u180d', '\u200c', '\u200d', '\u2060', '\ufeff':
		return true
	}
	return r >= '\ufe00' && r <= '\ufe0f'
}

// prohibited covers tables C.2 to C.9 of RFC 3454: control characters, private
// use, non-characters, and marks that change how text is shown.
func prohibited(r rune) bool {
	switch {
	case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Cs), unicode.Is(unicode.Noncharacter_Code_Point, r):
		return true
	case r >= '\ufff9' && r <= '\ufffd', r >= '\u2ff0' && r <= '\u2ffb', r == '\u0340', r == '\u0341':
		return true
	}
	return r == '\u2028' || r == '\u2029'
}
