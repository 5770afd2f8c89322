package client_test

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-db/postern/internal/ca"
	"github.com/postern-db/postern/internal/client"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/testenv"
)

func TestLoginWritesPrivateFiles(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	home := &client.Home{Dir: filepath.Join(t.TempDir(), "postern")}
	u.login(t, home)
	p, err := home.Current()
	if err != nil {
		t.Fatal(err)
	}
	if p.User != u.name || p.Cluster != testenv.Cluster || p.Address != u.road.address || p.SystemRoots {
		t.Errorf("profile = %+v", p)
	}
	if diff := cmp.Diff([]string{u.name + "-reader", u.name + "-writer"}, p.Roles); diff != "" {
		t.Error(diff)
	}
	files := 0
	err = filepath.Walk(home.Dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		files++
		want := os.FileMode(0o600)
		if info.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil || files < 6 {
		t.Errorf("%d files, %v", files, err)
	}
}

func TestLoginRefuses(t *testing.T) {
	t.Parallel()
	u, other := newUser(t), newCA(t, ca.Host, testenv.Cluster)
	for name, test := range map[string]struct {
		req  client.LoginRequest
		kind fault.Kind
		text string
		hint string
	}{
		"wrong password": {client.LoginRequest{Password: "x", Pin: u.Pin}, fault.Unauthenticated, "user name or password is wrong", ""},
		"wrong pin":      {client.LoginRequest{Password: testenv.Password, Pin: other.Pin()}, fault.Unavailable, "pinned authority", "compare --ca-pin"},
		"no pin":         {client.LoginRequest{Password: testenv.Password}, fault.Unavailable, "not trusted", "postern ctl status"},
		"broken pin":     {client.LoginRequest{Password: testenv.Password, Pin: "sha256:12"}, fault.Invalid, "64 hex digits", "postern ctl status"},
		"bad address":    {client.LoginRequest{Address: "a b"}, fault.Invalid, "address of a hub", "--proxy="},
		"nobody there":   {client.LoginRequest{Address: "127.0.0.1:1", Pin: u.Pin}, fault.Unavailable, "cannot reach 127.0.0.1:1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			home := &client.Home{Dir: t.TempDir()}
			test.req.User = u.name
			if test.req.Address == "" {
				test.req.Address = u.road.address
			}
			_, err := home.Login(t.Context(), test.req)
			if err == nil {
				t.Fatal("logged in")
			}
			f := fault.Of(err)
			if f.Kind != test.kind || !strings.Contains(f.Text, test.text) || !strings.Contains(f.Hint, test.hint) {
				t.Errorf("got %v %q (%q)", f.Kind, f.Text, f.Hint)
			}
			if _, err := home.Current(); fault.KindOf(err) != fault.Unauthenticated {
				t.Errorf("current profile: %v", err)
			}
		})
	}
}

// A certificate of the same CA for something else, such as an agent, is not the
// hub: neither to who knows the pin nor to who is logged in.
func TestHubNameIsChecked(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	home := &client.Home{Dir: t.TempDir()}
	u.login(t, home)
	agent := hostCertificate(t, u.Authority(t, ca.Host, nil), "*.db."+testenv.Cluster)
	u.road.lead(impostor(t, agent, func(conn *tls.Conn) {
		if n, err := conn.Read(make([]byte, 1)); n > 0 {
			t.Errorf("something was sent to it, %v", err)
		}
	}))
	for name, pin := range map[string]string{"by pin": u.Pin, "by host CA": ""} {
		request := u.request()
		request.Pin = pin
		_, err := home.Login(t.Context(), request)
		if f := fault.Of(err); err == nil || f.Kind != fault.Unavailable || !strings.Contains(f.Text, "not trusted") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestLaterLoginTrustsWhatTheFirstLearnt(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	home := &client.Home{Dir: t.TempDir()}
	u.login(t, home)
	request := u.request()
	request.Pin = ""
	if _, err := home.Login(t.Context(), request); err != nil {
		t.Error(err)
	}
}

func TestExpiredLoginSaysHowToRenew(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	home := &client.Home{Dir: t.TempDir()}
	p := u.login(t, home)
	home.Now = at(p.Expires)
	_, err := home.Connect(p)
	if f := fault.Of(err); f.Kind != fault.Unauthenticated || f.Hint != "postern login --proxy="+u.road.address+" --user="+u.name {
		t.Errorf("got %v %q", err, f.Hint)
	}
}

func TestLogoutLeavesNothing(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	home := &client.Home{Dir: t.TempDir()}
	p := u.login(t, home)
	if err := home.Logout(p); err != nil {
		t.Fatal(err)
	}
	left := map[string]bool{}
	_ = filepath.Walk(home.Dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			left[path] = true
		}
		return nil
	})
	if len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestDatabaseCertificateIsReusedPerRoute(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	home := &client.Home{Dir: t.TempDir()}
	h := u.connected(t, home)
	get := func(route identity.Route) {
		t.Helper()
		if _, err := h.DatabaseCertificate(t.Context(), route); err != nil {
			t.Fatal(err)
		}
	}
	route := identity.Route{Database: "example", DatabaseName: "shop", DatabaseRole: []string{"a", "b"}}
	get(route)
	get(route)
	route.DatabaseRole = []string{"b", "a", "a"} // the same, written differently
	get(route)
	if got := u.issued(t); got != 1 {
		t.Errorf("%d certificates for one route", got)
	}
	route.DatabaseRole = nil
	get(route)
	route.DatabaseRole = []string{"a", "b"} // still there beside the other
	get(route)
	if got := u.issued(t); got != 2 {
		t.Errorf("%d certificates for two routes", got)
	}
	route.DatabaseRole = []string{} // none is not the same as all
	get(route)
	get(route)
	if got := u.issued(t); got != 3 {
		t.Errorf("%d certificates for three routes", got)
	}
	home.Now = at(h.Profile.Expires.Add(-30 * time.Second)) // the certificates end with the login
	get(route)
	if got := u.issued(t); got != 4 {
		t.Errorf("%d certificates: the one about to end was used again", got)
	}
}

func TestActiveDatabases(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	home := &client.Home{Dir: t.TempDir()}
	h := u.connected(t, home)
	if _, err := h.DatabaseCertificate(t.Context(), identity.Route{Database: "example"}); err != nil {
		t.Fatal(err)
	}
	route := identity.Route{Database: "example", DatabaseName: "shop"}
	if _, err := h.LogInToDatabase(t.Context(), route); err != nil {
		t.Fatal(err)
	}
	active, err := home.ActiveDatabases(h.Profile)
	if err != nil || len(active) != 1 || active[0].Route.DatabaseName != "shop" || active[0].DatabaseUser != u.name {
		t.Fatalf("active = %v, %v", active, err)
	}
	if err := home.LogOutOfDatabase(h.Profile, "example"); err != nil {
		t.Fatal(err)
	}
	if active, err := home.ActiveDatabases(h.Profile); err != nil || len(active) != 0 {
		t.Errorf("active = %v, %v", active, err)
	}
	if err := home.LogOutOfDatabase(h.Profile, "example"); fault.KindOf(err) != fault.NotFound {
		t.Errorf("second logout: %v", err)
	}
}

// Certificates of single routes do not pile up.
func TestExpiredCertificatesAreRemoved(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	home := &client.Home{Dir: t.TempDir()}
	h := u.connected(t, home)
	first, err := h.DatabaseCertificate(t.Context(), identity.Route{Database: "example", DatabaseName: "a"})
	if err != nil {
		t.Fatal(err)
	}
	home.Now = at(h.Profile.Expires.Add(time.Second))
	if _, err := h.DatabaseCertificate(t.Context(), identity.Route{Database: "example", DatabaseName: "b"}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(first.File); !os.IsNotExist(err) {
		t.Errorf("the expired one is still there: %v", err)
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, seed := range []string{"hub", "hub:1", "[::1]:2", "https://hub/", "a_b.c:3080", "..:1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		address, err := client.ParseAddress(text)
		if err != nil {
			return
		}
		if again, err := client.ParseAddress(address); err != nil || again != address {
			t.Errorf("%q became %q and then %q, %v", text, address, again, err)
		}
		if strings.ContainsAny(address, "/\\\x00") || strings.HasPrefix(address, ".") {
			t.Errorf("%q became %q, which is no file name", text, address)
		}
	})
}

func TestParseAddress(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"Hub.Example.com":          "hub.example.com:3080",
		"hub:443":                  "hub:443",
		"https://hub.example.com/": "hub.example.com:443",
		"https://hub:3080":         "hub:3080",
		"[::1]:3080":               "[::1]:3080",
		"::1":                      "[::1]:3080",
		"127.0.0.1":                "127.0.0.1:3080",
		"":                         "", "..": "", "a/b": "", "hub:0": "", "hub:70000": "", "hub:x": "", "-a": "", "a b": "", "../x:1": "",
	} {
		got, err := client.ParseAddress(text)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("ParseAddress(%q) = %q, %v; want %q", text, got, err, want)
		}
	}
}

func TestSecretIsNotShown(t *testing.T) {
	t.Parallel()
	req := client.LoginRequest{User: "alice", Password: testenv.Password}
	for _, format := range []string{"%v", "%+v", "%s", "%#v"} {
		if text := fmt.Sprintf(format, req); strings.Contains(text, testenv.Password) {
			t.Errorf("%s shows %s", format, text)
		}
	}
}
