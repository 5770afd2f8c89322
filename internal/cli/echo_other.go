//go:build !linux

package cli

// hideInput leaves it to the reading of the password to turn the echo off.
func hideInput(int) error { return nil }
