package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"example.com/failwell/scripts/lab/experiments/edits"
)

// An excerpt is: a file, the text of its first line, and a regular expression that
// its last line matches. Only one line may contain the text. The line itself is left
// out where the word "after" stands before the text, or "before" before the expression:
//
//	<!-- excerpt shared/pattern/atmostonce/at_most_once_guard.go "func Enter(" "^}" -->
//	<!-- excerpt services/payments/refund.go after "The recovery points of a refund" before "refundDecided  =" -->
var excerptArgs = regexp.MustCompile(`^(\S+) (after )?"(.*)" (before )?"(.*)"$`)

func (s source) excerpt(up, args string) ([]string, error) {
	m := excerptArgs.FindStringSubmatch(args)
	if m == nil {
		return nil, errors.New("an excerpt reads: file [after] \"first text\" [before] \"last pattern\"")
	}
	file, after, text, before := m[1], m[2] != "", m[3], m[4] != ""
	content, err := os.ReadFile(filepath.Join(s.root, file))
	if err != nil {
		return nil, err
	}
	last, err := regexp.Compile(m[5])
	if err != nil {
		return nil, err
	}
	lines := strings.Split(string(content), "\n")
	first, err := onlyLine(lines, text)
	if err != nil {
		return nil, fmt.Errorf("excerpt of %s: %w", file, err)
	}
	end := first
	if m[5] != "" {
		for end++; end < len(lines) && !last.MatchString(lines[end]); end++ {
		}
	}
	if end == len(lines) {
		return nil, fmt.Errorf("%s: no line matches %q after line %d", file, m[5], first+1)
	}
	if after {
		first++
	}
	if before {
		end--
	}
	if end < first {
		return nil, fmt.Errorf("%s: nothing between %q and %q", file, text, m[5])
	}
	return shown(up, file, lines, first, end), nil
}

// onlyLine is the one line that contains the text. Were it the first of several, a
// page would sooner or later show another function than it speaks of.
func onlyLine(lines []string, text string) (int, error) {
	var in []string
	at := -1
	for n, line := range lines {
		if strings.Contains(line, text) {
			if at < 0 {
				at = n
			}
			in = append(in, strconv.Itoa(n+1))
		}
	}
	switch len(in) {
	case 0:
		return 0, fmt.Errorf("no line contains %q", text)
	case 1:
		return at, nil
	}
	return 0, fmt.Errorf("%q stands in lines %s; make it unique", text, strings.Join(in, " and "))
}

// shown is a link to the first line, and the lines.
func shown(up, file string, lines []string, first, end int) []string {
	block := []string{fmt.Sprintf("[%s:%d](%s%s#L%d)", file, first+1, up, file, first+1), "", "```" + strings.TrimPrefix(filepath.Ext(file), ".")}
	return append(append(block, outdented(lines[first:end+1])...), "```")
}

// outdented takes away the tabs that all lines have.
func outdented(lines []string) []string {
	least := 99
	for _, l := range lines {
		if strings.TrimSpace(l) != "" {
			least = min(least, len(l)-len(strings.TrimLeft(l, "\t")))
		}
	}
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = strings.ReplaceAll(l[min(least, len(l)):], "\t", "    ")
	}
	return out
}

const experimentsDir = "scripts/lab/experiments"

// edit shows the diff that takes a pattern away.
func (s source) edit(up, id string) ([]string, error) {
	diff, err := edits.Diff(s.root, id)
	if err != nil {
		return nil, err
	}
	file := experimentsDir + "/edits/" + id + ".diff"
	block := []string{fmt.Sprintf("[%s](%s%s)", file, up, file), "", "```diff"}
	return append(append(block, strings.Split(strings.TrimSuffix(diff, "\n"), "\n")...), "```"), nil
}
