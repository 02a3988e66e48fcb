package main

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"example.com/failwell/scripts/bench/figures"
	"example.com/failwell/scripts/lab/conform"
	"example.com/failwell/scripts/lab/experiments"
	"example.com/failwell/scripts/lab/mutants"
)

// A page is written by hand, except for the blocks between a directive and
// <!-- end -->. They are drawn from the code, the experiments and the benchmark:
//
//	<!-- excerpt services/orders/accept.go "func (s *service) place(" "^}" -->
//	<!-- example -->      the pattern by itself, and what its Example_without prints
//	<!-- edit -->         the diff of the services that takes the pattern away
//	<!-- verdict -->      what the experiment shows, without and with; `lab run --compare` runs it again
//	<!-- places -->       every place of use
//	<!-- measured accept, 8 clients --> one sentence for each line of the benchmark that begins so
//	<!-- run grep -rn ErrInTransaction shared --> the command and what it prints; check runs it again
//	<!-- index -->        the table of patterns
//	<!-- way -->          from a pattern's page to the one before, the next, and up
//	<!-- record -->       the table of bugs that were found and fixed
//	<!-- messages -->     the table of messages
//	<!-- tables -->       the table of tables
//	<!-- cases -->        the cases that a service can be held against
//
// The name ends at the first space or at the end; what follows are its arguments.
var directive = regexp.MustCompile(`^<!-- (excerpt|example|edit|verdict|places|measured|run|index|way|record|messages|tables|cases)( .*)? -->$`)

const blockEnd = experiments.BlockEnd

// source is what blocks are drawn from.
type source struct {
	root    string
	places  map[string][]place
	results map[string]experiments.Result // as `lab run all --json` has written them
	rows    []figures.Row                 // as `make bench` has written them

	examples    map[string]pair
	badExamples []string
}

// resultsFile keeps the experiments' results for the pages.
const resultsFile = "docs/patterns/experiments.json"

func open(root string) (source, error) {
	s := source{root: root}
	var err error
	if s.places, err = places(root); err != nil {
		return s, err
	}
	if s.results, err = experiments.Read(filepath.Join(root, resultsFile)); err != nil {
		return s, err
	}
	if s.rows, err = measurements(root); err != nil {
		return s, err
	}
	s.examples, s.badExamples, err = examples(root)
	return s, err
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
		block, err := s.block(path, id, m[1], strings.TrimSpace(m[2]), lines[i+1:end])
		if err != nil {
			return "", fmt.Errorf("%s:%d: %w", path, i+1, err)
		}
		out = append(append(out, block...), blockEnd)
		i = end
	}
	return strings.Join(out, "\n"), nil
}

// block draws what belongs after a directive. old is what stands there now.
func (s source) block(path, id, kind, args string, old []string) ([]string, error) {
	up := strings.Repeat("../", strings.Count(path, "/"))
	switch kind {
	case "excerpt":
		return s.excerpt(up, args)
	case "example":
		return s.example(up, id)
	case "edit":
		return s.edit(up, id)
	case "verdict":
		r, ok := s.results[id]
		if !ok {
			return nil, fmt.Errorf("%s has no result of %q", resultsFile, id)
		}
		return r.Timelines(), nil
	case "measured":
		return s.measured(args)
	case "run":
		return s.runAgain(args, old)
	case "places":
		var lines []string
		for _, p := range s.places[id] {
			lines = append(lines, fmt.Sprintf("- [%s](%s%s#L%d)", p, up, p.File, p.Line))
		}
		return lines, nil
	case "way":
		return way(id)
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
	table := []string{"| when | found by | what broke | invariant | fixed | bring it back |", "|---|---|---|---|---|---|"}
	for _, b := range mutants.Bugs {
		invariant := "none of the eleven"
		if b.Invariant != "" {
			invariant = "`" + b.Invariant + "`"
		}
		table = append(table, fmt.Sprintf("| %s | %s | %s | %s | %s | `go run ./scripts/lab record --only %s` runs `%s` of `%s`: it passes, and with the bug it fails |",
			b.Date, b.FoundBy, b.Broke, invariant, b.Fixed, b.ID, b.Test, b.Package))
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

// way leads from one page to the next, in the order of the catalogue.
func way(id string) ([]string, error) {
	at := slices.IndexFunc(experiments.All, func(e experiments.Experiment) bool { return e.ID == id })
	if at < 0 {
		return nil, fmt.Errorf("no pattern %q", id)
	}
	links := []string{"[all patterns](../../README.md#the-patterns)", "[which one?](../choosing.md)", "[the course](../course/README.md)"}
	if at > 0 {
		links = append([]string{fmt.Sprintf("← [%s](%[1]s.md)", experiments.All[at-1].ID)}, links...)
	}
	if at+1 < len(experiments.All) {
		links = append(links, fmt.Sprintf("[%s](%[1]s.md) →", experiments.All[at+1].ID))
	}
	return []string{strings.Join(links, " · ")}, nil
}

// index is the table of all patterns.
func (s source) index(up string) []string {
	table := []string{"| pattern | what goes wrong | without it | with it | code |", "|---|---|---|---|---|"}
	for _, e := range experiments.All {
		table = append(table, fmt.Sprintf("| [%s](%sdocs/patterns/%s.md) | %s | %s | %s | %s |",
			e.ID, up, e.ID, e.Says, s.results[e.ID].Without.Says, s.results[e.ID].With.Says, s.codeLink(up, e)))
	}
	return table
}

// codeLink leads to the pattern's marker in the file that its experiment names, or
// to its first marker.
func (s source) codeLink(up string, e experiments.Experiment) string {
	all := s.places[e.ID]
	if len(all) == 0 {
		return "–"
	}
	at := all[0]
	if i := slices.IndexFunc(all, func(p place) bool { return p.File == e.Code }); i >= 0 {
		at = all[i]
	}
	return fmt.Sprintf("[%s](%s%s#L%d)", strings.TrimSuffix(filepath.Base(at.File), ".go"), up, at.File, at.Line)
}
