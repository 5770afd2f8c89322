// Package cli is the command line: one file per command, each with an options
// struct and a run method that takes a context and those options.
//
// [Main] runs a command line and returns the exit code. The name under which the
// program is called selects the half that it shows: tsh is the user's, tctl the
// administrator's, anything else both.
//
// Commands read and write through [IO] only, so that tests use buffers. What a
// program may want to read goes to Out; everything said to a person goes to Err.
package cli
