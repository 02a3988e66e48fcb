package main

import (
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"example.com/failwell/scripts/lab/experiments"
)

// A pattern stands by itself in an Example function, and in a second one, whose name ends in
// _without, the same failure is shown without it. Both say in their comment which pattern it is.
type example struct {
	name        string
	says        string // the comment, without the marker
	output      string // what a run must print
	file        string
	first, last int // lines
}

// pair is a pattern by itself, and the same failure without it.
type pair struct{ with, without *example }

const exampleFile = "example_test.go"

// marked is the line of an Example's comment that names a pattern.
var marked = regexp.MustCompile(`(?m)^Pattern: ([a-z0-9-]+)$`)

// examples finds the Example functions under the services and the shared packages, by pattern.
// gaps are those that cannot be used.
func examples(root string) (found map[string]pair, gaps []string, err error) {
	found = map[string]pair{}
	for _, dir := range production {
		files, _ := filepath.Glob(filepath.Join(root, dir, "*", exampleFile)) // fails for a bad pattern only
		deeper, _ := filepath.Glob(filepath.Join(root, dir, "*", "*", exampleFile))
		for _, file := range append(files, deeper...) {
			some, bad, err := examplesIn(root, file)
			if err != nil {
				return nil, nil, err
			}
			gaps = append(gaps, bad...)
			for _, e := range some {
				id := marked.FindStringSubmatch(e.says)[1]
				e.says = strings.TrimSpace(marked.ReplaceAllString(e.says, ""))
				this, twice := found[id], false
				if strings.HasSuffix(e.name, "_without") {
					twice, this.without = this.without != nil, &e
				} else {
					twice, this.with = this.with != nil, &e
				}
				if twice {
					gaps = append(gaps, fmt.Sprintf("%s:%d: %s: %s has such an example already", e.file, e.first, e.name, id))
				}
				found[id] = this
			}
		}
	}
	return found, gaps, nil
}

// examplesIn are the Example functions of a file that name a pattern.
func examplesIn(root, file string) (found []example, gaps []string, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, err
	}
	fset := token.NewFileSet()
	parsed, err := parser.ParseFile(fset, file, text, parser.ParseComments)
	if err != nil {
		return nil, nil, err
	}
	name, _ := filepath.Rel(root, file) // it is below
	declared := map[string]*ast.FuncDecl{}
	for _, d := range parsed.Decls {
		if f, ok := d.(*ast.FuncDecl); ok {
			declared[f.Name.Name] = f
		}
	}
	for _, e := range doc.Examples(parsed) {
		f := declared["Example"+e.Name]
		at := example{
			name: f.Name.Name, says: e.Doc, output: strings.TrimSpace(e.Output), file: name,
			first: fset.Position(f.Pos()).Line, last: fset.Position(f.End()).Line,
		}
		switch {
		case !marked.MatchString(e.Doc):
			gaps = append(gaps, fmt.Sprintf("%s:%d: %s names no pattern", at.file, at.first, at.name))
		case at.output == "":
			gaps = append(gaps, fmt.Sprintf("%s:%d: %s has no // Output:, so that it is not run", at.file, at.first, at.name))
		default:
			found = append(found, at)
		}
	}
	return found, gaps, nil
}

// exampleGaps demands both Examples of each pattern.
func (s source) exampleGaps() (gaps []string) {
	known := map[string]bool{}
	for _, e := range experiments.All {
		known[e.ID] = true
		if s.examples[e.ID].with == nil {
			gaps = append(gaps, fmt.Sprintf("%s: no Example: no %s has one whose comment says Pattern: %s", e.ID, exampleFile, e.ID))
		}
		if s.examples[e.ID].without == nil {
			gaps = append(gaps, fmt.Sprintf("%s: no Example_without: no %s shows the failure without the pattern", e.ID, exampleFile))
		}
	}
	for id, p := range s.examples {
		if e := p.with; !known[id] && e != nil {
			gaps = append(gaps, fmt.Sprintf("%s:%d: Pattern: %s is not a pattern", e.file, e.first, id))
		}
	}
	return append(gaps, s.badExamples...)
}

// example shows the pattern by itself, and what the other one prints.
func (s source) example(up, id string) ([]string, error) {
	p := s.examples[id]
	if p.with == nil || p.without == nil {
		return nil, fmt.Errorf("%s has no Example, or no Example_without", id)
	}
	text, err := os.ReadFile(filepath.Join(s.root, p.with.file))
	if err != nil {
		return nil, err
	}
	block := append(strings.Split(p.with.says, "\n"), "")
	block = append(block, shown(up, p.with.file, strings.Split(string(text), "\n"), p.with.first-1, p.with.last-1)...)
	block = append(block, "", fmt.Sprintf("The same situation without the pattern ([%s](%s%s#L%d)) ends like this:",
		p.without.name, up, p.without.file, p.without.first), "", "```")
	return append(append(block, strings.Split(p.without.output, "\n")...), "```"), nil
}
