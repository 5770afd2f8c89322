package provision

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPlanOfPasswords: when an account is given a password and when it loses it,
// and that nothing that is shown holds it.
func TestPlanOfPasswords(t *testing.T) {
	k := key{verifier: "SCRAM-SHA-256$4096:salt$stored:server", mark: 42}
	const (
		lock  = `COMMENT ON ROLE "alice" IS NULL`
		set   = `PASSWORD '[redacted]' VALID UNTIL '2030-01-01 00:00:59.000042+00'`
		erase = `PASSWORD NULL VALID UNTIL '-infinity'`
	)
	at := func(s state) state { s.Soon = "2030-01-01 00:00:59"; return s }
	with := func(p passwordState) func(*account) { return func(a *account) { a.Password = p } }
	mine, others, over := passwordState{Dated: true, Open: true, Mark: 42}, passwordState{Dated: true, Open: true, Mark: 7}, passwordState{Dated: true, Mark: 42}
	login, erasing := target{user: "alice", login: true, key: k}, target{user: "alice", login: true, keepRoles: true, erase: true}
	for _, c := range []struct {
		name string
		have state
		want target
		plan []string
	}{
		{"no account", have(180000), login, []string{`CREATE ROLE "alice" LOGIN ` + set + ` IN ROLE "teleport-auto-user"`}},
		{"none yet", have(180000, loggedIn), login, []string{lock, `ALTER ROLE "alice" ` + set}},
		{"disabled", have(180000, with(over)), login, []string{lock, `ALTER ROLE "alice" LOGIN ` + set}},
		{"ours", have(180000, loggedIn, with(mine)), login, nil},
		{"ours, over", have(180000, loggedIn, with(over)), login, []string{lock, `ALTER ROLE "alice" ` + set}},
		{"another agent's", have(180000, loggedIn, with(others)), login, []string{lock, `ALTER ROLE "alice" ` + set}},
		{"done", have(180000, loggedIn, with(mine)), erasing, []string{lock, `ALTER ROLE "alice" ` + erase}},
		{"done, and over", have(180000, loggedIn, with(over)), erasing, []string{lock, `ALTER ROLE "alice" ` + erase}},
		{"done long ago", have(180000, loggedIn), erasing, nil},
		{"released", have(180000, loggedIn, with(mine)), target{user: "alice"}, []string{lock, `ALTER ROLE "alice" NOLOGIN ` + erase}},
		{"other roles meanwhile", have(180000, loggedIn, with(others)), target{user: "alice", login: true}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			steps, _ := plan(at(c.have), c.want)
			if diff := cmp.Diff(append([]string{}, c.plan...), texts(steps)); diff != "" {
				t.Errorf("plan differs (-want +got):\n%s", diff)
			}
			for _, s := range steps {
				if sent := strings.Contains(s.sql(), k.verifier); sent != (s.until != "") {
					t.Errorf("%s: the verifier is sent: %t", s, sent)
				}
			}
		})
	}
}

// TestVerifier with the password and the salt of RFC 7677, section 3.
func TestVerifier(t *testing.T) {
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	if err != nil {
		t.Fatal(err)
	}
	got, err := verifierOf("pencil", salt)
	const want = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
	if err != nil || got != want {
		t.Errorf("got %s, %v\nwant %s", got, err, want)
	}
}

// TestNewKey: no two keys are alike, and each has a mark.
func TestNewKey(t *testing.T) {
	seen := map[string]bool{}
	for range 20 {
		k, secret := newKey()
		if k.mark < 1 || k.mark > 999_999 || seen[string(secret)] || seen[k.verifier] || len(secret) != 32 {
			t.Fatalf("got %+v, %q", k, secret)
		}
		seen[string(secret)], seen[k.verifier] = true, true
	}
}
