package main

import (
	"go/parser"
	"go/token"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

// parts is what can be left behind, and the files of each by their beginning. A
// package among them that something left over imports comes along all the same: the
// end-to-end tests need the lab's audit and sweep.
var parts = map[string][]string{
	"lab": {
		"scripts/lab/", "scripts/catalogue/", "scripts/fork/", "docs/patterns/",
		"docs/choosing.md", "docs/conformance.md", "docs/fork.md", "docs/holes.md", "docs/sweep.md", "docs/track-record.md", "README.md",
	},
	"demo":       {"scripts/demo/"},
	"bench":      {"scripts/bench/", "docs/performance."},
	"e2e":        {"scripts/e2e/", "scripts/large/"},
	"containers": {"scripts/docker/", "docker-compose.yml", ".dockerignore"},
}

func partNames() []string { return slices.Sorted(maps.Keys(parts)) }

// keep chooses the files that are copied.
func keep(files, without []string) ([]string, error) {
	var beginnings []string
	for _, part := range without {
		beginnings = append(beginnings, parts[part]...)
	}
	var kept, left []string
	for _, file := range files {
		if slices.ContainsFunc(beginnings, func(b string) bool { return strings.HasPrefix(file, b) }) {
			left = append(left, file)
		} else {
			kept = append(kept, file)
		}
	}
	for begin := 0; begin < len(kept); {
		needed, err := imports(kept[begin:])
		if err != nil {
			return nil, err
		}
		begin = len(kept)
		left = slices.DeleteFunc(left, func(file string) bool {
			if !needed[path.Dir(file)] {
				return false
			}
			kept = append(kept, file)
			return true
		})
	}
	slices.Sort(kept)
	return kept, nil
}

// imports are the directories of our own packages that these files import.
func imports(files []string) (map[string]bool, error) {
	dirs := map[string]bool{}
	for _, file := range files {
		if path.Ext(file) != ".go" {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return nil, err
		}
		for _, i := range parsed.Imports {
			name, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return nil, err
			}
			if dir, ours := strings.CutPrefix(name, ourModule+"/"); ours {
				dirs[dir] = true
			}
		}
	}
	return dirs, nil
}
