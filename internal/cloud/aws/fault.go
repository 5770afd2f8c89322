package aws

import (
	"errors"
	"fmt"
	"slices"

	"github.com/aws/smithy-go"

	"github.com/postern-db/postern/internal/fault"
)

// The codes by which Amazon's services say the same in different words.
var (
	throttled = []string{"Throttling", "ThrottlingException", "ThrottledException", "RequestLimitExceeded", "RequestThrottled", "TooManyRequestsException", "SlowDown"}
	denied    = []string{"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "NotAuthorized"}
	unknown   = []string{"InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch", "AuthFailure", "InvalidSignatureException"}
	expired   = []string{"ExpiredToken", "ExpiredTokenException", "RequestExpired"}
)

// cloudFault gives an error of Amazon's a kind, a text and a hint. All are
// Unavailable: what is wrong is between the agent and Amazon, never with the person.
func cloudFault(text string, err error) *fault.Error {
	if f, ok := errors.AsType[*fault.Error](err); ok {
		return f
	}
	f := fault.New(fault.Unavailable, text).WithCause(err)
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return f.WithHint("Check that this machine reaches Amazon, and that it has credentials: aws sts get-caller-identity")
	}
	f = f.WithDetail(fmt.Sprintf("Amazon answers %s: %s", api.ErrorCode(), api.ErrorMessage()))
	switch code := api.ErrorCode(); {
	case slices.Contains(throttled, code):
		return f.WithHint("Amazon limits how often it may be asked; it is asked again in a while.")
	case slices.Contains(unknown, code):
		return f.WithHint("Amazon does not know the credentials of this machine: aws sts get-caller-identity")
	case slices.Contains(expired, code):
		return f.WithHint("The credentials of this machine have expired, or its clock is wrong.")
	}
	return f
}

// isDenied reports whether Amazon knows who asks and refuses.
func isDenied(err error) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	return ok && slices.Contains(denied, api.ErrorCode())
}

// credentialsFault says why there are no credentials to sign with.
func credentialsFault(role Role, err error) *fault.Error {
	if role.ARN == "" {
		f := cloudFault("this machine has no AWS credentials", err)
		return f
	}
	f := cloudFault(fmt.Sprintf("the role %s cannot be assumed", role.ARN), err)
	if isDenied(err) {
		hint := "Allow the agent sts:AssumeRole on it, and name the agent in the role's trust policy"
		if role.ExternalID != "" {
			hint += " with the external id that is configured"
		}
		return f.WithHint(hint + ".")
	}
	return f
}
