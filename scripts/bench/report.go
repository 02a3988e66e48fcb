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
)

// row is one line of the table: a rate beside another, or a latency or a size
// beside its bound.
type row struct {
	Line   string        `json:"line"`
	Unit   string        `json:"unit"`
	Ours   float64       `json:"ours,omitempty"`
	P50    time.Duration `json:"p50_ns,omitempty"`
	P99    time.Duration `json:"p99_ns,omitempty"`
	Beside string        `json:"beside,omitempty"`
	Theirs float64       `json:"theirs,omitempty"`
	Min    float64       `json:"ratio_min,omitempty"`
	Median float64       `json:"ratio_median,omitempty"`
	Max    float64       `json:"ratio_max,omitempty"`

	Target    float64       `json:"target_ratio,omitempty"`
	MostRatio float64       `json:"target_ratio_at_most,omitempty"`
	AtMost    float64       `json:"target_at_most,omitempty"`
	LimitP50  time.Duration `json:"target_p50_ns,omitempty"`
	LimitP99  time.Duration `json:"target_p99_ns,omitempty"`
}

func (r row) ratio() string {
	if r.Median == 0 {
		return ""
	}
	return fmt.Sprintf("%s (%s to %s)", short(r.Median), short(r.Min), short(r.Max))
}

func (r row) target() string {
	say := func(met bool, format string, target any) string {
		if met {
			return fmt.Sprintf(format+" met", target)
		}
		return fmt.Sprintf(format+" missed", target)
	}
	switch {
	case r.Target > 0:
		return say(r.Median >= r.Target, "≥ %s", short(r.Target))
	case r.MostRatio > 0:
		return say(r.Median <= r.MostRatio, "ratio ≤ %s", short(r.MostRatio))
	case r.AtMost > 0:
		return say(r.Ours <= r.AtMost, "≤ %s", short(r.AtMost))
	case r.LimitP50 > 0:
		return say(r.P50 <= r.LimitP50, "p50 ≤ %v", r.LimitP50)
	case r.LimitP99 > 0:
		return say(r.P99 <= r.LimitP99, "p99 ≤ %v", r.LimitP99)
	}
	return ""
}

func (r row) cells() []string {
	return []string{r.Line, number(r.Ours), r.Unit, latency(r.P50), latency(r.P99), r.Beside, number(r.Theirs), r.ratio(), r.target()}
}

var head = []string{"what", "ours", "unit", "p50", "p99", "beside", "theirs", "ratio (min to max)", "target"}

func number(f float64) string {
	switch {
	case f == 0:
		return ""
	case f < 100:
		return short(f)
	}
	return thousands(int(f))
}

func short(f float64) string { return strings.TrimSuffix(fmt.Sprintf("%.2f", f), ".00") }

func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func latency(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}

// report collects what was measured.
type report struct {
	Rows  []row    `json:"rows"`
	Notes []string `json:"notes"`
}

// add keeps a line, and prints it, so that one sees something within minutes.
func (r *report) add(line row) {
	r.Rows = append(r.Rows, line)
	fmt.Println(" ", strings.Join(nonEmpty(line.cells()), "  "))
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

func (r *report) table() string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(head, "\t"))
	for _, line := range r.Rows {
		fmt.Fprintln(w, strings.Join(line.cells(), "\t"))
	}
	_ = w.Flush() // into memory
	for _, n := range r.Notes {
		out.WriteString(n + "\n")
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
	var out strings.Builder
	out.WriteString(machine + "\n\n")
	out.WriteString("| " + strings.Join(head, " | ") + " |\n|" + strings.Repeat("---|", len(head)) + "\n")
	for _, line := range r.Rows {
		out.WriteString("| " + strings.Join(line.cells(), " | ") + " |\n")
	}
	for _, n := range r.Notes {
		out.WriteString("\n" + n + "\n")
	}
	figures, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	for name, content := range map[string]string{
		page:           before + begin + "\n" + out.String() + end + after,
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
	key := func(line row) string { return line.Line + "/" + line.Beside }
	rows := before.Rows
	for _, line := range r.Rows {
		at := slices.IndexFunc(rows, func(old row) bool { return key(old) == key(line) })
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
