package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"example.com/failwell/scripts/lab/experiments"
	"example.com/failwell/scripts/lab/experiments/edits"
)

// siteFile is what the page in the browser knows of the experiments, as a script: a page
// that was opened from the disk may read no other file.
const siteFile = "docs/site/experiments.js"

// shownExperiment is an experiment there.
type shownExperiment struct {
	ID      string              `json:"id"`
	Says    string              `json:"says"`
	Fault   string              `json:"fault"`
	Points  []string            `json:"points,omitempty"`
	Ask     []shownQuestion     `json:"ask"`
	Edit    string              `json:"edit"`
	Without experiments.Verdict `json:"without"`
	With    experiments.Verdict `json:"with"`
}

type shownQuestion struct {
	With    bool     `json:"with"`
	Text    string   `json:"text"`
	Choices []string `json:"choices"`
	Answer  string   `json:"answer"`
	Why     string   `json:"why"`
}

// lineNumbers of a diff change with every edit above it, and say nothing there.
var lineNumbers = regexp.MustCompile(`(?m)^@@ .* @@$`)

// site draws that file.
func (s source) site() ([]byte, error) {
	var all []shownExperiment
	for _, e := range experiments.All {
		diff, err := edits.Diff(s.root, e.ID)
		if err != nil {
			return nil, err
		}
		r := s.results[e.ID]
		shown := shownExperiment{
			ID: e.ID, Says: e.Says, Fault: e.Fault, Points: e.Points, Edit: lineNumbers.ReplaceAllString(diff, "@@"),
		}
		for _, q := range e.Ask {
			shown.Ask = append(shown.Ask, shownQuestion{q.With, q.Text, q.Choices, q.Answer(r), q.Why})
		}
		r.Without.Measures, r.With.Measures = nil, nil // each question has its own
		shown.Without, shown.With = r.Without, r.With
		all = append(all, shown)
	}
	var text bytes.Buffer
	text.WriteString("// Written by: go run ./scripts/catalogue generate\nconst experiments = ")
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	err := encoder.Encode(all)
	return text.Bytes(), err
}

// siteGaps lists what of the page in the browser is not as it should be: its list, and
// recordings that tell another story than the pages.
func (s source) siteGaps() (gaps []string) {
	want, err := s.site()
	if err != nil {
		return []string{err.Error()}
	}
	if got, err := os.ReadFile(filepath.Join(s.root, siteFile)); err != nil || !bytes.Equal(got, want) {
		gaps = append(gaps, siteFile+": not as the code is now (go run ./scripts/catalogue generate)")
	}
	for _, e := range experiments.All {
		path := "docs/site/runs/" + e.ID + ".js"
		if err := s.recording(path, s.results[e.ID]); err != nil {
			gaps = append(gaps, fmt.Sprintf("%s: %v (go run ./scripts/lab run %s --record docs/site/runs)", path, err, e.ID))
		}
	}
	return gaps
}

// recording holds one against the result that the pages show.
func (s source) recording(path string, r experiments.Result) error {
	text, err := os.ReadFile(filepath.Join(s.root, path))
	if err != nil {
		return err
	}
	_, text, _ = bytes.Cut(text, []byte(", "))
	var is map[string]struct {
		Says  string
		Lines []experiments.Line
	}
	if err := json.Unmarshal(bytes.TrimSuffix(bytes.TrimSpace(text), []byte(")")), &is); err != nil {
		return err
	}
	words := func(lines []experiments.Line) (out []string) {
		for _, l := range lines {
			out = append(out, experiments.Masked(l.Text))
		}
		return out
	}
	switch { // the first that differs is named, always the same
	case !slices.Equal(words(is["without"].Lines), words(r.Left)):
		return fmt.Errorf("without it another run than %s has", resultsFile)
	case !slices.Equal(words(is["with"].Lines), words(r.Right)):
		return fmt.Errorf("with it another run than %s has", resultsFile)
	}
	return nil
}
