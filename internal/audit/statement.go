package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"time"
	"unicode/utf8"
)

// Statement is an event of a session's statements. There may be a hundred thousand of
// them in a second, so what they have in common is encoded once and they write
// themselves. [Log] takes a pointer, and keeps nothing of it.
type Statement struct {
	Session *Prepared // nil: of no session
	Index   int64     // as that of a [Session]
	Time    time.Time // when it happened; zero is the time at which the log gets the event
	What    StatementEvent
}

func (s *Statement) name() (event, code string) { return s.What.name() }

// StatementEvent is one of the events that a [Statement] tells of: [DatabaseQuery],
// [DatabaseResult], [CopyStart], [StatementParse], [StatementBind], [StatementExecute],
// [StatementClose] and [FunctionCall].
type StatementEvent interface {
	Event
	// shorten cuts texts that are too long, and returns about how many bytes there are.
	shorten() int
	// appendFields appends the event's own fields, each with a comma in front, as
	// encoding/json would write them.
	appendFields(b []byte) []byte
}

// Prepared is what all events of a session's statements say about it.
type Prepared struct{ fields []byte } // of a JSON object

// Prepare encodes s and d for the events of statements. Index and Time are theirs.
func (s Session) Prepare(d Database) (*Prepared, error) {
	text, err := marshal(struct {
		Session
		Database
	}{s, d})
	if err != nil {
		return nil, err
	}
	return &Prepared{text[1 : len(text)-1]}, nil // without the braces
}

// append appends all fields but the common ones. Too long texts have been shortened.
func (s *Statement) append(b []byte) []byte {
	if s.Session != nil && len(s.Session.fields) > 0 {
		b = append(append(b, ','), s.Session.fields...)
	}
	return s.What.appendFields(b)
}

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

func (e *DatabaseQuery) shorten() int {
	return cut(&e.Query, &e.Parameters, &e.Shortened) + len(e.Error) + len(e.Message)
}

func (e *StatementParse) shorten() int {
	return cut(&e.Query, nil, &e.Shortened) + len(e.StatementName)
}

func (e *StatementBind) shorten() int {
	return cut(nil, &e.Parameters, &e.Shortened) + len(e.StatementName) + len(e.PortalName)
}

func (e *FunctionCall) shorten() int     { return cut(nil, &e.Arguments, &e.Shortened) }
func (e *StatementExecute) shorten() int { return len(e.PortalName) }
func (e *StatementClose) shorten() int   { return len(e.StatementName) + len(e.PortalName) }
func (*CopyStart) shorten() int          { return 0 }

func (e *DatabaseResult) shorten() int {
	return len(e.Error) + len(e.Message) + len(e.StatementName) + len(e.PortalName)
}

// cut cuts a text and a list, either of which may be nil, to maxText bytes together.
// Every element of the list stays, if only as an empty text, so that positions keep
// their meaning. What is known of texts that were cut before stays true. It returns about
// how many bytes there are to be written.
func cut(text *string, list *[]*string, known *Shortened) int {
	size := 0
	if text != nil {
		size = len(*text)
	}
	if list != nil {
		for _, s := range *list {
			if s != nil {
				size += len(*s)
			}
		}
	}
	if size > maxText {
		cutFrom(size, text, list, known)
	}
	size = min(size, maxText)
	if list != nil {
		size += len(*list) * len(`"",`)
	}
	return size
}

// cutFrom does what cut does, with texts of so many bytes that are too long.
func cutFrom(size int, text *string, list *[]*string, known *Shortened) {
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
	if text != nil {
		*text = take(*text)
	}
	if list != nil {
		short := make([]*string, len(*list))
		for i, s := range *list {
			if s != nil {
				taken := take(*s)
				short[i] = &taken
			}
		}
		*list = short
	}
	if !known.Truncated {
		*known = Shortened{Truncated: true, FullSize: int64(size), FullHash: hex.EncodeToString(whole.Sum(nil))}
	}
}
