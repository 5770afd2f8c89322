package rdstest_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postern-db/postern/internal/cloud/aws"
	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/rdstest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// TestFrontTakesTheRightTokenOnly tries what a thief of a token could try.
func TestFrontTakesTheRightTokenOnly(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, pgtest.Options{Version: pgtest.Newest(t), HBA: rdstest.HBA})
	server.Exec(t, "CREATE ROLE rds_iam", "CREATE ROLE alice LOGIN IN ROLE rds_iam", "CREATE ROLE bob LOGIN IN ROLE rds_iam", "CREATE ROLE plain LOGIN")
	fake := rdstest.Start(t)
	fake.AllowRole("arn:aws:iam::210987654321:role/x", rdstest.Other, "")
	front, other := fake.Front(t, server, "eu-west-1"), fake.Front(t, server, "eu-west-1")

	tests := []struct {
		name  string
		user  string
		login func(*aws.Login)
		turn  func(token string) string
		late  time.Duration
		want  string // why it is refused; "" if it is not
	}{
		{name: "right"},
		{name: "user of somebody else", user: "bob", want: "for user"},
		{name: "another server", login: func(l *aws.Login) { l.Endpoint = other.Addr() }, want: "for host"},
		{name: "another name of the server", login: func(l *aws.Login) { l.Endpoint = "localhost:" + strconv.Itoa(front.Port) }, want: "for host"},
		{name: "another region", login: func(l *aws.Login) { l.Region = "us-east-1" }, want: "for region"},
		{name: "another account", login: func(l *aws.Login) { l.Role = aws.Role{ARN: "arn:aws:iam::210987654321:role/x"} }, want: "of account"},
		{name: "not a member of rds_iam", user: "plain", login: func(l *aws.Login) { l.User = "plain" }, want: "not a member"},
		{name: "late", late: 16 * time.Minute, want: "expired"},
		{name: "longer life", late: 16 * time.Minute, turn: set("X-Amz-Expires", "3600"), want: "bad life"},
		{name: "later date", late: time.Hour, turn: func(token string) string {
			return set("X-Amz-Date", time.Now().Add(time.Hour).UTC().Format("20060102T150405Z"))(token)
		}, want: "signature"},
		{name: "other user written in", user: "bob", turn: set("DBUser", "bob"), want: "signature"},
		{name: "guessed", turn: func(string) string { return "guess" }, want: "scoped"},
		{name: "empty", turn: func(string) string { return "" }, want: "scoped"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { // one after the other: they share a clock
			login := aws.Login{Endpoint: front.Addr(), Region: "eu-west-1", User: "alice"}
			if test.login != nil {
				test.login(&login)
			}
			token := fake.Token(t.Context(), t, login)
			if test.turn != nil {
				token = test.turn(token)
			}
			fake.Skew(test.late)
			defer fake.Skew(0)
			user := test.user
			if user == "" {
				user = "alice"
			}
			got := try(t, fake, front, user, token)
			if (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
				t.Errorf("refused because %q, want %q", got, test.want)
			}
		})
	}
}

// set changes a parameter of a token.
func set(name, value string) func(string) string {
	return func(token string) string {
		u, err := url.Parse("https://" + token)
		if err != nil {
			return ""
		}
		q := u.Query()
		q.Set(name, value)
		return u.Host + u.Path + "?" + q.Encode()
	}
}

// try logs in and returns why the front refused it.
func try(t *testing.T, fake *rdstest.Fake, front *rdstest.Front, user, password string) string {
	t.Helper()
	before := len(front.Refused())
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(fake.Config().Roots)
	cfg, err := pgx.ParseConfig("sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Host, cfg.Port, cfg.User, cfg.Database, cfg.Password = front.Host, uint16(front.Port), user, "postgres", password
	cfg.Fallbacks = nil
	cfg.TLSConfig = &tls.Config{RootCAs: roots, ServerName: front.Host, MinVersion: tls.VersionTLS12}
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err == nil {
		_ = conn.Close(t.Context())
		return ""
	}
	why := strings.Join(front.Refused()[before:], ", ")
	reads := "PAM authentication failed"
	if strings.Contains(why, "not a member") {
		reads = "password authentication failed"
	}
	if !strings.Contains(err.Error(), reads) {
		t.Errorf("the client reads %v, want %s", err, reads)
	}
	return why
}
