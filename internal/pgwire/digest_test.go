package pgwire

import (
	"bytes"
	"crypto/sha256"
	"strings"
	"testing"
)

// TestDigestOfLongFrames: the hash is that of the SQL, however the stream is cut,
// and the frame is shown before its last byte is sent on.
func TestDigestOfLongFrames(t *testing.T) {
	t.Parallel()
	sql := strings.Repeat("SELECT 'x', ", 100) + "1"
	sum := func(text string) []byte {
		h := sha256.Sum256([]byte(text))
		return h[:]
	}
	for _, tt := range []struct {
		name string
		typ  byte
		body string
		want []byte
	}{
		{"query", 'Q', sql + "\x00", sum(sql)},
		{"query with a zero byte inside", 'Q', sql + "\x00DROP TABLE t\x00", sum(sql)},
		{"query without end", 'Q', sql, sum(sql)},
		{"Parse", 'P', bodyParse("name", sql, 23, 25), sum(sql)},
		{"Parse with a long name", 'P', bodyParse(sql, "x"), sum("x")},
		{"Bind", 'B', bodyBind("", "", false, sql), sum(bodyBind("", "", false, sql))},
		{"short", 'Q', "SELECT 1\x00", nil},
	} {
		stream := msg(tt.typ, tt.body)
		for _, step := range []int{1, 7, 100, len(stream)} {
			var shown []Frame
			scanned := 0
			s := scanner{observe: &Observe{
				Bodies: [2]TypeSet{Types("QPB")}, Limit: 64, Digest: true,
				Frame: func(f *Frame) error {
					f.Body = bytes.Clone(f.Body)
					shown = append(shown, *f)
					return nil
				},
			}}
			for rest := stream; len(rest) > 0; rest = rest[min(step, len(rest)):] {
				if len(shown) > 0 {
					t.Fatalf("%s in steps of %d: shown after %d bytes of %d", tt.name, step, scanned, len(stream))
				}
				n := min(step, len(rest))
				if _, err := s.scan(rest[:n]); err != nil {
					t.Fatal(err)
				}
				scanned += n
			}
			if len(shown) != 1 || !bytes.Equal(shown[0].Digest, tt.want) || string(shown[0].Body) != tt.body[:min(64, len(tt.body))] {
				t.Errorf("%s in steps of %d: %d frames shown, %+v", tt.name, step, len(shown), shown)
			}
		}
	}
}
