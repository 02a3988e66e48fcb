package main

import (
	"maps"
	"os"
	"path"
	"slices"
	"strings"
)

// part is something that can be left behind.
type part struct {
	// files of it, by their beginning. A package among them that something left over
	// imports comes along all the same: the end-to-end tests need the lab's audit and
	// sweep.
	files []string

	// with it goes what cannot do without it.
	with []string

	// names of it in Go files that stay, by directory. See cutGo.
	names map[string][]string

	// tables of it in the migrations that stay.
	tables []string

	// blocks of it in other files that stay, by their first line. See cutBlock.
	blocks map[string][]string

	// words are what stands in its place, in files that stay.
	words map[string][]word
}

// word is replaced; it stands in its file exactly once.
type word struct{ old, new string }

// parts is what can be left behind: what only teaches, the services, and the
// patterns that nothing else stands on.
var parts = func() map[string]part {
	all := map[string]part{
		"lab": {
			files: []string{
				"scripts/lab/", "scripts/catalogue/", "scripts/fork/", "scripts/docker/fourth.sh", "docs/patterns/",
				"docs/choosing.md", "docs/conformance.md", "docs/fork.md", "docs/holes.md", "docs/sweep.md", "docs/track-record.md", "docs/system.svg", "README.md",
			},
			// The fourth service is the page's.
			words: map[string][]word{checkContainers: {
				{" and down; with the\n# fourth service of docs/fork.md beside the three, added as it says there. A private", " and down. A private"},
				{" LOYALTY_PORT=18085", ""}, {"root=$PWD\n", ""}, {"cd \"$root\"\n\n", "\n"},
				{`# The fourth service goes into a copy, and all images are built from that: a second
# build for it alone would compile everything once more.
scripts/docker/fourth.sh "$work/copy"
cd "$work/copy"
step "a fourth service, as docs/fork.md adds it"

`, ""},
				{`within 60 '{"orders":1,"points":12}' "http://127.0.0.1:$LOYALTY_PORT/v1/points" -H "Authorization: Bearer $key" || die "no points for $first within 60 s"
step "the fourth service gave points for it"

`, ""},
			}},
		},
		"demo":       {files: []string{"scripts/demo/"}},
		"bench":      {files: []string{"scripts/bench/", "docs/performance."}},
		"e2e":        {files: []string{"scripts/e2e/", "scripts/large/"}},
		"containers": {files: []string{"scripts/docker/", "docker-compose.yml", ".dockerignore"}},
	}
	maps.Copy(all, services)
	maps.Copy(all, patterns)
	return all
}()

// whole plays and checks the whole: each of the three services, and each pattern.
var whole = []string{"lab", "demo", "bench", "e2e"}

// checkContainers plays an order through all of them.
const checkContainers = "scripts/docker/check.sh"

// isOf tells whether a name is one of a kind of parts.
func isOf(kind map[string]part, name string) bool { _, ok := kind[name]; return ok }

// withAll adds to what is to be left behind what cannot do without it.
func withAll(asked []string) (all []string) {
	for todo := slices.Clone(asked); len(todo) > 0; todo = todo[1:] {
		if !slices.Contains(all, todo[0]) {
			all = append(all, todo[0])
			todo = append(todo, parts[todo[0]].with...)
		}
	}
	slices.Sort(all)
	slices.Reverse(all) // garbage-collection after those whose rules and words are among its own
	return all
}

// keep chooses the files that are copied, and gives their texts without what was cut
// out of them. What cannot go is an error.
func keep(files, without []string) (map[string]string, error) {
	var beginnings []string
	for _, name := range without {
		beginnings = append(beginnings, parts[name].files...)
	}
	if !runsTheSandbox(without) {
		beginnings = append(beginnings, "scripts/sandbox/")
	}
	all, kept, left := map[string]string{}, map[string]string{}, map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file) //nolint:gosec // a file of the repository
		if err != nil {
			return nil, err
		}
		all[file] = string(text)
		if slices.ContainsFunc(beginnings, func(b string) bool { return strings.HasPrefix(file, b) }) {
			left[file] = true
		} else {
			kept[file] = string(text)
		}
	}
	if err := cutParts(all, kept, without); err != nil {
		return nil, err
	}
	// Whole packages only: a file that was taken out of one that stays is not missed.
	for file := range kept {
		maps.DeleteFunc(left, func(l string, _ bool) bool { return path.Dir(l) == path.Dir(file) })
	}
	for before := -1; before != len(left); {
		before = len(left)
		needed := imported(kept)
		maps.DeleteFunc(left, func(file string, _ bool) bool {
			if needed[path.Dir(file)] {
				kept[file] = all[file]
			}
			return needed[path.Dir(file)]
		})
	}
	dropLibraries(kept)
	return kept, refused(all, kept, without)
}

// dropLibraries drops the packages that nobody is left to import.
func dropLibraries(kept map[string]string) {
	for {
		needed, before := imported(kept), len(kept)
		for dir := range libraries(kept) {
			if !needed[dir] {
				maps.DeleteFunc(kept, func(file, _ string) bool { return strings.HasPrefix(file, dir+"/") })
			}
		}
		if len(kept) == before {
			return
		}
	}
}

// libraries are the directories of packages that do nothing by themselves. The
// platform's are left in peace: the next service needs them.
func libraries(kept map[string]string) map[string]bool {
	dirs := map[string]bool{}
	for file, text := range kept {
		library := strings.HasPrefix(file, "shared/pattern/") || strings.HasPrefix(file, "scripts/")
		if library && isCode(file) && !strings.Contains(text, "\npackage main\n") && !strings.HasPrefix(text, "package main\n") {
			dirs[path.Dir(file)] = true
		}
	}
	return dirs
}

// isCode tells whether a file is Go and not a test.
func isCode(file string) bool {
	return path.Ext(file) == ".go" && !strings.HasSuffix(file, "_test.go")
}
