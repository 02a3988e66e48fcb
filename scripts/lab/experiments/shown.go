package experiments

import (
	"regexp"
	"strings"
)

// BlockEnd is the line after a block of a page.
const BlockEnd = "<!-- end -->"

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
