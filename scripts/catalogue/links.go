package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

var (
	link     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading  = regexp.MustCompile(`^#{1,6} (.+)$`)
	notInIDs = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// deadLinks looks up every link that stays in the repository: the file, the line in
// it, the heading in it. Links on the nodes of a diagram are links too.
func (s source) deadLinks(path, text string) (links int, dead []string) {
	inCode := false // index[key](argument) is no link
	for n, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "```") {
			inCode = !inCode
		}
		found := link.FindAllStringSubmatch(line, -1)
		if inCode {
			found = click.FindAllStringSubmatch(strings.TrimSpace(line), -1)
		}
		for _, m := range found {
			if strings.Contains(m[1], "://") {
				continue
			}
			links++
			if says := s.dead(path, m[1]); says != "" {
				dead = append(dead, fmt.Sprintf("%s:%d: %s", path, n+1, says))
			}
		}
	}
	return links, dead
}

// deadEnds lists the pages that no path of links from the README reaches.
func deadEnds(pages map[string]string) (gaps []string) {
	seen := map[string]bool{"README.md": true}
	for next := []string{"README.md"}; len(next) > 0; next = next[1:] {
		for _, m := range link.FindAllStringSubmatch(pages[next[0]], -1) {
			target, _, _ := strings.Cut(m[1], "#")
			target = filepath.ToSlash(filepath.Join(filepath.Dir(next[0]), target))
			if _, is := pages[target]; is && !seen[target] {
				seen[target] = true
				next = append(next, target)
			}
		}
	}
	for _, path := range slices.Sorted(maps.Keys(pages)) {
		if !seen[path] {
			gaps = append(gaps, path+": no way leads here from README.md")
		}
	}
	return gaps
}

// dead says what is wrong with a link, or "".
func (s source) dead(path, to string) string {
	target, anchor, _ := strings.Cut(to, "#")
	file := filepath.Join(s.root, filepath.Dir(path), target)
	if target == "" {
		file = filepath.Join(s.root, path)
	}
	info, err := os.Stat(file)
	if err != nil {
		return "dead link: " + to
	}
	if info.IsDir() || anchor == "" {
		return ""
	}
	text, err := os.ReadFile(file) //nolint:gosec // a file of the repository
	if err != nil {
		return err.Error()
	}
	if filepath.Ext(file) == ".md" {
		if !anchors(string(text))[anchor] {
			return fmt.Sprintf("dead link: %s: no heading #%s", to, anchor)
		}
		return ""
	}
	var number int
	if _, err := fmt.Sscanf(anchor, "L%d", &number); err == nil && number > strings.Count(string(text), "\n")+1 {
		return fmt.Sprintf("%s has no line %d", target, number)
	}
	return ""
}

// anchors are the names of a page's headings in links: small letters, no
// punctuation, hyphens for spaces; a second one of the same name is numbered.
func anchors(text string) map[string]bool {
	all := map[string]bool{}
	inCode := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "```") {
			inCode = !inCode
		}
		m := heading.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil || inCode {
			continue
		}
		name := strings.ReplaceAll(notInIDs.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")
		unique := name
		for n := 1; all[unique]; n++ {
			unique = fmt.Sprintf("%s-%d", name, n)
		}
		all[unique] = true
	}
	return all
}
