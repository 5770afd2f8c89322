package provision

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// BundleGroup is the role whose members are the bundles.
const BundleGroup = "postern-bundles"

// A bundle is named
//
//	postern-bundle-<12 hex digits: the place>-<32 hex digits: the policy>
//
// The place is a logical database of a registered server. A database user holds at
// most one bundle of a place, so that a bundle of a former policy is recognised
// and replaced, while those of other places belong to other sessions and stay.
const (
	bundlePrefix = "postern-bundle-"
	placeDigits  = 12
	policyDigits = 32
)

// placePrefix is what the names of all bundles of a place begin with.
func placePrefix(scope, admin, database string) string {
	return bundlePrefix + digest(placeDigits, scope, admin, database) + "-"
}

// bundleName returns the name of the bundle of a policy.
func bundleName(place, policy string) string { return place + digest(policyDigits, policy) }

// digest hashes the parts, each ended by a zero byte, which no name contains.
func digest(digits int, parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write([]byte(strings.ReplaceAll(p, "\x00", "")))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil))[:digits]
}
