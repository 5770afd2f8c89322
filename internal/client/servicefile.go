package client

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/postern-db/postern/internal/fault"
)

// ServiceFile is libpq's connection service file, usually ~/.pg_service.conf. It
// belongs to the user: every line that is not in a section of ours is kept.
type ServiceFile struct{ Path string }

// Setting is one line of a section.
type Setting struct{ Key, Value string }

// Put writes a section, in the place of one with the same name or else at the end.
func (f ServiceFile) Put(section string, settings []Setting) error {
	text := []string{"[" + section + "]"}
	for _, s := range settings {
		text = append(text, s.Key+"="+s.Value)
	}
	for i, line := range text { // the format has no quoting
		if strings.ContainsAny(line, "\r\n\x00") || i == 0 && strings.ContainsAny(section, "[]") {
			return fault.Newf(fault.Invalid, "%q cannot be written to %s", line, f.Path)
		}
	}
	return f.edit(func(lines []string) []string {
		for start := range lines {
			if name, end := sectionAt(lines, start); name == section {
				return slices.Replace(lines, start, end, text...)
			}
		}
		if n := len(lines); n > 0 && lines[n-1] != "" {
			lines = append(lines, "")
		}
		return append(lines, text...)
	})
}

// Remove removes the sections for which ours is true of the value of sslcert.
func (f ServiceFile) Remove(ours func(sslcert string) bool) error {
	return f.edit(func(lines []string) []string {
		for start := 0; start < len(lines); {
			name, end := sectionAt(lines, start)
			if name == "" || !slices.ContainsFunc(lines[start:end], func(line string) bool {
				value, found := strings.CutPrefix(line, "sslcert=")
				return found && ours(value)
			}) {
				start++
				continue
			}
			if start > 0 && lines[start-1] == "" { // the blank line that Put made
				start--
			}
			lines = slices.Delete(lines, start, end)
		}
		return lines
	})
}

// sectionAt returns the name of the section whose header is lines[start], or "",
// and the end of its last setting: comments after that belong to what follows.
func sectionAt(lines []string, start int) (name string, end int) {
	header := strings.TrimSpace(lines[start])
	if !strings.HasPrefix(header, "[") || !strings.HasSuffix(header, "]") {
		return "", start
	}
	end = start + 1
	for i := end; i < len(lines); i++ {
		line := strings.TrimSpace(lines[i])
		if strings.HasPrefix(line, "[") {
			break
		}
		if line != "" && !strings.HasPrefix(line, "#") {
			end = i + 1
		}
	}
	return header[1 : len(header)-1], end
}

// edit rewrites the file when change changes it. A file that is a link, as with
// collections of dot files, stays one.
func (f ServiceFile) edit(change func([]string) []string) error {
	path, mode := f.Path, fs.FileMode(0o600)
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	data, err := ReadFile(path, maxFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("read the service file: %w", err)
		}
		mode = info.Mode().Perm()
	}
	var lines []string
	if text := strings.TrimSuffix(string(data), "\n"); text != "" {
		lines = strings.Split(text, "\n")
	}
	changed := change(slices.Clone(lines))
	if slices.Equal(changed, lines) {
		return nil
	}
	text := strings.Join(changed, "\n")
	if text != "" {
		text += "\n"
	}
	return WriteFile(path, []byte(text), mode)
}
