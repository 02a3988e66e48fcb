package main

import (
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// keep chooses the files that are copied, and returns their texts.
func keep(without []string) (map[string]string, error) {
	files, err := tracked()
	if err != nil {
		return nil, err
	}
	kept, left := map[string]string{}, map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file) //nolint:gosec // a file of the repository
		if err != nil {
			return nil, err
		}
		kept[file] = string(text)
		for _, part := range without {
			if slices.ContainsFunc(parts[part], func(begins string) bool { return strings.HasPrefix(file, begins) }) {
				left[file] = string(text)
				delete(kept, file)
			}
		}
	}
	for moved := true; moved; { // a package that comes along may import others
		moved = false
		needed := imported(kept)
		for file, text := range left {
			if needed[path.Dir(file)] {
				kept[file], moved = text, true
				delete(left, file)
			}
		}
	}
	return kept, nil
}

// imported are the directories of our own packages that some file imports.
func imported(kept map[string]string) map[string]bool {
	dirs := map[string]bool{}
	for file, text := range kept {
		if path.Ext(file) != ".go" {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, text, parser.ImportsOnly)
		if err != nil {
			continue // the compiler says it better
		}
		for _, i := range parsed.Imports {
			name, err := strconv.Unquote(i.Path.Value)
			if dir, ours := strings.CutPrefix(name, ourModule+"/"); err == nil && ours {
				dirs[dir] = true
			}
		}
	}
	return dirs
}

// copier copies files with the names exchanged, and takes out of Makefile, CI and
// pages what leads to a file that was left out.
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
	case slices.Contains(containers, from) && !c.here("scripts/live"):
		text = strings.Replace(labInContainers.ReplaceAllString(text, ""), " ./scripts/live/lab", "", 1)
	case path.Ext(from) == ".md":
		text = c.page(from, text)
	case strings.HasPrefix(from, ".github/"):
		text = c.workflow(text)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil { //nolint:gosec // source code
		return err
	}
	return os.WriteFile(to, []byte(c.renamed.Replace(text)), info.Mode().Perm())
}

// here tells whether a file, or something in a directory, is copied.
func (c copier) here(file string) bool {
	if _, is := c.kept[file]; is {
		return true
	}
	for k := range c.kept {
		if strings.HasPrefix(k, strings.TrimSuffix(file, "/")+"/") {
			return true
		}
	}
	return false
}

var (
	goRun      = regexp.MustCompile(`go run \./(scripts/[\w/]+)`)
	goTest     = regexp.MustCompile("go test [^`\n]*\\./(scripts/[\\w/]+)")
	script     = regexp.MustCompile(`\bscripts/[\w/]+\.sh\b`)
	makeTarget = regexp.MustCompile(`(?m)^step make ([a-z-]+).*\n`)
)

// runs tells whether a command's package is copied: what is left of scripts/lab for
// others to import has no main.go.
func (c copier) runs(dir string) bool { return c.here(dir + "/main.go") }

// makefile drops the targets whose commands were left out.
func (c copier) makefile(text string) string {
	var blocks []string
	for _, block := range strings.Split(text, "\n.PHONY: ") {
		drop := false
		for _, m := range goRun.FindAllStringSubmatch(block, -1) {
			drop = drop || !c.runs(m[1])
		}
		for _, file := range script.FindAllString(block, -1) {
			drop = drop || !c.here(file)
		}
		if !drop {
			blocks = append(blocks, block)
		}
	}
	return strings.TrimRight(strings.Join(blocks, "\n.PHONY: "), "\n") + "\n"
}

// labInContainers is what stands in these files for the lab alone.
var (
	containers      = []string{"docker-compose.yml", "scripts/docker/Dockerfile", ".dockerignore"}
	labInContainers = regexp.MustCompile(`(?sm)^ *# lab:.*?^ *# end of lab\n`)
)

// steps drops from the list of what is checked what the Makefile has no target for.
func (c copier) steps(text string) string {
	targets := c.makefile(c.kept["Makefile"])
	return makeTarget.ReplaceAllStringFunc(text, func(line string) string {
		if strings.Contains(targets, "\n"+makeTarget.FindStringSubmatch(line)[1]+":") {
			return line
		}
		return ""
	})
}

var (
	link      = regexp.MustCompile(`!?\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)`)
	listed    = regexp.MustCompile(`^(?:\||- )`) // loses lines, not the whole
	directive = regexp.MustCompile(`(?m)^<!-- [a-z]+(?: .*)? -->\n`)
	excerpt   = regexp.MustCompile(`(?ms)^<!-- excerpt (\S+) [^\n]*\n\[[^\n]*\n\n(.*?)^<!-- end -->\n`)
)

// page takes out of a page the links to what was left out, whose words stay, and the
// paragraphs and rows that tell the reader to run it. Without the catalogue its
// directives mean nothing, so they go too. An excerpt of what was left out stays, as text.
func (c copier) page(from, text string) string {
	text = excerpt.ReplaceAllStringFunc(text, func(whole string) string {
		if m := excerpt.FindStringSubmatch(whole); !c.here(m[1]) {
			return m[2]
		}
		return whole
	})
	if !c.runs("scripts/catalogue") {
		text = directive.ReplaceAllString(text, "")
	}
	var paragraphs []string
	for _, paragraph := range strings.Split(text, "\n\n") {
		if !listed.MatchString(paragraph) && c.needsMissing(paragraph) {
			continue
		}
		rows := slices.DeleteFunc(strings.Split(paragraph, "\n"), c.needsMissing)
		paragraphs = append(paragraphs, strings.Join(rows, "\n"))
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
	dead := func(m []string) bool { return !strings.Contains(c.makefile(c.kept["Makefile"]), "\n"+m[1]+":") }
	return slices.ContainsFunc(goRun.FindAllStringSubmatch(text, -1), func(m []string) bool { return !c.runs(m[1]) }) ||
		slices.ContainsFunc(goTest.FindAllStringSubmatch(text, -1), func(m []string) bool { return !c.here(m[1]) }) ||
		slices.ContainsFunc(makes.FindAllStringSubmatch(text, -1), dead)
}

var (
	ourFile = regexp.MustCompile(`\b(?:services|shared|scripts)/[\w/.-]*\w`)
	makes   = regexp.MustCompile("(?:^|`)make ([a-z][a-z-]*)")
)

// workflow drops the paragraphs of a workflow, each a job or a kind of update, that need
// what was left out.
func (c copier) workflow(text string) string {
	paragraphs := slices.DeleteFunc(strings.Split(text, "\n\n"), func(p string) bool {
		return slices.ContainsFunc(ourFile.FindAllString(p, -1), func(file string) bool { return !c.here(file) })
	})
	return strings.TrimRight(strings.Join(paragraphs, "\n\n"), "\n") + "\n"
}

// readme is a first page for a fork without ours.
func (c copier) readme() string {
	lines := []string{
		"# " + title(cli.Name), "",
		"Three services take an order, charge the card, keep the books and notify the merchant: `services/orders`, `services/payments` and", "`services/ledger`.", "",
		"```", "make run     the whole system as local processes, every URL, and a curl to paste", "make test    the tests; make test-long: with the race detector", "make help    the rest", "```", "",
		"They need the Go of go.mod, and either Docker or, on Linux, a PostgreSQL and a RabbitMQ to start; on Debian and Ubuntu `make deps`", "installs those two. The race detector needs a C compiler.", "",
	}
	for _, page := range [][2]string{
		{"docs/architecture.md", "The whole on one page"}, {"docs/fork.md", "What to change first, what to remove, how to add a service"}, {"docs/runbook.md", "What each alarm means, and what to type"},
		{"docs/exposing.md", "Before you expose it"}, {"docs/decisions/README.md", "Decisions"}, {"docs/glossary.md", "Glossary"},
	} {
		if c.here(page[0]) {
			lines = append(lines, fmt.Sprintf("- [%s](%s)", page[1], page[0]))
		}
	}
	return strings.Join(lines, "\n") + "\n"
}
