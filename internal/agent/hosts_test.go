package agent_test

import (
	"fmt"
	"net"
	"testing"

	"github.com/postern-db/postern/internal/testenv"
)

// TestSeveralHosts: sessions and provisioning alike find the server that the uri
// asks for, and say so when there is none.
func TestSeveralHosts(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	nobody, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close()
	uri := fmt.Sprintf("%s,%s?connect_timeout=20&target_session_attrs=", nobody.Addr(), env.Server.Addr())
	for name, kind := range map[string]string{"several-primary": "primary", "several-writable": "read-write", "several-standby": "standby"} {
		env.Apply(t, fmt.Sprintf(`kind: db
version: v3
metadata: {name: %s}
spec: {protocol: postgres, uri: %q, admin_user: {name: teleport-admin}}
`, name, uri+kind))
	}
	traveller := env.Hire(t, "traveller", "keep", "traveller_reader")
	for _, name := range []string{"several-primary", "several-writable"} {
		awaitServed(t, env, name)
		if got := text(t, traveller.Connect(t, name, "postgres"), "SELECT current_user"); got != "traveller" {
			t.Errorf("%s: the session is of %q", name, got)
		}
	}
	awaitServed(t, env, "several-standby")
	refusal{"57P03", "its uri asks for: standby", "target_session_attrs"}.check(t, traveller.Refused(t, "several-standby", "postgres"))
	if err := env.TryApply(t, `kind: db
version: v3
metadata: {name: several-wrong}
spec: {protocol: postgres, uri: "a,b?target_session_attrs=leader"}
`); err == nil || !contains(err.Error(), "target_session_attrs", "prefer-standby") {
		t.Errorf("a word that does not exist: %v", err)
	}
}
