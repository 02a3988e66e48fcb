package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"example.com/failwell/scripts/bench/figures"
)

// performanceFile is what `make bench` writes for machines.
const performanceFile = "docs/performance.json"

func measurements(root string) ([]figures.Row, error) {
	text, err := os.ReadFile(filepath.Join(root, performanceFile))
	if err != nil {
		return nil, fmt.Errorf("%w (make bench writes it)", err)
	}
	var report figures.Report
	if err := json.Unmarshal(text, &report); err != nil {
		return nil, fmt.Errorf("%s: %w", performanceFile, err)
	}
	return report.Rows, nil
}

// measured is one sentence for each line of the benchmark that is called prefix or, if none
// is, that begins with it.
func (s source) measured(prefix string) ([]string, error) {
	if prefix == "" {
		return nil, fmt.Errorf("measured what? Give the beginning of a line of %s", performanceFile)
	}
	named := slices.ContainsFunc(s.rows, func(m figures.Row) bool { return m.Line == prefix })
	var sentences []string
	for _, m := range s.rows {
		if m.Line == prefix || !named && strings.HasPrefix(m.Line, prefix) {
			sentences = append(sentences, "- "+sentence(m))
		}
	}
	if len(sentences) == 0 {
		return nil, fmt.Errorf("no line of %s begins with %q", performanceFile, prefix)
	}
	return sentences, nil
}

// sentence says it in words: "Accept, 8 clients: 2,070 orders/s, p50 3.6 ms, p99
// 8.6 ms; 0.50 times (0.46 to 0.53) the 4,165 of pgbench, the same writes as one statement."
func sentence(m figures.Row) string {
	var parts []string
	switch {
	case m.Ours > 0:
		parts = append(parts, figures.Number(m.Ours)+" "+m.Unit)
	case m.Unit != "":
		parts = append(parts, m.Unit)
	}
	if m.P50 > 0 {
		parts = append(parts, "p50 "+figures.Latency(m.P50))
	}
	if m.P99 > 0 {
		parts = append(parts, "p99 "+figures.Latency(m.P99))
	}
	line := strings.ToUpper(m.Line[:1]) + m.Line[1:] + ": " + strings.Join(parts, ", ")
	switch {
	case m.Median > 0 && m.Theirs > 0:
		line += fmt.Sprintf("; %.2f times (%.2f to %.2f) the %s of %s", m.Median, m.Min, m.Max, figures.Number(m.Theirs), m.Beside)
	case m.Median > 0:
		line += fmt.Sprintf("; %.2f times (%.2f to %.2f) %s", m.Median, m.Min, m.Max, m.Beside)
	case m.Beside != "":
		line += ", " + m.Beside
	}
	return line + "."
}
