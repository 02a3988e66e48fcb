package main

import (
	"fmt"
	"go/scanner"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// styleGuide holds the table of the words that we avoid: its first column is the check.
const styleGuide = "docs/STYLE.md"

var (
	tableRow   = regexp.MustCompile("(?m)^\\| `([^`]+)` \\|")
	inlineCode = regexp.MustCompile("`[^`]*`")
)

// avoidedWords looks for the style guide's words in every text that a reader meets:
// pages, comments, errors, log lines, help.
func (s source) avoidedWords() (gaps []string, err error) {
	guide, err := os.ReadFile(filepath.Join(s.root, styleGuide))
	if err != nil {
		return nil, err
	}
	var words []string
	for _, row := range tableRow.FindAllStringSubmatch(string(guide), -1) {
		words = append(words, strings.ToLower(row[1]))
	}
	if len(words) == 0 {
		return nil, fmt.Errorf("%s: no table of words to avoid", styleGuide)
	}
	avoided := regexp.MustCompile(`(?i)\b(` + strings.Join(words, "|") + `)\b`)
	wanted := func(name string) bool { return proseOf[filepath.Ext(name)] != nil && name != styleGuide }
	return gaps, eachFile(s.root, wanted, func(name, text string) error {
		lower := strings.ToLower(text) // most files have none, and an expression is slow
		if !slices.ContainsFunc(words, func(word string) bool { return strings.Contains(lower, word) }) {
			return nil
		}
		proseOf[filepath.Ext(name)](text, func(line int, said string) {
			for _, word := range avoided.FindAllString(said, -1) {
				gaps = append(gaps, fmt.Sprintf("%s:%d: %q is a word that we avoid: see %s", name, line, word, styleGuide))
			}
		})
		return nil
	})
}

// proseOf says, by the ending of a file's name, what in it is written for a reader.
var proseOf = map[string]func(text string, says func(line int, said string)){
	".md": proseOfMarkdown, ".go": proseOfGo, ".sql": everyLine, ".yaml": everyLine, ".html": everyLine,
}

// proseOfMarkdown leaves code out: an excerpt is looked at where it comes from.
func proseOfMarkdown(text string, says func(int, string)) {
	inCode := false
	everyLine(text, func(n int, line string) {
		if strings.HasPrefix(line, "```") {
			inCode = !inCode
		}
		if !inCode {
			says(n, inlineCode.ReplaceAllString(line, ""))
		}
	})
}

// proseOfGo is comments, and strings of more than one word. A name is not prose, as
// in a constant or a user of Unix.
func proseOfGo(text string, says func(int, string)) {
	file := token.NewFileSet().AddFile("", -1, len(text))
	var sc scanner.Scanner
	sc.Init(file, []byte(text), nil, scanner.ScanComments)
	for {
		pos, tok, literal := sc.Scan()
		switch {
		case tok == token.EOF:
			return
		case tok == token.COMMENT, tok == token.STRING && strings.Contains(literal, " "):
			says(file.Line(pos), literal)
		}
	}
}

func everyLine(text string, says func(int, string)) {
	for n, line := range strings.Split(text, "\n") {
		says(n+1, line)
	}
}
