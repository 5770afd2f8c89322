package provision

import (
	"fmt"
	"strings"
	"time"
)

// stampMark separates what a bundle is from when it was last used.
const stampMark = " Last used "

// touchAfter is how old the time of last use in a comment may become. It is well
// below unusedAfter, so that no agent drops a bundle that another one uses.
const touchAfter = 15 * time.Minute

// stampComment returns the whole comment of a bundle.
func stampComment(comment string, now time.Time) string {
	return comment + stampMark + now.UTC().Format(time.RFC3339) + "."
}

// lastUsed reads the time of last use; the zero time when there is none.
func lastUsed(comment string) time.Time {
	i := strings.LastIndex(comment, stampMark)
	if i < 0 {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339, strings.TrimSuffix(comment[i+len(stampMark):], "."))
	if err != nil {
		return time.Time{}
	}
	return at
}

// commentIsOld reports whether a comment is not ours, or its time of last use too long ago.
func commentIsOld(comment string, now time.Time) bool { return now.Sub(lastUsed(comment)) > touchAfter }

// describeBundle is what the comment of a bundle says beside when it was last used.
func describeBundle(database string, roles []string) string {
	from := strings.Join(roles, ", ")
	if len(from) > maxCommentRoles {
		from = strings.ToValidUTF8(from[:maxCommentRoles], "") + "…"
	}
	return fmt.Sprintf("Postern bundle: object permissions in database %q, from roles: %s.", database, from)
}

const maxCommentRoles = 1000
