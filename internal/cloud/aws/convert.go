package aws

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"unicode"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/rds/types"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
)

// Labels of databases that were discovered, beside their tags (behaviour.md §1.8).
const (
	labelAccount       = "account-id"
	labelRegion        = "region"
	labelEngine        = "engine"
	labelEngineVersion = "engine-version"
	labelEndpointType  = "endpoint-type"
	labelVPC           = "vpc-id"
	labelStatus        = "status"
	labelOrigin        = "teleport.dev/origin"
	labelDiscovered    = "teleport.internal/discovered-name"
)

// nameTags set the name of a database; the first that is there counts.
var nameTags = []string{"TeleportDatabaseName", "teleport.dev/database_name"}

// Values of the label endpoint-type.
const (
	endpointInstance = "instance"
	endpointPrimary  = "primary"
	endpointReader   = "reader"
	endpointCustom   = "custom"
)

// unusable are states in which nobody can log in, and will not soon. Others come
// and go by themselves, such as modifying or backing-up: a database in one of them stays.
var unusable = []string{
	"creating", "deleting", "failed", "restore-error", "stopped", "stopping", "storage-full", "migration-failed",
	"inaccessible-encryption-credentials", "inaccessible-encryption-credentials-recoverable", "insufficient-capacity",
	"incompatible-credentials", "incompatible-network", "incompatible-option-group", "incompatible-parameters", "incompatible-restore",
	"cloning-failed", "delete-precheck",
}

// finder turns what Amazon lists into resources.
type finder struct {
	search    Search
	instances []types.DBInstance
	found     Found
}

// endpoint is one way to a server, as one database is registered for each.
type endpoint struct {
	kind    string // of the label endpoint-type
	id      string // name of the instance or cluster
	suffix  string // tells the endpoints of a cluster apart
	host    string
	port    int32
	writer  string // host:port, where another endpoint is the writer
	arn     string
	aurora  bool
	engine  string
	version string
	status  string
	iam     bool
	vpc     string
	tags    []types.Tag
	rds     resource.RDS
}

func (f *finder) addInstance(i *types.DBInstance) {
	if sdk.ToString(i.DBClusterIdentifier) != "" {
		return // its cluster's endpoints are registered
	}
	e := endpoint{
		kind: endpointInstance, id: sdk.ToString(i.DBInstanceIdentifier), arn: sdk.ToString(i.DBInstanceArn),
		engine: sdk.ToString(i.Engine), version: sdk.ToString(i.EngineVersion), status: sdk.ToString(i.DBInstanceStatus),
		iam: sdk.ToBool(i.IAMDatabaseAuthenticationEnabled), tags: i.TagList, writer: f.addressOf(sdk.ToString(i.ReadReplicaSourceDBInstanceIdentifier)),
		rds: resource.RDS{InstanceID: sdk.ToString(i.DBInstanceIdentifier), ResourceID: sdk.ToString(i.DbiResourceId), IAMAuth: sdk.ToBool(i.IAMDatabaseAuthenticationEnabled)},
	}
	if i.Endpoint != nil {
		e.host, e.port = sdk.ToString(i.Endpoint.Address), sdk.ToInt32(i.Endpoint.Port)
	}
	if i.DBSubnetGroup != nil {
		e.vpc = sdk.ToString(i.DBSubnetGroup.VpcId)
	}
	f.add(e)
}

// addressOf returns where an instance of the same region is.
func (f *finder) addressOf(id string) string {
	for _, i := range f.instances {
		if id != "" && sdk.ToString(i.DBInstanceIdentifier) == id && i.Endpoint != nil {
			return address(sdk.ToString(i.Endpoint.Address), sdk.ToInt32(i.Endpoint.Port))
		}
	}
	return ""
}

func address(host string, port int32) string {
	return net.JoinHostPort(host, strconv.Itoa(int(cmp.Or(port, resource.DefaultPort))))
}

func (f *finder) addCluster(c *types.DBCluster) {
	base := endpoint{
		id: sdk.ToString(c.DBClusterIdentifier), arn: sdk.ToString(c.DBClusterArn), port: sdk.ToInt32(c.Port), aurora: true,
		engine: sdk.ToString(c.Engine), version: sdk.ToString(c.EngineVersion), status: sdk.ToString(c.Status),
		iam: sdk.ToBool(c.IAMDatabaseAuthenticationEnabled), tags: c.TagList,
		rds: resource.RDS{ClusterID: sdk.ToString(c.DBClusterIdentifier), ResourceID: sdk.ToString(c.DbClusterResourceId), IAMAuth: sdk.ToBool(c.IAMDatabaseAuthenticationEnabled)},
	}
	readers := 0
	for _, m := range c.DBClusterMembers {
		if !sdk.ToBool(m.IsClusterWriter) {
			readers++
		}
		for _, i := range f.instances {
			if sdk.ToString(i.DBInstanceIdentifier) == sdk.ToString(m.DBInstanceIdentifier) && i.DBSubnetGroup != nil {
				base.vpc = sdk.ToString(i.DBSubnetGroup.VpcId)
			}
		}
	}
	writer := sdk.ToString(c.Endpoint)
	as := func(kind, host, suffix string) {
		e := base
		e.kind, e.host, e.suffix = kind, host, suffix
		if kind != endpointPrimary && writer != "" {
			e.writer = address(writer, base.port)
		}
		f.add(e)
	}
	if writer != "" && readers < len(c.DBClusterMembers) { // a secondary cluster has none
		as(endpointPrimary, writer, "")
	}
	if reader := sdk.ToString(c.ReaderEndpoint); reader != "" && readers > 0 {
		as(endpointReader, reader, "reader")
	}
	for _, host := range slices.Sorted(slices.Values(c.CustomEndpoints)) {
		name, _, _ := strings.Cut(host, ".")
		as(endpointCustom, host, "custom-"+name)
	}
}

// add registers an endpoint, if the tags select it and it can be used.
func (f *finder) add(e endpoint) {
	labels := f.labels(e)
	if !f.search.Tags.Match(labels) {
		return
	}
	skip := func(why string) {
		f.found.Skipped = append(f.found.Skipped, Skipped{Name: joined(e.id, e.suffix), Why: why})
	}
	switch {
	case slices.Contains(unusable, e.status):
		skip("its status is " + e.status)
		return
	case !e.iam:
		skip("IAM database authentication is not enabled")
		return
	case e.host == "":
		skip("it has no endpoint yet")
		return
	}
	r := &resource.Database{
		Metadata: resource.Metadata{Name: f.name(e, labels), Description: description(e, labels), Labels: labels},
		Spec: resource.DatabaseSpec{
			Protocol: resource.ProtocolPostgres, URI: address(e.host, e.port),
			AWS: resource.AWS{
				Region: f.search.Region, AccountID: labels[labelAccount], RDS: e.rds,
				AssumeRoleARN: f.search.Role.ARN, ExternalID: f.search.Role.ExternalID,
			},
		},
	}
	if labels[resource.LabelWriter] == "" {
		r.Spec.AdminUser.URI = e.writer
	}
	if err := resource.Validate(r); err != nil {
		skip(fault.Of(err).Text)
		return
	}
	f.found.Databases = append(f.found.Databases, r)
}

// labels returns the tags and what else is known. Tags whose names cannot be
// labels are left out; they do not outdo what is known.
func (f *finder) labels(e endpoint) map[string]string {
	labels := map[string]string{}
	for _, tag := range e.tags {
		key := sdk.ToString(tag.Key)
		if key != "" && !strings.ContainsFunc(key, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
			labels[key] = sdk.ToString(tag.Value)
		}
	}
	account := ""
	if parsed, err := arn.Parse(e.arn); err == nil {
		account = parsed.AccountID
	}
	maps.Copy(labels, map[string]string{
		labelAccount: account, labelRegion: f.search.Region, labelEngine: e.engine, labelEngineVersion: e.version,
		labelEndpointType: e.kind, labelStatus: e.status, labelOrigin: "cloud", labelDiscovered: joined(override(labels, e.id), e.suffix),
	})
	if e.vpc != "" {
		labels[labelVPC] = e.vpc
	}
	return labels
}

func description(e endpoint, labels map[string]string) string {
	what := "RDS instance"
	if e.aurora {
		what = "Aurora cluster (" + e.kind + " endpoint)"
	}
	return fmt.Sprintf("%s in %s", what, labels[labelRegion])
}

// override returns the name that a tag sets, or name.
func override(labels map[string]string, name string) string {
	for _, tag := range nameTags {
		if set := labels[tag]; set != "" {
			return set
		}
	}
	return name
}

// name returns the name to register an endpoint under. One that a tag sets has no
// more than the endpoint added to it.
func (f *finder) name(e endpoint, labels map[string]string) string {
	if set := override(labels, ""); set != "" {
		return joined(set, e.suffix)
	}
	subtype := ""
	if e.aurora {
		subtype = "aurora"
	}
	return databaseName(joined(e.id, e.suffix), "rds", subtype, f.search.Region, labels[labelAccount])
}

func joined(name, suffix string) string {
	if suffix == "" {
		return name
	}
	return name + "-" + suffix
}

// databaseName makes <name>-<type>[-<subtype>]-<region>-<account>. Parts that are
// empty, cannot be in a name, or are in it already are left out; blanks become
// hyphens and runs of hyphens become one.
func databaseName(name string, parts ...string) string {
	all := name
	for _, part := range parts {
		if part != "" && !strings.Contains(name, part) && !strings.ContainsFunc(part, notInName) {
			all += "-" + part
		}
	}
	all = strings.Join(strings.Fields(all), "-")
	for strings.Contains(all, "--") {
		all = strings.ReplaceAll(all, "--", "-")
	}
	return all
}

// notInName reports whether a name cannot have the character, blanks aside.
func notInName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != ' '
}
