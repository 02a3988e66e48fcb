package main

import (
	"fmt"
	"go/scanner"
	"go/token"
	"io/fs"
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
	return gaps, filepath.WalkDir(s.root, func(path string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(s.root, path)
		name = filepath.ToSlash(name)
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != ".github" && path != s.root:
			return filepath.SkipDir
		case d.IsDir() || name == styleGuide:
			return nil
		}
		prose := proseOf[filepath.Ext(path)]
		if prose == nil {
			return nil
		}
		text, err := os.ReadFile(path) //nolint:gosec // a file of the repository
		if err != nil {
			return err
		}
		lower := strings.ToLower(string(text)) // most files have none, and an expression is slow
		if !slices.ContainsFunc(words, func(word string) bool { return strings.Contains(lower, word) }) {
			return nil
		}
		prose(text, func(line int, said string) {
			for _, word := range avoided.FindAllString(said, -1) {
				gaps = append(gaps, fmt.Sprintf("%s:%d: %q is a word that we avoid: see %s", name, line, word, styleGuide))
			}
		})
		return nil
	})
}

// proseOf says, by the ending of a file's name, what in it is written for a reader.
var proseOf = map[string]func(text []byte, says func(line int, said string)){
	".md": proseOfMarkdown, ".go": proseOfGo, ".sql": everyLine, ".yaml": everyLine, ".html": everyLine,
}

// proseOfMarkdown leaves code out: an excerpt is looked at where it comes from.
func proseOfMarkdown(text []byte, says func(int, string)) {
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
func proseOfGo(text []byte, says func(int, string)) {
	file := token.NewFileSet().AddFile("", -1, len(text))
	var sc scanner.Scanner
	sc.Init(file, text, nil, scanner.ScanComments)
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

func everyLine(text []byte, says func(int, string)) {
	for n, line := range strings.Split(string(text), "\n") {
		says(n+1, line)
	}
}
