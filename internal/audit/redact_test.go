package audit

import (
	"strings"
	"testing"
)

func TestRedact(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, sql, want string }{
		{"nothing to do", `SELECT 'x' FROM t`, `SELECT 'x' FROM t`},
		{"column of that name", `SELECT password, 'x' FROM t`, `SELECT password, 'x' FROM t`},
		{"alter role", `ALTER ROLE a PASSWORD 's3cret'`, `ALTER ROLE a PASSWORD '[redacted]'`},
		{"create user", `create user a encrypted password 's3cret' login`, `create user a encrypted password '[redacted]' login`},
		{"null", `ALTER ROLE a PASSWORD NULL`, `ALTER ROLE a PASSWORD NULL`},
		{"escape string", `ALTER ROLE a PASSWORD E's3\'cret'`, `ALTER ROLE a PASSWORD '[redacted]'`},
		{"dollar string", `ALTER ROLE a PASSWORD $x$s3cret$x$`, `ALTER ROLE a PASSWORD '[redacted]'`},
		{"unicode string", `ALTER ROLE a PASSWORD U&'s3cret'`, `ALTER ROLE a PASSWORD '[redacted]'`},
		{"comments between", "ALTER ROLE a PASSWORD /* x /* y */ */ -- '\n 's3cret'", "ALTER ROLE a PASSWORD /* x /* y */ */ -- '\n '[redacted]'"},
		{"no blank between", `ALTER ROLE a PASSWORD's3cret'`, `ALTER ROLE a PASSWORD'[redacted]'`},
		{"continued", "ALTER ROLE a PASSWORD 's3c'\n'ret'", "ALTER ROLE a PASSWORD '[redacted]'\n'[redacted]'"},
		{"word in a comment", `SELECT 1 /* password 's3cret */`, `SELECT 1 /* password 's3cret */`},
		{"several statements", `SELECT 1; ALTER ROLE a PASSWORD 's3cret'; SELECT 'x'`, `SELECT 1; ALTER ROLE a PASSWORD '[redacted]'; SELECT 'x'`},
		{"user mapping", `CREATE USER MAPPING FOR a SERVER s OPTIONS (user 'a', password 's3cret')`, `CREATE USER MAPPING FOR a SERVER s OPTIONS (user 'a', password '[redacted]')`},
		{"subscription", `CREATE SUBSCRIPTION s CONNECTION 'host=h password=s3cret' PUBLICATION p`, `CREATE SUBSCRIPTION s CONNECTION '[redacted]' PUBLICATION p`},
		{"do block", `DO $$ BEGIN ALTER ROLE a PASSWORD 's3cret'; END $$`, `DO $$ BEGIN ALTER ROLE a PASSWORD '[redacted]'; END $$`},
		{"dynamic in a do block", `DO $$ BEGIN EXECUTE 'ALTER ROLE a PASSWORD ''s3cret'''; END $$`, `DO $$ BEGIN EXECUTE '[redacted]'; END $$`},
		{"quoted identifier hides nothing", `ALTER ROLE "a'" PASSWORD 's3cret'`, `ALTER ROLE "a'" PASSWORD '[redacted]'`},
		{"a value that is the word", `SELECT * FROM settings WHERE name = 'password'`, `SELECT * FROM settings WHERE name = 'password'`},
		{"unterminated", `ALTER ROLE a PASSWORD 's3cret`, `ALTER [redacted]`},
		{"cut in the middle of a comment", `ALTER ROLE a /* PASSWORD 's3cret'`, `ALTER [redacted]`},
		{"backslash before the quote", `SELECT 'a\'' ; ALTER ROLE a PASSWORD 's3cret'`, `SELECT [redacted]`},
		{"quote escaped in a string", `DO $$ BEGIN EXECUTE E'ALTER ROLE a PASSWORD \047s3cret\047'; END $$`, `DO $$ BEGIN EXECUTE '[redacted]'; END $$`},
		{"quote escaped in a unicode string", `DO U&'BEGIN ALTER ROLE a PASSWORD \0027s3cret\0027; END'`, `DO '[redacted]'`},
		{"quote escaped with standard_conforming_strings off", `DO 'BEGIN ALTER ROLE a PASSWORD \047s3cret\047; END'`, `DO '[redacted]'`},
		{"letter escaped", `DO E'BEGIN ALTER ROLE a P\x41SSWORD ''s3cret''; END'`, `DO [redacted]`},
		{"letter escaped twice", `DO $$ BEGIN EXECUTE E'DO E''BEGIN ALTER ROLE a P\\x41SSWORD ''''s3cret''''; END'''; END $$`, `DO [redacted]`},
		{"letter escaped in octal", `DO E'BEGIN ALTER ROLE a P\101SSWORD ''s3cret''; END'`, `DO [redacted]`},
		{"letter escaped as unicode", `DO U&'BEGIN ALTER ROLE a P\0041SSWORD ''s3cret''; END'`, `DO [redacted]`},
		{"letter escaped with another sign", `DO U&'BEGIN ALTER ROLE a P!0041SSWORD ''s3cret''; END' UESCAPE '!'`, `DO [redacted]`},
		{"word continued", "DO 'BEGIN ALTER ROLE a PASS' -- password\n'WORD ''s3cret''; END'", `DO [redacted]`},
		{"word continued after blanks", "DO 'BEGIN ALTER ROLE a PASS' \f\v \n\n\t 'WORD ''s3cret''; END'", `DO [redacted]`},
		{"word continued after comments", "DO 'BEGIN ALTER ROLE a PASS'\n-- x\n--\n'WORD ''s3cret''; END'", `DO [redacted]`},
		{"word continued behind a carriage return", "DO 'BEGIN ALTER ROLE a PASS'\r'WORD ''s3cret''; END'", `DO [redacted]`},
		{"escapes of other things", `SELECT E'a\tb\x41\\', 'x'` + "\n'y'", `SELECT E'a\tb\x41\\', 'x'` + "\n'y'"},
		{"quoted option", `CREATE USER MAPPING FOR a SERVER s OPTIONS ("password" 's3cret')`, `CREATE USER MAPPING FOR a SERVER s OPTIONS ("password" '[redacted]')`},
		{"pass phrase of a key", `CREATE USER MAPPING FOR a SERVER s OPTIONS (sslpassword 's3cret')`, `CREATE USER MAPPING FOR a SERVER s OPTIONS (sslpassword '[redacted]')`},
		{"option with an escape", `CREATE USER MAPPING FOR a SERVER s OPTIONS (U&"p\0061ssword" 's3cret')`, `CREATE [redacted]`},
		{"URI", `CREATE SUBSCRIPTION s CONNECTION 'postgresql://a:s3cret@h/d' PUBLICATION p`, `CREATE SUBSCRIPTION s CONNECTION '[redacted]' PUBLICATION p`},
		{"URI in a function", `SELECT dblink('postgresql://a:s3cret@h', 'SELECT 1')`, `SELECT dblink('[redacted]', 'SELECT 1')`},
		{"URI without a password", `SELECT 'http://host:80/a@b', 'postgresql://a@h:5432/d'`, `SELECT 'http://host:80/a@b', 'postgresql://a@h:5432/d'`},
		{"unterminated without the word", `SELECT 'x`, `SELECT 'x`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := Redact(test.sql); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// FuzzRedact checks that a password is gone whatever stands before the statement,
// as long as PostgreSQL would still see the statement as one.
func FuzzRedact(f *testing.F) {
	for _, seed := range []string{"", "SELECT 1;", "/* ' */", "-- '\n", "SELECT E'\\'';", "SELECT $a$ ' $a$;", `SELECT "'";`, "SELECT 'x\\';", "U&'", "$1 $", "DO $$ $$;"} {
		f.Add(seed)
	}
	const secret = "S3cretS3cret"
	f.Fuzz(func(t *testing.T, before string) {
		if strings.Contains(before, secret) {
			return
		}
		if Redact(before) != before && !MentionsPassword(before) {
			t.Errorf("%q is redacted, but said not to mention a password", before)
		}
		got := Redact(before + " ALTER ROLE a PASSWORD '" + secret + "'")
		if !strings.Contains(got, secret) {
			return
		}
		// The text before may have swallowed the statement into a comment, a quoted
		// identifier or a string: then it is no password for PostgreSQL either.
		if _, whole := redact(before, 0); whole && !strings.HasSuffix(strings.TrimRight(before, " \t\r\n\v\f"), "-") && !inLineComment(before) {
			t.Errorf("%q leaves the secret in %q", before, got)
		}
	})
}

func inLineComment(sql string) bool {
	last := sql[strings.LastIndexAny(sql, "\r\n")+1:]
	return strings.Contains(last, "--")
}

func BenchmarkRedact(b *testing.B) {
	for name, sql := range map[string]string{
		"one line": "SELECT a, b FROM t WHERE name = 'something' AND other > 17 ", "lines": "SELECT a, b\n FROM t\n WHERE name = 'something'\n AND other > 17\n",
	} {
		b.Run(name, func(b *testing.B) {
			sql := strings.Repeat(sql, 20)
			b.SetBytes(int64(len(sql)))
			for b.Loop() {
				Redact(sql)
			}
		})
	}
}

func TestMentionsPassword(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]bool{
		`SELECT 1`: false,
		`SELECT passwd, password_reset_at FROM users WHERE password2 = $1`: false,
		`SELECT 1 /* password */ -- password`:                              false,
		`UPDATE users SET Password = $1`:                                   true,
		`UPDATE users SET "password" = $1`:                                 true,
		`UPDATE users SET "password_hint" = $1`:                            false,
		`ALTER ROLE a PASSWORD 'x'`:                                        true,
		`SELECT format('ALTER ROLE %I PASSWORD %L', $1, $2)`:               true,
		`SELECT dblink('host=h password=' || $1, 'SELECT 1')`:              true,
		`SELECT set_config('app.db_password', $1, false)`:                  true,
		`SELECT U&"p\0061ssword", $1`:                                      true,
		`SELECT dblink('postgresql://a:b@h', $1)`:                          true,
		`UPDATE users SET "db_password" = $1`:                              true,
		`SELECT 'x' /* password`:                                           true,
		`SELECT $x$password`:                                               true,
	} {
		if got := MentionsPassword(sql); got != want {
			t.Errorf("%s: got %t", sql, got)
		}
		if Redact(sql) != sql && !want {
			t.Errorf("%s is redacted", sql)
		}
	}
}
