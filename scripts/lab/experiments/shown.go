package experiments

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
)

// BlockEnd is the line after a block of a page.
const BlockEnd = "<!-- end -->"

// Read reads results as `lab run --json` writes them, by the pattern's id.
func Read(file string) (map[string]Result, error) {
	text, err := os.ReadFile(file) //nolint:gosec // of the repository, or named on the command line
	if err != nil {
		return nil, fmt.Errorf("%w (go run ./scripts/lab run all --json --record docs/site/runs > %s)", err, file)
	}
	var results []Result
	if err := json.Unmarshal(text, &results); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	byID := map[string]Result{}
	for _, r := range results {
		byID[r.ID] = r
	}
	return byID, nil
}

// Timelines are what a page shows of a run after <!-- verdict -->.
func (r Result) Timelines() []string {
	block := []string{"Fault: " + r.Fault + ".", "", "```", "WITHOUT"}
	for _, l := range r.Left {
		block = append(block, "  "+l.Text)
	}
	block = append(block, "  "+r.Without.Mark()+" "+r.Without.Says, "", "WITH")
	for _, l := range r.Right {
		block = append(block, "  "+l.Text)
	}
	return append(block, "  "+r.With.Mark()+" "+r.With.Says, "```")
}

// Ending is what `lab run` prints after the timelines.
func (r Result) Ending() []string {
	return []string{
		"without: " + r.Without.Says + " " + r.Without.Mark(),
		"with:    " + r.With.Says + " " + r.With.Mark(),
		"", "code:    " + r.Code, "edit:    " + r.Edit, "page:    " + r.Page,
	}
}

// Mark is the verdict in one character.
func (v Verdict) Mark() string {
	if v.Good {
		return "✓"
	}
	return "✗"
}

// varying is what may differ between two runs of one command, and why. All else must
// be the same in each: a mask that is too wide lets a stale page through.
var varying = []*regexp.Regexp{
	// An id begins with the time of its making. A key has no time in it: the seed
	// decides it, and it is compared.
	regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`),
	regexp.MustCompile(`\b[a-z]+_[0-9a-f]{6}…`),
	// It is another time, and a busy machine takes longer.
	regexp.MustCompile(`\d{4}-\d{2}-\d{2}(T|\s)\d{2}:\d{2}:\d{2}(\.\d+)?Z?`),
	regexp.MustCompile(`\d{2}:\d{2}:\d{2}(\.\d+)?`),
	regexp.MustCompile(`\b\d+(\.\d+)? ?(s|ms|µs|seconds)\b`),
	// A time of day in a body is written without the zeros at its end.
	regexp.MustCompile(`\b\d+ bytes\b`),
	// How often a client asks depends on how long a service takes to come back. Only
	// what stands in brackets: four tries of a callback are what the seed demands.
	regexp.MustCompile(`\(\d+ tries\)`),
}

// Masked is a printed line without what differs from one run to the next.
func Masked(line string) string {
	for _, v := range varying {
		line = v.ReplaceAllString(line, "*")
	}
	return strings.TrimRight(line, " ")
}
