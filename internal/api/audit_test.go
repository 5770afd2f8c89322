package api

import (
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-db/postern/internal/audit"
	"github.com/postern-db/postern/internal/fault"
)

func TestAuditQueryTravels(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 10, 0, 0, 123, time.UTC)
	for _, q := range []AuditQuery{
		{},
		{Lines: -1, Follow: true},
		{Lines: 7, Filter: audit.Filter{Events: []string{"user.login", "TDB02I"}, User: "a&b=c", Session: "s", Database: "d", Since: at, Until: at.Add(time.Hour)}},
	} {
		got, err := ParseAuditQuery(q.values())
		if diff := cmp.Diff(q, got); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	}
	if got, err := ParseAuditQuery(nil); err != nil || got.Lines != 0 {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []url.Values{{"lines": {"many"}}, {"since": {"yesterday"}}, {"until": {"1"}}} {
		if _, err := ParseAuditQuery(bad); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%v: %v", bad, err)
		}
	}
}
