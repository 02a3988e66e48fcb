package main

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

var majorSuffix = regexp.MustCompile(`/v\d+$`)

// brought demands that the doc.go of each pattern package lists what comes along with it into
// a module that takes it: our packages, and the modules of others that these import.
func (s source) brought() (gaps []string, err error) {
	packages, module, err := s.packages()
	if err != nil {
		return nil, err
	}
	docs, _ := filepath.Glob(filepath.Join(s.root, "shared/pattern/*/doc.go")) // fails for a bad pattern only
	for _, doc := range docs {
		name, _ := filepath.Rel(s.root, filepath.Dir(doc)) // it is below
		ours, others := map[string]bool{}, map[string]bool{}
		follow(packages, module, name, ours, others)
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

// imported is a package: the module that it is of, and what it imports.
type imported struct {
	module  string
	imports []string
}

// packages are those of the patterns and all that they need, without the standard library,
// by path; and our own module.
func (s source) packages() (all map[string]imported, ours string, err error) {
	cmd := exec.Command("go", "list", "-deps", "-f", `{{with .Module}}{{.Main}} {{$.ImportPath}} {{.Path}} {{join $.Imports " "}}{{end}}`, "./shared/pattern/...") //nolint:noctx // over in a moment
	cmd.Dir = s.root
	out, err := cmd.Output()
	if err != nil {
		return nil, "", fmt.Errorf("go list: %w", err)
	}
	all = map[string]imported{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		all[fields[1]] = imported{fields[2], fields[3:]}
		if fields[0] == "true" {
			ours = fields[2]
		}
	}
	return all, ours, nil
}

// follow notes what a package of ours imports, and what those of ours import in turn.
func follow(packages map[string]imported, module, name string, ours, others map[string]bool) {
	if ours[name] {
		return
	}
	ours[name] = true
	for _, path := range packages[module+"/"+name].imports {
		switch of := packages[path].module; of {
		case "": // the standard library's
		case module:
			follow(packages, module, strings.TrimPrefix(path, module+"/"), ours, others)
		default:
			others[strings.TrimPrefix(majorSuffix.ReplaceAllString(of, ""), "github.com/")] = true
		}
	}
}
