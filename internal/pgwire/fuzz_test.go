package pgwire

import (
	"bytes"
	"testing"
	"testing/iotest"
)

func FuzzReadStartup(f *testing.F) {
	f.Add(packet(codeSSL, ""))
	f.Add(packet(codeGSSENC, ""))
	f.Add(packet(codeCancel, "\x00\x00\x01\x00abcd"))
	f.Add(packet(3<<16|2, "user\x00alice\x00database\x00shop\x00_pq_.x\x00\x00options\x00-c a=b\x00\x00"))
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ReadStartup(bytes.NewReader(data))
		slow, slowErr := ReadStartup(iotest.OneByteReader(bytes.NewReader(data)))
		if (err == nil) != (slowErr == nil) || err == nil && s.Kind != slow.Kind {
			t.Fatalf("in pieces %v, %v; whole %v, %v", slow, slowErr, s, err)
		}
		if err != nil {
			return
		}
		s.User()
		s.Database()
		s.Replication()
		if s.Kind == CancelRequest && (len(s.Secret) < 4 || len(s.Secret) > maxCancelKey) {
			t.Fatalf("secret of %d bytes", len(s.Secret))
		}
		if s.Kind == StartupMessage && len(s.Options) == 0 && len(s.Params) > 1 && s.Params[0].Name == "user" && s.Params[1].Name == "database" {
			again, err := startupPacket(StartConfig{User: s.Params[0].Value, Database: s.Params[1].Value, Params: s.Params[2:], ProtocolMinor: s.Minor})
			if err != nil || !bytes.Equal(again, data[:len(again)]) {
				t.Fatalf("round trip: %q, %v, want %q", again, err, data)
			}
		}
	})
}

// FuzzScanner checks that frames are the same however the stream is cut.
func FuzzScanner(f *testing.F) {
	f.Add(bytes.Join([][]byte{msg('Q', "select\x00"), msg('S', ""), msg('d', "data"), header('d', 1<<30)}, nil), uint8(3))
	f.Add([]byte("Q\xff\xff\xff\xff"), uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, step uint8) {
		scan := func(size int) (seen []byte, frames int64, err error) {
			s := scanner{observe: &Observe{
				Bodies: [2]TypeSet{Types("QPBE")}, Headers: [2]TypeSet{Types("dS")}, Limit: 8, Digest: true,
				Frame: func(f *Frame) error {
					if len(f.Body) > 8 || len(f.Body) > f.Length {
						t.Fatalf("body of %d bytes, length %d", len(f.Body), f.Length)
					}
					seen = append(append(append(seen, f.Type, byte(f.Length)), f.Body...), f.Digest...)
					return nil
				},
			}}
			defer s.release()
			for rest := data; len(rest) > 0; rest = rest[min(size, len(rest)):] {
				if _, err := s.scan(rest[:min(size, len(rest))]); err != nil {
					return seen, s.frames, err
				}
			}
			return seen, s.frames, nil
		}
		whole, n, err := scan(len(data) + 1)
		cut, m, cutErr := scan(int(step) + 1)
		if (err == nil) != (cutErr == nil) || n != m || !bytes.Equal(whole, cut) {
			t.Fatalf("whole: %q, %d, %v; in pieces of %d: %q, %d, %v", whole, n, err, step+1, cut, m, cutErr)
		}
	})
}

// decoded returns what the decoder of a request says to f.
func decoded(f *Frame) (err error) {
	switch f.Type {
	case 'Q':
		_, err = DecodeQuery(f)
	case 'P':
		_, err = DecodeParse(f)
	case 'B':
		_, err = DecodeBind(f)
	case 'E':
		_, err = DecodeExecute(f)
	case 'D', 'C':
		_, err = DecodeTarget(f)
	case 'F':
		_, err = DecodeFunctionCall(f)
	}
	return err
}

// FuzzDecode feeds every decoder complete bodies and beginnings of bodies.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("select 1\x00"), uint16(0))
	f.Add([]byte(bodyParse("s", "select $1", 23)), uint16(0))
	f.Add([]byte(bodyBind("p", "s", true, "\x00\x00\x00\x01", "NULL")), uint16(100))
	f.Add([]byte(bodyExecute("p", 7)), uint16(0))
	f.Add([]byte("Ss\x00"), uint16(0))
	f.Add([]byte("SERROR\x00C42P01\x00Mx\x00\x00"), uint16(0))
	f.Fuzz(func(t *testing.T, body []byte, more uint16) {
		fr := &Frame{Type: 'x', Length: len(body) + int(more), Body: body}
		_, _ = DecodeQuery(fr)
		p, _ := DecodeParse(fr)
		if more > 0 && p.Query.Length > fr.Length {
			t.Fatalf("text of %d bytes in a body of %d", p.Query.Length, fr.Length)
		}
		b, err := DecodeBind(fr)
		for _, v := range b.Values {
			if len(v.Data) > v.Length || err == nil && !b.Truncated && len(v.Data) != v.Length {
				t.Fatalf("value %+v", v)
			}
		}
		readable(nil, b.Values, p.Types)
		_, _ = DecodeExecute(fr)
		_, _ = DecodeTarget(fr)
		_, _ = DecodeFunctionCall(fr)
		for _, typ := range []byte("QPBEDCFSx") {
			fr.Type = typ
			if checked, decoded := fr.check(), decoded(fr); (checked == nil) != (decoded == nil) {
				t.Fatalf("%q is checked as %v, and decoded as %v", typ, checked, decoded)
			}
		}
		DecodeCommandTag(fr)
		DecodeTypes(fr)
		ParseError(body).Append(nil)
	})
}

// FuzzBinaryValue checks that no bytes of a client make a decoder of values panic
// or use memory out of proportion.
func FuzzBinaryValue(f *testing.F) {
	for _, oid := range []uint32{16, 17, 20, 23, 25, 700, 701, 869, 1007, 1009, 1082, 1114, 1184, 1186, 1231, 1700, 2950, 3802, 3904} {
		f.Add(oid, []byte{0, 0, 0, 1, 0, 0, 0, 0}, false)
	}
	f.Add(uint32(1007), []byte("\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x17\x7f\xff\xff\xff\x00\x00\x00\x01"), false)
	f.Fuzz(func(t *testing.T, oid uint32, data []byte, cut bool) {
		if len(data) > 4096 {
			return
		}
		text, _ := decodeBinary(oid, data, cut)
		if len(text) > 3*maxReadable(len(data)) { // invalid bytes become three
			t.Fatalf("%d bytes become %d", len(data), len(text))
		}
	})
}

// framesOf takes frames out of what both sides say, in turns: pairs of a type and a
// length select them.
func framesOf(client, server []byte) (frames []Frame) {
	for len(client) > 1 || len(server) > 1 {
		for d, data := range []*[]byte{&client, &server} {
			b := *data
			if len(b) < 2 {
				continue
			}
			n := min(int(b[1]), len(b)-2)
			frames = append(frames, Frame{Direction: Direction(d), Type: b[0], Length: n, Body: b[2 : 2+n]})
			*data = b[2+n:]
		}
	}
	return frames
}

// FuzzStatements plays any conversation to the tracker.
func FuzzStatements(f *testing.F) {
	f.Add([]byte("Q\x09select 1\x00t\x00"), []byte("C\x09SELECT 1\x00Z\x01I"))
	f.Add([]byte("P\x0a\x00select\x00\x00\x00B\x08\x00\x00\x00\x00\x00\x00\x00\x00E\x05\x00\x00\x00\x00\x00S\x00"), []byte("1\x002\x00C\x09SELECT 1\x00Z\x01I"))
	f.Fuzz(func(t *testing.T, client, server []byte) {
		recorded := 0
		s := NewStatements(StatementsConfig{
			Values: true,
			Record: func(s *Statement) error {
				if s.Outcome != Copying {
					recorded++
				}
				return nil
			},
		})
		sent := 0
		for _, f := range framesOf(client, server) {
			if err := s.frame(&f); err != nil {
				return
			}
			if f.Direction == ToServer && (f.Type == 'Q' || f.Type == 'E' || f.Type == 'F') {
				sent++
			}
			if s.held < 0 || s.held > maxHeld {
				t.Fatalf("%d bytes held", s.held)
			}
		}
		s.Close()
		if recorded < sent {
			t.Fatalf("%d statements sent, %d recorded", sent, recorded)
		}
	})
}
