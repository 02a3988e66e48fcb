package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"example.com/failwell/scripts/lab/conform"
	"example.com/failwell/scripts/lab/experiments"
	"example.com/failwell/scripts/lab/mutants"
)

// A page is written by hand, except for the blocks between a directive and
// <!-- end -->. They are drawn from the code and from the experiments:
//
//	<!-- excerpt services/orders/accept.go "func (s *service) place" "^}" -->
//	<!-- verdict -->      what the experiment shows, without and with
//	<!-- places -->       every place of use
//	<!-- index -->        the table of patterns
//	<!-- record -->       the table of bugs that were found and mended
//	<!-- messages -->     the table of messages
//	<!-- tables -->       the table of tables
//	<!-- cases -->        the cases that a service can be held against
//
// An excerpt begins at the first line that contains the first text, and ends with
// the first line from there on that matches the second, a regular expression.
var directive = regexp.MustCompile(`^<!-- (excerpt|verdict|places|index|record|messages|tables|cases)(.*) -->$`)

const blockEnd = "<!-- end -->"

// source is what blocks are drawn from.
type source struct {
	root    string
	places  map[string][]place
	results map[string]experiments.Result // as `lab run all --json` has written them
}

// resultsFile keeps the experiments' results for the pages.
const resultsFile = "docs/patterns/experiments.json"

func open(root string) (source, error) {
	s := source{root: root, results: map[string]experiments.Result{}}
	var err error
	if s.places, err = places(root); err != nil {
		return s, err
	}
	text, err := os.ReadFile(filepath.Join(root, resultsFile))
	if err != nil {
		return s, fmt.Errorf("%w (go run ./scripts/lab run all --json > %s)", err, resultsFile)
	}
	var results []experiments.Result
	if err := json.Unmarshal(text, &results); err != nil {
		return s, fmt.Errorf("%s: %w", resultsFile, err)
	}
	for _, r := range results {
		s.results[r.ID] = r
	}
	return s, nil
}

// redraw returns the page with its blocks as they should be now. id is the
// pattern that the page is about; "" for another page.
func (s source) redraw(path, id, text string) (string, error) {
	var out []string
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		out = append(out, lines[i])
		m := directive.FindStringSubmatch(lines[i])
		if m == nil {
			continue
		}
		end := i + 1
		for end < len(lines) && lines[end] != blockEnd {
			end++
		}
		if end == len(lines) {
			return "", fmt.Errorf("%s:%d: no %s after %s", path, i+1, blockEnd, lines[i])
		}
		block, err := s.block(path, id, m[1], strings.TrimSpace(m[2]))
		if err != nil {
			return "", fmt.Errorf("%s:%d: %w", path, i+1, err)
		}
		out = append(append(out, block...), blockEnd)
		i = end
	}
	return strings.Join(out, "\n"), nil
}

func (s source) block(path, id, kind, args string) ([]string, error) {
	up := strings.Repeat("../", strings.Count(path, "/"))
	switch kind {
	case "excerpt":
		return s.excerpt(up, args)
	case "verdict":
		r, ok := s.results[id]
		if !ok {
			return nil, fmt.Errorf("%s has no result of %q", resultsFile, id)
		}
		return verdictBlock(r), nil
	case "places":
		var lines []string
		for _, p := range s.places[id] {
			lines = append(lines, fmt.Sprintf("- [%s](%s%s#L%d)", p, up, p.File, p.Line))
		}
		return lines, nil
	case "record":
		return record(), nil
	case "messages":
		return s.messages(up)
	case "tables":
		return s.tables(up)
	case "cases":
		return cases(), nil
	default:
		return s.index(up), nil
	}
}

// record is the table of bugs.
func record() []string {
	table := []string{"| when | found by | what broke | invariant | mended | bring it back |", "|---|---|---|---|---|---|"}
	for _, b := range mutants.Bugs {
		invariant := "none of the eleven"
		if b.Invariant != "" {
			invariant = "`" + b.Invariant + "`"
		}
		table = append(table, fmt.Sprintf("| %s | %s | %s | %s | %s | `go run ./scripts/lab record --only %s` runs `%s` of `%s`: it passes, and with the bug it fails |",
			b.Date, b.FoundBy, b.Broke, invariant, b.Mended, b.ID, b.Test, b.Package))
	}
	return table
}

// cases are those of `lab conform`, with where they come from.
func cases() []string {
	var lines []string
	for _, list := range conform.Lists {
		lines = append(lines, "", fmt.Sprintf("**%s** (`--kind %s`)", list.Title, list.Kind), "", "| case | what is right | demanded by |", "|---|---|---|")
		for _, each := range list.Cases {
			lines = append(lines, fmt.Sprintf("| `%s` | %s | %s |", each.ID, each.Says, each.Source))
		}
	}
	return append(lines, "")
}

var excerptArgs = regexp.MustCompile(`^(\S+) "(.*)" "(.*)"$`)

func (s source) excerpt(up, args string) ([]string, error) {
	m := excerptArgs.FindStringSubmatch(args)
	if m == nil {
		return nil, fmt.Errorf("an excerpt reads: file \"first text\" \"last pattern\"")
	}
	text, err := os.ReadFile(filepath.Join(s.root, m[1]))
	if err != nil {
		return nil, err
	}
	last, err := regexp.Compile(m[3])
	if err != nil {
		return nil, err
	}
	lines := strings.Split(string(text), "\n")
	for first := range lines {
		if !strings.Contains(lines[first], m[2]) {
			continue
		}
		for end := first; end < len(lines); end++ {
			if end > first && last.MatchString(lines[end]) || end == first && m[3] == "" {
				name := filepath.Base(m[1])
				language := strings.TrimPrefix(filepath.Ext(name), ".")
				block := []string{fmt.Sprintf("[%s:%d](%s%s#L%d)", m[1], first+1, up, m[1], first+1), "", "```" + language}
				return append(append(block, outdented(lines[first:end+1])...), "```"), nil
			}
		}
		return nil, fmt.Errorf("%s: no line matches %q after line %d", m[1], m[3], first+1)
	}
	return nil, fmt.Errorf("%s: no line contains %q", m[1], m[2])
}

// outdented takes away the tabs that all lines have.
func outdented(lines []string) []string {
	least := 99
	for _, l := range lines {
		if strings.TrimSpace(l) != "" {
			least = min(least, len(l)-len(strings.TrimLeft(l, "\t")))
		}
	}
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = strings.ReplaceAll(l[min(least, len(l)):], "\t", "    ")
	}
	return out
}

func verdictBlock(r experiments.Result) []string {
	block := []string{"Fault: " + r.Fault + ".", "", "```", "WITHOUT"}
	for _, l := range r.Left {
		block = append(block, "  "+l.Text)
	}
	block = append(block, "  ✗ "+r.Without.Says, "", "WITH")
	for _, l := range r.Right {
		block = append(block, "  "+l.Text)
	}
	return append(block, "  ✓ "+r.With.Says, "```")
}

// index is the table of all patterns.
func (s source) index(up string) []string {
	table := []string{"| pattern | what it does about failure | try it | code |", "|---|---|---|---|"}
	for _, e := range experiments.All {
		code := "–"
		if p := s.places[e.ID]; len(p) > 0 {
			code = fmt.Sprintf("[%s](%s%s)", e.Code, up, e.Code)
		}
		table = append(table, fmt.Sprintf("| [%s](%sdocs/patterns/%s.md) | %s Without it: %s. With it: %s. | `go run ./scripts/lab run %s` | %s |",
			e.ID, up, e.ID, e.Says, s.results[e.ID].Without.Says, s.results[e.ID].With.Says, e.ID, code))
	}
	return table
}
