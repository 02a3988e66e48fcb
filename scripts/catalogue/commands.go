package main

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"example.com/failwell/scripts/lab/experiments"
	"example.com/failwell/shared/platform/fault"
)

// named is what a page may name: it looks each thing up where it is made.
type named struct {
	root    string
	targets map[string]bool            // of the Makefile
	metrics map[string]string          // by name: the directory whose code has it
	tools   map[string]map[string]bool // commands under scripts/, by directory: see declaredIn
	tests   map[string][]string        // by directory: the functions that `go test -run` could match
}

var (
	target = regexp.MustCompile(`(?m)^([a-z][a-z-]*):`)
	metric = regexp.MustCompile(`\bfailwell_[a-z_]+[a-z]`)
	labels = regexp.MustCompile(`\b(failwell_[a-z_]+[a-z])\{(\w+)="(\w+)"\}`)
	point  = regexp.MustCompile(`\b(?:orders|payments|ledger)\.[a-z]+\.[a-z]+(?:-[a-z]+)+\b`)
)

func openNames(root string) (*named, error) {
	n := &named{root: root, targets: map[string]bool{}, metrics: map[string]string{}, tools: map[string]map[string]bool{}, tests: map[string][]string{}}
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		return nil, err
	}
	for _, m := range target.FindAllStringSubmatch(string(makefile), -1) {
		n.targets[m[1]] = true
	}
	if err := eachSource(root, production, func(file, text string) {
		for _, name := range metric.FindAllString(text, -1) {
			if strings.Contains(text, `"`+name+`"`) {
				n.metrics[name] = filepath.Dir(file)
			}
		}
	}); err != nil {
		return nil, err
	}
	return n, nil
}

// unknown lists what a page names and the code does not have.
func (n *named) unknown(path, text string) (gaps []string) {
	if slices.Contains(remembers, path) {
		return nil
	}
	gap := func(line int, format string, args ...any) {
		gaps = append(gaps, fmt.Sprintf("%s:%d: ", path, line)+fmt.Sprintf(format, args...))
	}
	for i, line := range strings.Split(text, "\n") {
		for _, name := range metric.FindAllString(line, -1) {
			if n.metrics[histogram.ReplaceAllString(name, "")] == "" && n.metrics[name] == "" {
				gap(i+1, "no such metric: %s", name)
			}
		}
		for _, m := range labels.FindAllStringSubmatch(line, -1) {
			if dir := n.metrics[m[1]]; dir != "" && !n.hasLabel(dir, m[2], m[3]) {
				gap(i+1, "%s has no %s=%q", m[1], m[2], m[3])
			}
		}
		for _, name := range point.FindAllString(line, -1) {
			if !slices.ContainsFunc(fault.Points, func(p fault.Info) bool { return p.Name == name }) {
				gap(i+1, "no such fault point: %s", name)
			}
		}
	}
	for _, c := range commandLines(text) {
		if made := newDir.FindStringSubmatch(text); made != nil && strings.Contains(strings.Join(c.words, " "), made[1]) {
			continue // what the reader of this page has yet to write (docs/fork.md's test writes it)
		}
		if err := n.command(c.words); err != nil {
			gap(c.line, "%v", err)
		}
	}
	return gaps
}

// remembers are the pages that speak of how it was: the bugs that were fixed, with
// the tests of their day (make record runs them).
var remembers = []string{"docs/track-record.md"}

var newDir = regexp.MustCompile(`mkdir -p ((?:services|shared|scripts)/\w+)`)

var histogram = regexp.MustCompile(`_(bucket|sum|count)$`)

// hasLabel looks for both words of a label in the code beside its metric.
func (n *named) hasLabel(dir, name, value string) bool {
	var all strings.Builder
	_ = eachSource(n.root, production, func(file, text string) {
		if filepath.Dir(file) == dir {
			all.WriteString(text)
		}
	})
	return strings.Contains(all.String(), `"`+name+`"`) && strings.Contains(all.String(), `"`+value+`"`)
}

// command checks the words of one command, as a shell would see them.
func (n *named) command(words []string) error {
	for i := range words {
		rest := words[i+1:]
		switch {
		case words[i] == "make" && i == 0 && len(rest) > 0 && targetName.MatchString(rest[0]) && !n.targets[rest[0]]:
			return fmt.Errorf("no such target: make %s", rest[0])
		case words[i] == "go" && len(rest) > 1 && rest[0] == "run" && strings.HasPrefix(rest[1], "./"):
			if err := n.tool(rest[1], rest[2:]); err != nil {
				return err
			}
		case words[i] == "go" && len(rest) > 0 && rest[0] == "test":
			return n.goTest(rest[1:])
		case i == 0 && words[0] == "lab" && len(rest) > 0:
			return n.tool("./scripts/lab", rest)
		}
	}
	return nil
}

var targetName = regexp.MustCompile(`^[a-z][a-z-]*$`)

// tool checks the arguments of a command under scripts/ against its declaration: the
// words before the first flag are commands, and every flag is one that it has.
func (n *named) tool(dir string, args []string) error {
	dir = filepath.Clean(dir)
	if n.tools[dir] == nil {
		declared, err := declaredIn(n.root, dir)
		if err != nil {
			return err
		}
		n.tools[dir] = declared
	}
	has, name := n.tools[dir], filepath.Base(dir)
	commands := slices.Contains(slices.Collect(maps.Values(has)), true)
	for _, word := range args {
		flag, isFlag := strings.CutPrefix(word, "--")
		flag, _, _ = strings.Cut(flag, "=")
		command := has[word]
		switch {
		case flag == "help" || word == "--":
			return nil
		case isFlag:
			commands = false
			if _, known := has[flag]; !known {
				return fmt.Errorf("%s has no flag --%s", name, flag)
			}
		case name == "lab run" || name == "lab without":
			if _, err := experiments.Find(word); commands && (word != "all" || name == "lab without") {
				return err
			}
			commands = false
		case !targetName.MatchString(word):
			commands = false // an argument
		case commands && !command:
			return fmt.Errorf("%s has no command %q", name, word)
		case commands:
			name += " " + word
		}
	}
	return nil
}

var field = regexp.MustCompile(`(?m)^\t+(\w+) .*` + "`.*(?:help|cmd|arg):.*`" + `$`)

// declaredIn reads how a command declares its flags (false) and commands (true): the
// fields of structs in its directory and below, as the library for command lines
// names them.
func declaredIn(root, dir string) (map[string]bool, error) {
	if _, err := os.Stat(filepath.Join(root, dir, "main.go")); err != nil {
		return nil, fmt.Errorf("go run: no command ./%s", filepath.ToSlash(dir))
	}
	has := map[string]bool{}
	return has, eachSource(root, []string{dir}, func(_, text string) {
		for _, m := range field.FindAllStringSubmatch(text, -1) {
			name := kebab(m[1])
			if given := givenName.FindStringSubmatch(m[0]); given != nil {
				name = given[1]
			}
			has[name] = has[name] || strings.Contains(m[0], `cmd:"`)
		}
	})
}

var givenName = regexp.MustCompile(`\bname:"([^"]+)"`)

func kebab(name string) string {
	var b strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 && !unicode.IsUpper(rune(name[i-1])) {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// production is where the code is that runs in production.
var production = []string{"services", "shared"}

// eachSource calls do with every Go file below some directories that is not a test.
func eachSource(root string, dirs []string, do func(file, text string)) error {
	for _, dir := range dirs {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			do(path, string(text))
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// goTest checks that what is to be run is there: the packages, and in at least one
// of them something that the expression matches.
func (n *named) goTest(args []string) error {
	var dirs []string
	expressions := map[string]string{} // by flag: -bench selects benchmarks, -run all others
	for i := 0; i < len(args); i++ {
		name, value, given := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		switch {
		case strings.HasPrefix(args[i], "./"):
			dirs = append(dirs, args[i])
		case strings.HasPrefix(args[i], "-") && (name == "run" || name == "bench"):
			if !given && i+1 < len(args) {
				i++
				value = args[i]
			}
			expressions[name] = value
		}
	}
	for flag, expression := range expressions {
		function, _, _ := strings.Cut(expression, "/") // what a subtest is called is known only when it runs
		matches, err := regexp.Compile(function)
		if err != nil {
			return err
		}
		found := len(dirs) == 0
		for _, dir := range dirs {
			names, err := n.testsOf(dir)
			if err != nil {
				return err
			}
			found = found || strings.HasSuffix(dir, "...") || slices.ContainsFunc(names, func(name string) bool {
				return strings.HasPrefix(name, "Benchmark") == (flag == "bench") && matches.MatchString(name)
			})
		}
		if !found {
			return fmt.Errorf("no test of %s is matched by %q", strings.Join(dirs, " "), expression)
		}
	}
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Join(n.root, strings.TrimSuffix(dir, "..."))); err != nil {
			return fmt.Errorf("go test: no package %s", dir)
		}
	}
	return nil
}

var testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Benchmark|Example|Fuzz)\w*)\(`)

// testsOf are the test functions of a package.
func (n *named) testsOf(dir string) ([]string, error) {
	if names := n.tests[dir]; names != nil {
		return names, nil
	}
	files, err := filepath.Glob(filepath.Join(n.root, dir, "*_test.go"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file) //nolint:gosec // a test of the repository
		if err != nil {
			return nil, err
		}
		for _, m := range testFunc.FindAllStringSubmatch(string(text), -1) {
			n.tests[dir] = append(n.tests[dir], m[1])
		}
	}
	return n.tests[dir], nil
}
