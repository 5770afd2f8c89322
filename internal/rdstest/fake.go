package rdstest

import (
	"cmp"
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/postern-db/postern/internal/cloud/aws"
	"github.com/postern-db/postern/internal/pgtest"
)

// The accounts of a fake: the machine of the agent belongs to [Account].
const (
	Account = "123456789012"
	Other   = "210987654321"
)

// key is what a signature is made with.
type key struct {
	id, secret, token string
	account           string
	expires           time.Time // zero: never
}

// role can be assumed.
type role struct {
	account    string
	externalID string
}

// failure is an answer that an API gives instead of the right one.
type failure struct {
	action, region, code string
	left                 int // how often; negative: until it is taken back
}

// Fake is Amazon's cloud. Its methods may be called concurrently.
type Fake struct {
	authority *pgtest.Authority
	api       *httptest.Server
	pageSize  int

	ctx     context.Context // ends with the fake
	serving sync.WaitGroup  // connections to its fronts

	mu        sync.Mutex // guards the fields below
	skew      time.Duration
	keys      map[string]key
	roles     map[string]role
	instances []Instance
	clusters  []Cluster
	failures  []failure
	calls     map[string]int // by action
}

// Start starts a fake without databases, which ends with the test.
func Start(t testing.TB) *Fake {
	t.Helper()
	authority, err := pgtest.NewAuthority("Amazon RDS test Root CA")
	if err != nil {
		t.Fatal(err)
	}
	f := &Fake{
		authority: authority, pageSize: 2,
		keys:  map[string]key{machine.id: machine},
		roles: map[string]role{}, calls: map[string]int{},
	}
	var stop context.CancelFunc
	f.ctx, stop = context.WithCancel(context.Background())
	f.api = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(func() {
		stop()
		f.serving.Wait()
		f.api.Close()
	})
	return f
}

// machine are the credentials of the agent's machine.
var machine = key{id: "AKIDMACHINE", secret: "the machine's secret", account: Account}

// Config returns how the product reaches the fake, with the credentials of the machine.
func (f *Fake) Config() aws.Config {
	return aws.Config{
		Endpoint:    f.api.URL,
		Credentials: credentials.NewStaticCredentialsProvider(machine.id, machine.secret, ""),
		Roots:       f.authority.PEM(),
	}
}

// Strangers returns credentials that Amazon does not know.
func Strangers() sdk.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider("AKIDNOBODY", "guessed", "")
}

// AllowRole makes a role of another account that the machine may assume.
func (f *Fake) AllowRole(arn, account, externalID string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.roles[arn] = role{account: account, externalID: externalID}
}

// Skew sets how far the cloud's clock is ahead of this machine's.
func (f *Fake) Skew(by time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.skew = by
}

func (f *Fake) now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Now().Add(f.skew)
}

// Fail makes an action answer with an error code, the next times it is asked for
// in the region (empty: any), or with a negative number until [Fake.Heal].
func (f *Fake) Fail(action, region, code string, times int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failures = append(f.failures, failure{action: action, region: region, code: code, left: times})
}

// Heal takes all failures back.
func (f *Fake) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failures = nil
}

// failing returns the code to answer with, or "".
func (f *Fake) failing(action, region string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[action]++
	for i := range f.failures {
		x := &f.failures[i]
		if x.action == action && (x.region == "" || x.region == region) && x.left != 0 {
			x.left--
			return x.code
		}
	}
	return ""
}

// Calls returns how often an action was asked for.
func (f *Fake) Calls(action string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[action]
}

// Instance is an RDS instance.
type Instance struct {
	ID, Region, Account string // Account: default [Account]
	Host                string
	Port                int
	Engine, Version     string // default: postgres, 16.4
	Status              string // default: available
	NoIAM               bool   // IAM authentication is off
	Cluster             string // of Aurora
	ReplicaOf           string // the source of a read replica
	VPC                 string
	Tags                map[string]string
}

// Cluster is an Aurora cluster. All its endpoints have one port.
type Cluster struct {
	ID, Region, Account string // Account: default [Account]
	Writer, Reader      string // hosts; empty: there is none
	Custom              []string
	Port                int
	Engine, Version     string // default: aurora-postgresql, 16.4
	Status              string // default: available
	NoIAM               bool
	Members             []string // instances
	Tags                map[string]string
}

// Put adds an instance, or replaces the one of that name.
func (f *Fake) Put(i Instance) {
	i.Account, i.Engine = cmp.Or(i.Account, Account), cmp.Or(i.Engine, "postgres")
	i.Version, i.Status = cmp.Or(i.Version, "16.4"), cmp.Or(i.Status, "available")
	f.mu.Lock()
	defer f.mu.Unlock()
	f.instances = slices.DeleteFunc(f.instances, func(have Instance) bool { return have.ID == i.ID && have.Region == i.Region })
	f.instances = append(f.instances, i)
}

// PutCluster adds a cluster, or replaces the one of that name.
func (f *Fake) PutCluster(c Cluster) {
	c.Account, c.Engine = cmp.Or(c.Account, Account), cmp.Or(c.Engine, "aurora-postgresql")
	c.Version, c.Status = cmp.Or(c.Version, "16.4"), cmp.Or(c.Status, "available")
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clusters = slices.DeleteFunc(f.clusters, func(have Cluster) bool { return have.ID == c.ID && have.Region == c.Region })
	f.clusters = append(f.clusters, c)
}

// Remove deletes the instances and clusters of a name.
func (f *Fake) Remove(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.instances = slices.DeleteFunc(f.instances, func(i Instance) bool { return i.ID == id })
	f.clusters = slices.DeleteFunc(f.clusters, func(c Cluster) bool { return c.ID == id })
}

// Token returns the password for a login, signed by the machine, for a test that
// uses it elsewhere than it is meant for.
func (f *Fake) Token(ctx context.Context, t testing.TB, login aws.Login) string {
	t.Helper()
	token, err := aws.New(f.Config()).Token(ctx, login)
	if err != nil {
		t.Fatal(err)
	}
	return token
}
