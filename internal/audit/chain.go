package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
)

// The chain. A line is a JSON object whose last three fields are
//
//	…,"seq":42,"prev":"<64 hex>","hash":"<64 hex>"}
//
// seq counts lines from 1 across all segments. prev is the hash of the line
// before, 64 zeros in line 1. hash is the SHA-256 over the exact bytes of the
// line that stand before `,"hash":`. Nothing is encoded again to check it, so no
// order of fields or form of numbers has to be agreed on:
//
//	head -1 SEGMENT | sed 's/,"hash":.*//' | tr -d '\n' | sha256sum

// link is a place in the chain: a line that was written.
type link struct {
	seq  uint64
	hash [sha256.Size]byte
}

const (
	hexSize    = 2 * sha256.Size
	seqField   = `,"seq":`
	prevField  = `,"prev":"`
	hashField  = `,"hash":"`
	hashSuffix = len(hashField) + hexSize + len(`"}`)
	// chainSize is at least what the chain adds to an object, with line end.
	chainSize = len(seqField) + 20 + len(prevField) + hexSize + 1 + hashSuffix
)

// unsealed is the end of a line that the chain has not reached yet.
var unsealed = prevField + strings.Repeat("0", hexSize) + `"` + hashField + strings.Repeat("0", hexSize) + "\"}\n"

// appendUnsealed makes a line with number seq of the open object at the end of b. Hashes
// are missing: seal writes them where they belong, so that nothing has to be copied for
// them.
func appendUnsealed(b []byte, seq uint64) []byte {
	b = append(b, seqField...)
	b = strconv.AppendUint(b, seq, 10)
	return append(b, unsealed...)
}

// seal makes an unsealed line the one after l, whose number it must have, and returns
// the new end of the chain.
func (l link) seal(line []byte) link {
	cut := len(line) - len("\n") - hashSuffix
	putHash(line[cut-len(`"`)-hexSize:], &l.hash)
	next := link{seq: l.seq + 1, hash: sha256.Sum256(line[:cut])}
	putHash(line[cut+len(hashField):], &next.hash)
	return next
}

// putHash does what [hex.Encode] does, in a third of the time: every line has two.
func putHash(b []byte, hash *[sha256.Size]byte) {
	b = b[:hexSize]
	for i, v := range hash {
		*(*[2]byte)(b[2*i:]) = hexPairs[v]
	}
}

// hexPairs are the digits of each byte.
var hexPairs = func() (pairs [256][2]byte) {
	for v := range pairs {
		hex.Encode(pairs[v][:], []byte{byte(v)})
	}
	return pairs
}()

var errNotALine = errors.New("not a line of an audit log")

// parseLine reads the chain fields of a line (without line end) and checks that
// its hash is right. It returns the line's place and the hash of the one before.
func parseLine(line []byte) (l link, prev [sha256.Size]byte, err error) {
	if len(line) < chainSize-20 || line[0] != '{' {
		return link{}, prev, errNotALine
	}
	cut := len(line) - hashSuffix
	if err := parseHash(line[cut:], hashField, `"}`, &l.hash); err != nil {
		return link{}, prev, err
	}
	prevAt := cut - len(prevField) - hexSize - 1
	if err := parseHash(line[prevAt:cut], prevField, `"`, &prev); err != nil {
		return link{}, prev, err
	}
	seqAt := bytes.LastIndex(line[:prevAt], []byte(seqField))
	if seqAt < 0 {
		return link{}, prev, errNotALine
	}
	digits := string(line[seqAt+len(seqField) : prevAt])
	l.seq, err = strconv.ParseUint(digits, 10, 64)
	if err != nil || digits[0] == '0' {
		return link{}, prev, errNotALine
	}
	if sha256.Sum256(line[:cut]) != l.hash {
		return link{}, prev, errors.New("the line is not what was written: its hash is wrong")
	}
	return l, prev, nil
}

// parseHash reads a field of one hash in lower-case hex.
func parseHash(field []byte, before, after string, hash *[sha256.Size]byte) error {
	if len(field) != len(before)+hexSize+len(after) ||
		string(field[:len(before)]) != before || string(field[len(before)+hexSize:]) != after {
		return errNotALine
	}
	text := field[len(before) : len(before)+hexSize]
	if _, err := hex.Decode(hash[:], text); err != nil || bytes.ContainsAny(text, "ABCDEF") {
		return errNotALine
	}
	return nil
}

// follows reports what is wrong when a line with place l and predecessor prev
// comes after the line before. A zero before.seq is the start of the log.
func (l link) follows(before link, prev [sha256.Size]byte) error {
	switch {
	case l.seq != before.seq+1:
		return errors.New("lines are missing or out of order: expected sequence number " +
			strconv.FormatUint(before.seq+1, 10) + ", found " + strconv.FormatUint(l.seq, 10))
	case prev != before.hash:
		return errors.New("the line does not follow the one before: another line stood there")
	}
	return nil
}
