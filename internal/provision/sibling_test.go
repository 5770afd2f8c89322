package provision

import (
	"strings"
	"testing"
)

func TestSiblingName(t *testing.T) {
	t.Parallel()
	want := Want{User: "alice", Roles: []string{"reader"}, Mode: Keep}
	got := sibling(want)
	if !strings.HasPrefix(got.User, "alice#") || got.Mode != Drop {
		t.Errorf("sibling %+v, want alice#… in mode drop", got)
	}
	if again := sibling(Want{User: "alice", Roles: []string{"reader", "reader"}}); again.User != got.User {
		t.Errorf("equal roles have siblings %s and %s", got.User, again.User)
	}
	if other := sibling(Want{User: "alice", Roles: []string{"writer"}}); other.User == got.User {
		t.Error("different roles share a sibling")
	}
	long := strings.Repeat("é", 31) // 62 bytes
	name := sibling(Want{User: long}).User
	if len(name) > maxName || checkName("user", name) != nil {
		t.Errorf("sibling of a long name is %q, %d bytes", name, len(name))
	}
	if other := sibling(Want{User: long[:60]}).User; other == name {
		t.Error("two long names share a sibling")
	}
}
