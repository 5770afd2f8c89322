package identity

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"time"

	"github.com/postern-db/postern/internal/fault"
)

// ExtensionOID returns the object identifier of the extension that carries the
// identity: 2.25.255700438. We hold no enterprise number; arc 2.25 takes a UUID
// written as an integer from anybody. Ours is a random number that fits 31 bits,
// because several parsers keep arcs in a signed 32-bit integer.
func ExtensionOID() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 25, 255700438} }

// payloadVersion is the only version this code writes and reads. A new field is a
// new version when an old reader that ignored it would decide wrongly.
const payloadVersion = 1

// maxExtensionBytes bounds the extension before any parser looks at it. It is
// also what a TLS handshake message can carry without trouble.
const maxExtensionBytes = 64 << 10

// payload is the JSON inside the extension. Expires is not in it: the end of the
// certificate says it.
type payload struct {
	Version int                 `json:"v"`
	User    string              `json:"user"`
	Cluster string              `json:"cluster"`
	Roles   []string            `json:"roles,omitempty"`
	Traits  map[string][]string `json:"traits,omitempty"`
	Route   *Route              `json:"route,omitempty"`
	// LoginExpires counts seconds since 1970; 0 is left out.
	LoginExpires int64 `json:"login_expires,omitempty"`
}

// extension encodes what id says besides its end. The value is a DER UTF8String,
// so that `openssl x509 -text -certopt ext_parse` shows it.
func (id Identity) extension() (pkix.Extension, error) {
	p := payload{Version: payloadVersion, User: id.User, Cluster: id.Cluster, Roles: id.Roles}
	if len(id.Traits) > 0 {
		p.Traits = make(map[string][]string, len(id.Traits))
		for name, values := range id.Traits {
			p.Traits[name] = append([]string{}, values...) // nil would be written as null
		}
	}
	if !id.Route.IsZero() {
		p.Route = &id.Route
	}
	if !id.LoginExpires.IsZero() {
		p.LoginExpires = id.LoginExpires.Unix()
	}
	text, err := json.Marshal(p)
	if err != nil {
		return pkix.Extension{}, err
	}
	der, err := asn1.MarshalWithParams(string(text), "utf8")
	if err != nil {
		return pkix.Extension{}, err
	}
	if len(der) > maxExtensionBytes {
		return pkix.Extension{}, fault.Newf(fault.Invalid, "the roles and traits of %s do not fit a certificate: %d bytes, limit %d",
			id.User, len(der), maxExtensionBytes).WithHint("give the user fewer roles or traits")
	}
	return pkix.Extension{Id: ExtensionOID(), Critical: true, Value: der}, nil
}

// parseExtension is the inverse of extension. Only the exact bytes that
// extension would write are accepted. One comparison thus refuses what a JSON
// decoder lets pass: a key twice, a key in other case, null for a list (which
// would turn "no db roles" into "all"), and trailing data.
func parseExtension(der []byte) (Identity, error) {
	if len(der) > maxExtensionBytes {
		return Identity{}, refuse("its identity is too big")
	}
	var text string
	rest, err := asn1.UnmarshalWithParams(der, &text, "utf8")
	if err != nil || len(rest) != 0 {
		return Identity{}, refuse("its identity is not a UTF8String")
	}
	var head struct {
		Version int `json:"v"`
	}
	if err := json.Unmarshal([]byte(text), &head); err != nil {
		return Identity{}, refuse("its identity is not JSON").WithCause(err)
	}
	if head.Version != payloadVersion {
		return Identity{}, refuse("its identity has a version that is not understood").
			WithHint("another version of Postern issued it; log in again")
	}
	var p payload
	dec := json.NewDecoder(bytes.NewReader([]byte(text)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		return Identity{}, refuse("its identity is malformed").WithCause(err)
	}
	id := Identity{User: p.User, Cluster: p.Cluster, Roles: p.Roles, Traits: p.Traits}
	if p.Route != nil {
		id.Route = *p.Route
	}
	if p.LoginExpires != 0 {
		id.LoginExpires = time.Unix(p.LoginExpires, 0).UTC()
	}
	canonical, err := id.extension()
	if err != nil || !bytes.Equal(canonical.Value, der) {
		return Identity{}, refuse("its identity is not in canonical form")
	}
	return id, nil
}

func refuse(reason string) *fault.Error {
	return fault.New(fault.Unauthenticated, "the certificate is not a Postern user certificate: "+reason)
}
