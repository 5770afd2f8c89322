package audit

import "strconv"

// What the events of statements write is what encoding/json would write of them.

func (e *DatabaseQuery) appendFields(b []byte) []byte {
	b = e.Outcome.appendFields(b)
	b = appendText(b, "db_query", e.Query)
	b = appendTexts(b, "db_query_parameters", e.Parameters)
	return e.Shortened.appendFields(b)
}

func (e *StatementParse) appendFields(b []byte) []byte {
	b = appendText(b, "statement_name", e.StatementName)
	b = appendText(b, "query", e.Query)
	return e.Shortened.appendFields(b)
}

func (e *StatementBind) appendFields(b []byte) []byte {
	b = appendText(b, "statement_name", e.StatementName)
	b = appendText(b, "portal_name", e.PortalName)
	b = appendTexts(b, "parameters", e.Parameters)
	b = appendSizes(b, "parameter_sizes", e.Sizes)
	return e.Shortened.appendFields(b)
}

func (e *StatementExecute) appendFields(b []byte) []byte {
	return appendText(b, "portal_name", e.PortalName)
}

func (e *StatementClose) appendFields(b []byte) []byte {
	b = appendGiven(b, "statement_name", e.StatementName)
	return appendGiven(b, "portal_name", e.PortalName)
}

func (e *FunctionCall) appendFields(b []byte) []byte {
	b = strconv.AppendUint(appendKey(b, "function_oid"), uint64(e.FunctionOID), 10)
	b = appendTexts(b, "function_args", e.Arguments)
	b = appendSizes(b, "function_arg_sizes", e.Sizes)
	return e.Shortened.appendFields(b)
}

func (e *CopyStart) appendFields(b []byte) []byte {
	b = appendText(b, "direction", e.Direction)
	return appendKnown(b, "request_ei", e.RequestIndex)
}

func (e *DatabaseResult) appendFields(b []byte) []byte {
	b = e.Outcome.appendFields(b)
	b = appendText(b, "request", e.Request)
	b = appendText(b, "outcome", e.Became)
	b = appendKnown(b, "request_ei", e.RequestIndex)
	b = appendKnown(b, "parse_ei", e.ParseIndex)
	b = appendKnown(b, "bind_ei", e.BindIndex)
	b = appendGiven(b, "statement_name", e.StatementName)
	b = appendGiven(b, "portal_name", e.PortalName)
	if len(e.Tags) > 0 {
		b = appendKey(b, "command_tags")
		for i, tag := range e.Tags {
			b = appendString(append(b, "[,"[min(i, 1)]), tag)
		}
		b = append(b, ']')
	}
	b = strconv.AppendUint(appendKey(b, "affected_records"), e.AffectedRecords, 10)
	b = appendKnown(b, "copy_bytes", e.CopyBytes)
	b = appendGiven(b, "sqlstate", e.SQLState)
	b = appendGiven(b, "tx_status", e.TxStatus)
	return strconv.AppendFloat(appendKey(b, "duration_ms"), e.DurationMS, 'f', -1, 64)
}

func (o *Outcome) appendFields(b []byte) []byte {
	b = strconv.AppendBool(appendKey(b, "success"), o.Success)
	b = appendGiven(b, "error", o.Error)
	return appendGiven(b, "message", o.Message)
}

func (s *Shortened) appendFields(b []byte) []byte {
	if s.Truncated {
		b = append(appendKey(b, "truncated"), "true"...)
	}
	b = appendKnown(b, "full_size", s.FullSize)
	return appendGiven(b, "full_sha256", s.FullHash)
}

func appendKey(b []byte, key string) []byte {
	b = append(b, `,"`...)
	b = append(b, key...)
	return append(b, `":`...)
}

func appendText(b []byte, key, text string) []byte { return appendString(appendKey(b, key), text) }

// appendGiven leaves out an empty text, appendKnown a zero.
func appendGiven(b []byte, key, text string) []byte {
	if text == "" {
		return b
	}
	return appendText(b, key, text)
}

func appendKnown(b []byte, key string, n int64) []byte {
	if n == 0 {
		return b
	}
	return strconv.AppendInt(appendKey(b, key), n, 10)
}

func appendTexts(b []byte, key string, list []*string) []byte {
	if len(list) == 0 {
		return b
	}
	b = appendKey(b, key)
	for i, s := range list {
		b = append(b, "[,"[min(i, 1)])
		if s == nil {
			b = append(b, "null"...)
		} else {
			b = appendString(b, *s)
		}
	}
	return append(b, ']')
}

func appendSizes(b []byte, key string, sizes []int) []byte {
	if len(sizes) == 0 {
		return b
	}
	b = appendKey(b, key)
	for i, size := range sizes {
		b = strconv.AppendInt(append(b, "[,"[min(i, 1)]), int64(size), 10)
	}
	return append(b, ']')
}

// appendString appends a JSON string. What needs no escape, which is nearly all, is
// copied, and the escapes that SQL often needs are made here; a text with any other is
// left to encoding/json.
func appendString(b []byte, s string) []byte {
	start := len(b)
	b = append(b, '"')
	for rest := s; ; {
		n := plainPrefix(rest)
		b = append(b, rest[:n]...)
		if n == len(rest) {
			return append(b, '"')
		}
		switch c := rest[n]; c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, `\n`...)
		case '\t':
			b = append(b, `\t`...)
		default:
			text, _ := marshal(s) // a string always can be
			return append(b[:start], text...)
		}
		rest = rest[n+1:]
	}
}

// plainPrefix returns how many bytes at the beginning of s are printable ASCII that
// stands for itself in JSON.
func plainPrefix(s string) int {
	for i := range len(s) {
		if !plain[s[i]] {
			return i
		}
	}
	return len(s)
}

// plain tells which bytes stand for themselves.
var plain = func() (set [256]bool) {
	for c := ' '; c <= '~'; c++ {
		set[c] = c != '"' && c != '\\'
	}
	return set
}()
