package main

import (
	"regexp"
	"strings"
)

// commandLine is a command that a page shows.
type commandLine struct {
	line  int
	words []string
}

var span = regexp.MustCompile("`([^`]+)`")

// commandLines are the lines of blocks that are no code of ours, and the spans in the
// text. A line of more than one command is split.
func commandLines(text string) (all []commandLine) {
	language := ""
	for i, line := range strings.Split(text, "\n") {
		switch {
		case strings.HasPrefix(line, "```") && language == "":
			language = strings.TrimSpace(strings.TrimPrefix(line, "```")) + "."
		case strings.HasPrefix(line, "```"):
			language = ""
		case language == "." || language == "console." || language == "sh.":
			all = append(all, split(i+1, strings.TrimPrefix(line, "$ "))...)
		case language == "":
			for _, m := range span.FindAllStringSubmatch(line, -1) {
				all = append(all, split(i+1, m[1])...)
			}
		}
	}
	return all
}

var word = regexp.MustCompile(`'[^']*'|"[^"]*"|[;|&]+|[^\s;|&'"]+`)

func split(line int, text string) (all []commandLine) {
	current := commandLine{line: line}
	for _, w := range word.FindAllString(text, -1) {
		if strings.Trim(w, ";|&") == "" {
			all, current = append(all, current), commandLine{line: line}
			continue
		}
		current.words = append(current.words, strings.Trim(w, `'"`))
	}
	return append(all, current)
}
