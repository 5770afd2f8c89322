package identity_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"flag"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/identity"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func alice() identity.Identity {
	return identity.Identity{
		User: "alice", Cluster: "example.com",
		Roles:  []string{"reader", "auditor"},
		Traits: map[string][]string{"db_roles": {"writer", "reader"}, "logins": {}},
		Route: identity.Route{
			Database: "orders", DatabaseUser: "alice", DatabaseName: "shop", DatabaseRole: []string{"reader"},
		},
		Expires:      time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC),
		LoginExpires: time.Date(2026, 11, 22, 20, 0, 0, 0, time.UTC),
	}
}

// signer signs certificates for the tests of this package.
type signer struct{ key *ecdsa.PrivateKey }

func newSigner(t testing.TB) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer{key}
}

func (s signer) sign(template *x509.Certificate) (*x509.Certificate, error) {
	template.SerialNumber = big.NewInt(1)
	template.NotBefore = template.NotAfter.Add(-time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, template, s.key.Public(), s.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func (s signer) roundTrip(id identity.Identity) (identity.Identity, error) {
	template, err := identity.Template(id)
	if err != nil {
		return identity.Identity{}, err
	}
	cert, err := s.sign(template)
	if err != nil {
		return identity.Identity{}, err
	}
	return identity.FromCertificate(cert)
}

// sameLists treats a missing list of roles like an empty one, which they are; a
// route's db roles are compared exactly.
var sameLists = cmp.FilterPath(func(p cmp.Path) bool {
	return p.Last().String() != ".DatabaseRole"
}, cmpopts.EquateEmpty())

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	cases := map[string]func(*identity.Identity){
		"everything":   func(*identity.Identity) {},
		"login only":   func(id *identity.Identity) { id.Route = identity.Route{} },
		"no roles":     func(id *identity.Identity) { id.Roles = nil },
		"no traits":    func(id *identity.Identity) { id.Traits = nil },
		"no login end": func(id *identity.Identity) { id.LoginExpires = time.Time{} },
		"all db roles": func(id *identity.Identity) { id.Route.DatabaseRole = nil },
		"no db roles":  func(id *identity.Identity) { id.Route.DatabaseRole = []string{} },
		"other letters": func(id *identity.Identity) {
			id.User = "jürgen Ω 李 🐘"
			id.Roles = []string{"ключ", "b*&<>\"'\\"}
		},
		"mail address": func(id *identity.Identity) { id.User = "alice@example.com" },
		"longest name": func(id *identity.Identity) { id.User = strings.Repeat("a", 255) },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := alice()
			change(&want)
			got, err := s.roundTrip(want)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, sameLists); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestRoundTripOfAnyIdentity(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	rapid.Check(t, func(t *rapid.T) {
		good := rapid.StringOfN(rapid.RuneFrom(nil, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S), 1, 20, 255)
		hostile := rapid.OneOf(rapid.StringN(1, 20, 300), rapid.Just("\x00"), rapid.Just("a\xff"))
		text := rapid.Custom(func(t *rapid.T) string {
			if rapid.IntRange(0, 30).Draw(t, "hostile") == 30 {
				return hostile.Draw(t, "text")
			}
			return good.Draw(t, "text")
		})
		names := rapid.SliceOfN(text, 0, 4)
		want := identity.Identity{
			User: text.Draw(t, "user"), Cluster: text.Draw(t, "cluster"), Roles: names.Draw(t, "roles"),
			Traits:  rapid.MapOfN(text, names, 0, 3).Draw(t, "traits"),
			Expires: time.Unix(rapid.Int64Range(0, 1<<37).Draw(t, "expires"), 0).UTC(),
		}
		if rapid.Bool().Draw(t, "routed") {
			want.Route = identity.Route{Database: text.Draw(t, "database"), DatabaseUser: text.Draw(t, "db user")}
			if rapid.Bool().Draw(t, "subset") {
				want.Route.DatabaseRole = names.Draw(t, "db roles")
			}
		}
		valid := want.Validate()
		got, err := s.roundTrip(want)
		if (valid == nil) != (err == nil) {
			t.Fatalf("Validate says %v, the round trip says %v", valid, err)
		}
		if err == nil {
			if diff := cmp.Diff(want, got, sameLists); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		}
	})
}

func TestHostileIdentityIsRefused(t *testing.T) {
	t.Parallel()
	hostile := map[string]string{
		"nul": "alice\x00bob", "newline": "alice\nbob", "carriage return": "alice\r", "escape": "\x1b[2Jalice",
		"too long": strings.Repeat("a", 256), "not UTF-8": "al\xffce", "right-to-left": "alice\u202eecila",
		"zero width": "ali\u200bce", "tab": "a\tb", "no-break space": "a\u00a0b", "private use": "\ue000",
	}
	places := map[string]func(*identity.Identity, string){
		"user":        func(id *identity.Identity, s string) { id.User = s },
		"cluster":     func(id *identity.Identity, s string) { id.Cluster = s },
		"role":        func(id *identity.Identity, s string) { id.Roles = []string{"reader", s} },
		"trait name":  func(id *identity.Identity, s string) { id.Traits = map[string][]string{s: {"x"}} },
		"database":    func(id *identity.Identity, s string) { id.Route.Database = s },
		"db user":     func(id *identity.Identity, s string) { id.Route.DatabaseUser = s },
		"db name":     func(id *identity.Identity, s string) { id.Route.DatabaseName = s },
		"db role":     func(id *identity.Identity, s string) { id.Route.DatabaseRole = []string{s} },
		"trait value": func(id *identity.Identity, s string) { id.Traits = map[string][]string{"x": {s}} },
	}
	for place, set := range places {
		for name, text := range hostile {
			if place == "trait value" && name == "too long" {
				text = strings.Repeat("a", 4097)
			}
			id := alice()
			set(&id, text)
			if _, err := identity.Template(id); err == nil || fault.KindOf(err) != fault.Invalid {
				t.Errorf("%s with %s: got %v, want Invalid", place, name, err)
			}
		}
	}
	for name, change := range map[string]func(*identity.Identity){
		"space before the user":    func(id *identity.Identity) { id.User = " alice" },
		"space after a role":       func(id *identity.Identity) { id.Roles = []string{"dba "} },
		"empty user":               func(id *identity.Identity) { id.User = "" },
		"empty cluster":            func(id *identity.Identity) { id.Cluster = "" },
		"empty role":               func(id *identity.Identity) { id.Roles = []string{""} },
		"role twice":               func(id *identity.Identity) { id.Roles = []string{"a", "a"} },
		"empty db role":            func(id *identity.Identity) { id.Route.DatabaseRole = []string{""} },
		"no end":                   func(id *identity.Identity) { id.Expires = time.Time{} },
		"part of a second":         func(id *identity.Identity) { id.Expires = id.Expires.Add(1) },
		"outlives the login":       func(id *identity.Identity) { id.LoginExpires = id.Expires.Add(-time.Second) },
		"year 10000":               func(id *identity.Identity) { id.Expires = id.Expires.AddDate(8000, 0, 0); id.LoginExpires = id.Expires },
		"user without database":    func(id *identity.Identity) { id.Route.Database = "" },
		"no roles without a route": func(id *identity.Identity) { id.Route = identity.Route{DatabaseRole: []string{}} },
		"too much for a certificate": func(id *identity.Identity) {
			for i := range 20 {
				id.Traits[strings.Repeat("t", i+1)] = []string{strings.Repeat("v", 4096)}
			}
		},
	} {
		id := alice()
		change(&id)
		if _, err := identity.Template(id); err == nil || fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: got %v, want Invalid", name, err)
		}
	}
}

// payload returns an extension that carries text.
func payload(t testing.TB, text string) pkix.Extension {
	t.Helper()
	der, err := asn1.MarshalWithParams(text, "utf8")
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: identity.ExtensionOID(), Critical: true, Value: der}
}

func TestForgedCertificateIsRefused(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	const good = `{"v":1,"user":"alice","cluster":"example.com","roles":["reader","auditor"],"traits":{"db_roles":["writer","reader"],"logins":[]},` +
		`"route":{"database":"orders","db_user":"alice","db_name":"shop","db_roles":["reader"]},"login_expires":1795377600}`
	cases := map[string]struct {
		change func(*x509.Certificate)
		want   string // in the error
	}{
		"no extension":    {func(c *x509.Certificate) { c.ExtraExtensions = nil }, "no identity"},
		"not critical":    {func(c *x509.Certificate) { c.ExtraExtensions[0].Critical = false }, "not marked critical"},
		"too big":         {func(c *x509.Certificate) { c.ExtraExtensions[0].Value = make([]byte, 64<<10+1) }, "too big"},
		"not DER":         {func(c *x509.Certificate) { c.ExtraExtensions[0].Value = []byte(good) }, "UTF8String"},
		"trailing DER":    {func(c *x509.Certificate) { e := &c.ExtraExtensions[0]; e.Value = append(e.Value, 0) }, "UTF8String"},
		"unknown version": {forge(t, strings.Replace(good, `"v":1`, `"v":2`, 1)), "version"},
		"no version":      {forge(t, strings.Replace(good, `"v":1,`, ``, 1)), "version"},
		"unknown field":   {forge(t, strings.Replace(good, `"v":1`, `"v":1,"admin":true`, 1)), "malformed"},
		"unknown in route": {
			forge(t, strings.Replace(good, `{"database"`, `{"x":1,"database"`, 1)), "malformed",
		},
		"field twice":        {forge(t, strings.Replace(good, `"v":1`, `"v":1,"user":"bob"`, 1)), "canonical"},
		"field in capitals":  {forge(t, strings.Replace(good, `"user"`, `"USER"`, 1)), "canonical"},
		"null for no roles":  {forge(t, strings.Replace(good, `"db_roles":["reader"]`, `"db_roles":null`, 1)), "canonical"},
		"null for no route":  {forge(t, strings.Replace(good, `"login_expires"`, `"route":null,"login_expires"`, 1)), "canonical"},
		"trailing data":      {forge(t, good+"{}"), "JSON"},
		"white space":        {forge(t, " "+good), "canonical"},
		"not JSON":           {forge(t, "user=alice"), "JSON"},
		"hostile name":       {forge(t, strings.Replace(good, `orders`, `or\u0000ders`, 1)), "character"},
		"login ends earlier": {forge(t, strings.Replace(good, `1795377600`, `1`, 1)), "outlive"},
		"other user":         {func(c *x509.Certificate) { c.Subject.CommonName = "bob" }, "common name"},
		"fewer roles":        {func(c *x509.Certificate) { c.Subject.Organization = []string{"reader"} }, "organizations"},
		"more roles":         {func(c *x509.Certificate) { c.Subject.Organization = []string{"reader", "auditor", "dba"} }, "organizations"},
		"role twice":         {func(c *x509.Certificate) { c.Subject.Organization = []string{"reader", "reader"} }, "organizations"},
		"other attribute":    {func(c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{"x"} }, "attribute"},
		"two common names": {func(c *x509.Certificate) {
			c.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "alice"}, {Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "bob"}}
		}, "common name"},
		"authority":         {func(c *x509.Certificate) { c.IsCA = true }, "authority"},
		"may sign":          {func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }, "key usage"},
		"good for servers":  {func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) }, "extended key usage"},
		"good for anything": {func(c *x509.Certificate) { c.ExtKeyUsage = nil }, "extended key usage"},
		"strange usage":     {func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 2, 3}} }, "extended key usage"},
		"host name":         {func(c *x509.Certificate) { c.DNSNames = []string{"hub"} }, "alternative names"},
		"address":           {func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} }, "alternative names"},
		"unknown critical": {func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}})
		}, "unknown critical"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			template, err := identity.Template(alice())
			if err != nil {
				t.Fatal(err)
			}
			c.change(template)
			cert, err := s.sign(template)
			if err != nil {
				t.Fatal(err)
			}
			id, err := identity.FromCertificate(cert)
			if err == nil {
				t.Fatalf("accepted as %+v", id)
			}
			if fault.KindOf(err) != fault.Unauthenticated || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v %q, want unauthenticated and %q", fault.KindOf(err), err, c.want)
			}
		})
	}
	t.Run("unchanged", func(t *testing.T) {
		t.Parallel()
		template, err := identity.Template(alice())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(payload(t, good), template.ExtraExtensions[0]); diff != "" {
			t.Errorf("the cases do not start from a good payload (-want +got)\n%s", diff)
		}
	})
}

// forge returns a change that replaces the payload.
func forge(t testing.TB, text string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.ExtraExtensions[0] = payload(t, text) }
}

// Package x509 refuses duplicate extensions when it parses. Should it ever stop,
// we still do.
func TestTwoIdentitiesAreRefused(t *testing.T) {
	t.Parallel()
	template, err := identity.Template(alice())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := newSigner(t).sign(template)
	if err != nil {
		t.Fatal(err)
	}
	cert.Extensions = append(cert.Extensions, payload(t, `{"v":1,"user":"bob","cluster":"example.com"}`))
	if _, err := identity.FromCertificate(cert); err == nil || !strings.Contains(err.Error(), "two identities") {
		t.Errorf("got %v", err)
	}
}

func TestExtensionGolden(t *testing.T) {
	t.Parallel()
	template, err := identity.Template(alice())
	if err != nil {
		t.Fatal(err)
	}
	ext := template.ExtraExtensions[0]
	got := append([]byte(ext.Id.String()+"\n"), ext.Value...)
	path := filepath.Join("testdata", "extension.golden")
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("certificates of version 1 must stay readable:\ngot  %q\nwant %q", got, want)
	}
}

func TestCloneSharesNothing(t *testing.T) {
	t.Parallel()
	id := alice()
	c := id.Clone()
	c.Roles[0], c.Traits["db_roles"][0], c.Route.DatabaseRole[0] = "x", "x", "x"
	c.Traits["new"] = nil
	if diff := cmp.Diff(alice(), id); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestLoginEnd(t *testing.T) {
	t.Parallel()
	id := alice()
	if !id.LoginEnd().Equal(id.LoginExpires) {
		t.Error("the end of the login is not LoginExpires")
	}
	id.LoginExpires = time.Time{}
	if !id.LoginEnd().Equal(id.Expires) {
		t.Error("without LoginExpires the login does not end with the certificate")
	}
}

func FuzzFromCertificate(f *testing.F) {
	template, err := identity.Template(alice())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(template.ExtraExtensions[0].Value)
	f.Add([]byte("\x0c\x02{}"))
	s := newSigner(f)
	base, err := s.sign(template)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		cert := *base
		cert.Extensions = []pkix.Extension{{Id: identity.ExtensionOID(), Critical: true, Value: value}}
		id, err := identity.FromCertificate(&cert)
		if err != nil {
			return
		}
		again, err := identity.Template(id)
		if err != nil {
			t.Fatalf("accepted %+v, which has no certificate: %v", id, err)
		}
		if !slices.Equal(again.ExtraExtensions[0].Value, value) {
			t.Errorf("%q comes back as %q", value, again.ExtraExtensions[0].Value)
		}
	})
}
