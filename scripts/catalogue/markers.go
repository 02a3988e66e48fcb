package main

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
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
	for _, dir := range []string{"services", "shared"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			return scan(root, path, found)
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

func scan(root, path string, found map[string][]place) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // only read
	name, err := filepath.Rel(root, path)
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		if m := marker.FindStringSubmatch(lines.Text()); m != nil {
			found[m[1]] = append(found[m[1]], place{File: name, Line: n})
		}
	}
	return lines.Err()
}
