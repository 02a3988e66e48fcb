package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"example.com/failwell/scripts/lab/experiments"
)

// pagesSeed is what the pages show: their commands name no seed.
const pagesSeed = 1

// compare holds what was run against the pages in a directory, line by line, without
// what differs in each run.
func compare(pages string, results []experiments.Result) error {
	var stale []string
	for _, r := range results {
		if r.Error != "" {
			continue // it has no end that could be compared
		}
		path := filepath.Join(pages, r.ID+".md")
		text, err := os.ReadFile(path) //nolint:gosec // a page of the repository
		if err != nil {
			return err
		}
		page := strings.Split(string(text), "\n")
		if difference := firstDifference(page, "<!-- verdict -->", r.Timelines()); difference != "" {
			stale = append(stale, path+difference)
		}
	}
	if len(stale) > 0 {
		return fmt.Errorf("pages do not show what was run:\n%s\nif that is meant: go run ./scripts/lab run all --json --record docs/site/runs > %s && go run ./scripts/catalogue generate",
			strings.Join(stale, "\n"), filepath.Join(pages, "experiments.json"))
	}
	return nil
}

// firstDifference is the first line of a page's block that is not as it was run, or
// "". Only the first: after a line too many all others would differ.
func firstDifference(page []string, directive string, run []string) string {
	begin := slices.Index(page, directive)
	if begin < 0 {
		return ": no " + directive + ": what the experiment prints is not on its page"
	}
	// The end is compared like a line: otherwise what the page shows after the last
	// line of the run would pass.
	for i, line := range append(run, experiments.BlockEnd) {
		at, want := begin+1+i, ""
		if at < len(page) {
			want = experiments.Masked(page[at])
		}
		if got := experiments.Masked(line); got != want {
			return fmt.Sprintf(":%d: want %q, got %q", at+1, want, got)
		}
	}
	return ""
}
