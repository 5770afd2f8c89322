package pgwire

import (
	"bytes"
	"encoding/binary"
)

// A conversation is raw client messages. They are sent at once, and the answers are
// read up to as many ReadyForQuery as its number says, or to the end for -1.
type conversation struct {
	name  string
	send  []byte
	ready int
}

// conversations are had on one connection, one after the other.
var conversations = []conversation{
	{"simple", msg('Q', "SELECT 1, NULL, 'x'; SELECT 2\x00"), 1},
	{"empty", msg('Q', "\x00"), 1},
	{"error", msg('Q', "SELECT nothing\x00"), 1},
	{"notice", msg('Q', "DROP TABLE IF EXISTS nothing_there\x00"), 1},
	{"pipeline with an error in the middle", bytes.Join([][]byte{
		run("SELECT 1"), msg('S', ""), run("SELECT 1"), run("SELECT nothing"), run("SELECT 3"), msg('S', ""), run("SELECT 4"), msg('S', ""),
	}, nil), 3},
	{"portal with a row limit", bytes.Join([][]byte{
		msg('P', bodyParse("", "SELECT generate_series(1, 5)")), msg('B', bodyBind("p", "", false)), msg('D', "Pp\x00"),
		msg('E', bodyExecute("p", 2)), msg('E', bodyExecute("p", 2)), msg('E', bodyExecute("p", 2)), msg('C', "Pp\x00"), msg('S', ""),
	}, nil), 1},
	{"describe, flush, close", bytes.Join([][]byte{
		msg('P', bodyParse("s", "SELECT $1::int + 1")), msg('D', "Ss\x00"), msg('H', ""), msg('B', bodyBind("", "s", false, "41")), msg('E', bodyExecute("", 0)), msg('C', "Ss\x00"), msg('S', ""),
	}, nil), 1},
	{"COPY in", bytes.Join([][]byte{msg('Q', "CREATE TEMP TABLE c (n int); COPY c FROM STDIN\x00"), msg('d', "1\n2"), msg('d', "\n3\n"), msg('c', ""), msg('Q', "SELECT sum(n) FROM c\x00")}, nil), 2},
	{"COPY in, aborted", bytes.Join([][]byte{msg('Q', "COPY c FROM STDIN\x00"), msg('d', "1\n"), msg('f', "changed my mind\x00")}, nil), 1},
	{"COPY in, bad data", bytes.Join([][]byte{msg('Q', "COPY c FROM STDIN\x00"), msg('d', "one\n"), msg('d', "2\n"), msg('c', "")}, nil), 1},
	{"COPY out", msg('Q', "COPY (SELECT generate_series(1, 2000)) TO STDOUT\x00"), 1},
	{"COPY in by the extended protocol", bytes.Join([][]byte{
		msg('P', bodyParse("", "COPY c FROM STDIN")), msg('B', bodyBind("", "", false)), msg('E', bodyExecute("", 0)), msg('d', "4\n"), msg('c', ""), msg('S', ""),
	}, nil), 1},
	{"COPY out by the extended protocol", append(run("COPY c TO STDOUT"), msg('S', "")...), 1},
	{"settings that are reported", msg('Q', "SET application_name = 'mine'; SET TimeZone = 'Asia/Tokyo'; RESET TimeZone\x00"), 1},
	{"no data, no parameters", bytes.Join([][]byte{msg('P', bodyParse("s", "SET work_mem = 4096")), msg('D', "Ss\x00"), msg('B', bodyBind("", "s", false)), msg('D', "P\x00"), msg('S', "")}, nil), 1},
	{"empty by the extended protocol", append(run(""), msg('S', "")...), 1},
	{"names that do not exist", bytes.Join([][]byte{
		msg('C', "Snone\x00"), msg('C', "Pnone\x00"), msg('S', ""), msg('D', "Snone\x00"), msg('S', ""), msg('B', bodyBind("", "none", false)), msg('S', ""), msg('E', bodyExecute("none", 0)), msg('S', ""),
	}, nil), 4},
	{"a failed transaction", append(msg('Q', "BEGIN; SELECT nothing\x00"), append(msg('Q', "SELECT 1\x00"), msg('Q', "ROLLBACK\x00")...)...), 3},
	{"COPY messages without a COPY", bytes.Join([][]byte{msg('d', "1\n"), msg('c', ""), msg('f', "no\x00"), msg('Q', "SELECT 1\x00")}, nil), 1},
	{"function call", functionCall(177, int4(40), int4(2)), 1}, // int4pl
	{"function call of nothing", functionCall(1), 1},
	{"large object by function calls", bytes.Join([][]byte{
		msg('Q', "BEGIN\x00"), functionCall(715, int4(4712)) /* lo_create */, functionCall(952, int4(4712), int4(0x60000)), /* lo_open, to read and write */
		functionCall(955, int4(0), []byte("a large object")) /* lowrite */, functionCall(956, int4(0), int4(2), int4(0)), /* lo_lseek */
		functionCall(954, int4(0), int4(100)) /* loread */, functionCall(953, int4(0)) /* lo_close */, msg('Q', "ROLLBACK\x00"),
	}, nil), 8},
	{"LISTEN and NOTIFY", append(msg('Q', "LISTEN here\x00"), msg('Q', "SELECT pg_notify('here', 'x') IS NULL\x00")...), 2},
	{"large object", msg('Q', "BEGIN; SELECT lo_from_bytea(4711, repeat('x', 50000)::bytea); SELECT lo_get(4711); ROLLBACK\x00"), 1},
	{"large row", msg('Q', "SELECT repeat('y', 3000000)\x00"), 1},
	{"portal over several Syncs", bytes.Join([][]byte{
		msg('Q', "BEGIN\x00"), msg('P', bodyParse("", "SELECT generate_series(1, 5)")), msg('B', bodyBind("p", "", false)), msg('E', bodyExecute("p", 2)), msg('S', ""),
		msg('E', bodyExecute("p", 2)), msg('S', ""), msg('C', "Pp\x00"), msg('S', ""), msg('E', bodyExecute("p", 2)), msg('S', ""), msg('Q', "ROLLBACK\x00"),
	}, nil), 6},
	{"simple query in a pipeline", bytes.Join([][]byte{run("SELECT 1"), msg('Q', "SELECT 2\x00"), run("SELECT nothing"), msg('Q', "SELECT 3\x00"), msg('S', "")}, nil), 2},
	{"flush behind an error", bytes.Join([][]byte{run("SELECT nothing"), msg('H', ""), run("SELECT 1"), msg('H', ""), msg('S', "")}, nil), 1},
	{"COPY in by the extended protocol, aborted", bytes.Join([][]byte{run("COPY c FROM STDIN"), msg('d', "5\n"), msg('f', "changed my mind\x00"), msg('S', "")}, nil), 1},
	{"COPY in by the extended protocol, bad data", bytes.Join([][]byte{
		run("COPY c FROM STDIN"), msg('d', "five\n"), msg('d', "6\n"), msg('c', ""), run("SELECT 1"), msg('S', ""), run("SELECT sum(n) FROM c"), msg('S', ""),
	}, nil), 2},
	{"COPY in, with other messages among the data", bytes.Join([][]byte{
		msg('Q', "COPY c FROM STDIN\x00"), msg('d', "7\n"), msg('H', ""), msg('S', ""), msg('d', "8\n"), msg('c', ""), msg('Q', "SELECT sum(n) FROM c\x00"),
	}, nil), 2},
	{"COPY in binary, out binary", bytes.Join([][]byte{
		msg('Q', "COPY c FROM STDIN BINARY\x00"), msg('d', "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x04\x00\x00\x00\x2a\xff\xff"), msg('c', ""),
		msg('Q', "COPY c TO STDOUT BINARY\x00"),
	}, nil), 2},
}

// lastWords are conversations that end the connection, one on each.
var lastWords = []conversation{
	{"unknown message", append(msg('!', "what"), msg('Q', "SELECT 1\x00")...), -1},
	// PostgreSQL 13 goes on after these two.
	{"unknown message amid a COPY", bytes.Join([][]byte{msg('Q', "CREATE TEMP TABLE c (n int); COPY c FROM STDIN\x00"), msg('!', "what"), msg('X', "")}, nil), -1},
	{"query amid a COPY", bytes.Join([][]byte{msg('Q', "CREATE TEMP TABLE c (n int); COPY c FROM STDIN\x00"), msg('d', "1\n"), msg('Q', "SELECT 1\x00"), msg('X', "")}, nil), -1},
	{"password that nobody asked for", msg('p', "secret\x00"), -1},
	{"goodbye", append(msg('Q', "SELECT 1\x00"), msg('X', "")...), -1},
	{"goodbye in a transaction that failed", append(msg('Q', "BEGIN; SELECT nothing\x00"), msg('X', "")...), -1},
}

// replicating is had on a replication connection, which answers CopyBothResponse, and
// that it has nothing to send from there on.
var replicating = []conversation{
	{"replication", bytes.Join([][]byte{
		msg('Q', "CREATE_REPLICATION_SLOT raw_slot TEMPORARY PHYSICAL\x00"), msg('Q', "START_REPLICATION SLOT raw_slot PHYSICAL 0/7000000\x00"), msg('c', ""), msg('Q', "DROP_REPLICATION_SLOT raw_slot\x00"),
	}, nil), 3},
}

func run(sql string) []byte {
	return bytes.Join([][]byte{msg('P', bodyParse("", sql)), msg('B', bodyBind("", "", false)), msg('D', "P\x00"), msg('E', bodyExecute("", 0))}, nil)
}

// functionCall calls a function, all in binary.
func functionCall(oid uint32, args ...[]byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, oid)
	b = append(b, 0, 1, 0, 1, 0, byte(len(args)))
	for _, arg := range args {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(arg))), arg...)
	}
	return msg('F', string(append(b, 0, 1)))
}

func int4(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
