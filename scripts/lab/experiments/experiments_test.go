package experiments

import (
	"testing"

	"example.com/failwell/scripts/lab/experiments/edits"
)

// Without the pattern, an experiment may not be red for another reason than the one that
// it names, nor for one more.
func TestJudge_OnlyTheNamedMeasureMayBeWrong(t *testing.T) {
	e := Experiment{Breaks: "charges"}
	right, wrong, other, fact := Measure{"charges", "1", "1"}, Measure{"charges", "2", "1"}, Measure{"orders", "0", "1"}, Measure{"status", "202", ""}
	for _, c := range []struct {
		measures       []Measure
		without        bool
		good, expected bool
		says           string
	}{
		{[]Measure{right, fact}, false, true, true, "charges: 1"},
		{[]Measure{wrong}, false, false, true, "charges: 2, not 1"}, // the pattern is gone from the services
		{[]Measure{wrong, fact}, true, false, true, "charges: 2, not 1"},
		{[]Measure{right}, true, true, false, "charges: 1"},
		{[]Measure{wrong, other}, true, false, false, "charges: 2, not 1; orders: 0, not 1"},
		{[]Measure{right, other}, true, false, false, "charges: 1; orders: 0, not 1"},
		{[]Measure{fact}, false, false, true, ""},
	} {
		v, err := e.judge(c.measures, c.without)
		if v.Good != c.good || (err == nil) != c.expected || v.Says != c.says {
			t.Errorf("%v without=%v: %+v, %v", c.measures, c.without, v, err)
		}
	}
}

// A question whose answer is none of its choices has gone stale.
func TestResult_TheMeasuredAnswerIsOneOfTheChoices(t *testing.T) {
	e := Experiment{Ask: []Question{{Of: "charges", Choices: []string{"1", "2"}}}}
	for got, stale := range map[string]bool{"2": false, "3": true} {
		r := e.Result(bookSeed, Half{Verdict: Verdict{Measures: []Measure{{Name: "charges", Got: got}}}}, Half{})
		if (r.Error != "") != stale {
			t.Errorf("%s: %q", got, r.Error)
		}
	}
}

func TestExperiments_EachHasAnEditAndQuestions(t *testing.T) {
	for _, e := range All {
		if edit, err := edits.Of(e.ID); err != nil || len(edit) == 0 || len(e.Ask) == 0 || e.Breaks == "" {
			t.Errorf("%s: %d hunks, %d questions, breaks %q, %v", e.ID, len(edit), len(e.Ask), e.Breaks, err)
		}
	}
}
