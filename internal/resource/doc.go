// Package resource defines what people configure as YAML: databases, roles,
// users, object import rules, locks and the cluster's settings.
//
// Start with [Parse]: it reads every document of a file and returns resources
// that are valid by construction, or all the mistakes at once, each with file,
// line, column, an excerpt and, for a misspelt key, a suggestion. [EncodeYAML]
// prints a resource so that Parse reads it back unchanged. The stored and sent
// form is JSON with the same keys (json.Marshal and [DecodeJSON]).
//
// Reading is strict: an unknown key is an error, because a misspelt restriction
// that is silently dropped widens access. Fields that belong to other protocols
// are listed by name, kept as they are in [Other], and printed back.
//
// [DecodeStrict] offers the same decoder for other YAML files, such as the
// configuration of the daemon.
//
// The package does no I/O and keeps no state.
package resource
