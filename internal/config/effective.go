package config

import (
	"encoding/json"
	"fmt"

	"go.yaml.in/yaml/v4"
)

// Effective returns what is in force as YAML. The file holds no secrets: they are
// named by their files.
func (c *Config) Effective() (string, error) {
	data, err := json.Marshal(c) // the names of the file are the json names
	if err != nil {
		return "", fmt.Errorf("encode the configuration: %w", err)
	}
	var tree yaml.Node
	if err := yaml.Unmarshal(data, &tree); err != nil {
		return "", fmt.Errorf("encode the configuration: %w", err)
	}
	block(&tree)
	out, err := yaml.Marshal(&tree)
	return string(out), err
}

// block undoes the style of JSON.
func block(n *yaml.Node) {
	n.Style &^= yaml.FlowStyle | yaml.DoubleQuotedStyle
	for _, c := range n.Content {
		block(c)
	}
}
