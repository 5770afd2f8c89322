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
	FullSize  int64  `json:"full_size,omitempty"`   // of the statement, or of the message with the values, in bytes
	FullHash  string `json:"full_sha256,omitempty"` // SHA-256 of the same, hex
}

// lean is an event of which a session has many: it leaves out what is too long, and
// what [Session.Prepare] has encoded.
type lean interface {
	lean() Event
	prepared() []byte
}

func (e DatabaseQuery) lean() Event {
	e.Query, e.Parameters, e.Shortened = cut(e.Query, e.Parameters, e.Shortened)
	dropPrepared(&e.Session, &e.Database)
	return e
}

func (e StatementParse) lean() Event {
	e.Query, _, e.Shortened = cut(e.Query, nil, e.Shortened)
	dropPrepared(&e.Session, &e.Database)
	return e
}

func (e StatementBind) lean() Event {
	_, e.Parameters, e.Shortened = cut("", e.Parameters, e.Shortened)
	dropPrepared(&e.Session, &e.Database)
	return e
}

func (e FunctionCall) lean() Event {
	_, e.Arguments, e.Shortened = cut("", e.Arguments, e.Shortened)
	dropPrepared(&e.Session, &e.Database)
	return e
}

func (e StatementExecute) lean() Event {
	dropPrepared(&e.Session, &e.Database)
	return e
}

func (e StatementClose) lean() Event {
	dropPrepared(&e.Session, &e.Database)
	return e
}

func (e DatabaseResult) lean() Event {
	dropPrepared(&e.Session, &e.Database)
	return e
}

func (e CopyStart) lean() Event {
	dropPrepared(&e.Session, &e.Database)
	return e
}

// dropPrepared empties what is encoded already, which then is not encoded again.
func dropPrepared(s *Session, d *Database) {
	if s.encoded != nil {
		*s, *d = Session{Index: s.Index, Time: s.Time}, Database{}
	}
}

// cut returns text and list, cut to maxText bytes together. Every element of the
// list stays, if only as an empty text, so that positions keep their meaning. What
// is known of texts that were cut before stays true.
func cut(text string, list []*string, known Shortened) (string, []*string, Shortened) {
	size := len(text)
	for _, s := range list {
		if s != nil {
			size += len(*s)
		}
	}
	if size <= maxText {
		return text, list, known
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
	short := make([]*string, len(list))
	for i, s := range list {
		if s != nil {
			taken := take(*s)
			short[i] = &taken
		}
	}
	if known.Truncated {
		return text, short, known
	}
	return text, short, Shortened{Truncated: true, FullSize: int64(size), FullHash: hex.EncodeToString(whole.Sum(nil))}
}
