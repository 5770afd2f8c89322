package hub_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/audit"
	"github.com/postern-db/postern/internal/client"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/testenv"
)

func TestWrongPasswordAndUnknownUserGetTheSameAnswer(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t, testenv.Options{NoServer: true})
	env.AddUser(t, "alice", nil, nil)
	wrong := fault.Of(env.As(t, "alice").TryLogin(t, "not the password"))
	unknown := fault.Of(env.As(t, "nobody").TryLogin(t, "not the password"))
	if wrong.Kind != fault.Unauthenticated || wrong.Text != unknown.Text || wrong.Hint != unknown.Hint || wrong.Kind != unknown.Kind {
		t.Errorf("wrong password: %v %q %q\nunknown user:   %v %q %q", wrong.Kind, wrong.Text, wrong.Hint, unknown.Kind, unknown.Text, unknown.Hint)
	}
	for _, user := range []string{"alice", "nobody"} {
		if got := env.Audit(t, audit.Filter{User: user, Events: []string{"user.login"}}); len(got) != 1 || got[0]["success"] != false {
			t.Errorf("login of %s on record: %v", user, got)
		}
	}
	env.As(t, "alice").Login(t)
}

// TestLockout: after repeated failures even the right password waits, for names
// that exist and for others alike.
func TestLockout(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t, testenv.Options{NoServer: true})
	env.AddUser(t, "alice", nil, nil)
	env.AddUser(t, "bob", nil, nil)
	answers := map[string][]string{}
	for _, user := range []string{"alice", "nobody"} {
		person := env.As(t, user)
		for range 7 {
			err := person.TryLogin(t, "guess")
			if err == nil {
				t.Fatal("a guess succeeded")
			}
			answers[user] = append(answers[user], err.Error())
		}
	}
	if !slices.Equal(answers["alice"], answers["nobody"]) {
		t.Errorf("the answers tell who exists:\n%v\n%v", answers["alice"], answers["nobody"])
	}
	if first, last := answers["alice"][0], answers["alice"][6]; first == last {
		t.Errorf("no lockout after seven guesses: %s", last)
	}
	if err := env.As(t, "alice").TryLogin(t, testenv.Password); err == nil {
		t.Error("locked out, yet the right password got in")
	}
	env.As(t, "bob").Login(t)
}

func TestInvitationWorksOnce(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	invited, err := api.AddUser().Call(t.Context(), env.Admin(), api.AddUserRequest{Name: "guest"})
	if err != nil {
		t.Fatal(err)
	}
	if invited.Invitation == "" || time.Until(invited.Expires) <= 0 {
		t.Fatalf("got %+v", invited)
	}
	login := func(user, invitation, password string) error {
		home := &client.Home{Dir: t.TempDir()}
		_, err := home.Login(t.Context(), client.LoginRequest{
			Address: env.Address, Pin: env.Pin, User: user, Invitation: client.Secret(invitation), Password: client.Secret(password),
		})
		return err
	}
	if err := login("guest", "", ""); fault.KindOf(err) != fault.Unauthenticated {
		t.Errorf("without a password: %v", err)
	}
	if err := login("somebody-else", invited.Invitation, "a good long password"); fault.KindOf(err) != fault.Unauthenticated {
		t.Errorf("the invitation of another user: %v", err)
	}
	if err := login("guest", invited.Invitation, "x"); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a bad password: %v", err)
	}
	if err := login("guest", invited.Invitation, "a good long password"); err != nil {
		t.Fatalf("the invitation: %v", err)
	}
	if err := login("guest", invited.Invitation, "another good password"); fault.KindOf(err) != fault.Unauthenticated {
		t.Errorf("the invitation a second time: %v", err)
	}
	if err := login("guest", "", "a good long password"); err != nil {
		t.Errorf("the password that was set: %v", err)
	}
}

func TestResetTakesThePasswordAway(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	env.AddUser(t, "forgetful", nil, nil)
	person := env.As(t, "forgetful")
	person.Login(t)
	if _, err := api.ResetUser().Call(t.Context(), env.Admin(), api.ResetUserRequest{Name: "forgetful"}); err != nil {
		t.Fatal(err)
	}
	if err := person.TryLogin(t, testenv.Password); fault.KindOf(err) != fault.Unauthenticated {
		t.Errorf("the old password: %v", err)
	}
	if _, err := api.ResetUser().Call(t.Context(), env.Admin(), api.ResetUserRequest{Name: "forgetful", Password: "a new good password"}); err != nil {
		t.Fatal(err)
	}
	if err := person.TryLogin(t, "a new good password"); err != nil {
		t.Error(err)
	}
	if _, err := api.ResetUser().Call(t.Context(), env.Admin(), api.ResetUserRequest{Name: "never-was"}); fault.KindOf(err) != fault.NotFound {
		t.Errorf("reset of nobody: %v", err)
	}
}

// TestPin: the hub must prove itself before the password is sent.
func TestPin(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	env.AddUser(t, "careful", nil, nil)
	login := func(pin string) error {
		home := &client.Home{Dir: t.TempDir()}
		_, err := home.Login(t.Context(), client.LoginRequest{Address: env.Address, Pin: pin, User: "careful", Password: testenv.Password})
		return err
	}
	for name, pin := range map[string]string{"another": "sha256:" + strings.Repeat("0", 64), "none": ""} {
		if err := login(pin); fault.KindOf(err) != fault.Unavailable && fault.KindOf(err) != fault.Unauthenticated || err == nil {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if got := env.Audit(t, audit.Filter{User: "careful", Events: []string{"user.login"}}); len(got) > 0 {
		t.Errorf("the password was sent: %v", got)
	}
	if err := login("nonsense"); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a pin that is none: %v", err)
	}
	if err := login(env.Pin); err != nil {
		t.Error(err)
	}
}

// TestLifetimeOfALogin is what was asked for, and what roles allow at most.
func TestLifetimeOfALogin(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	env.Apply(t, "kind: role\nversion: v7\nmetadata: {name: brief}\nspec: {options: {max_session_ttl: 1h}}\n")
	env.AddUser(t, "brief", []string{"brief"}, nil)
	env.AddUser(t, "unbound", nil, nil)
	for _, c := range []struct {
		user      string
		ask, want time.Duration
	}{
		{"unbound", 0, 12 * time.Hour},
		{"unbound", time.Minute, time.Minute},
		{"unbound", 1000 * time.Hour, 30 * time.Hour},
		{"brief", 0, time.Hour},
		{"brief", 10 * time.Hour, time.Hour},
		{"brief", time.Minute, time.Minute},
	} {
		home := &client.Home{Dir: t.TempDir()}
		profile, err := home.Login(t.Context(), client.LoginRequest{Address: env.Address, Pin: env.Pin, User: c.user, Password: testenv.Password, TTL: c.ask})
		if err != nil {
			t.Fatal(err)
		}
		if got := time.Until(profile.Expires); got > c.want || got < c.want-30*time.Second {
			t.Errorf("%s asked for %s and got %s, want %s", c.user, c.ask, got, c.want)
		}
	}
}

// TestDatabaseCertificate: it is bound, it lives no longer than the login, it is
// for what one may see, and it gets nobody another one.
func TestDatabaseCertificate(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	env.Apply(t, testenv.Role("holders", "keep"))
	env.AddUser(t, "holder", []string{"holders"}, nil)
	env.AddUser(t, "blind", nil, nil)
	holder := env.As(t, "holder")
	bound := holder.DatabaseCertificate(t, identity.Route{Database: "example"})
	if login := holder.Certificate(t); bound.Leaf.NotAfter.After(login.Leaf.NotAfter) {
		t.Errorf("it ends at %s, after the login at %s", bound.Leaf.NotAfter, login.Leaf.NotAfter)
	}
	id, err := identity.FromCertificate(bound.Leaf)
	if err != nil || id.Route.Database != "example" || id.Route.DatabaseUser != "holder" || id.User != "holder" {
		t.Errorf("it speaks for %+v, %v", id, err)
	}
	key, err := client.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	request := api.DatabaseCertificateRequest{CSR: key.CSR, Route: identity.Route{Database: "example"}}
	if _, err := api.IssueDatabaseCertificate().Call(t.Context(), env.API(t, bound), request); fault.KindOf(err) != fault.Denied {
		t.Errorf("a bound certificate got another one: %v", err)
	}
	_, hidden := env.As(t, "blind").Hub(t).DatabaseCertificate(t.Context(), identity.Route{Database: "example"})
	_, missing := env.As(t, "blind").Hub(t).DatabaseCertificate(t.Context(), identity.Route{Database: "nowhere"})
	if fault.KindOf(hidden) != fault.NotFound || strings.ReplaceAll(hidden.Error(), "example", "nowhere") != missing.Error() {
		t.Errorf("what may not be seen is told apart:\n%v\n%v", hidden, missing)
	}
}
