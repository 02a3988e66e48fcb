package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"example.com/failwell/scripts/bench/figures"
)

// report collects what was measured.
type report struct{ figures.Report }

// add keeps a line, and prints it, so that one sees something within minutes.
func (r *report) add(line figures.Row) {
	r.Rows = append(r.Rows, line)
	fmt.Println(" ", strings.Join(nonEmpty(line.Cells()), "  "))
}

func (r *report) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
	fmt.Println(" ", r.Notes[len(r.Notes)-1])
}

func nonEmpty(cells []string) (out []string) {
	for _, c := range cells {
		if c != "" {
			out = append(out, c)
		}
	}
	return out
}

// table is the lines as Markdown, in columns that a person can read as well.
func (r *report) table() string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 1, ' ', 0)
	fmt.Fprintln(w, "| "+strings.Join(figures.Head, "\t| ")+"\t|\n"+strings.Repeat("|---\t", len(figures.Head))+"|")
	for _, line := range r.Rows {
		fmt.Fprintln(w, "| "+strings.Join(line.Cells(), "\t| ")+"\t|")
	}
	_ = w.Flush() // into memory
	for _, n := range r.Notes {
		out.WriteString("\n" + n + "\n")
	}
	return out.String()
}

const (
	begin = "<!-- bench -->"
	end   = "<!-- end -->"
)

// write replaces what stands between the page's two marks, and writes the figures
// beside it. Unless all was measured, lines that were not stay as they were.
func (r *report) write(page, machine string, all bool) error {
	text, err := os.ReadFile(page) //nolint:gosec // named on the command line
	if err != nil {
		return err
	}
	base := strings.TrimSuffix(page, filepath.Ext(page))
	if !all {
		if err := r.keep(base + ".json"); err != nil {
			return err
		}
	}
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no %s … %s", page, begin, end)
	}
	figures, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	for name, content := range map[string]string{
		page:           before + begin + "\n" + machine + "\n\n" + r.table() + end + after,
		base + ".json": string(figures) + "\n",
	} {
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil { //nolint:gosec // a page of the repository
			return err
		}
	}
	return nil
}

// keep takes over the lines of an earlier run that this one has not measured.
func (r *report) keep(file string) error {
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var before report
	if err := json.Unmarshal(text, &before); err != nil {
		return err
	}
	key := func(line figures.Row) string { return line.Line + "/" + line.Beside }
	rows := before.Rows
	for _, line := range r.Rows {
		at := slices.IndexFunc(rows, func(old figures.Row) bool { return key(old) == key(line) })
		if at < 0 {
			rows = append(rows, line)
			continue
		}
		rows[at] = line
	}
	r.Rows = rows
	if len(r.Notes) == 0 {
		r.Notes = before.Notes
	}
	return nil
}

// machine says where and with what it was measured.
func (b *bench) machine() string {
	return fmt.Sprintf("Measured %s on %d cores (%s/%s), %s, %s, %s; load, database and broker on the same machine: `make bench`.",
		time.Now().Format(time.DateOnly), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(), b.server, b.broker)
}
