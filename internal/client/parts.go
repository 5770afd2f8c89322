package client

import (
	"encoding/pem"
	"strings"

	"github.com/postern-db/postern/internal/fault"
)

// The files that hold what is in the one of a [DatabaseCertificate], apart, for
// programs that want them so.
const (
	certSuffix   = ".crt" // certificate, PEM
	keySuffix    = ".key" // private key, PKCS #8, PEM
	keyDERSuffix = ".pk8" // private key, PKCS #8, DER
)

// partSuffixes are those of all files beside the one of a certificate.
func partSuffixes() []string { return []string{certSuffix, keySuffix, keyDERSuffix} }

// CertFile is the file with the certificate alone.
func (c *DatabaseCertificate) CertFile() string { return partFile(c.File, certSuffix) }

// KeyFile is the file with the private key alone.
func (c *DatabaseCertificate) KeyFile() string { return partFile(c.File, keySuffix) }

// KeyDERFile is the file with the private key in DER, which Java reads.
func (c *DatabaseCertificate) KeyDERFile() string { return partFile(c.File, keyDERSuffix) }

func partFile(file, suffix string) string { return strings.TrimSuffix(file, bundleSuffix) + suffix }

// writeParts writes the files beside the one of a certificate. A program that reads
// them at this very moment may see a key and a certificate that do not belong
// together; the one file has both or none.
func (h *Home) writeParts(c *DatabaseCertificate) error {
	data, err := ReadFile(c.File, maxFile)
	if err != nil {
		return err
	}
	var certs []byte
	var key *pem.Block
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "CERTIFICATE":
			certs = append(certs, pem.EncodeToMemory(block)...)
		case "PRIVATE KEY":
			key = block
		}
	}
	if certs == nil || key == nil {
		return fault.Newf(fault.Internal, "%s does not hold a certificate and a key", c.File)
	}
	for _, part := range []struct {
		file string
		data []byte
	}{{c.KeyFile(), pem.EncodeToMemory(key)}, {c.KeyDERFile(), key.Bytes}, {c.CertFile(), certs}} {
		if err := h.write(part.file, part.data); err != nil {
			return err
		}
	}
	return nil
}

// removeCertificate removes the file of a certificate and those beside it.
func removeCertificate(file string) error {
	for _, suffix := range partSuffixes() {
		if err := remove(partFile(file, suffix)); err != nil {
			return err
		}
	}
	return remove(file)
}
