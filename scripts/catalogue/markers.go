package main

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// place is where a pattern is used.
type place struct {
	File string
	Line int
}

func (p place) String() string { return fmt.Sprintf("%s:%d", p.File, p.Line) }

var marker = regexp.MustCompile(`^\s*// Pattern: ([a-z0-9-]+)`)

// places finds every marker under the services and the shared packages, by id.
func places(root string) (map[string][]place, error) {
	found := map[string][]place{}
	return found, eachSource(root, production, func(file, text string) {
		name, _ := filepath.Rel(root, file) // it is below
		for n, line := range strings.Split(text, "\n") {
			if m := marker.FindStringSubmatch(line); m != nil {
				found[m[1]] = append(found[m[1]], place{File: name, Line: n + 1})
			}
		}
	})
}
