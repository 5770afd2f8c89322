package pgwire

import (
	"bytes"
	"crypto/sha256"
	"hash"
)

// digest hashes a body that is too long to be kept, piece by piece. Of a Query and
// a Parse it takes the SQL only, so that the result is that of the text as the
// person has it in a file.
type digest struct {
	hash hash.Hash
	// The SQL stands between two of the zero bytes that end texts: this many have to
	// come before it. Negative when it is over, or when everything counts.
	zeros int
	whole bool
}

func newDigest(typ byte) *digest {
	d := &digest{hash: sha256.New()}
	switch typ {
	case 'Q':
	case 'P':
		d.zeros = 1 // behind the name
	default:
		d.whole = true
	}
	return d
}

// add takes the next piece of the body.
func (d *digest) add(piece []byte) {
	if d.whole {
		d.hash.Write(piece)
		return
	}
	for len(piece) > 0 && d.zeros >= 0 {
		text, rest, ended := bytes.Cut(piece, []byte{0})
		if d.zeros == 0 {
			d.hash.Write(text)
		}
		if ended {
			d.zeros--
		}
		piece = rest
	}
}

// sum returns the hash of all that was added; nil of no digest.
func (d *digest) sum() []byte {
	if d == nil {
		return nil
	}
	return d.hash.Sum(nil)
}
