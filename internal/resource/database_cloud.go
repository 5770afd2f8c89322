package resource

import (
	"fmt"
	"regexp"
	"strings"
)

// DatabaseType says where a server runs, which decides how to log in and whether
// database users can be created.
type DatabaseType string

// The types.
const (
	TypeSelfHosted         DatabaseType = "self-hosted"
	TypeRDS                DatabaseType = "rds"
	TypeRDSProxy           DatabaseType = "rdsproxy"
	TypeRedshift           DatabaseType = "redshift"
	TypeRedshiftServerless DatabaseType = "redshift-serverless"
	TypeCloudSQL           DatabaseType = "gcp"
	TypeAzure              DatabaseType = "azure"
	TypeAlloyDB            DatabaseType = "alloydb"
)

// AWS places a database in Amazon's cloud.
type AWS struct {
	Region             string             `json:"region,omitempty"`
	AccountID          string             `json:"account_id,omitempty"`
	AssumeRoleARN      string             `json:"assume_role_arn,omitempty"`
	ExternalID         string             `json:"external_id,omitempty"`
	RDS                RDS                `json:"rds,omitzero"`
	RDSProxy           RDSProxy           `json:"rdsproxy,omitzero"`
	Redshift           Redshift           `json:"redshift,omitzero"`
	RedshiftServerless RedshiftServerless `json:"redshift_serverless,omitzero"`
	Other              Other              `json:"-"`
}

func (AWS) toleratedKeys() []string {
	return []string{"elasticache", "elasticache_serverless", "memorydb", "opensearch", "docdb", "secret_store", "session_tags", "iam_policy_status"}
}

// RDS names an RDS instance or Aurora cluster.
type RDS struct {
	InstanceID string `json:"instance_id,omitempty"`
	ClusterID  string `json:"cluster_id,omitempty"`
	ResourceID string `json:"resource_id,omitempty"`
	IAMAuth    bool   `json:"iam_auth,omitempty"`
	Other      Other  `json:"-"`
}

func (RDS) toleratedKeys() []string { return []string{"subnets", "vpc_id", "security_groups"} }

// RDSProxy names an RDS Proxy.
type RDSProxy struct {
	Name               string `json:"name,omitempty"`
	CustomEndpointName string `json:"custom_endpoint_name,omitempty"`
	ResourceID         string `json:"resource_id,omitempty"`
}

// Redshift names a Redshift cluster.
type Redshift struct {
	ClusterID string `json:"cluster_id,omitempty"`
}

// RedshiftServerless names a serverless Redshift workgroup.
type RedshiftServerless struct {
	WorkgroupName string `json:"workgroup_name,omitempty"`
	EndpointName  string `json:"endpoint_name,omitempty"`
	WorkgroupID   string `json:"workgroup_id,omitempty"`
}

// GCP names a Cloud SQL instance.
type GCP struct {
	ProjectID  string `json:"project_id,omitempty"`
	InstanceID string `json:"instance_id,omitempty"`
	Other      Other  `json:"-"`
}

func (GCP) toleratedKeys() []string { return []string{"alloydb"} }

// Azure names an Azure database.
type Azure struct {
	Name          string `json:"name,omitempty"`
	ResourceID    string `json:"resource_id,omitempty"`
	IsFlexiServer bool   `json:"is_flexi_server,omitempty"`
	Other         Other  `json:"-"`
}

func (Azure) toleratedKeys() []string { return []string{"redis"} }

// Type returns where the server runs, told from the cloud fields. The first that
// is set decides, in the order below; merely setting an AWS region makes it rds.
func (d *Database) Type() DatabaseType {
	aws := d.Spec.AWS
	switch {
	case aws.Redshift.ClusterID != "":
		return TypeRedshift
	case aws.RedshiftServerless != RedshiftServerless{}:
		return TypeRedshiftServerless
	case aws.RDSProxy.Name != "" || aws.RDSProxy.CustomEndpointName != "":
		return TypeRDSProxy
	case aws.Region != "" || aws.RDS.InstanceID != "" || aws.RDS.ResourceID != "" || aws.RDS.ClusterID != "":
		return TypeRDS
	case d.Spec.GCP.ProjectID != "":
		return TypeCloudSQL
	case d.Spec.Azure.Name != "":
		return TypeAzure
	case strings.HasPrefix(d.Spec.URI, alloyScheme):
		return TypeAlloyDB
	}
	return TypeSelfHosted
}

// CanProvision reports whether database users can be created on this kind of
// server. Whether they are also needs an admin user and a role that asks for it.
func (d *Database) CanProvision() bool {
	t := d.Type()
	return d.Spec.Protocol == ProtocolPostgres && (t == TypeSelfHosted || t == TypeRDS)
}

var accountID = regexp.MustCompile(`^[0-9]{12}$`)

// checkCloud fills in what the host name of a cloud database tells and checks the
// cloud fields.
func (d *Database) checkCloud() Problems {
	var ps Problems
	aws := &d.Spec.AWS
	if aws.AccountID != "" && !accountID.MatchString(aws.AccountID) {
		ps = append(ps, Problem{Path: "spec.aws.account_id", Text: fmt.Sprintf("invalid AWS account id %q", aws.AccountID), Hint: "it has twelve digits; quote it"})
	}
	if aws.ExternalID != "" && aws.AssumeRoleARN == "" {
		ps = append(ps, Problem{Path: "spec.aws.external_id", Text: "external_id needs assume_role_arn"})
	}
	if (d.Spec.GCP.ProjectID == "") != (d.Spec.GCP.InstanceID == "") {
		ps = append(ps, Problem{Path: "spec.gcp", Text: "project_id and instance_id of gcp are given both or not at all"})
	}
	if d.Spec.URI == "" {
		return append(ps, Problem{Path: "spec.uri", Text: fmt.Sprintf("database %q URI is empty", d.Metadata.Name), Hint: "write uri: localhost:5432"})
	}
	if strings.HasPrefix(d.Spec.URI, alloyScheme) {
		return ps
	}
	endpoint, err := ParseEndpoint(d.Spec.URI)
	if err != nil {
		return append(ps, Problem{Path: "spec.uri", Text: err.Error()})
	}
	host := strings.ToLower(endpoint.Hosts[0].Host)
	var text string
	switch {
	case strings.HasSuffix(host, awsDomain) || strings.HasSuffix(host, awsDomain+".cn"):
		text = d.fillAWS(strings.Split(strings.TrimSuffix(strings.TrimSuffix(host, ".cn"), awsDomain), "."))
	case strings.HasSuffix(host, azureDomain):
		text = d.fillAzure(strings.TrimSuffix(host, azureDomain))
	}
	if text != "" {
		ps = append(ps, Problem{Path: "spec.uri", Text: fmt.Sprintf("database %q: %s", d.Metadata.Name, text)})
	}
	return ps
}

const (
	awsDomain   = ".amazonaws.com"
	azureDomain = ".postgres.database.azure.com"
	alloyScheme = "alloydb://"
)

// fillAWS reads an AWS host name, split at its dots and without the domain. It
// returns what is wrong. Host names of other services, such as EC2, say nothing.
func (d *Database) fillAWS(labels []string) string {
	aws := &d.Spec.AWS
	service := labels[len(labels)-1]
	switch {
	case service == "rds" && len(labels) == 4: // id.hash.region.rds
		fill(&aws.Region, labels[2])
		return d.fillRDS(labels[0], labels[1])
	case service == "rds" && len(labels) == 5 && labels[1] == "endpoint": // name.endpoint.proxy-hash.region.rds
		fill(&aws.Region, labels[3])
		fill(&aws.RDSProxy.CustomEndpointName, labels[0])
	case service == "redshift" && len(labels) == 4: // cluster.hash.region.redshift
		fill(&aws.Redshift.ClusterID, labels[0])
		fill(&aws.Region, labels[2])
	case service == "redshift-serverless" && len(labels) == 4: // workgroup.account.region.redshift-serverless
		fill(&aws.RedshiftServerless.WorkgroupName, labels[0])
		fill(&aws.AccountID, labels[1])
		fill(&aws.Region, labels[2])
	case service == "rds" || service == "redshift" || service == "redshift-serverless":
		return "the AWS host name does not look like one of a database"
	}
	return ""
}

func (d *Database) fillRDS(id, hash string) string {
	aws := &d.Spec.AWS
	switch {
	case strings.HasPrefix(hash, "proxy-"):
		fill(&aws.RDSProxy.Name, id)
	case strings.HasPrefix(hash, "cluster-custom-"):
		if aws.RDS.ClusterID == "" {
			return "an Aurora custom endpoint needs aws.rds.cluster_id, because its name does not tell the cluster"
		}
	case strings.HasPrefix(hash, "cluster-"):
		fill(&aws.RDS.ClusterID, id)
	default:
		fill(&aws.RDS.InstanceID, id)
	}
	return ""
}

func (d *Database) fillAzure(name string) string {
	if name == "" || strings.Contains(name, ".") {
		return "the Azure host name does not look like <name>" + azureDomain
	}
	fill(&d.Spec.Azure.Name, name)
	return ""
}

// fill sets a field that was left empty.
func fill(field *string, value string) {
	if *field == "" {
		*field = value
	}
}

// auroraWriter returns where the writer of an Aurora cluster is, told from the
// name of a reader or custom endpoint: all endpoints of a cluster have the same hash
// and port. It returns "" for other hosts.
func (d *Database) auroraWriter() string {
	endpoint, err := d.Endpoint()
	if err != nil || d.Type() != TypeRDS {
		return ""
	}
	host := endpoint.Hosts[0]
	id, rest, _ := strings.Cut(strings.ToLower(host.Host), ".")
	if !strings.Contains(rest, ".rds"+awsDomain) {
		return ""
	}
	switch {
	case strings.HasPrefix(rest, "cluster-ro-"):
		host.Host = id + ".cluster-" + strings.TrimPrefix(rest, "cluster-ro-")
	case strings.HasPrefix(rest, "cluster-custom-") && d.Spec.AWS.RDS.ClusterID != "":
		host.Host = d.Spec.AWS.RDS.ClusterID + ".cluster-" + strings.TrimPrefix(rest, "cluster-custom-")
	default:
		return ""
	}
	return host.Address()
}
