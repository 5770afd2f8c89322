package aws_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"

	"github.com/postern-db/postern/internal/cloud/aws"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/rdstest"
)

var login = aws.Login{Endpoint: "orders.abc.eu-west-1.rds.amazonaws.com:5432", Region: "eu-west-1", User: "alice"}

const arn = "arn:aws:iam::210987654321:role/databases"

// source counts how often credentials were asked for.
type source struct {
	mu     sync.Mutex
	calls  int
	life   time.Duration
	err    error
	during func()
}

func (s *source) Retrieve(ctx context.Context) (sdk.Credentials, error) {
	s.mu.Lock()
	s.calls++
	err, during := s.err, s.during
	s.mu.Unlock()
	if during != nil {
		during()
	}
	if ctx.Err() != nil {
		return sdk.Credentials{}, ctx.Err()
	}
	return sdk.Credentials{AccessKeyID: "AKID", SecretAccessKey: "secret", CanExpire: true, Expires: time.Now().Add(s.life)}, err
}

func (s *source) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

func (s *source) set(err error, during func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err, s.during = err, during
}

func token(t *testing.T, c *aws.Cloud) {
	t.Helper()
	if _, err := c.Token(t.Context(), login); err != nil {
		t.Fatal(err)
	}
}

func TestCredentialsAreKeptAndFetchedAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{life: time.Hour}
		c := aws.New(aws.Config{Credentials: s})
		token(t, c)
		time.Sleep(54 * time.Minute)
		token(t, c)
		if got := s.count(); got != 1 {
			t.Fatalf("asked %d times within their life, want once", got)
		}

		time.Sleep(2 * time.Minute) // four minutes before their end
		s.set(errors.New("STS is down"), nil)
		token(t, c)
		token(t, c)
		if got := s.count(); got != 2 {
			t.Fatalf("asked %d times while the source fails, want one attempt more", got)
		}
		s.set(nil, func() { time.Sleep(20 * time.Second) })
		time.Sleep(time.Minute)
		begin := time.Now()
		token(t, c)
		if waited := time.Since(begin); waited > 5*time.Second {
			t.Fatalf("a login waited %v for credentials that it did not need", waited)
		}
		s.set(nil, nil)
		time.Sleep(time.Minute)
		token(t, c)
		time.Sleep(30 * time.Minute)
		calls := s.count()
		token(t, c)
		if got := s.count(); got != calls {
			t.Fatalf("fresh credentials were not kept")
		}
	})
}

func TestNobodyWaitsWhileCredentialsAreFetchedAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{life: time.Hour}
		c := aws.New(aws.Config{Credentials: s})
		token(t, c)
		time.Sleep(57 * time.Minute)
		s.set(nil, func() { time.Sleep(2 * time.Second) })
		var first sync.WaitGroup
		first.Go(func() { token(t, c) })
		synctest.Wait() // it waits for the source
		begin := time.Now()
		token(t, c)
		if waited := time.Since(begin); waited != 0 {
			t.Errorf("waited %v for somebody else's credentials", waited)
		}
		first.Wait()
	})
}

func TestExpiredCredentialsAreNotUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{life: time.Hour}
		c := aws.New(aws.Config{Credentials: s})
		token(t, c)
		time.Sleep(time.Hour)
		s.set(errors.New("STS is down"), nil)
		_, err := c.Token(t.Context(), login)
		if fault.KindOf(err) != fault.Unavailable {
			t.Errorf("got %v, want Unavailable", err)
		}
	})
}

func TestAssumedRole(t *testing.T) {
	t.Parallel()
	fake := rdstest.Start(t)
	fake.AllowRole(arn, rdstest.Other, "42")
	c := aws.New(fake.Config())
	as := login
	as.Role = aws.Role{ARN: arn, ExternalID: "42"}
	for range 3 {
		got, err := c.Token(t.Context(), as)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(got, "X-Amz-Security-Token=") {
			t.Errorf("token %s is not of an assumed role", got)
		}
	}
	if got := fake.Calls("AssumeRole"); got != 1 {
		t.Errorf("the role was assumed %d times, want once", got)
	}
}

func TestAssumeRoleFaults(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		role     aws.Role
		code     string
		strange  bool
		wantHint string
	}{
		{name: "not allowed", role: aws.Role{ARN: arn + "2"}, wantHint: "sts:AssumeRole"},
		{name: "wrong external id", role: aws.Role{ARN: arn, ExternalID: "41"}, wantHint: "external id"},
		{name: "throttled", role: aws.Role{ARN: arn, ExternalID: "42"}, code: "Throttling", wantHint: "limits how often"},
		{name: "unknown credentials", role: aws.Role{ARN: arn, ExternalID: "42"}, strange: true, wantHint: "does not know the credentials"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			fake := rdstest.Start(t)
			fake.AllowRole(arn, rdstest.Other, "42")
			if test.code != "" {
				fake.Fail("AssumeRole", "", test.code, -1)
			}
			cfg := fake.Config()
			if test.strange {
				cfg.Credentials = rdstest.Strangers()
			}
			as := login
			as.Role = test.role
			_, err := aws.New(cfg).Token(t.Context(), as)
			f := fault.Of(err)
			if f.Kind != fault.Unavailable || !strings.Contains(f.Hint, test.wantHint) || !strings.Contains(f.Text, arn) {
				t.Errorf("got %v, hint %q, want a hint with %q", err, f.Hint, test.wantHint)
			}
		})
	}
}

func TestTokenNeedsARegion(t *testing.T) {
	t.Parallel()
	as := login
	as.Region = ""
	if _, err := aws.New(aws.Config{}).Token(t.Context(), as); fault.KindOf(err) != fault.Invalid {
		t.Errorf("got %v, want Invalid", err)
	}
}
