package rdstest

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// serve answers one API request.
func (f *Fake) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		answerError(w, "MalformedInput", err.Error())
		return
	}
	action := form.Get("Action")
	service := "rds"
	if action == "AssumeRole" {
		service = "sts"
	}
	who, region, err := f.verifyRequest(r.Context(), r, body, service)
	if why, ok := errors.AsType[*refused](err); ok {
		answerError(w, why.code, why.text)
		return
	}
	if err != nil {
		answerError(w, "InternalFailure", err.Error())
		return
	}
	if code := f.failing(action, region); code != "" {
		answerError(w, code, "as the test wants it")
		return
	}
	switch action {
	case "DescribeDBInstances":
		f.describeInstances(w, form, who, region)
	case "DescribeDBClusters":
		f.describeClusters(w, form, who, region)
	case "AssumeRole":
		f.assumeRole(w, form)
	default:
		answerError(w, "InvalidAction", "Could not find operation "+action)
	}
}

func answerError(w http.ResponseWriter, code, text string) {
	status := http.StatusForbidden
	if code == "Throttling" {
		status = http.StatusBadRequest
	}
	w.WriteHeader(status)
	_ = xml.NewEncoder(w).Encode(struct {
		XMLName   xml.Name `xml:"ErrorResponse"`
		Type      string   `xml:"Error>Type"`
		Code      string   `xml:"Error>Code"`
		Message   string   `xml:"Error>Message"`
		RequestID string   `xml:"RequestId"`
	}{Type: "Sender", Code: code, Message: text, RequestID: "test"}) // a client that is gone is told nothing
}

// answer sends a result in the envelope of its action.
func answer(w http.ResponseWriter, action string, result any) {
	w.Header().Set("Content-Type", "text/xml")
	e := xml.NewEncoder(w)
	outer := xml.StartElement{Name: xml.Name{Local: action + "Response"}}
	_ = e.EncodeToken(outer) // a client that is gone is told nothing
	_ = e.EncodeElement(result, xml.StartElement{Name: xml.Name{Local: action + "Result"}})
	_ = e.EncodeToken(outer.End())
	_ = e.Flush()
}

type xmlTag struct {
	Key   string
	Value string
}

type xmlInstance struct {
	DBInstanceIdentifier string
	Engine               string
	EngineVersion        string
	DBInstanceStatus     string
	Address              string `xml:"Endpoint>Address,omitempty"`
	Port                 int    `xml:"Endpoint>Port,omitempty"`
	DBInstanceArn        string
	DbiResourceID        string   `xml:"DbiResourceId"`
	DBClusterIdentifier  string   `xml:",omitempty"`
	IAM                  bool     `xml:"IAMDatabaseAuthenticationEnabled"`
	Source               string   `xml:"ReadReplicaSourceDBInstanceIdentifier,omitempty"`
	VPC                  string   `xml:"DBSubnetGroup>VpcId,omitempty"`
	Tags                 []xmlTag `xml:"TagList>Tag"`
}

type xmlMember struct {
	DBInstanceIdentifier string
	IsClusterWriter      bool
}

type xmlCluster struct {
	DBClusterIdentifier string
	Engine              string
	EngineVersion       string
	Status              string
	Endpoint            string   `xml:",omitempty"`
	ReaderEndpoint      string   `xml:",omitempty"`
	Custom              []string `xml:"CustomEndpoints>member"`
	Port                int
	DBClusterArn        string
	DbClusterResourceID string      `xml:"DbClusterResourceId"`
	IAM                 bool        `xml:"IAMDatabaseAuthenticationEnabled"`
	Members             []xmlMember `xml:"DBClusterMembers>DBClusterMember"`
	Tags                []xmlTag    `xml:"TagList>Tag"`
}

func tags(m map[string]string) []xmlTag {
	var list []xmlTag
	for _, name := range slices.Sorted(maps.Keys(m)) {
		list = append(list, xmlTag{Key: name, Value: m[name]})
	}
	return list
}

// engines returns the values of the filter by engine; nil lets all pass.
func engines(form url.Values) []string {
	var wanted []string
	if form.Get("Filters.Filter.1.Name") == "engine" {
		for n := 1; form.Get(fmt.Sprintf("Filters.Filter.1.Values.Value.%d", n)) != ""; n++ {
			wanted = append(wanted, form.Get(fmt.Sprintf("Filters.Filter.1.Values.Value.%d", n)))
		}
	}
	return wanted
}

// page cuts the page out that a marker asks for, and returns the next marker.
func page[T any](f *Fake, all []T, marker string) ([]T, string) {
	from, _ := strconv.Atoi(marker) // none is the first page
	from = min(from, len(all))
	to := min(from+f.pageSize, len(all))
	next := ""
	if to < len(all) {
		next = strconv.Itoa(to)
	}
	return all[from:to], next
}

func (f *Fake) describeInstances(w http.ResponseWriter, form url.Values, who key, region string) {
	wanted := engines(form)
	var all []xmlInstance
	f.mu.Lock()
	for _, i := range f.instances {
		if i.Region != region || i.Account != who.account || wanted != nil && !slices.Contains(wanted, i.Engine) {
			continue
		}
		all = append(all, xmlInstance{
			DBInstanceIdentifier: i.ID, Engine: i.Engine, EngineVersion: i.Version, DBInstanceStatus: i.Status,
			Address: i.Host, Port: i.Port, IAM: !i.NoIAM, DBClusterIdentifier: i.Cluster, Source: i.ReplicaOf, VPC: i.VPC,
			DBInstanceArn: fmt.Sprintf("arn:aws:rds:%s:%s:db:%s", region, i.Account, i.ID), DbiResourceID: "db-" + i.ID, Tags: tags(i.Tags),
		})
	}
	f.mu.Unlock()
	some, marker := page(f, all, form.Get("Marker"))
	answer(w, "DescribeDBInstances", struct {
		Marker    string        `xml:",omitempty"`
		Instances []xmlInstance `xml:"DBInstances>DBInstance"`
	}{marker, some})
}

func (f *Fake) describeClusters(w http.ResponseWriter, form url.Values, who key, region string) {
	wanted := engines(form)
	var all []xmlCluster
	f.mu.Lock()
	for _, c := range f.clusters {
		if c.Region != region || c.Account != who.account || wanted != nil && !slices.Contains(wanted, c.Engine) {
			continue
		}
		x := xmlCluster{
			DBClusterIdentifier: c.ID, Engine: c.Engine, EngineVersion: c.Version, Status: c.Status,
			Endpoint: c.Writer, ReaderEndpoint: c.Reader, Custom: c.Custom, Port: c.Port, IAM: !c.NoIAM,
			DBClusterArn:        fmt.Sprintf("arn:aws:rds:%s:%s:cluster:%s", region, c.Account, c.ID),
			DbClusterResourceID: "cluster-" + c.ID, Tags: tags(c.Tags),
		}
		for n, id := range c.Members {
			x.Members = append(x.Members, xmlMember{DBInstanceIdentifier: id, IsClusterWriter: n == 0})
		}
		all = append(all, x)
	}
	f.mu.Unlock()
	some, marker := page(f, all, form.Get("Marker"))
	answer(w, "DescribeDBClusters", struct {
		Marker   string       `xml:",omitempty"`
		Clusters []xmlCluster `xml:"DBClusters>DBCluster"`
	}{marker, some})
}

func (f *Fake) assumeRole(w http.ResponseWriter, form url.Values) {
	arn := form.Get("RoleArn")
	f.mu.Lock()
	role, ok := f.roles[arn]
	id := fmt.Sprintf("ASIAROLE%d", len(f.keys))
	f.mu.Unlock()
	if !ok || role.externalID != form.Get("ExternalId") {
		answerError(w, "AccessDenied", "User: machine is not authorized to perform: sts:AssumeRole on resource: "+arn)
		return
	}
	k := key{id: id, secret: "secret of " + id, token: "token of " + id, account: role.account, expires: f.now().Add(time.Hour)}
	f.mu.Lock()
	f.keys[id] = k
	f.mu.Unlock()
	answer(w, "AssumeRole", struct {
		ID      string `xml:"Credentials>AccessKeyId"`
		Secret  string `xml:"Credentials>SecretAccessKey"`
		Token   string `xml:"Credentials>SessionToken"`
		Expires string `xml:"Credentials>Expiration"`
		Role    string `xml:"AssumedRoleUser>Arn"`
		RoleID  string `xml:"AssumedRoleUser>AssumedRoleId"`
	}{k.id, k.secret, k.token, k.expires.UTC().Format(time.RFC3339), arn + "/postern", "AROA:postern"})
}
