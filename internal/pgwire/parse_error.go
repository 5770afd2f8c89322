package pgwire

// maxErrorFields is far above the 18 that are defined.
const maxErrorFields = 64

// ParseError decodes the body of an ErrorResponse or NoticeResponse. What is cut
// short or repeated is kept as far as it goes: the first value of a field counts.
func ParseError(body []byte) *Error {
	e := &Error{}
	localized := ""
	c := cursor{rest: body}
	for range maxErrorFields {
		typ := c.byte()
		if typ == 0 || c.short {
			break
		}
		value := string(c.cstring())
		switch typ {
		case 'V':
			setOnce(&e.Severity, value)
		case 'C':
			setOnce(&e.Code, value)
		case 'M':
			setOnce(&e.Message, value)
		case 'D':
			setOnce(&e.Detail, value)
		case 'H':
			setOnce(&e.Hint, value)
		case 'S':
			setOnce(&localized, value)
		default:
			e.Extra = append(e.Extra, ErrorField{typ, value})
		}
	}
	if e.Severity == "" {
		e.Severity = localized
	}
	if localized != e.Severity {
		e.Extra = append(e.Extra, ErrorField{'S', localized})
	}
	return e
}

func setOnce(field *string, value string) {
	if *field == "" {
		*field = value
	}
}
