// Package edits keeps what takes a pattern away: one unified diff of the services for
// each, <pattern's id>.diff, and applies it to a copy of their source. The experiments
// and the mutants build the edited services from it; the tree is not touched.
//
// A hunk is found by its text, not by its line numbers: what it removes, with its
// context, must stand exactly once in the file. So a diff fits as long as these lines do.
package edits

import (
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

//go:embed *.diff
var files embed.FS

// Edit replaces text that stands exactly once in a file.
type Edit struct{ File, Old, New string }

// hunk is an edit as its diff shows it.
type hunk struct {
	Edit
	body string
}

// Of returns the edits of a diff that is kept here.
func Of(id string) ([]Edit, error) {
	hunks, err := read(id)
	return whole(hunks), err
}

// Parse returns the edits of a unified diff that is kept elsewhere.
func Parse(diff string) ([]Edit, error) {
	hunks, err := parse(diff)
	return whole(hunks), err
}

// whole are edits of whole lines: each begins behind the end of the line before.
func whole(hunks []hunk) (edits []Edit) {
	for _, h := range hunks {
		edits = append(edits, Edit{h.File, "\n" + h.Old, "\n" + h.New})
	}
	return edits
}

func read(id string) ([]hunk, error) {
	diff, err := files.ReadFile(id + ".diff")
	if err != nil {
		return nil, fmt.Errorf("no edit takes %s away: %w", id, err)
	}
	hunks, err := parse(string(diff))
	if err != nil {
		return nil, fmt.Errorf("%s.diff: %w", id, err)
	}
	return hunks, nil
}

// parse reads a unified diff.
func parse(diff string) (hunks []hunk, err error) {
	file := ""
	for n, line := range strings.Split(strings.TrimSuffix(diff, "\n"), "\n") {
		switch {
		case strings.HasPrefix(line, "diff "), strings.HasPrefix(line, "index "), strings.HasPrefix(line, "--- a/"):
			file = ""
		case strings.HasPrefix(line, "+++ b/"):
			file = strings.TrimPrefix(line, "+++ b/")
		case strings.HasPrefix(line, "@@") && file != "":
			hunks = append(hunks, hunk{Edit: Edit{File: file}})
		case file == "" || len(hunks) == 0:
			return nil, fmt.Errorf("line %d stands in no hunk: %q", n+1, line)
		default:
			h, mark := &hunks[len(hunks)-1], line[:min(1, len(line))]
			text := line[len(mark):] + "\n"
			h.body += line + "\n"
			if mark != "+" {
				h.Old += text
			}
			if mark != "-" {
				h.New += text
			}
		}
	}
	return hunks, nil
}

// Overlay reads the files that some edits change, and returns them changed. It refuses
// edits that do not fit, and edits that change nothing.
func Overlay(root, id string, edits []Edit) (map[string]string, error) {
	changed := map[string]string{}
	for _, e := range edits {
		text, ok := changed[e.File]
		if !ok {
			raw, err := os.ReadFile(filepath.Join(root, e.File))
			if err != nil {
				return nil, err
			}
			text = string(raw)
		}
		if n := strings.Count(text, e.Old); n != 1 {
			return nil, fmt.Errorf("%s does not fit any more: %s has this %d times:\n%s", id, e.File, n, e.Old)
		}
		if strings.TrimSpace(e.Old) == strings.TrimSpace(e.New) {
			return nil, fmt.Errorf("%s changes nothing in %s:\n%s", id, e.File, e.Old)
		}
		changed[e.File] = strings.Replace(text, e.Old, e.New, 1)
	}
	if len(changed) == 0 {
		return nil, fmt.Errorf("%s changes nothing", id)
	}
	return changed, nil
}

// context is how many lines Diff shows around a change.
const context = 3

// Diff is a diff that is kept here, with the lines around it and their numbers of today:
// `git apply` takes it.
func Diff(root, id string) (string, error) {
	hunks, err := read(id)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	file, shown, moved := "", 0, 0
	var lines []string
	for i, h := range hunks {
		if h.File != file {
			text, err := os.ReadFile(filepath.Join(root, h.File))
			if err != nil {
				return "", err
			}
			fmt.Fprintf(&out, "--- a/%s\n+++ b/%s\n", h.File, h.File)
			file, shown, moved, lines = h.File, 0, 0, strings.SplitAfter(strings.TrimSuffix(string(text), "\n"), "\n")
		}
		begin, end, fits := h.within(lines)
		if !fits {
			return "", fmt.Errorf("%s does not fit any more: %s has not:\n%s", id, h.File, h.Old)
		}
		from, to := max(shown, begin-context), min(len(lines), end+context)
		if i+1 < len(hunks) && hunks[i+1].File == file {
			if next, _, _ := hunks[i+1].within(lines); to > next {
				to = next
			}
		}
		was, is := to-from, to-from+strings.Count(h.New, "\n")-strings.Count(h.Old, "\n")
		fmt.Fprintf(&out, "@@ -%d,%d +%d,%d @@\n", from+1, was, from+1+moved, is)
		for _, line := range lines[from:begin] {
			out.WriteString(" " + line)
		}
		out.WriteString(h.body)
		for _, line := range lines[end:to] {
			out.WriteString(" " + strings.TrimSuffix(line, "\n") + "\n")
		}
		shown, moved = to, moved+is-was
	}
	return out.String(), nil
}

// within is which lines of a file a hunk replaces.
func (h hunk) within(lines []string) (begin, end int, fits bool) {
	before, _, fits := strings.Cut("\n"+strings.Join(lines, "")+"\n", "\n"+h.Old)
	begin = strings.Count(before, "\n")
	return begin, begin + strings.Count(h.Old, "\n"), fits
}
