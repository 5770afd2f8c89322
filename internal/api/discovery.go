package api

// PreviewDiscovery asks Amazon what discovery would register now.
func PreviewDiscovery() Endpoint[Empty, PreviewDiscoveryResponse] {
	return Endpoint[Empty, PreviewDiscoveryResponse]{"preview-discovery", "/v1/discovery/preview", "Show what discovery would register", HubOwner, kilobytes, slow}
}

// PreviewDiscoveryResponse lists the searches in the order of the configuration.
type PreviewDiscoveryResponse struct {
	Searches []DiscoverySearch `json:"searches"`
}

// DiscoverySearch is what one search finds, or why it finds nothing.
type DiscoverySearch struct {
	Search    string               `json:"search" doc:"region, and the role if one is assumed"`
	Databases []DiscoveredDatabase `json:"databases"`
	Skipped   []SkippedDatabase    `json:"skipped"`
	Error     string               `json:"error,omitempty"`
	Detail    string               `json:"detail,omitempty"`
	Hint      string               `json:"hint,omitempty"`
}

// DiscoveredDatabase would be registered.
type DiscoveredDatabase struct {
	Name      string            `json:"name"`
	URI       string            `json:"uri"`
	AdminUser string            `json:"admin_user,omitempty" doc:"empty: no automatic users"`
	Writer    string            `json:"writer,omitempty" doc:"where a replica's accounts are made"`
	Labels    map[string]string `json:"labels"`
}

// SkippedDatabase is selected and would not be registered.
type SkippedDatabase struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}
