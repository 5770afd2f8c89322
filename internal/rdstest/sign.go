package rdstest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	stamp       = "20060102T150405Z"
	maxSkew     = 15 * time.Minute // between a request and Amazon's clock
	maxTokenAge = 15 * time.Minute
)

var emptyHash = hash(nil)

func hash(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// refused is why a signature does not count, as an API would answer.
type refused struct{ code, text string }

func (r *refused) Error() string { return r.code + ": " + r.text }

// signer returns the key that a credential names, and the credential's region.
func (f *Fake) signer(credential, service, token string) (k key, region string, err error) {
	parts := strings.Split(credential, "/") // id/date/region/service/aws4_request
	if len(parts) != 5 || parts[3] != service || parts[4] != "aws4_request" {
		return key{}, "", &refused{"SignatureDoesNotMatch", "Credential should be scoped to the service " + service}
	}
	f.mu.Lock()
	k, ok := f.keys[parts[0]]
	f.mu.Unlock()
	if !ok || k.token != token {
		return key{}, "", &refused{"InvalidClientTokenId", "The security token included in the request is invalid."}
	}
	if !k.expires.IsZero() && f.now().After(k.expires) {
		return key{}, "", &refused{"ExpiredToken", "The security token included in the request is expired"}
	}
	return k, parts[2], nil
}

func (k key) credentials() sdk.Credentials {
	return sdk.Credentials{AccessKeyID: k.id, SecretAccessKey: k.secret, SessionToken: k.token}
}

// verifyRequest returns who signed a request and for which region. It signs the
// same request again and compares.
func (f *Fake) verifyRequest(ctx context.Context, r *http.Request, body []byte, service string) (key, string, error) {
	fields := map[string]string{}
	scheme, list, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	for field := range strings.SplitSeq(list, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		fields[name] = value
	}
	if scheme != "AWS4-HMAC-SHA256" {
		return key{}, "", &refused{"MissingAuthenticationToken", "Request is missing Authentication Token"}
	}
	k, region, err := f.signer(fields["Credential"], service, r.Header.Get("X-Amz-Security-Token"))
	if err != nil {
		return key{}, "", err
	}
	at, err := time.Parse(stamp, r.Header.Get("X-Amz-Date"))
	if err != nil || at.Sub(f.now()).Abs() > maxSkew {
		return key{}, "", &refused{"RequestExpired", "Signature expired"}
	}
	again, err := http.NewRequestWithContext(ctx, r.Method, "http://"+r.Host+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return key{}, "", err
	}
	for name := range strings.SplitSeq(fields["SignedHeaders"], ";") {
		if name != "host" && name != "content-length" {
			again.Header[http.CanonicalHeaderKey(name)] = r.Header.Values(name)
		}
	}
	if err := v4.NewSigner().SignHTTP(ctx, k.credentials(), again, hash(body), service, region, at); err != nil {
		return key{}, "", err
	}
	if again.Header.Get("Authorization") != r.Header.Get("Authorization") {
		return key{}, "", &refused{"SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided."}
	}
	return k, region, nil
}

// verifyToken says why a password is no token for a login, or nil.
func (f *Fake) verifyToken(ctx context.Context, token, endpoint, region, account, user string) error {
	given, err := url.Parse("https://" + token)
	if err != nil {
		return err
	}
	q := given.Query()
	k, signedRegion, err := f.signer(q.Get("X-Amz-Credential"), "rds-db", q.Get("X-Amz-Security-Token"))
	if err != nil {
		return err
	}
	at, err := time.Parse(stamp, q.Get("X-Amz-Date"))
	if err != nil {
		return err
	}
	life, err := strconv.Atoi(q.Get("X-Amz-Expires"))
	switch {
	case err != nil || life <= 0 || time.Duration(life)*time.Second > maxTokenAge:
		return fmt.Errorf("bad life %q", q.Get("X-Amz-Expires"))
	case f.now().After(at.Add(time.Duration(life)*time.Second)) || f.now().Before(at.Add(-maxSkew)):
		return errors.New("the token has expired")
	case given.Host != endpoint || given.Path != "/" && given.Path != "":
		return fmt.Errorf("the token is for host %s, not %s", given.Host, endpoint)
	case signedRegion != region:
		return fmt.Errorf("the token is for region %s, not %s", signedRegion, region)
	case k.account != account:
		return fmt.Errorf("the token is of account %s, not %s", k.account, account)
	case q.Get("Action") != "connect" || q.Get("DBUser") != user:
		return fmt.Errorf("the token is for user %q, not %q", q.Get("DBUser"), user)
	}
	unsigned := url.Values{"Action": {"connect"}, "DBUser": {user}, "X-Amz-Expires": {q.Get("X-Amz-Expires")}}
	again, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+endpoint+given.Path+"?"+unsigned.Encode(), nil)
	if err != nil {
		return err
	}
	signed, _, err := v4.NewSigner().PresignHTTP(ctx, k.credentials(), again, emptyHash, "rds-db", region, at)
	if err != nil {
		return err
	}
	expected, err := url.Parse(signed)
	if err != nil {
		return err
	}
	if expected.Query().Get("X-Amz-Signature") != q.Get("X-Amz-Signature") {
		return errors.New("the signature does not match")
	}
	return nil
}
