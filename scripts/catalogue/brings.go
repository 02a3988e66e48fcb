package main

import (
	"fmt"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var (
	moduleLine  = regexp.MustCompile(`(?m)^module (\S+)$`)
	requireLine = regexp.MustCompile(`(?m)^\t(\S+) v\S+`)
	majorSuffix = regexp.MustCompile(`/v\d+$`)
)

// brought demands that the doc.go of each pattern package lists what comes along with it into
// a module that takes it: our packages, and the modules of others that these import.
func (s source) brought() (gaps []string, err error) {
	mod, err := os.ReadFile(filepath.Join(s.root, "go.mod"))
	if err != nil {
		return nil, err
	}
	module := moduleLine.FindStringSubmatch(string(mod))[1] + "/"
	docs, _ := filepath.Glob(filepath.Join(s.root, "shared/pattern/*/doc.go")) // fails for a bad pattern only
	for _, doc := range docs {
		name, _ := filepath.Rel(s.root, filepath.Dir(doc)) // it is below
		ours, others := map[string]bool{}, map[string]bool{}
		if err := s.follow(name, module, requireLine.FindAllStringSubmatch(string(mod), -1), ours, others); err != nil {
			return nil, err
		}
		delete(ours, name)
		var list string
		for _, some := range []map[string]bool{ours, others} {
			if len(some) > 0 {
				list += "//\t" + strings.Join(slices.Sorted(maps.Keys(some)), ", ") + "\n"
			}
		}
		text, err := os.ReadFile(doc)
		if err != nil {
			return nil, err
		}
		if !strings.Contains(string(text), "\n// It brings into your module:\n//\n"+list+"//\n") {
			gaps = append(gaps, fmt.Sprintf("%s/doc.go: must say under Built on: It brings into your module:\n%s", name, strings.TrimSuffix(list, "\n")))
		}
	}
	return gaps, nil
}

// follow notes what a package of ours imports, and what those of ours import in turn.
func (s source) follow(name, module string, required [][]string, ours, others map[string]bool) error {
	if ours[name] {
		return nil
	}
	ours[name] = true
	files, _ := filepath.Glob(filepath.Join(s.root, name, "*.go")) // fails for a bad pattern only
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range parsed.Imports {
			path, _ := strconv.Unquote(spec.Path.Value) // it was parsed
			if own, ok := strings.CutPrefix(path, module); ok {
				if err := s.follow(own, module, required, ours, others); err != nil {
					return err
				}
				continue
			}
			longest := "" // a module's path may begin as another's does
			for _, r := range required {
				if len(r[1]) > len(longest) && strings.HasPrefix(path+"/", r[1]+"/") {
					longest = r[1]
				}
			}
			if longest != "" {
				others[strings.TrimPrefix(majorSuffix.ReplaceAllString(longest, ""), "github.com/")] = true
			}
		}
	}
	return nil
}
