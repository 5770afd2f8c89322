package pgwire

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"strings"
	"testing"
)

// TestSCRAMVector is the exchange of RFC 7677 §3. The name in it is not ours to
// send, so the first message is given.
func TestSCRAMVector(t *testing.T) {
	t.Parallel()
	const salt64 = "W22ZaJ0SNY7soEsUEjb6gQ=="
	salt, err := base64.StdEncoding.DecodeString(salt64)
	if err != nil {
		t.Fatal(err)
	}
	salted, err := pbkdf2.Key(sha256.New, "pencil", salt, 4096, sha256.Size)
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]*scram{"password": {password: "pencil"}, "key": {salted: salted, password: "not looked at"}} {
		s.header, s.nonce, s.name = "n,,", "rOprNGfwEbeRWgbNEkqO", "user"
		got, err := s.proof([]byte("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=" + salt64 + ",i=4096"))
		if err != nil {
			t.Fatal(err)
		}
		const want = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
		if string(got) != want {
			t.Errorf("%s: proof %s, want %s", name, got, want)
		}
		if err := s.verify([]byte("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")); err != nil || !s.verified {
			t.Errorf("%s: verify: %v", name, err)
		}
	}
}

func TestSCRAMHeaders(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		plus            bool
		binding         []byte
		mechanism, head string
	}{
		{true, []byte("hash"), scramSHA256Plus, "p=tls-server-end-point,,n=,r="},
		{false, []byte("hash"), scramSHA256, "y,,n=,r="},
		{true, nil, scramSHA256, "n,,n=,r="},
		{false, nil, scramSHA256, "n,,n=,r="},
	} {
		s := newSCRAM(tt.plus, tt.binding)
		if s.mechanism() != tt.mechanism || !strings.HasPrefix(s.first(), tt.head) || len(s.nonce) < 24 {
			t.Errorf("plus %v, binding %q: %s %s", tt.plus, tt.binding, s.mechanism(), s.first())
		}
	}
	s := newSCRAM(true, []byte("hash"))
	final, err := s.proof([]byte("r=" + s.nonce + "x,s=AAAA,i=1"))
	if err != nil {
		t.Fatal(err)
	}
	bound := base64.StdEncoding.EncodeToString([]byte("p=tls-server-end-point,,hash"))
	if !strings.HasPrefix(string(final), "c="+bound+",") {
		t.Errorf("final message %s", final)
	}
}

func TestSCRAMRefuses(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]string{
		"nothing":            "",
		"foreign nonce":      "r=other,s=AAAA,i=4096",
		"our nonce only":     "r=nonce,s=AAAA,i=4096",
		"no salt":            "r=noncex,s=,i=4096",
		"salt not base64":    "r=noncex,s=%,i=4096",
		"no iterations":      "r=noncex,s=AAAA,i=0",
		"endless iterations": "r=noncex,s=AAAA,i=2000000000",
		"extension":          "m=x,r=noncex,s=AAAA,i=1",
	} {
		s := &scram{password: "p", header: "n,,", nonce: "nonce"}
		if _, err := s.proof([]byte(first)); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	s := &scram{password: "p", header: "n,,", nonce: "nonce"}
	if err := s.verify([]byte("v=")); err == nil || s.verified {
		t.Error("a signature before the proof is accepted")
	}
	if _, err := s.proof([]byte("r=noncex,s=AAAA,i=1")); err != nil {
		t.Fatal(err)
	}
	for _, final := range []string{"", "v=", "v=AAAA", "e=other-error", "v=%"} {
		if err := s.verify([]byte(final)); err == nil || s.verified {
			t.Errorf("final message %q is accepted", final)
		}
	}
	if _, err := s.proof([]byte("r=noncex,s=AAAA,i=1")); err == nil {
		t.Error("a second challenge is accepted")
	}
}

func TestSASLPrep(t *testing.T) {
	t.Parallel()
	// The examples of RFC 4013 §3; a prohibited result leaves the password as it is.
	for in, want := range map[string]string{
		"I\u00adX": "IX", "user": "user", "USER": "USER", "\u00aa": "a", "\u2168": "IX",
		"\u0007": "\u0007", "a\u00a0b": "a b", "\xff\u00aa": "\xff\u00aa", "\u00ad": "\u00ad", "x\ue000\u00aa": "x\ue000\u00aa",
	} {
		if got := saslPrep(in); got != want {
			t.Errorf("saslPrep(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestEndPointHash(t *testing.T) {
	t.Parallel()
	for algorithm, size := range map[x509.SignatureAlgorithm]int{
		x509.SHA1WithRSA: 32, x509.ECDSAWithSHA256: 32, x509.ECDSAWithSHA384: 48, x509.SHA512WithRSAPSS: 64, x509.PureEd25519: 0,
	} {
		if got := len(endPointHash(&x509.Certificate{SignatureAlgorithm: algorithm})); got != size {
			t.Errorf("%v: %d bytes, want %d", algorithm, got, size)
		}
	}
}
