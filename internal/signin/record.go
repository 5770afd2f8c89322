package signin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/postern-db/postern/internal/fault"
)

// record is what is kept of one user.
type record struct {
	Version    int         `json:"version"`
	Hash       string      `json:"hash,omitempty"` // argon2id in PHC form; empty: no password
	Invitation *invitation `json:"invitation,omitempty"`
}

type invitation struct {
	Hash    string    `json:"hash"`
	Expires time.Time `json:"expires"`
}

const recordVersion = 1

// load returns the record of user; a user without one has an empty one at
// revision 0, so that everything after takes the same way.
func (p *Passwords) load(ctx context.Context, user string) (record, int64, error) {
	data, rev, err := p.records.Get(ctx, user)
	if err != nil {
		if fault.KindOf(err) == fault.NotFound {
			return record{Version: recordVersion}, 0, nil
		}
		return record{}, 0, fmt.Errorf("read sign-in record: %w", err)
	}
	var rec record
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&rec); err != nil || rec.Version != recordVersion {
		return record{}, 0, fmt.Errorf("the sign-in record of %q is not understood", user)
	}
	return rec, rev, nil
}

func (p *Passwords) save(ctx context.Context, user string, rec record, rev int64) error {
	data, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	if err := p.records.Put(ctx, user, data, rev); err != nil {
		return fmt.Errorf("write sign-in record: %w", err)
	}
	return nil
}
