package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"example.com/failwell/scripts/lab/experiments"
)

// pagesSeed is what the pages show: their commands name no seed.
const pagesSeed = 1

// compare holds what was run against what the pages in a directory are drawn from, line by
// line, without what differs in each run. (The catalogue's check holds the pages against that.)
func compare(pages string, results []experiments.Result) error {
	file := filepath.Join(pages, "experiments.json")
	shown, err := experiments.Read(file)
	if err != nil {
		return err
	}
	var stale []string
	for _, r := range results {
		if r.Error != "" {
			continue // it has no end that could be compared
		}
		if difference := firstDifference(shown[r.ID].Timelines(), r.Timelines()); difference != "" {
			stale = append(stale, r.ID+": "+difference)
		}
	}
	if len(stale) > 0 {
		return fmt.Errorf("pages do not show what was run:\n%s\nif that is meant: go run ./scripts/lab run all --json --record docs/site/runs > %s && go run ./scripts/catalogue generate",
			strings.Join(stale, "\n"), file)
	}
	return nil
}

// firstDifference is the first line that is not shown as it was run, or "". Only the first:
// after a line too many all others would differ.
func firstDifference(shown, run []string) string {
	for i := range max(len(shown), len(run)) {
		want, got := masked(shown, i), masked(run, i)
		if got != want {
			return fmt.Sprintf("want %q, got %q", want, got)
		}
	}
	return ""
}

func masked(lines []string, i int) string {
	if i >= len(lines) {
		return ""
	}
	return experiments.Masked(lines[i])
}
