package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// performanceFile is what `make bench` writes for machines.
const performanceFile = "docs/performance.json"

// measurement is one line of the benchmark, as scripts/bench writes it.
type measurement struct {
	Line   string        `json:"line"`
	Unit   string        `json:"unit"`
	Ours   float64       `json:"ours"`
	P50    time.Duration `json:"p50_ns"`
	P99    time.Duration `json:"p99_ns"`
	Beside string        `json:"beside"`
	Theirs float64       `json:"theirs"`
	Min    float64       `json:"ratio_min"`
	Median float64       `json:"ratio_median"`
	Max    float64       `json:"ratio_max"`
}

func measurements(root string) ([]measurement, error) {
	text, err := os.ReadFile(filepath.Join(root, performanceFile))
	if err != nil {
		return nil, fmt.Errorf("%w (make bench writes it)", err)
	}
	var report struct{ Rows []measurement }
	if err := json.Unmarshal(text, &report); err != nil {
		return nil, fmt.Errorf("%s: %w", performanceFile, err)
	}
	return report.Rows, nil
}

// measured is one sentence for each line of the benchmark that begins with prefix.
func (s source) measured(prefix string) ([]string, error) {
	if prefix == "" {
		return nil, fmt.Errorf("measured what? Give the beginning of a line of %s", performanceFile)
	}
	var sentences []string
	for _, m := range s.rows {
		if strings.HasPrefix(m.Line, prefix) {
			sentences = append(sentences, "- "+m.sentence())
		}
	}
	if len(sentences) == 0 {
		return nil, fmt.Errorf("no line of %s begins with %q", performanceFile, prefix)
	}
	return sentences, nil
}

// sentence says it in words: "Accept, 8 clients: 2,070 orders/s, p50 3.6 ms, p99
// 8.6 ms; 0.50 times (0.46 to 0.53) the 4,165 of pgbench, the same writes as one statement."
func (m measurement) sentence() string {
	var parts []string
	switch {
	case m.Ours > 0:
		parts = append(parts, figure(m.Ours)+" "+m.Unit)
	case m.Unit != "":
		parts = append(parts, m.Unit)
	}
	if m.P50 > 0 {
		parts = append(parts, "p50 "+milliseconds(m.P50))
	}
	if m.P99 > 0 {
		parts = append(parts, "p99 "+milliseconds(m.P99))
	}
	line := strings.ToUpper(m.Line[:1]) + m.Line[1:] + ": " + strings.Join(parts, ", ")
	switch {
	case m.Median > 0 && m.Theirs > 0:
		line += fmt.Sprintf("; %.2f times (%.2f to %.2f) the %s of %s", m.Median, m.Min, m.Max, figure(m.Theirs), m.Beside)
	case m.Median > 0:
		line += fmt.Sprintf("; %.2f times (%.2f to %.2f) %s", m.Median, m.Min, m.Max, m.Beside)
	case m.Beside != "":
		line += ", " + m.Beside
	}
	return line + "."
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}

// figure is short below a hundred and has separators from a thousand on.
func figure(f float64) string {
	if f < 100 {
		return strings.TrimSuffix(strings.TrimSuffix(fmt.Sprintf("%.2f", f), "0"), ".0")
	}
	s := strconv.Itoa(int(f)) // as docs/performance.md has it
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
