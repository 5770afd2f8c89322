package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"unicode/utf8"
)

// maxText bounds the text of statements and parameters in one event, in bytes.
// A longer statement is cut, and says so: size and hash of the whole are kept.
const maxText = 1 << 20

// Shortened says that an event does not hold the whole text. The log fills it,
// unless who made the event has cut the text already.
type Shortened struct {
	Truncated bool   `json:"truncated,omitempty"`
	FullSize  int64  `json:"full_size,omitempty"`   // of all texts together, in bytes
	FullHash  string `json:"full_sha256,omitempty"` // SHA-256 over all texts in order, hex
}

// shortener is an event that may hold long texts.
type shortener interface{ shorten() Event }

func (e DatabaseQuery) shorten() Event {
	if e.Truncated {
		return e // cut already, by who saw more of it
	}
	e.Query, e.Parameters, e.Shortened = cut(e.Query, e.Parameters)
	return e
}

func (e StatementParse) shorten() Event {
	if e.Truncated {
		return e
	}
	e.Query, _, e.Shortened = cut(e.Query, nil)
	return e
}

func (e StatementBind) shorten() Event {
	if e.Truncated {
		return e
	}
	_, e.Parameters, e.Shortened = cut("", e.Parameters)
	return e
}

func (e FunctionCall) shorten() Event {
	if e.Truncated {
		return e
	}
	_, e.Arguments, e.Shortened = cut("", e.Arguments)
	return e
}

// cut returns text and list, cut to maxText bytes together. Every element of the
// list stays, if only as an empty text, so that positions keep their meaning.
func cut(text string, list []string) (string, []string, Shortened) {
	size := len(text)
	for _, s := range list {
		size += len(s)
	}
	if size <= maxText {
		return text, list, Shortened{}
	}
	whole := sha256.New()
	left := maxText
	take := func(s string) string {
		_, _ = io.WriteString(whole, s)
		if len(s) > left {
			end := left
			for end > 0 && !utf8.RuneStart(s[end]) {
				end--
			}
			s = s[:end]
		}
		left -= len(s)
		return s
	}
	text = take(text)
	short := make([]string, len(list))
	for i, s := range list {
		short[i] = take(s)
	}
	return text, short, Shortened{Truncated: true, FullSize: int64(size), FullHash: hex.EncodeToString(whole.Sum(nil))}
}
