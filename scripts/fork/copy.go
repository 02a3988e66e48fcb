package main

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// copier copies files with the names exchanged, and takes out of them what leads to
// a file that was left behind.
type copier struct {
	kept    map[string]string // what is copied, by file
	renamed *strings.Replacer
}

func (c copier) copy(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	text := c.kept[from]
	switch {
	case from == "Makefile":
		text = c.makefile(text)
	case from == ".ci/run":
		text = c.steps(text)
	case path.Ext(from) == ".md":
		text = c.page(from, text)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil { //nolint:gosec // source code
		return err
	}
	return os.WriteFile(to, []byte(c.renamed.Replace(text)), info.Mode().Perm())
}

// here tells whether a file, or something in a directory, is copied.
func (c copier) here(file string) bool {
	for k := range c.kept {
		if k == file || strings.HasPrefix(k, strings.TrimSuffix(file, "/")+"/") {
			return true
		}
	}
	return false
}

// runs tells whether a command's package is copied: a directory with a main of its own.
func (c copier) runs(dir string) bool {
	for k := range c.kept {
		if path.Dir(k) == dir && path.Ext(k) == ".go" {
			return true
		}
	}
	return false
}

var (
	goRun  = regexp.MustCompile(`go run \./(scripts/[\w/]+)`)
	script = regexp.MustCompile(`\bscripts/[\w/]+\.sh\b`)
)

// makefile drops the targets whose commands were left behind.
func (c copier) makefile(text string) string {
	var kept []string
	for _, block := range strings.Split(text, "\n.PHONY: ") {
		drop := false
		for _, m := range goRun.FindAllStringSubmatch(block, -1) {
			drop = drop || !c.runs(m[1])
		}
		for _, file := range script.FindAllString(block, -1) {
			drop = drop || !c.here(file)
		}
		if !drop {
			kept = append(kept, block)
		}
	}
	return strings.TrimRight(strings.Join(kept, "\n.PHONY: "), "\n") + "\n"
}

var step = regexp.MustCompile(`(?m)^step make ([a-z-]+).*\n`)

// steps drops what the Makefile has no target for from the list of what is checked.
func (c copier) steps(text string) string {
	targets := c.makefile(c.kept["Makefile"])
	return step.ReplaceAllStringFunc(text, func(line string) string {
		if strings.Contains(targets, "\n"+step.FindStringSubmatch(line)[1]+":") {
			return line
		}
		return ""
	})
}

var (
	link      = regexp.MustCompile(`!?\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)`)
	directive = regexp.MustCompile(`^<!-- (?:excerpt|naive|verdict|printed|places|measured|run|index|record|messages|tables)(?: .*)? -->$`)
)

// page takes away what leads to what was left behind: links, whose words stay, and
// the paragraphs and rows that tell somebody to run it. Without the catalogue its
// directives mean nothing, so they go too.
func (c copier) page(from, text string) string {
	if !c.runs("scripts/catalogue") {
		text = withoutDirectives(text)
	}
	var paragraphs []string
	for _, paragraph := range strings.Split(text, "\n\n") {
		if !strings.HasPrefix(paragraph, "|") && c.needsMissing(paragraph) {
			continue
		}
		var lines []string
		for _, line := range strings.Split(paragraph, "\n") {
			if !c.needsMissing(line) {
				lines = append(lines, line)
			}
		}
		paragraphs = append(paragraphs, strings.Join(lines, "\n"))
	}
	text = strings.TrimRight(strings.Join(paragraphs, "\n\n"), "\n") + "\n"
	return link.ReplaceAllStringFunc(text, func(whole string) string {
		m := link.FindStringSubmatch(whole)
		if strings.Contains(m[2], "://") || c.here(path.Join(path.Dir(from), m[2])) {
			return whole
		}
		return m[1]
	})
}

func (c copier) needsMissing(text string) bool {
	return slices.ContainsFunc(goRun.FindAllStringSubmatch(text, -1), func(m []string) bool { return !c.runs(m[1]) && c.ours(m[1]) })
}

// ours tells whether there is such a command here: docs/fork.md speaks of one that is
// yet to be written.
func (c copier) ours(dir string) bool {
	_, err := os.Stat(dir)
	return err == nil
}

func withoutDirectives(text string) string {
	var lines []string
	inBlock := false
	for _, line := range strings.Split(text, "\n") {
		switch {
		case directive.MatchString(line):
			inBlock = true
		case inBlock && line == "<!-- end -->":
			inBlock = false
		default:
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// readme is a first page for a fork without ours.
func (c copier) readme() string {
	lines := []string{
		"# " + strings.ToUpper(cli.Name[:1]) + cli.Name[1:], "",
		"```", "make run     the whole system as local processes, every URL, and a curl to paste", "make test    every test", "make help    the rest", "```", "",
	}
	for _, page := range [][2]string{
		{"docs/architecture.md", "The whole on one page"}, {"docs/runbook.md", "What each alarm means, and what to type"}, {"docs/decisions/README.md", "Decisions"},
	} {
		if c.here(page[0]) {
			lines = append(lines, fmt.Sprintf("- [%s](%s)", page[1], page[0]))
		}
	}
	return strings.Join(lines, "\n") + "\n"
}
