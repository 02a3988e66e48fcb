package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"example.com/failwell/scripts/lab/experiments"
)

// headings are the parts that every page of a pattern has, in this order.
var headings = []string{
	"## The problem", "## How it fails", "## The idea", "## The pattern in forty lines", "## Take it away", "## In the services",
	"## What it costs", "## When not to use it", "## What else there is", "## See also",
}

// sourcePage is where the patterns come from.
const sourcePage = "https://www.thomwright.co.uk/failure-patterns"

type generateCmd struct{}

// Run writes the generated blocks.
func (generateCmd) Run() error {
	s, err := open(".")
	if err != nil {
		return err
	}
	text, err := s.site()
	if err != nil {
		return err
	}
	if err := os.WriteFile(siteFile, text, 0o644); err != nil { //nolint:gosec // documentation
		return err
	}
	return eachPage(".", func(path, text string) error {
		drawn, err := s.redraw(path, patternOf(path), text)
		if err != nil || drawn == text {
			return err
		}
		fmt.Println("written:", path)
		return os.WriteFile(path, []byte(drawn), 0o644) //nolint:gosec // documentation
	})
}

type checkCmd struct{}

// Run lists every gap, and fails when there is one.
func (checkCmd) Run() error {
	s, err := open(".")
	if err != nil {
		return err
	}
	names, err := openNames(".")
	if err != nil {
		return err
	}
	gaps := slices.Concat(s.markersAndPages(), s.exampleGaps(), s.siteGaps())
	links, pages := 0, map[string]string{}
	err = eachPage(".", func(path, text string) error {
		pages[path] = text
		n, dead := s.deadLinks(path, text)
		links += n
		gaps = append(gaps, dead...)
		gaps = append(gaps, diagrams(path, text)...)
		gaps = append(gaps, notRun(path, text)...)
		gaps = append(gaps, names.unknown(path, text)...)
		drawn, err := s.redraw(path, patternOf(path), text)
		switch {
		case err != nil:
			gaps = append(gaps, err.Error())
		case drawn != text:
			gaps = append(gaps, fmt.Sprintf("%s:%d: not as the code is now (go run ./scripts/catalogue generate)", path, firstDifference(drawn, text)))
		}
		return nil
	})
	if err != nil {
		return err
	}
	forgotten, err := s.neverForgotten()
	if err != nil {
		return err
	}
	avoided, err := s.avoidedWords()
	if err != nil {
		return err
	}
	brought, err := s.brought()
	if err != nil {
		return err
	}
	gaps = slices.Concat(gaps, deadEnds(pages), forgotten, avoided, brought)
	uses := 0
	for _, p := range s.places {
		uses += len(p)
	}
	for _, gap := range gaps {
		fmt.Println(gap)
	}
	fmt.Printf("%d patterns, %d places of use, %d links, %d gaps\n", len(experiments.All), uses, links, len(gaps))
	if len(gaps) > 0 {
		return errors.New("the catalogue has gaps")
	}
	return nil
}

// markersAndPages holds the three lists of patterns against each other: markers in
// the code, experiments, pages.
func (s source) markersAndPages() (gaps []string) {
	known := map[string]bool{}
	for _, e := range experiments.All {
		known[e.ID] = true
		if len(s.places[e.ID]) == 0 {
			gaps = append(gaps, fmt.Sprintf("%s: no place of use: nothing in services or shared says // Pattern: %s", e.ID, e.ID))
		}
		if _, err := os.Stat(filepath.Join(s.root, e.Code)); err != nil {
			gaps = append(gaps, fmt.Sprintf("%s: the experiment leads to code that is not there: %s", e.ID, e.Code))
		}
		if r, ok := s.results[e.ID]; !ok || !r.Expected() {
			gaps = append(gaps, fmt.Sprintf("%s: %s has no good result of its experiment", e.ID, resultsFile))
		}
		gaps = append(gaps, s.page(e.ID)...)
	}
	for id, where := range s.places {
		if !known[id] {
			gaps = append(gaps, fmt.Sprintf("%s: // Pattern: %s is not a pattern", where[0], id))
		}
	}
	pages, _ := filepath.Glob(filepath.Join(s.root, "docs/patterns/*.md"))
	for _, page := range pages {
		if id := strings.TrimSuffix(filepath.Base(page), ".md"); !known[id] {
			gaps = append(gaps, fmt.Sprintf("docs/patterns/%s.md: a page of no pattern: there is no experiment %q", id, id))
		}
	}
	return gaps
}

// page checks that a pattern's page has all of its parts.
func (s source) page(id string) (gaps []string) {
	path := "docs/patterns/" + id + ".md"
	text, err := os.ReadFile(filepath.Join(s.root, path))
	if err != nil {
		return []string{fmt.Sprintf("%s: no page: %s", id, path)}
	}
	gaps = sections(path, string(text))
	for _, parts := range [][]string{
		{"<!-- excerpt services/", "<!-- excerpt shared/"},
		{"<!-- example -->"}, {"<!-- edit -->"},
		{"<!-- verdict -->"}, {"<!-- places -->"}, {"```mermaid\nsequenceDiagram"}, {"go run ./scripts/lab run " + id}, {sourcePage},
	} {
		if !slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(string(text), part) }) {
			gaps = append(gaps, fmt.Sprintf("%s: lacks %s", path, strings.Join(parts, " or ")))
		}
	}
	return gaps
}

// sections checks that the parts are there, in their order, and say something.
func sections(path, text string) (gaps []string) {
	after := 0
	for _, h := range headings {
		at := strings.Index(text[after:], "\n"+h+"\n")
		if at < 0 {
			gaps = append(gaps, fmt.Sprintf("%s: no part %q in its place", path, h))
			continue
		}
		after += at + 1 + len(h)
		content, _, _ := strings.Cut(text[after:], "\n## ")
		if strings.TrimSpace(comments.ReplaceAllString(content, "")) == "" {
			gaps = append(gaps, fmt.Sprintf("%s: part %q is empty", path, h))
		}
	}
	return gaps
}

var comments = regexp.MustCompile(`(?m)^<!-- .* -->$`)

// eachPage calls do with every Markdown file.
func eachPage(root string, do func(path, text string) error) error {
	return eachFile(root, func(path string) bool { return filepath.Ext(path) == ".md" }, do)
}

// eachFile calls do with the files below a directory that are wanted, by their path from
// there. Hidden directories are left out, but for GitHub's.
func eachFile(root string, wanted func(path string) bool, do func(path, text string) error) error {
	return fs.WalkDir(os.DirFS(root), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != ".github" && path != ".":
			return fs.SkipDir
		case d.IsDir() || !wanted(path):
			return nil
		}
		text, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			return err
		}
		return do(path, string(text))
	})
}

// patternOf is the pattern that a page is about, or "".
func patternOf(path string) string {
	if filepath.Dir(path) != "docs/patterns" {
		return ""
	}
	return strings.TrimSuffix(filepath.Base(path), ".md")
}

func firstDifference(a, b string) int {
	left, right := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range slices.Min([]int{len(left), len(right)}) {
		if left[i] != right[i] {
			return i + 1
		}
	}
	return min(len(left), len(right))
}
