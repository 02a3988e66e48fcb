package main

import (
	"fmt"
	"go/parser"
	"go/token"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// cutParts takes the parts out of the files that stay.
func cutParts(all, kept map[string]string, without []string) error {
	for _, name := range without {
		if err := parts[name].cut(all, kept); err != nil {
			return fmt.Errorf("WITHOUT=%s: %w", name, err)
		}
	}
	if !isReduced(without) {
		return nil
	}
	delete(kept, checkContainers)
	if err := cutProcesses(kept, without); err != nil {
		return err
	}
	for file, text := range kept {
		if path.Ext(file) == ".md" {
			kept[file] = lineNumber.ReplaceAllString(text, ")") // of files that have been cut
		}
	}
	cutFaultPoints(kept)
	return cutVariables(all, kept, without)
}

// isReduced tells whether a service or a pattern is left behind.
func isReduced(without []string) bool {
	return slices.ContainsFunc(without, func(name string) bool { return isOf(services, name) || isOf(patterns, name) })
}

// cut takes one part out of the files that stay. What it looks for must be there:
// otherwise the source has changed, and this has to change with it.
func (p part) cut(all, kept map[string]string) error {
	// Words first: a statement in which one is replaced stays.
	for file, words := range p.words {
		for _, w := range words {
			text, ok := kept[file]
			if !ok {
				continue
			}
			if n := strings.Count(all[file], w.old); n != 1 {
				return fmt.Errorf("%s has %q %d times", file, w.old, n)
			}
			kept[file] = strings.Replace(text, w.old, w.new, 1)
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(p.names)) {
		found, here := map[string]bool{}, false
		for _, file := range slices.Sorted(maps.Keys(kept)) {
			if path.Dir(file) != dir || path.Ext(file) != ".go" {
				continue
			}
			here = true
			text, err := cutGo(file, kept[file], p.names[dir], found)
			if err != nil {
				return err
			}
			kept[file] = text
		}
		for _, n := range p.names[dir] {
			if here && !found[n] && !anywhere(all, dir, n) {
				return fmt.Errorf("nothing in %s is called %s", dir, n)
			}
		}
	}
	for file, text := range kept {
		for _, table := range p.tables {
			if path.Ext(file) == ".sql" && strings.HasPrefix(file, "services/") {
				text = cutTable(text, table)
			}
		}
		kept[file] = text
	}
	for file, blocks := range p.blocks {
		for _, begins := range blocks {
			text, ok := kept[file]
			if !ok {
				continue
			}
			if !strings.Contains("\n"+all[file], "\n"+begins) {
				return fmt.Errorf("%s has no line that begins with %q", file, begins)
			}
			kept[file] = cutBlock(file, text, begins)
		}
	}
	return nil
}

// anywhere tells whether a directory's code has a name before anything is cut: another
// part may have taken it.
func anywhere(all map[string]string, dir, name string) bool {
	for file, text := range all {
		if path.Dir(file) == dir && path.Ext(file) == ".go" && strings.Contains(text, name) {
			return true
		}
	}
	return false
}

// imported are the directories of our own packages that others import.
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
			if dir, ours := strings.CutPrefix(name, ourModule+"/"); err == nil && ours && dir != path.Dir(file) {
				dirs[dir] = true
			}
		}
	}
	return dirs
}

var lineNumber = regexp.MustCompile(`#L\d+\)`)

const faultPoints = "shared/platform/fault/points.go"

var (
	faultName  = regexp.MustCompile(`(?m)^\t(\w+) += "[a-z-]+\.[a-z-]+(?:\.[a-z-]+)?"\n`)
	faultEntry = regexp.MustCompile(`(?m)^\t\{(\w+), ".*"\},\n`)
)

// cutFaultPoints drops the points that no code has any more.
func cutFaultPoints(kept map[string]string) {
	var all strings.Builder
	for file, text := range kept {
		if path.Ext(file) == ".go" && file != faultPoints {
			all.WriteString(text)
		}
	}
	drop := func(of *regexp.Regexp) func(string) string {
		return func(line string) string {
			if strings.Contains(all.String(), "fault."+of.FindStringSubmatch(line)[1]) {
				return line
			}
			return ""
		}
	}
	text := faultName.ReplaceAllStringFunc(kept[faultPoints], drop(faultName))
	text = faultEntry.ReplaceAllStringFunc(text, drop(faultEntry))
	kept[faultPoints] = regexp.MustCompile(`\n{3,}`).ReplaceAllString(text, "\n\n")
}

var variable = regexp.MustCompile("`env:\"([A-Z_]+)")

// variables are the names of the settings that code reads.
func variables(texts map[string]string) map[string]bool {
	names := map[string]bool{}
	for file, text := range texts {
		if path.Ext(file) == ".go" {
			for _, m := range variable.FindAllStringSubmatch(text, -1) {
				names[m[1]] = true
			}
		}
	}
	return names
}

// cutVariables drops the settings that nobody reads any more from where they are set,
// and says where the services that were left behind are asked for.
func cutVariables(all, kept map[string]string, without []string) error {
	read := variables(kept)
	var literals []string
	for _, name := range slices.Sorted(maps.Keys(variables(all))) {
		if read[name] {
			continue
		}
		kept[labEnv] = regexp.MustCompile(`(?m)^`+name+`=.*\n`).ReplaceAllString(kept[labEnv], "")
		if text, ok := kept[composeFile]; ok {
			kept[composeFile] = regexp.MustCompile(`(?m)^ +`+name+`: .*\n`).ReplaceAllString(text, "")
		}
		literals = append(literals, `"`+name+`="`)
	}
	stack, err := cutGo(stackFile, kept[stackFile], literals, map[string]bool{})
	if err != nil {
		return err
	}
	kept[stackFile] = stack
	for _, service := range leftServices(without) {
		name := strings.ToUpper(service) + "_URL"
		if m := regexp.MustCompile(strings.ToUpper(service) + `_PORT:-(\d+)`).FindStringSubmatch(all[composeFile]); m != nil && read[name] {
			kept[labEnv] += fmt.Sprintf("# %s was left behind. Whoever takes its place is asked here.\n%s=http://127.0.0.1:%s\n", service, name, m[1])
		}
	}
	return nil
}
