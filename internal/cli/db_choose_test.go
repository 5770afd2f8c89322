package cli

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/identity"
)

func TestCompleteRoute(t *testing.T) {
	t.Parallel()
	set := func(names ...string) api.Allowance { return api.Allowance{Allowed: names} }
	for name, test := range map[string]struct {
		database api.Database
		options  routeOptions
		active   identity.Route
		want     identity.Route
		err      string
	}{
		"accounts are made, the user stays open": {
			database: api.Database{Provisioning: true, Names: set("*")},
			want:     identity.Route{},
		},
		"a user asked for goes along, to be refused by who knows": {
			database: api.Database{Provisioning: true},
			options:  routeOptions{dbUser: "bob", dbName: "shop", dbRoles: []string{"reader"}},
			want:     identity.Route{DatabaseUser: "bob", DatabaseName: "shop", DatabaseRole: []string{"reader"}},
		},
		"the only ones allowed": {
			database: api.Database{Users: set("app"), Names: set("shop")},
			want:     identity.Route{DatabaseUser: "app", DatabaseName: "shop"},
		},
		"several names stay open": {
			database: api.Database{Users: set("app"), Names: set("a", "b")},
			want:     identity.Route{DatabaseUser: "app"},
		},
		"several users": {
			database: api.Database{Name: "x", Users: set("a", "b")},
			err:      "please provide the database user using the --db-user flag, allowed database users for x: [a b]",
		},
		"every user but one": {
			database: api.Database{Name: "x", Users: api.Allowance{Allowed: []string{"*"}, Denied: []string{"root"}}},
			err:      "please provide the database user using the --db-user flag, allowed database users for x: [*], except: [root]",
		},
		"no user": {
			database: api.Database{Name: "x"},
			err:      `you are not allowed access to any database user of "x"`,
		},
		"as logged in": {
			database: api.Database{Users: set("a", "b"), Names: set("*")},
			active:   identity.Route{DatabaseUser: "a", DatabaseName: "shop"},
			want:     identity.Route{DatabaseUser: "a", DatabaseName: "shop"},
		},
		"as logged in, with another name": {
			database: api.Database{Provisioning: true},
			options:  routeOptions{dbName: "other"},
			active:   identity.Route{DatabaseName: "shop", DatabaseRole: []string{"reader"}},
			want:     identity.Route{DatabaseName: "other", DatabaseRole: []string{"reader"}},
		},
		"no roles at all": {
			database: api.Database{Provisioning: true},
			options:  routeOptions{dbRoles: []string{}},
			want:     identity.Route{DatabaseRole: []string{}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.want.Database = test.database.Name
			got, err := completeRoute(test.database, test.options, test.active)
			if test.err != "" {
				if err == nil || fault.Of(err).Text != test.err {
					t.Errorf("got %v, want %s", err, test.err)
				}
				return
			}
			if diff := cmp.Diff(test.want, got); err != nil || diff != "" {
				t.Errorf("%v %s", err, diff)
			}
		})
	}
}
